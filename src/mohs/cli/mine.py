"""`mohs mine`: a table in, a plan out.

Longer than other commands, since it has the most options: those of a run that mining reads, and its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from mohs.cli import options
from mohs.cli.console import (
    among_processes,
    free_bytes,
    in_bytes,
    is_first,
    print_json,
    require_file_place,
    require_memory,
    say,
)
from mohs.cli.on_cluster import Actors, Address, Engine, check_engine, cluster_bank, cluster_table
from mohs.cli.pictures_read import beside, tell_pictures
from mohs.cli.progress import counting_progress, decoding_progress
from mohs.errors import InputError, Problem
from mohs.peers import ALONE, Peers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mohs.data.dataset import Dataset
    from mohs.data.images import ImagePolicy
    from mohs.data.table import Table
    from mohs.mining.roles import Roles
    from mohs.model.embedder import Embedder
    from mohs.plan import TripletPlan
    from mohs.settings.config import DataConfig, HardnessConfig
    from mohs.shards import RowsInPieces, Shards

__all__ = ["mine"]

# What mining calls its arguments, and what the command line does.
_SAME = ("candidates", "device", "margin", "method", "metric", "num_sampled", "positive_rule", "scale")
_FLAGS = {
    **{name: options.flag_of(name) for name in _SAME},
    "excluded_pairs": "--review-list",
    "num_negatives": "--negatives",
}
_SAMPLED = 4096
_PLAN_ROW_BYTES, _CSV_ROW_BYTES = 41, 80
_LABEL_BYTES = 20  # for each character and item, beyond what the estimate counts


def mine(
    source: options.SourceArgument,
    out: Annotated[Path, typer.Option(help="The plan, Parquet.")] = Path("plan.parquet"),
    csv: Annotated[Path | None, typer.Option(help="The plan as CSV with file names, too.")] = None,
    catalog: options.Catalog = None,
    file_column: options.FileColumn = None,
    class_column: options.ClassColumn = None,
    group_column: options.GroupColumn = None,
    multi_label: options.MultiLabelOption = None,
    white_level: options.WhiteLevel = None,
    max_bad: options.MaxBad = None,
    triplets: Annotated[int, typer.Option(help="Anchors; with one negative each, the length of the plan.")] = 10_000,
    negatives: Annotated[int, typer.Option(help="Negatives of each anchor; the plan has a row for each.")] = 1,
    curve: options.Curve = None,
    cap: options.Cap = None,
    growth: options.Growth = None,
    cycles: options.Cycles = None,
    scale: Annotated[str, typer.Option(help="range, rank, log-rank or margin.")] = "range",
    margin: Annotated[
        float | None, typer.Option(help="With --scale margin: the margin, as a Euclidean distance.")
    ] = None,
    metric: Annotated[str, typer.Option(help="euclidean, or cosine: rows are divided by their norms.")] = "euclidean",
    positive_rule: Annotated[str, typer.Option(help="random; easy: the nearest of the class; hard: the farthest.")] = (
        "random"
    ),
    anchors: Annotated[
        str | None,
        typer.Option(
            help="catalog: catalog pictures, with samples as positives and negatives; sample: samples, catalog "
            "pictures first as positives; any (default): samples, and --prefer decides."
        ),
    ] = None,
    prefer: Annotated[
        str | None,
        typer.Option(
            help="With random positives: class (other pictures first, the default) or catalog (catalog pictures first)."
        ),
    ] = None,
    candidates: Annotated[str, typer.Option(help="What may be a negative: all, sample or catalog pictures.")] = "all",
    review_list: Annotated[
        Path | None, typer.Option(help="CSV (file, other) of pairs that are not negatives: a run's review.csv.")
    ] = None,
    equal_pictures: Annotated[
        bool, typer.Option("--equal-pictures", help="Let equal pictures of two classes be negatives of each other.")
    ] = False,
    method: Annotated[
        str,
        typer.Option(
            help="exact, sampled, or auto (sampled from 30 billion pairs on, if the scale is rank or log-rank)."
        ),
    ] = "exact",
    num_sampled: Annotated[
        int | None, typer.Option(help="With sampled mining: candidates in each random sample; default 4096.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device that embeds and mines: cpu, cuda, cuda:1 or mps; default: mine on the CPU, embed on a "
            "GPU if there is one."
        ),
    ] = None,
    embedder: Annotated[
        Path | None, typer.Option(help="Run or embedder folder; default: a small untrained network.")
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(help=".npy with a row per item, or a folder of 'mohs embed --shards', instead of an embedder."),
    ] = None,
    engine: Engine = None,
    address: Address = None,
    actors: Actors = None,
    size: options.Size = None,
    channels: options.Channels = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Mine a triplet for each anchor over the whole table, at scheduled hardness."""
    if (size is not None or channels is not None) and (embedder is not None or embeddings is not None):
        raise InputError("--size, --channels: decided already by --embedder or --embeddings; leave them out")
    given = locals()
    # The margin, the device and the file of the plan are not those of a run.
    not_of_a_run = ("margin", "device", "out", "engine", "address", "actors")
    config = options.read_settings(None, given | dict.fromkeys(not_of_a_run)).config
    of_run: dict[str, Any] = {
        "data": config.data,
        "hardness": config.hardness,
        "anchors": config.training.anchors,
        "seed": config.seed,
        "num_anchors": triplets,
        "num_negatives": negatives,
    }
    own = {field.name: given[field.name] for field in fields(_Asked) if field.name not in of_run}
    asked = _Asked(**of_run, **own)
    check_engine(engine, address, actors)
    _check(asked)
    if engine is not None:
        from mohs.cluster.crew import cluster

        with cluster(address) as ray:
            facts = _mine(asked, ALONE, ray, quiet=quiet, silent=quiet or as_json)
    else:
        computes_on = "cpu" if asked.embeddings is not None else "auto"
        with among_processes(asked.device or computes_on) as peers:
            facts = _mine(asked, peers, quiet=quiet, silent=quiet or as_json)
    if as_json:
        print_json(facts)
    else:
        _tell(facts)


