"""Processes that embed a bank in shards together write the files of one."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.data.table import Table
from mohs.export.vector_files import write_shard_folder
from mohs.model.embedder import Embedder
from mohs.peers import Peers
from mohs.settings.config import ModelConfig

NUM = 1100


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_the_shards_of_several_are_those_of_one(
    together, tmp_path: Path, num_ranks: int, torch_as_it_was: None
) -> None:
    network = Embedder.create(ModelConfig(widths=(4,), hidden_dim=8, embedding_dim=4), ImagePolicy(8, 1), seed=0)
    pictures = np.random.default_rng(0).integers(0, 256, (NUM, 8, 8, 1), dtype=np.uint8)
    names = tuple(map(str, range(NUM)))
    table = Table(names, np.array(names), np.full(NUM, "sample"), np.full(NUM, "", dtype="<U10"))
    dataset = Dataset(table, pictures)
    write_shard_folder(tmp_path / "one", network, dataset, rows_per_shard=512)
    (tmp_path / "all").mkdir()

    def write(peers: Peers) -> int | None:
        torch.set_num_threads(1)  # each thread has a number of its own
        written = write_shard_folder(tmp_path / "all", deepcopy(network), dataset, rows_per_shard=512, peers=peers)
        return None if written is None else written[1]

    assert together(num_ranks, write) == [0] + [None] * (num_ranks - 1)
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    (tmp_path / "all" / "shard-000001.npy").unlink()
    assert together(num_ranks, write) == [2] + [None] * (num_ranks - 1)
    assert (tmp_path / "all" / files[2]).read_bytes() == (tmp_path / "one" / files[2]).read_bytes()
