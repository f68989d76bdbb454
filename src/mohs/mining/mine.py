"""The entry: inputs in, plan out."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs import __version__
from mohs.artefacts import fingerprint
from mohs.checks import item_indices, require
from mohs.errors import InputError, Problem
from mohs.hardness.scales import Scale, rule_of
from mohs.mining.by_anchor import Found, mine_by_anchor
from mohs.mining.exact import mine_exact
from mohs.mining.options import (
    Method,
    Metric,
    PositiveRule,
    device_problems,
    margin_problems,
    method_problems,
    option_problems,
)
from mohs.mining.positives import positives_by_distance, positives_of_classes
from mohs.mining.problem import Float32, Hardness, MiningProblem, make_problem, pair_distance
from mohs.mining.sampled import Sampled, auto_method, mine_sampled
from mohs.mining.stored import StoredBank
from mohs.mining.threads import Meter, Progress
from mohs.peers import ALONE, Peers
from mohs.plan import POSITIVE_ORIGINS, TripletPlan, origin_column
from mohs.randomness import check_seed
from mohs.shards import RowsInPieces

__all__ = ["compile_kernels", "mine"]


def mine(
    embeddings_ND: ArrayLike | RowsInPieces,
    labels_N: ArrayLike,
    *,
    anchors_T: ArrayLike,
    hardness_T: ArrayLike,
    scale: Scale = "range",
    num_negatives: int = 1,
    metric: Metric = "euclidean",
    positive_rule: PositiveRule = "random",
    positives_T: ArrayLike | None = None,
    positive_origin_T: ArrayLike | None = None,
    candidates: ArrayLike | None = None,
    excluded_pairs: ArrayLike | None = None,
    method: Method = "exact",
    num_sampled: int = 4096,
    margin: float | None = None,
    squared: bool = False,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
    peers: Peers = ALONE,
) -> TripletPlan:
    """Return a plan: for each anchor the negatives at the hardness asked for, out of all items of other classes.

    Distances are Euclidean on the rows as given or, with `metric="cosine"`, on the rows divided by their norms; they
    are float32, rounded once from float64, and ties go to the lower item index. `mohs.hardness.scales` says what a
    hardness means on each scale. The same inputs give the same plan, byte for byte, whatever the number of threads.

    Args:
        embeddings_ND: the bank, one row per item; numpy array or torch tensor. float16, bfloat16 and memory maps are
            mined in place, without a float32 copy (`mohs.mining.stored`), and give the plan of the same numbers as
            float32; only the fingerprint in the header is that of what was given.
        labels_N: one class per item, strings or integers.
        anchors_T: item indices, for example from `mohs.anchor_sequence`.
        hardness_T: in [0, 1], 1 is hardest; one value, or one per anchor.
        scale: "range", "rank", "log-rank" or "margin".
        num_negatives: k, negatives per anchor, at least 1. Of the M negatives of an anchor, ordered by (distance, item
            index), the scale chooses the one of rank r; the k negatives are those of the ranks r' … r' + k − 1 with
            r' = min(r, M − k): the one at the hardness asked for and the next farther ones, or the k farthest where
            fewer follow. The plan has T·k rows: row t·k + j is anchor t with its j-th negative. Anchor, positive,
            their distance and the hardness asked for are repeated; `achieved_hardness` is that of each negative's own
            distance or rank.
        metric: "euclidean", or "cosine": every row is divided by its norm first (`mohs.distances.unit_rows`). Distances
            d in the plan are Euclidean on these unit rows, d² = 2 − 2·similarity, so that scales and margins mean the
            same; the fingerprint in the header is theirs.
        positive_rule: which positive an anchor gets where `positives_T` is None. "random" draws it with
            `choose_positives(labels_N, anchors_T, seed=seed)`; "easy" takes the nearest and "hard" the farthest other
            item of the anchor's class, by exact distance, the lower item index winning ties. Any item of the class may
            be a positive, whatever the candidates. An anchor alone in its class is its own positive, to be augmented.
        positives_T: item indices of the anchors' classes; an anchor that is its own positive is to be augmented. None
            chooses them by `positive_rule`.
        positive_origin_T: where `positives_T` come from, as `choose_positives` returns it; None: from the caller.
        candidates: the items that may be negatives: a bool mask [N] or item indices; None for all.
        excluded_pairs: pairs that are no (anchor, negative), int[P, 2], for example from a review: (anchor item, other
            item), in this order only; give both rows to exclude both ways. The other item is then no candidate for
            that anchor, and M is the number that remains. Duplicates are fine; pairs of one class, or with an item that
            is no candidate, have no effect.
        method: "exact"; "sampled" for the scales "rank" and "log-rank", which estimates ranks from a random sample of
            the candidates (`mohs.mining.sampled`); or "auto", which is "sampled" on these two scales where there are
            more than 3·10¹⁰ pairs of anchor and candidate (about a minute of exact mining at D = 128 on 2 cores) and at
            least 8·num_sampled candidates, else "exact". The header names the method used and, after sampling,
            `num_sampled`, `num_anchors_exact` (anchors too near the top for a sample, mined exactly), and the largest
            and the mean standard deviation of the rank fraction before calibration, `rank_error_sd_max` and
            `rank_error_sd_mean`. With sampling, k negatives are neighbours in the sample, so that their ranks, which
            are estimates too, are about M / num_sampled apart; anchors with excluded pairs are mined exactly.
        num_sampled: candidates in a sample, at least 256; for sampling only. The rank fraction q has a standard
            deviation of √(q(1 − q) / num_sampled), about halved by calibration.
        margin: the loss's margin, > 0; for the scale "margin" only.
        squared: True if the loss compares squared distances; for the scale "margin" only.
        seed: in [0, 2**63); used for the positives and the samples.
        device: where to multiply: None or "cpu"; "cuda", "cuda:1" and so on; or "mps". (So far this was run on torch's
            CPU only, on no GPU.) A device filters, and exact distances on the CPU decide, so the plan is the same
            (`mohs.mining.on_device`). It mines exactly: "auto" means "exact" there and "sampled" is refused. At most
            half of its free memory is taken. The header names the device and, for one other than the CPU,
            `num_anchors_on_cpu`: anchors with more than 1,024 items at the wanted distance, as near as float32
            products can tell, are mined on the CPU.
        progress: called with (anchors done, anchors in all), from the thread that called `mine`; the first number never
            falls, and the last call has both equal. Work that serves many anchors at once counts for some of them as
            it goes on. An exception that it raises ends mining, as Ctrl-C does: work that has begun, a block or so a
            thread, is finished, and the exception is passed on. Among several processes it counts this one's anchors.
        peers: the processes that call this together with the same arguments: each mines a part of the anchors, and
            all return the same plan, that of one process (`mohs.training.processes`).

    Raises `InputError` for embeddings with NaN or Inf, lengths that differ, indices out of range, hardness outside
    [0, 1], a single class, positives of another class, a `positive_rule` beside given positives, anchors without any
    negative or with fewer than `num_negatives`, for the metric "cosine" rows of norm zero, and a device that is absent,
    too small, or asked for what only the CPU does (`method` "sampled", several negatives, excluded pairs).

    >>> plan = mine(np.float32([[0.0], [0.1], [1.0], [3.0]]), ["a", "a", "b", "c"], anchors_T=[0, 0],
    ...             hardness_T=[1.0, 0.0])
    >>> plan.positive, plan.negative
    (array([1, 1]), array([2, 3]))
    >>> plan = mine(np.float32([[0.0], [0.1], [1.0], [3.0]]), ["a", "a", "b", "c"], anchors_T=[0, 1],
    ...             hardness_T=1.0, num_negatives=2)
    >>> plan.anchor, plan.negative
    (array([0, 0, 1, 1]), array([2, 3, 2, 3]))
    """
    require(
        *option_problems(scale, metric, positive_rule, num_negatives),
        *method_problems(method, num_sampled, scale),
        *margin_problems(scale, margin, squared),
        *device_problems(device, method, num_negatives, has_exclusions=excluded_pairs is not None),
    )
    if positives_T is not None and positive_rule != "random":
        what = f"{positive_rule!r} chooses positives, but positives_T gives them"
        raise InputError(Problem("positive_rule", what, "leave one of the two out"))
    on_host = device is None or device == "cpu"
    if isinstance(embeddings_ND, RowsInPieces) and not on_host:
        what = f"{device!r} mines what is in memory, not a bank in shards"
        raise InputError(Problem("device", what, "leave it out, or give the rows"))
    if device is not None and device != "cpu":
        # Mining on the host does without torch.
        from mohs.mining.on_device import mine_on_device, mining_device

        accelerator = mining_device(device)
    seed = check_seed(seed)
    problem = make_problem(
        embeddings_ND,
        labels_N,
        anchors_T=anchors_T,
        wanted=Hardness(hardness_T, scale, margin, squared),
        candidates=candidates,
        num_negatives=num_negatives,
        excluded_pairs=excluded_pairs,
        metric=metric,
    )
    chosen = (auto_method(problem, num_sampled) if on_host else "exact") if method == "auto" else method
    # Hashing a large bank takes as long as sampling it.
    with _hashed_beside(problem.bank_ND) as bank_fingerprint:
        if positive_rule != "random":
            positives, origin = positives_by_distance(problem, positive_rule)
        elif positives_T is None:
            positives, origin = positives_of_classes(problem.class_N, problem.anchors_T, seed=seed)
        else:
            positives, origin = _given_positives(problem, positives_T)
            if positive_origin_T is not None:
                origin = origin_column("positive_origin_T", positive_origin_T)
                if origin.shape != positives.shape:
                    what = f"{len(origin)} origins for {len(positives)} positives"
                    raise InputError(Problem("positive_origin_T", what, "give one per anchor"))
        positive_distance = pair_distance(problem, positives)
        meter = Meter(progress, -(-len(problem.anchors_T) // peers.num_ranks))
        extra: dict[str, Any] = {}
        if chosen == "sampled":
            sampled = mine_sampled(
                problem, positive_distance, num_sampled=num_sampled, seed=seed, meter=meter, peers=peers
            )
            negatives, negative_distance, achieved = sampled.negative_TK, sampled.distance_TK, sampled.achieved_TK
            extra = _sampled_header(sampled)
        elif not on_host:
            num_on_cpu = 0

            def on_device(part: MiningProblem, distance_T: Float32) -> Found:
                nonlocal num_on_cpu
                negative_TK, distance_TK, achieved_TK, num_on_cpu = mine_on_device(part, distance_T, accelerator, meter)
                return negative_TK, distance_TK, achieved_TK

            negatives, negative_distance, achieved = mine_by_anchor(problem, positive_distance, peers, on_device)
            extra = {"num_anchors_on_cpu": sum(peers.gather(num_on_cpu))}
        else:
            negatives, negative_distance, achieved = mine_by_anchor(
                problem, positive_distance, peers, lambda part, distance_T: mine_exact(part, distance_T, meter)
            )
        meter.finish()
    header = _header(problem, chosen, seed, device or "cpu", bank_fingerprint.result())
    header["positive_rule"] = positive_rule if positives_T is None else "given"
    k = problem.num_wanted
    return TripletPlan(
        anchor=np.repeat(problem.anchors_T, k),
        positive=np.repeat(positives, k),
        negative=negatives.ravel(),
        hardness=np.repeat(problem.hardness_T.astype(np.float32), k),
        achieved_hardness=achieved.astype(np.float32).ravel(),
        anchor_positive_distance=np.repeat(positive_distance, k),
        anchor_negative_distance=negative_distance.ravel(),
        positive_origin=np.repeat(origin, k),
        header=header | extra,
    )


@contextmanager
def _hashed_beside(bank: StoredBank) -> Iterator[Future[str]]:
    """Yield what will be the bank's fingerprint, of a thread that an error or Ctrl-C in the block ends."""
    is_over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(bank.fingerprint, lambda: not is_over.is_set())
        except BaseException:
            is_over.set()
            raise