@final
@dataclass(frozen=True)
class _Asked:
    """What was asked for: the settings of a run that mining reads, and its own, by the names of the flags."""

    data: DataConfig
    hardness: HardnessConfig
    margin: float | None
    num_anchors: int
    num_negatives: int
    # Names that are checked with all the rest, so that all mistakes are told together.
    positive_rule: Any
    anchors: Any
    prefer: Any
    metric: Any
    candidates: Any
    method: Any
    review_list: Path | None
    equal_pictures: bool
    num_sampled: int | None
    device: str | None
    embedder: Path | None
    embeddings: Path | None
    engine: str | None
    actors: int | None
    out: Path
    csv: Path | None
    seed: int

    @property
    def on_accelerator(self) -> bool:
        """Whether a device other than the CPU mines."""
        return self.device not in (None, "cpu")


def _check(asked: _Asked) -> None:
    """Raise `InputError` with one line for each mistake: minutes of embedding must not come first."""
    if problems := list(_problems(asked)):
        raise InputError(*problems)
    if asked.on_accelerator:
        from mohs.mining.on_device import mining_device

        with options.naming_flags(_FLAGS):
            mining_device(str(asked.device))
    if asked.out.suffix.lower() == ".csv":
        raise InputError(f"--out: {asked.out}: the plan is a Parquet file; use --csv for CSV")
    require_file_place(asked.out, "--out")
    if asked.csv is not None:
        require_file_place(asked.csv, "--csv")
        if asked.csv.absolute() == asked.out.absolute():
            raise InputError(f"--csv: {asked.csv} is the plan of --out too; name another file")


