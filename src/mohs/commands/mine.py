"""`mohs mine`: a table in, a plan out."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mohs.artefacts import atomic_path, fingerprint
from mohs.commands.console import decoding_progress, print_json, say
from mohs.commands.places import require_file_place
from mohs.config import DataConfig, HardnessConfig, ModelConfig
from mohs.curves import schedule
from mohs.data.dataset import Dataset, open_dataset
from mohs.data.images import ImagePolicy
from mohs.data.table import BUILT_IN, Table, read_table, require_classes
from mohs.distances import check_embeddings
from mohs.errors import InputError
from mohs.mining import choose_positives, compile_kernels, mine
from mohs.model.embedder import Embedder
from mohs.plan import POSITIVE_ORIGINS, TripletPlan
from mohs.sequence import anchor_sequence
from mohs.training.devices import choose_device

__all__ = ["MineRequest", "mine_command"]


@final
@dataclass(frozen=True)
class MineRequest:
    """What `mohs mine` was asked for; `out` is the Parquet plan, `csv` the same with file names."""

    data: DataConfig
    hardness: HardnessConfig
    margin: float | None
    num_triplets: int
    prefer_positive: str
    embedder: Path | None
    embeddings: Path | None
    out: Path
    csv: Path | None
    seed: int


def mine_command(request: MineRequest, *, quiet: bool, as_json: bool) -> None:
    """Embed a table's pictures (or take the vectors given), mine, and write the plan."""
    _check(request)
    began = time.perf_counter()
    if request.embeddings is None:
        embedder = _embedder(request)
        dataset = _open(request, embedder.policy, quiet=quiet)
        table = dataset.table
        read = time.perf_counter()
        bank_ND = embedder.to(choose_device("auto")).embed(dataset.pictures)
    else:
        table = _read_table(request)
        read = time.perf_counter()
        bank_ND = _load_vectors(request.embeddings, len(table))
    embedded = time.perf_counter()
    compile_s = compile_kernels(request.hardness.scale)
    catalog_N = table.roles == "catalog"
    has_sample_N = np.isin(table.labels, table.labels[~catalog_N])
    anchors = np.flatnonzero(~catalog_N | ~has_sample_N)
    anchors_T = anchors[anchor_sequence(table.labels[anchors], request.num_triplets, seed=request.seed)]
    positives_T, origin_T = choose_positives(
        table.labels,
        anchors_T,
        seed=request.seed,
        catalog_N=catalog_N,
        prefer="catalog" if request.prefer_positive == "catalog" else "class",
    )
    with _mining_progress(quiet=quiet or as_json) as progress:
        plan = mine(
            bank_ND,
            table.labels,
            anchors_T=anchors_T,
            hardness_T=schedule(request.hardness.build(), request.num_triplets),
            scale=request.hardness.scale,
            positives_T=positives_T,
            positive_origin_T=origin_T,
            margin=request.margin,
            seed=request.seed,
            progress=progress,
        )
    plan = plan.with_header(
        {
            "curve": request.hardness.model_dump(mode="json"),
            "data_source": request.data.source,
            "data_fingerprint": fingerprint(np.array(table.files), table.labels),
        }
    )
    mined = time.perf_counter()
    _save(plan, request, table)
    facts = {
        "num_items": len(table),
        "num_classes": table.num_classes,
        "num_triplets": len(plan),
        "positives": {n: int((origin_T == i).sum()) for i, n in enumerate(POSITIVE_ORIGINS) if (origin_T == i).any()},
        "mean_anchor_positive_distance": float(plan.anchor_positive_distance.mean()),
        "mean_anchor_negative_distance": float(plan.anchor_negative_distance.mean()),
        "read_s": read - began,
        "embed_s": embedded - read,
        "compile_s": compile_s,
        "mine_s": mined - embedded - compile_s,
        "plan": str(request.out),
        "csv": None if request.csv is None else str(request.csv),
    }
    if as_json:
        print_json(facts)
    else:
        _tell(facts)