def _given_positives(problem: MiningProblem, positives_T: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    positives = item_indices("positives_T", positives_T, len(problem.bank_ND))
    if positives.shape != problem.anchors_T.shape:
        what = f"{len(positives)} positives for {len(problem.anchors_T)} anchors"
        raise InputError(Problem("positives_T", what, "give one per anchor"))
    wrong = np.flatnonzero(problem.class_N[positives] != problem.class_N[problem.anchors_T])
    if wrong.size:
        t = wrong[0]
        anchor, positive = problem.anchors_T[t], positives[t]
        what = (
            f"item {positive} at position {t} is of class {problem.labels_N[positive].item()!r}, its anchor {anchor} "
            f"of class {problem.labels_N[anchor].item()!r} ({wrong.size} such positives)"
        )
        raise InputError(Problem("positives_T", what, "give items of the anchor's class"))
    augmented = positives == problem.anchors_T
    names = POSITIVE_ORIGINS
    origin = np.where(augmented, names.index("augmentation"), names.index("given")).astype(np.uint8)
    return positives, origin


def _header(problem: MiningProblem, method: str, seed: int, device: str, bank_fingerprint: str) -> dict[str, Any]:
    return {
        "scale": problem.scale,
        "margin": problem.margin,
        "squared": problem.squared,
        "metric": problem.metric,
        "num_negatives": problem.num_wanted,
        "method": method,
        "device": device,
        "num_items": len(problem.bank_ND),
        "num_classes": len(problem.class_start_C1) - 1,
        "num_candidates": len(problem.candidates_M),
        "num_excluded_pairs": len(problem.exclusions),
        "seed": seed,
        "bank_fingerprint": bank_fingerprint,
        "labels_fingerprint": fingerprint(problem.labels_N),
        "versions": {"mohs": __version__, "numpy": np.__version__},
    }


def _sampled_header(sampled: Sampled) -> dict[str, Any]:
    return {
        "num_sampled": sampled.num_sampled,
        "num_anchors_exact": sampled.num_anchors_exact,
        "rank_error_sd_max": float(sampled.rank_error_sd_T.max()),
        "rank_error_sd_mean": float(sampled.rank_error_sd_T.mean()),
    }


_NUM_ITEMS = 64


def compile_kernels(scale: Scale, *, half: bool = False) -> float:
    """Compile (or load from numba's cache) all that exact mining on a scale runs, and return the seconds it took.

    The first run after an installation compiles for some ten seconds, later ones load in less than one. Without this
    call the first `mine` pays for it. `half` is for banks of float16 or bfloat16, whose kernels are others (the same
    for both).

    >>> compile_kernels("rank") > 0
    True
    """
    began = time.perf_counter()
    float32_ND = np.random.Generator(np.random.PCG64(0)).standard_normal((_NUM_ITEMS, 4), dtype=np.float32)
    bank_ND = float32_ND.astype(np.float16) if half else float32_ND
    labels_N = np.arange(_NUM_ITEMS) // 2
    margin = 1.0 if rule_of(scale).needs == "margin" else None
    # Nearly all items as anchors go one way through the code, few anchors another.
    for num_anchors in (_NUM_ITEMS, 4):
        anchors_T = np.arange(num_anchors)
        mine(bank_ND, labels_N, anchors_T=anchors_T, hardness_T=0.5, scale=scale, margin=margin)
    return time.perf_counter() - began