def _problems(asked: _Asked) -> Iterator[Problem]:
    if asked.engine is not None:
        yield from _not_on_cluster(asked)
    from mohs.checks import wrong_choice
    from mohs.mining.options import device_problems, margin_problems, method_problems, option_problems

    scale, method, rule, anchors = asked.hardness.scale, asked.method, asked.positive_rule, asked.anchors
    of_mining = (
        *option_problems(scale, asked.metric, rule, asked.num_negatives),
        *method_problems(method, _SAMPLED if asked.num_sampled is None else asked.num_sampled, scale),
        *margin_problems(scale, asked.margin, squared=False),
        *device_problems(asked.device, method, asked.num_negatives, has_exclusions=asked.review_list is not None),
        wrong_choice("candidates", asked.candidates, ("all", "sample", "catalog")),
    )
    yield from (problem.named(_FLAGS) for problem in of_mining if problem is not None)
    one_of_two = "leave one of the two out"
    if asked.embedder is not None and asked.embeddings is not None:
        yield Problem("--embedder, --embeddings", "both given", "use one of them")
    if asked.hardness.curve == "closed-loop":
        yield Problem("--curve", "'closed-loop' reads training", "use it with 'mohs train', or give a curve")
    if asked.num_sampled is not None and method == "exact":
        what = f"{asked.num_sampled} given for exact mining"
        yield Problem("--num-sampled", what, "use --method sampled or auto, or leave it out")
    by_distance, of_roles, prefer = rule in ("easy", "hard"), anchors != "any", asked.prefer
    if prefer is not None and by_distance:
        yield Problem("--prefer", f"{prefer!r} is for random positives", f"leave it out, or --positive-rule {rule}")
    if prefer is not None and of_roles:
        what = f"{prefer!r} with --anchors {anchors}, which decides who is the positive"
        yield Problem("--prefer", what, one_of_two)
    if by_distance and of_roles:
        what = f"{rule!r} with --anchors {anchors}: it takes any picture of the class, whatever its role"
        yield Problem("--positive-rule", what, one_of_two)
    if anchors == "catalog" and asked.candidates == "catalog":
        what = "'catalog' with --anchors catalog, whose negatives are samples"
        yield Problem("--candidates", what, one_of_two)


def _not_on_cluster(asked: _Asked) -> Iterator[Problem]:
    """Yield what was asked for and actors do not do."""
    data, here = asked.data, "leave it out, or mine without --engine ray"
    if asked.on_accelerator:
        yield Problem("--device", f"{asked.device!r} with --engine ray, whose actors mine on the CPU", here)
    if data.max_bad_images:
        fix = "set pictures aside with 'mohs check --write'"
        yield Problem("--max-bad", f"{data.max_bad_images} with --engine ray, which sets none aside", fix)
    if data.multi_label != "error":
        yield Problem("--multi-label", f"{data.multi_label!r} with --engine ray, which reads each row as it is", here)
    if data.group_column != type(data)().group_column:
        yield Problem("--group-column", f"{data.group_column!r} with --engine ray, which reads no groups", here)