@contextmanager
def _mining_progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a `progress(done, total)` for mining; none if quiet or if stderr is not a terminal."""
    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("mining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _check(request: MineRequest) -> None:
    """Raise `InputError` for what is wrong whatever the data: minutes of embedding must not come first."""
    if request.embedder is not None and request.embeddings is not None:
        raise InputError("--embedder, --embeddings: both given; use one of them")
    if request.hardness.curve == "closed-loop":
        raise InputError("--curve: 'closed-loop' reads training; use it with 'mohs train', or give a curve")
    by_margin = request.hardness.scale == "margin"
    if by_margin and request.margin is None:
        raise InputError("--margin: missing; the scale 'margin' needs the loss's margin, for example --margin 0.2")
    if not by_margin and request.margin is not None:
        raise InputError(
            f"--margin: {request.margin:g} given for the scale {request.hardness.scale!r}; "
            "use --scale margin, or leave it out"
        )
    if request.margin is not None and not 0.0 < request.margin < math.inf:
        raise InputError(f"--margin: {request.margin:g} is not above 0; use for example --margin 0.2")
    if request.out.suffix.lower() == ".csv":
        raise InputError(f"--out: {request.out}: the plan is a Parquet file; use --csv for CSV")
    require_file_place(request.out, "--out")
    if request.csv is not None:
        require_file_place(request.csv, "--csv")
        if request.csv.absolute() == request.out.absolute():
            raise InputError(f"--csv: {request.csv} is the plan of --out too; name another file")


def _save(plan: TripletPlan, request: MineRequest, table: Table) -> None:
    """Write the plan, and its CSV if asked for: both or none."""
    with atomic_path(request.out) as temporary:
        plan.save(temporary)
        if request.csv is not None:
            plan.save_csv(request.csv, files=table.files, labels=table.labels.tolist())


def _embedder(request: MineRequest) -> Embedder:
    if request.embedder is not None:
        if not any((request.embedder / name).is_file() for name in ("embedder.json", "embedder/embedder.json")):
            raise InputError(
                f"--embedder: {request.embedder}: neither a finished run nor an embedder folder (no embedder.json); "
                "give one made by 'mohs train'"
            )
        return Embedder.from_pretrained(request.embedder)
    policy = ImagePolicy(size=request.data.size, channels=request.data.channels, fit=request.data.fit)
    return Embedder.create(ModelConfig(), policy, seed=request.seed)


def _open(request: MineRequest, policy: ImagePolicy, *, quiet: bool) -> Dataset:
    data = request.data
    with decoding_progress(quiet=quiet) as progress:
        dataset = open_dataset(
            data.source,
            catalog=data.catalog,
            policy=policy,
            cache_dir=None if data.cache is None else Path(data.cache),
            file_column=data.file_column,
            class_column=data.class_column,
            max_bad_images=data.max_bad_images,
            progress=progress,
        )
    for line in dataset.left_out:
        say(f"left out: {line}")
    require_classes(dataset.table)
    return dataset


def _read_table(request: MineRequest) -> Table:
    data = request.data
    if data.source == BUILT_IN:
        return _open(request, ImagePolicy(size=data.size, channels=data.channels), quiet=True).table
    table = read_table(data.source, catalog=data.catalog, file_column=data.file_column, class_column=data.class_column)
    require_classes(table)
    return table


def _load_vectors(path: Path, num_items: int) -> np.ndarray:
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check --embeddings") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a .npy array ({error}); write it with numpy.save") from None
    bank_ND = check_embeddings(vectors, name=str(path))
    if len(bank_ND) != num_items:
        raise InputError(f"{path}: {len(bank_ND)} rows for {num_items} items in the table; give one row per item")
    return bank_ND


def _tell(facts: dict[str, Any]) -> None:
    positives = ", ".join(f"{count:,} from {name}" for name, count in facts["positives"].items())
    say(f"{facts['num_items']:,} items of {facts['num_classes']:,} classes, {facts['num_triplets']:,} triplets")
    say(f"positives: {positives}")
    say(
        f"mean distance to the positive {facts['mean_anchor_positive_distance']:.3f}, "
        f"to the negative {facts['mean_anchor_negative_distance']:.3f}"
    )
    say(f"read {facts['read_s']:.1f} s, embed {facts['embed_s']:.1f} s, mine {facts['mine_s']:.1f} s")
    say(f"plan: {facts['plan']}" + (f" and {facts['csv']}" if facts["csv"] else ""))
