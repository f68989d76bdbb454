"""`mohs mine`: a table in, a plan out."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mohs.artefacts import atomic_path, fingerprint
from mohs.cli.console import free_bytes, in_bytes, print_json, require_memory, say
from mohs.cli.mine_inputs import MineInputs, candidates_of, excluded_pairs_of, read_inputs
from mohs.cli.mine_request import MineRequest, check_request, naming_flags
from mohs.data.table import Table
from mohs.hardness.curves import schedule
from mohs.mining import compile_kernels, estimate_peak_bytes, mine
from mohs.mining.roles import Roles, choose_roles, num_without_catalog, without_catalog
from mohs.plan import POSITIVE_ORIGINS, TripletPlan
from mohs.sequence import describe_length, length_warning

__all__ = ["mine_command"]

_SAMPLED = 4096
_LABEL_BYTES = 20  # for each character and item, beyond what the estimate counts


def mine_command(request: MineRequest, *, quiet: bool, as_json: bool) -> None:
    """Embed a table's pictures (or take the vectors given), mine, and write the plan.

    What mining will take is said first, and refused if it is more than what is free.
    """
    check_request(request)
    silent = quiet or as_json
    began = time.perf_counter()
    inputs = read_inputs(request, quiet=quiet)
    table = inputs.table
    num_anchors = request.length(table.num_classes)
    roles = choose_roles(
        table.labels,
        table.roles == "catalog",
        num_anchors,
        anchors=request.anchors,
        prefer=request.prefer_positive or "class",
        seed=request.seed,
        name="--anchors",
    )
    candidates = candidates_of(request, table)
    excluded_P2 = excluded_pairs_of(request, table)
    if not silent:
        say(f"length: {describe_length(num_anchors, table.num_classes)}")
    if warning := length_warning(num_anchors, table.num_classes):
        say(f"warning: {warning}")
    peak_bytes = _require_memory(request, inputs, candidates, quiet=silent)
    read = time.perf_counter()
    bank_ND = inputs.bank()
    embedded = time.perf_counter()
    compile_s = compile_kernels(request.hardness.scale, half=inputs.is_half)
    plan = _mine(request, table, bank_ND, roles, candidates, excluded_P2, quiet=silent)
    mined = time.perf_counter()
    _save(plan, request, table)
    origin_T = plan.positive_origin[:: request.num_negatives]
    facts = {
        "num_items": len(table),
        "num_classes": table.num_classes,
        "num_anchors": num_anchors,
        "num_triplets": len(plan),
        "anchors": request.anchors,
        "num_classes_without_catalog": (
            num_without_catalog(table.labels, table.roles == "catalog") if request.anchors == "catalog" else None
        ),
        "positives": {n: int((origin_T == i).sum()) for i, n in enumerate(POSITIVE_ORIGINS) if (origin_T == i).any()},
        "mean_anchor_positive_distance": float(plan.anchor_positive_distance.mean()),
        "mean_anchor_negative_distance": float(plan.anchor_negative_distance.mean()),
        "method": plan.header["method"],
        "num_excluded_pairs": plan.header["num_excluded_pairs"],
        **{name: plan.header[name] for name in ("num_anchors_exact", "rank_error_sd_max") if name in plan.header},
        "estimated_peak_bytes": peak_bytes,
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


def _mine(
    request: MineRequest,
    table: Table,
    bank_ND: NDArray[Any],
    roles: Roles,
    candidates: NDArray[np.int64] | None,
    excluded_P2: NDArray[np.int64] | None,
    *,
    quiet: bool,
) -> TripletPlan:
    given = request.positive_rule == "random"
    name = "the embeddings" if request.embeddings is None else str(request.embeddings)
    with naming_flags(name), _mining_progress(quiet=quiet) as progress:
        plan = mine(
            bank_ND,
            table.labels,
            anchors_T=roles.anchors_T,
            hardness_T=schedule(request.hardness.build(), len(roles.anchors_T)),
            scale=request.hardness.scale,
            num_negatives=request.num_negatives,
            metric=request.metric,
            positive_rule=request.positive_rule,
            positives_T=roles.positives_T if given else None,
            positive_origin_T=roles.origin_T if given else None,
            candidates=candidates,
            excluded_pairs=excluded_P2,
            method=request.method,
            num_sampled=request.num_sampled or _SAMPLED,
            margin=request.margin,
            seed=request.seed,
            device=request.device,
            progress=progress,
        )
    return plan.with_header(
        {
            # Positives drawn here are given to the miner, but not by the user.
            "positive_rule": request.positive_rule,
            **({} if request.anchors == "any" else {"anchors": request.anchors}),
            "curve": request.hardness.model_dump(mode="json"),
            "data_source": request.data.source,
            "data_fingerprint": fingerprint(np.array(table.files), table.labels),
        }
    )


def _require_memory(
    request: MineRequest, inputs: MineInputs, candidates: NDArray[np.int64] | None, *, quiet: bool
) -> int | None:
    """Say what embedding and mining take, refuse what does not fit, and return it; None on an accelerator."""
    if request.on_accelerator:
        return None
    num_items = len(inputs.table)
    peak_bytes = estimate_peak_bytes(
        num_items,
        inputs.dim,
        request.length(inputs.table.num_classes),
        num_candidates=None if candidates is None else len(candidates),
        scale=request.hardness.scale,
        method=request.method,
        num_sampled=request.num_sampled or _SAMPLED,
        num_negatives=request.num_negatives,
        metric=request.metric,
        bank_dtype="float16" if inputs.is_half else "float32",
        in_memory=not inputs.is_mapped,
    )
    peak_bytes += _LABEL_BYTES * num_items * (inputs.table.labels.dtype.itemsize // 4)
    if inputs.vectors_ND is None:
        peak_bytes += 4 * num_items * inputs.dim
    fix = "mine fewer --triplets or --negatives, give float16 vectors (--embeddings), or use a larger machine"
    require_memory(peak_bytes, "mining", fix)
    if not quiet:
        free = free_bytes()
        left = "" if free is None else f", {in_bytes(free)} are free"
        say(f"memory: mining takes about {in_bytes(peak_bytes)}{left}")
    return peak_bytes


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


def _save(plan: TripletPlan, request: MineRequest, table: Table) -> None:
    """Write the plan, and its CSV if asked for: both or none."""
    with atomic_path(request.out) as temporary:
        plan.save(temporary)
        if request.csv is not None:
            plan.save_csv(request.csv, files=table.files, labels=table.labels.tolist())


def _tell(facts: dict[str, Any]) -> None:
    positives = ", ".join(f"{count:,} from {name}" for name, count in facts["positives"].items())
    each = facts["num_triplets"] // facts["num_anchors"]
    triplets = f"{facts['num_triplets']:,} triplets" + ("" if each == 1 else f", {each} for each anchor")
    say(f"{facts['num_items']:,} items of {facts['num_classes']:,} classes, {triplets}")
    if facts["num_classes_without_catalog"]:
        say(without_catalog(facts["num_classes_without_catalog"], facts["num_classes"]))
    say(f"positives: {positives}")
    if facts["num_excluded_pairs"]:
        say(f"pairs kept apart by the review list: {facts['num_excluded_pairs']:,}, each way counted")
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