def _mine(asked: _Asked, peers: Peers, ray: Any = None, *, quiet: bool, silent: bool) -> dict[str, Any]:
    """Embed a table's pictures (or take the vectors given), mine, write the plan and return what is told of it.

    What mining will take is said first, and refused if it is more than what is free.
    """
    from mohs.mining import compile_kernels
    from mohs.mining.roles import choose_roles, num_without_catalog
    from mohs.plan import POSITIVE_ORIGINS
    from mohs.sequence import describe_length, length_warning

    began = time.perf_counter()
    inputs = peers.first_here_first(lambda: _read(asked, ray, quiet=quiet))
    table = inputs.table
    is_catalog_N = table.roles == "catalog"
    roles = choose_roles(
        table.labels,
        is_catalog_N,
        asked.num_anchors,
        anchors=asked.anchors,
        prefer=asked.prefer or "class",
        seed=asked.seed,
        name="--anchors",
    )
    candidates = _candidates(asked, table)
    excluded_P2, num_equal = _excluded_pairs(asked, inputs)
    if not silent:
        say(f"length: {describe_length(asked.num_anchors, table.num_classes)}")
    if warning := length_warning(asked.num_anchors, table.num_classes):
        say(f"warning: {warning}")
    peak_bytes = None if asked.on_accelerator else _require_memory(asked, inputs, candidates, quiet=silent)
    if is_first():
        _require_disk(asked, table)
    read = time.perf_counter()
    bank_ND = inputs.bank(peers, quiet=quiet)
    embedded = time.perf_counter()
    compile_s = 0.0 if inputs.is_streamed else compile_kernels(asked.hardness.scale, half=inputs.is_half)
    plan = _plan(asked, table, bank_ND, roles, candidates, excluded_P2, peers, quiet=silent)
    plan = plan.with_header({"num_equal_picture_pairs": num_equal})
    mined = time.perf_counter()
    if ray is not None and not silent:
        say(f"mined: {inputs.vectors_ND}")  # what actors took
    pictures = None
    if inputs.dataset is not None:
        if is_first():
            tell_pictures(inputs.dataset.reading, beside(asked.out), quiet=silent)
        pictures = inputs.dataset.reading.as_record()
    if is_first():
        _save(plan, asked, table)
    origin_T = plan.positive_origin[:: asked.num_negatives]
    return {
        "pictures_read": pictures,
        "num_items": len(table),
        "num_classes": table.num_classes,
        "num_anchors": asked.num_anchors,
        "num_triplets": len(plan),
        "anchors": asked.anchors,
        "num_classes_without_catalog": (
            num_without_catalog(table.labels, is_catalog_N) if asked.anchors == "catalog" else None
        ),
        "positives": {n: int((origin_T == i).sum()) for i, n in enumerate(POSITIVE_ORIGINS) if (origin_T == i).any()},
        "mean_anchor_positive_distance": float(plan.anchor_positive_distance.mean()),
        "mean_anchor_negative_distance": float(plan.anchor_negative_distance.mean()),
        "method": plan.header["method"],
        "num_excluded_pairs": plan.header["num_excluded_pairs"],
        "num_equal_picture_pairs": num_equal,
        **{name: plan.header[name] for name in ("num_anchors_exact", "rank_error_sd_max") if name in plan.header},
        "estimated_peak_bytes": peak_bytes,
        "read_s": read - began,
        "embed_s": embedded - read,
        "compile_s": compile_s,
        "mine_s": mined - embedded - compile_s,
        "plan": str(asked.out),
        "csv": None if asked.csv is None else str(asked.csv),
    }


def _plan(
    asked: _Asked,
    table: Table,
    bank_ND: NDArray[Any] | RowsInPieces,
    roles: Roles,
    candidates: NDArray[np.int64] | None,
    excluded_P2: NDArray[np.int64] | None,
    peers: Peers,
    *,
    quiet: bool,
) -> TripletPlan:
    import numpy as np

    from mohs.artefacts import fingerprint
    from mohs.hardness.curves import schedule
    from mohs.mining import mine

    is_random = asked.positive_rule == "random"
    bank = "the embeddings" if asked.embeddings is None else str(asked.embeddings)
    with options.naming_flags({**_FLAGS, "embeddings_ND": bank}), counting_progress("mining", quiet=quiet) as progress:
        plan = mine(
            bank_ND,
            table.labels,
            anchors_T=roles.anchors_T,
            hardness_T=schedule(asked.hardness.build(), len(roles.anchors_T)),
            scale=asked.hardness.scale,
            num_negatives=asked.num_negatives,
            metric=asked.metric,
            positive_rule=asked.positive_rule,
            positives_T=roles.positives_T if is_random else None,
            positive_origin_T=roles.origin_T if is_random else None,
            candidates=candidates,
            excluded_pairs=excluded_P2,
            method=asked.method,
            num_sampled=asked.num_sampled or _SAMPLED,
            margin=asked.margin,
            seed=asked.seed,
            device=asked.device,
            progress=progress,
            peers=peers,
        )
    return plan.with_header(
        {
            # Positives drawn here are given to the miner, but not by the user.
            "positive_rule": asked.positive_rule,
            **({} if asked.anchors == "any" else {"anchors": asked.anchors}),
            "curve": asked.hardness.model_dump(mode="json"),
            "data_source": asked.data.source,
            "data_fingerprint": fingerprint(np.array(table.files), table.labels),
        }
    )


