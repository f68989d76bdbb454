"""What `mohs mine` reads: the table, the embedder or the vectors, the review list."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from mohs.cli.console import decoding_progress, say
from mohs.cli.mine_request import MineRequest
from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.data.multi_label import file_keys, one_class_each
from mohs.data.table import BUILT_IN, Table, require_classes
from mohs.distances import check_embeddings
from mohs.errors import InputError
from mohs.evaluation.embedding_files import read_npy
from mohs.mining.stored import stored_bank
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig
from mohs.training.false_negatives import pairs_of_files, passed_over, read_review_rows
from mohs.training.processes import choose_device

__all__ = ["MineInputs", "candidates_of", "excluded_pairs_of", "read_inputs"]


@final
@dataclass(frozen=True, eq=False)
class MineInputs:
    """A table and where its vectors come from: a file's, or an embedder and the pictures it is to embed."""

    table: Table
    vectors_ND: NDArray[Any] | None
    embedder: Embedder | None
    dataset: Dataset | None

    @property
    def dim(self) -> int:
        """D, numbers in a vector."""
        if self.vectors_ND is not None:
            return int(self.vectors_ND.shape[1])
        assert self.embedder is not None
        return self.embedder.embedding_dim

    @property
    def is_half(self) -> bool:
        """Whether vectors are float16."""
        return self.vectors_ND is not None and self.vectors_ND.dtype == np.float16

    @property
    def is_mapped(self) -> bool:
        """Whether vectors are read from their file as they are needed."""
        return isinstance(self.vectors_ND, np.memmap)

    def bank(self) -> NDArray[Any]:
        """Return the vectors, [N, D]; embeds the pictures if no file holds them."""
        if self.vectors_ND is not None:
            return self.vectors_ND
        assert self.embedder is not None
        assert self.dataset is not None
        return self.embedder.embed(self.dataset.pictures)


def read_inputs(request: MineRequest, *, quiet: bool) -> MineInputs:
    """Read what is to be mined; the embedder is on the device that was asked for, else on what there is."""
    if request.embeddings is not None:
        return _read_with_vectors(request, request.embeddings)
    embedder = _embedder(request)
    dataset = _open(request, embedder.policy, quiet=quiet)
    device = choose_device("auto") if request.device is None else torch.device(request.device)
    return MineInputs(dataset.table, None, embedder.to(device), dataset)


def candidates_of(request: MineRequest, table: Table) -> NDArray[np.int64] | None:
    """Return the items that may be negatives; None for all."""
    # With catalog pictures for anchors, samples are the negatives.
    role = "sample" if request.anchors == "catalog" else request.candidates
    if role == "all":
        return None
    chosen = np.flatnonzero(table.roles == role)
    if not chosen.size:
        fix = "give --catalog, or leave it out" if role == "catalog" else "leave it out"
        raise InputError(f"--candidates: {table.source} has no {role} pictures; {fix}")
    return chosen


def excluded_pairs_of(request: MineRequest, table: Table) -> NDArray[np.int64] | None:
    """Return the pairs of the review list, both ways, int64[P, 2]; None without a list. Says what it passes over."""
    if request.review_list is None:
        return None
    rows = read_review_rows(request.review_list, name="--review-list")
    if line := passed_over(rows, table.files):
        say(f"warning: {request.review_list}: {line}")
    return pairs_of_files(rows, table.files)


def _embedder(request: MineRequest) -> Embedder:
    if request.embedder is not None:
        if not any((request.embedder / name).is_file() for name in ("embedder.json", "embedder/embedder.json")):
            raise InputError(
                f"--embedder: {request.embedder}: neither a finished run nor an embedder folder (no embedder.json); "
                "give one made by 'mohs train'"
            )
        return Embedder.from_pretrained(request.embedder)
    return Embedder.create(ModelConfig(), request.data.policy, seed=request.seed)


def _open(request: MineRequest, policy: ImagePolicy, *, quiet: bool) -> Dataset:
    with decoding_progress(quiet=quiet) as progress:
        dataset = request.data.open(policy, progress=progress)
    for line in dataset.left_out:
        say(f"left out: {line}")
    require_classes(dataset.table)
    return dataset


def _read_with_vectors(request: MineRequest, path: Path) -> MineInputs:
    data = request.data
    if data.source == BUILT_IN:
        table = _open(request, data.policy, quiet=True).table
        return MineInputs(table, _load_vectors(path, (len(table),)), None, None)
    listing = data.read_listing()
    table = one_class_each(listing, data.multi_label)
    require_classes(table)
    vectors = _load_vectors(path, (len(table), len(listing)))
    if len(vectors) != len(table):
        # A vector for each row of the table: those of its rows that stay.
        row_of = {key: row for row, key in reversed(list(enumerate(file_keys(listing))))}
        vectors = vectors[[row_of[key] for key in file_keys(table)]]
    return MineInputs(table, vectors, None, None)


def _load_vectors(path: Path, num_items: tuple[int, ...]) -> NDArray[Any]:
    """Return the vectors; float32 and float16 in C order stay in the file and are read as they are needed."""
    vectors = read_npy(path, "embeddings", mapped=True)
    if vectors.dtype in (np.float32, np.float16) and vectors.flags.c_contiguous:
        stored_bank(vectors, name=str(path))  # what is wrong with it names the file
    else:
        vectors = check_embeddings(vectors, name=str(path))
    if len(vectors) not in num_items:
        raise InputError(f"{path}: {len(vectors)} rows for {num_items[-1]} items in the table; give one row per item")
    return vectors