def _require_memory(asked: _Asked, inputs: _Inputs, candidates: NDArray[np.int64] | None, *, quiet: bool) -> int:
    """Say what embedding and mining take, refuse what does not fit, and return it."""
    from mohs.mining import estimate_peak_bytes

    num_items = len(inputs.table)
    peak_bytes = estimate_peak_bytes(
        num_items,
        inputs.dim,
        asked.num_anchors,
        num_candidates=None if candidates is None else len(candidates),
        scale=asked.hardness.scale,
        method=asked.method,
        num_sampled=asked.num_sampled or _SAMPLED,
        num_negatives=asked.num_negatives,
        metric=asked.metric,
        bank_dtype="float16" if inputs.is_half else "float32",
        in_memory=not inputs.is_mapped,
        in_shards=inputs.is_streamed,
    )
    peak_bytes += _LABEL_BYTES * num_items * (inputs.table.labels.dtype.itemsize // 4)
    if inputs.vectors_ND is None:
        peak_bytes += 4 * num_items * inputs.dim
    peak_bytes *= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine
    fix = "mine fewer --triplets or --negatives, give float16 vectors (--embeddings), or use a larger machine"
    require_memory(peak_bytes, "mining", fix)
    if not quiet:
        free = free_bytes()
        left = "" if free is None else f", {in_bytes(free)} are free"
        say(f"memory: mining takes about {in_bytes(peak_bytes)}{left}")
    return peak_bytes


def _require_disk(asked: _Asked, table: Table) -> None:
    """Raise `ResourceError` if the disks have less room than the plan and its CSV will take."""
    from mohs.artefacts import require_disk

    num_triplets = asked.num_anchors * asked.num_negatives
    require_disk(asked.out, _PLAN_ROW_BYTES * num_triplets, "the plan")
    if asked.csv is not None:
        name_bytes = sum(map(len, table.files)) // len(table)
        require_disk(asked.csv, (_CSV_ROW_BYTES + 3 * name_bytes) * num_triplets, "the plan as CSV")


def _save(plan: TripletPlan, asked: _Asked, table: Table) -> None:
    """Write the plan, and its CSV if asked for: both or none."""
    from mohs.artefacts import atomic_path
    from mohs.lock import only_writer

    # Held, so that plan and CSV are of one process.
    with only_writer(asked.out, "mining", of_file=True, wait_s=60), atomic_path(asked.out) as temporary:
        plan.save(temporary)
        if asked.csv is not None:
            plan.save_csv(asked.csv, files=table.files, labels=table.labels.tolist())


def _tell(facts: dict[str, Any]) -> None:
    from mohs.mining.roles import without_catalog

    positives = ", ".join(f"{count:,} from {name}" for name, count in facts["positives"].items())
    each = facts["num_triplets"] // facts["num_anchors"]
    triplets = f"{facts['num_triplets']:,} triplets" + ("" if each == 1 else f", {each} for each anchor")
    say(f"{facts['num_items']:,} items of {facts['num_classes']:,} classes, {triplets}")
    if facts["num_classes_without_catalog"]:
        say(without_catalog(facts["num_classes_without_catalog"], facts["num_classes"]))
    say(f"positives: {positives}")
    if facts["num_equal_picture_pairs"]:
        say(
            f"equal pictures under two classes, no negatives of each other: {facts['num_equal_picture_pairs']:,} "
            "pairs, counted both ways (--equal-pictures allows them)"
        )
    if reviewed := facts["num_excluded_pairs"] - facts["num_equal_picture_pairs"]:
        say(f"pairs kept apart by the review list: {reviewed:,}, counted both ways")
    if facts["method"] == "sampled":
        say(
            f"ranks sampled: standard deviation of their fraction at most {facts['rank_error_sd_max']:.4f}; "
            f"{facts['num_anchors_exact']:,} anchors mined exactly"
        )
    say(
        f"mean distance to the positive {facts['mean_anchor_positive_distance']:.3f}, "
        f"to the negative {facts['mean_anchor_negative_distance']:.3f}"
    )
    say(f"read {facts['read_s']:.1f} s, embed {facts['embed_s']:.1f} s, mine {facts['mine_s']:.1f} s")
    say(f"plan: {facts['plan']}" + (f" and {facts['csv']}" if facts["csv"] else ""))


@final
@dataclass(frozen=True, eq=False)
class _Inputs:
    """A table and where its vectors come from: a file's, or an embedder and the pictures it is to embed."""

    table: Table
    vectors_ND: NDArray[Any] | RowsInPieces | None
    embedder: Any = None
    dataset: Any = None

    @property
    def dim(self) -> int:
        """D, numbers in a vector."""
        return int(self.embedder.embedding_dim if self.vectors_ND is None else self.vectors_ND.shape[1])

    @property
    def is_half(self) -> bool:
        """Whether vectors are float16."""
        return self.vectors_ND is not None and self.vectors_ND.dtype == "float16"

    @property
    def is_mapped(self) -> bool:
        """Whether vectors are read from their file as they are needed."""
        return hasattr(self.vectors_ND, "filename")  # as only memory maps have it

    @property
    def is_streamed(self) -> bool:
        """Whether vectors are in shards."""
        return hasattr(self.vectors_ND, "layout")

    def bank(self, peers: Peers, *, quiet: bool) -> NDArray[Any] | RowsInPieces:
        """Return the vectors, [N, D]; embeds the pictures if no file holds them, each process a part."""
        if self.vectors_ND is not None:
            return self.vectors_ND
        from mohs.model.embedder import embed_items

        with counting_progress("embedding", quiet=quiet) as progress:
            return embed_items(self.embedder, self.dataset.pictures, peers=peers, progress=progress)


def _read(asked: _Asked, ray: Any, *, quiet: bool) -> _Inputs:
    """Read what is to be mined; the embedder is on the device that was asked for, else on what there is."""
    if ray is not None:
        data = asked.data
        table = cluster_table(data.source, data.catalog, data.file_column, data.class_column)
        bank = cluster_bank(ray, table, asked.embeddings, lambda: _embedder(asked), actors=asked.actors, quiet=quiet)
        return _Inputs(table, bank)
    if asked.embeddings is not None:
        return _read_with_vectors(asked, asked.embeddings)
    import torch

    from mohs.training.processes import choose_device

    embedder = _embedder(asked)
    dataset = _open(asked, embedder.policy, quiet=quiet)
    device = choose_device("auto") if asked.device is None else torch.device(asked.device)
    return _Inputs(dataset.table, None, embedder.to(device), dataset)


def _candidates(asked: _Asked, table: Table) -> NDArray[np.int64] | None:
    """Return the items that may be negatives; None for all."""
    import numpy as np

    # With catalog pictures for anchors, samples are the negatives.
    role = "sample" if asked.anchors == "catalog" else asked.candidates
    if role == "all":
        return None
    chosen = np.flatnonzero(table.roles == role)
    if not chosen.size:
        fix = "give --catalog, or leave it out" if role == "catalog" else "leave it out"
        raise InputError(f"--candidates: {table.source} has no {role} pictures; {fix}")
    return chosen


def _excluded_pairs(asked: _Asked, inputs: _Inputs) -> tuple[NDArray[np.int64] | None, int]:
    """Return the pairs that are no negatives, both ways, int64[P, 2], or None; and how many are of equal pictures.

    These are the pairs of the review list, and equal pictures under two classes: of equal pixels as they are embedded,
    or with --embeddings, where none is decoded, of equal files. Says what it passes over of the list.
    """
    import numpy as np

    from mohs.training.false_negatives import (
        duplicate_file_pairs,
        duplicate_pairs,
        pairs_of_files,
        passed_over,
        read_review_rows,
    )

    files, equal_P2 = inputs.table.files, np.empty((0, 2), dtype=np.int64)
    if "://" in inputs.table.source and not asked.equal_pictures:
        say("warning: no search for equal pictures under two classes: the pictures are not on this machine's disks")
    elif not asked.equal_pictures:
        dataset = inputs.dataset
        equal_P2 = duplicate_file_pairs(inputs.table) if dataset is None else duplicate_pairs(dataset)
        if asked.on_accelerator and len(equal_P2):
            what = f"{len(equal_P2) // 2:,} pairs of equal pictures under two classes"
            say(f"warning: {what} may be negatives of each other: pairs are kept apart on the CPU only")
            equal_P2 = equal_P2[:0]
    if asked.review_list is None:
        return (equal_P2 if len(equal_P2) else None), len(equal_P2)
    rows = read_review_rows(asked.review_list, name="--review-list")
    if line := passed_over(rows, files):
        say(f"warning: {asked.review_list}: {line}")
    return np.concatenate([pairs_of_files(rows, files), equal_P2]), len(equal_P2)


def _embedder(asked: _Asked) -> Embedder:
    from mohs.model.embedder import Embedder
    from mohs.settings.config import ModelConfig

    if asked.embedder is not None:
        if not any((asked.embedder / name).is_file() for name in ("embedder.json", "embedder/embedder.json")):
            raise InputError(
                f"--embedder: {asked.embedder}: neither a finished run nor an embedder folder (no embedder.json); "
                "give one made by 'mohs train'"
            )
        return Embedder.from_pretrained(asked.embedder)
    return Embedder.create(ModelConfig(), asked.data.policy, seed=asked.seed)


def _open(asked: _Asked, policy: ImagePolicy, *, quiet: bool) -> Dataset:
    from mohs.data.table import require_classes

    with decoding_progress(quiet=quiet) as progress:
        dataset = asked.data.open(policy, progress=progress)
    require_classes(dataset.table)
    return dataset


def _read_with_vectors(asked: _Asked, path: Path) -> _Inputs:
    from mohs.data.multi_label import file_keys, first_rows, one_class_each
    from mohs.data.table import BUILT_IN, require_classes
    from mohs.export.vector_files import require_files_of
    from mohs.shards import Shards

    data = asked.data
    if data.source == BUILT_IN:
        dataset = _open(asked, data.policy, quiet=True)
        vectors = _load_vectors(path, (len(dataset),))
        if isinstance(vectors, Shards):
            require_files_of(dataset.table, vectors)
        return _Inputs(dataset.table, vectors, dataset=dataset)
    listing = data.read_listing()
    table = one_class_each(listing, data.multi_label)
    require_classes(table)
    vectors = _load_vectors(path, (len(table), len(listing)))
    if len(vectors) != len(table):
        if isinstance(vectors, Shards):
            what = (
                f"{path}: {len(vectors)} rows for {len(table)} items, since pictures are listed under several classes"
            )
            raise InputError(f"{what}; embed the table with one row for each picture")
        # A vector for each row of the table: those of its rows that stay.
        row_of = first_rows(listing)
        vectors = vectors[[row_of[key] for key in file_keys(table)]]
    elif isinstance(vectors, Shards):
        require_files_of(table, vectors)
    return _Inputs(table, vectors)


def _load_vectors(path: Path, num_items: tuple[int, ...]) -> NDArray[Any] | Shards:
    """Return the vectors; float32 and float16 in C order stay in the file and are read as they are needed."""
    import numpy as np

    from mohs.distances import check_embeddings
    from mohs.evaluation.embedding_files import read_npy
    from mohs.mining.stored import stored_bank
    from mohs.shards import is_shards, open_shards

    if is_shards(path):
        shards = open_shards(path)
        if len(shards) not in num_items:
            raise InputError(f"{path}: {len(shards)} rows for {num_items[-1]} items in the table; embed this table")
        return shards
    vectors = read_npy(path, "embeddings", mapped=True)
    if vectors.dtype in (np.float32, np.float16) and vectors.flags.c_contiguous:
        stored_bank(vectors, name=str(path))  # what is wrong with it names the file
    else:
        vectors = check_embeddings(vectors, name=str(path))
    if len(vectors) not in num_items:
        raise InputError(f"{path}: {len(vectors)} rows for {num_items[-1]} items in the table; give one row per item")
    return vectors
