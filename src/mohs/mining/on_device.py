"""Exact mining with products on an accelerator: it filters, and exact distances on the CPU have the last word.

What the device leaves to each anchor is a *window*, the few columns of which exact distances choose. Windows are given
row by row: the columns of row r are `column_n[start_R1[r] : start_R1[r + 1]]`; a row without columns is left as it is.
Each kernel at the end serves the rows `first` … `last` − 1, so that threads can share a block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mohs.checks import require
from mohs.errors import InputError, Problem
from mohs.hardness.scales import (
    achieved_by_distance,
    achieved_by_margin,
    achieved_by_rank,
    margin_threshold,
    range_threshold,
    rank_of,
)
from mohs.mining.bank import centred_bank
from mohs.mining.device_blocks import (
    WINDOW,
    DeviceRun,
    KeyBlock,
    check_products,
    float32_products,
    make_block,
    no_room,
    rows_per_block,
    send_columns,
)
from mohs.mining.exact import mine_exact
from mohs.mining.kernels import Array, Scalar, compiled, exact_distance_of
from mohs.mining.options import device_problems
from mohs.mining.problem import Float32, Float64, Index, MiningProblem, pair_distance
from mohs.mining.threads import Meter, for_each, num_threads, one_blas_thread

__all__ = ["mine_on_device", "mining_device"]


_DECIDED_AT_ONCE = 64
_FEW = 32
_GUESSES, _TURNS = 6, 32


@final
@dataclass(frozen=True, eq=False)
class _Window:
    """Columns left to each row, as `_decide_extreme` wants them; none to rows that have more than `WINDOW`."""

    start_R1: Index
    column_n: NDArray[np.int32]
    full_R: NDArray[np.bool_]


@final
class _Among(NamedTuple):
    """The windows of R anchors, as kernels take them: `column_n[start_R1[r] : start_R1[r + 1]]` of the items."""

    bank_ND: Array
    anchor_R: Index
    item_M: Index
    start_R1: Index
    column_n: NDArray[np.int32]


def mining_device(name: str) -> torch.device:
    """Return the accelerator of this name: "cuda", "cuda:N" or "mps"; raise `InputError` if there is none.

    >>> mining_device("tpu")
    Traceback (most recent call last):
    mohs.errors.InputError: device: 'tpu' is not one of 'cpu', 'cuda', 'cuda:0' and so on, 'mps'
    """
    require(*device_problems(name, "exact", 1, has_exclusions=False))
    device, fix = torch.device(name), "use 'cpu', or leave the device out"
    missing = Problem("device", f"{name!r} is not available here", fix)
    if name == "mps":
        require(None if torch.backends.mps.is_available() else missing)
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise InputError(Problem("device", f"{name!r} is not available here (no CUDA device)", fix))
    if device.index is not None and device.index >= count:
        last = f"'cuda:{count - 1}'"
        raise InputError(Problem("device", f"{name!r} is not available here", f"the last CUDA device is {last}"))
    return device


def mine_on_device(
    problem: MiningProblem, positive_distance_T: Float32, device: torch.device, meter: Meter | None = None
) -> tuple[Index, Float32, Float64, int]:
    """Return the same values as `mine_exact`, for one negative each, and how many anchors were left to the CPU.

    Negatives are int64[T], distances float32[T], achieved hardnesses float64[T].

    Raises `InputError` where the candidates do not fit into `FREE_SHARE` of the device's free memory, where the device
    runs out of memory all the same, and where its products are less exact than float32 allows.
    """
    p, threads = problem, num_threads()
    meter = meter or Meter(None, len(p.anchors_T))
    rows = rows_per_block(p, device)
    with one_blas_thread():
        run = DeviceRun(p, centred_bank(p, threads), device, rows, threads)
        try:
            with float32_products(device):
                found_T, extreme_2T = _mine(run, positive_distance_T, meter)
        except RuntimeError as error:
            # CUDA raises OutOfMemoryError, MPS a plain RuntimeError.
            if "out of memory" not in str(error):
                raise
            raise no_room(p, rows, f"'{device}' ran out of memory") from None
    rest = np.flatnonzero(found_T < 0)
    achieved_rest = np.empty(0)
    if rest.size:
        found_r1, _, achieved_r1 = mine_exact(p.part(rest), positive_distance_T[rest], meter)
        found_T[rest], achieved_rest = found_r1[:, 0], achieved_r1[:, 0]
    distance_T = pair_distance(p, found_T)
    if p.rule.needs == "extremes":
        achieved_T = achieved_by_distance(distance_T, extreme_2T[1], extreme_2T[0], p.hardness_T)
    elif p.rule.needs == "margin":
        assert p.margin is not None
        achieved_T = achieved_by_margin(distance_T, positive_distance_T, p.margin, p.squared)
    else:
        rank_T = rank_of(p.scale, p.hardness_T, p.num_negatives_T)
        achieved_T = achieved_by_rank(p.scale, rank_T, p.num_negatives_T, p.hardness_T)
    achieved_T[rest] = achieved_rest
    return found_T, distance_T, achieved_T, rest.size


def _mine(run: DeviceRun, positive_distance_T: Float32, meter: Meter) -> tuple[Index, Float32]:
    """Return the negatives, −1 where the CPU is to decide, and for `range` (dmin, dmax), float32[2, T]."""
    p, columns = run.problem, send_columns(run)
    num_anchors, num_decided, tick = len(p.anchors_T), 0, meter.stage()
    found_T, extreme_2T = np.full(num_anchors, -1), np.zeros((2, num_anchors), dtype=np.float32)
    for start in range(0, num_anchors, run.rows):
        block = make_block(run, columns, slice(start, start + run.rows))
        if start == 0:
            check_products(run, block)
        if p.rule.needs == "extremes":
            found_R = _select_range(run, block, extreme_2T[:, block.position])
        elif p.rule.needs == "margin":
            found_R = _select_margin(run, block, positive_distance_T[block.position])
        else:
            found_R = _select_rank(run, block)
        found_T[block.position] = found_R
        num_decided += int((found_R >= 0).sum())
        tick(num_decided, num_anchors)
        del block  # before the next one takes its place
    return found_T, extreme_2T


def _select_range(run: DeviceRun, block: KeyBlock, extreme_2R: Float32) -> Index:
    key_RM, reach_R = block.key_RM, run.send((2 * block.error_R).astype(np.float32))
    least_R = key_RM.amin(dim=1)
    nearest = _between(key_RM, least_R, least_R + reach_R)
    farthest = _farthest(run, block)
    _decide(run, block, nearest, _decide_extreme, -1.0, extreme_2R[0])
    _decide(run, block, farthest, _decide_extreme, 1.0, extreme_2R[1])
    tau_R = range_threshold(extreme_2R[0], extreme_2R[1], run.problem.hardness_T[block.position])
    window = _at_least(run, block, tau_R, ~(nearest.full_R | farthest.full_R))
    return _nearest_within(run, block, window, tau_R)


def _select_margin(run: DeviceRun, block: KeyBlock, positive_distance_R: Float32) -> Index:
    p = run.problem
    assert p.margin is not None
    enough_R = margin_threshold(positive_distance_R, p.hardness_T[block.position], p.margin, p.squared)
    tau_R, asked_R = enough_R.astype(np.float64), np.full(len(enough_R), True)
    window = _at_least(run, block, tau_R, asked_R)
    found_R = _nearest_within(run, block, window, tau_R)
    # A window that is too full does not say that there is nothing in it.
    asked_R = (found_R < 0) & ~window.full_R
    if asked_R.any():
        farthest, farthest_R = _farthest(run, block), np.zeros(len(enough_R), dtype=np.float32)
        _decide(run, block, farthest, _decide_extreme, 1.0, farthest_R)
        asked_R &= ~farthest.full_R
        tau_R = farthest_R.astype(np.float64)
        found_R = np.where(asked_R, _nearest_within(run, block, _at_least(run, block, tau_R, asked_R), tau_R), found_R)
    return found_R


def _select_rank(run: DeviceRun, block: KeyBlock) -> Index:
    p = run.problem
    num_negatives_R = p.num_negatives_T[block.position]
    rank_R = rank_of(p.scale, p.hardness_T[block.position], num_negatives_R)
    low_R, high_R = _bracket(run, block, rank_R, num_negatives_R)
    reach_R = run.send((2 * block.error_R).astype(np.float32))
    low_R, high_R = low_R - reach_R, high_R + reach_R
    window = _between(block.key_RM, low_R, high_R)
    before_R = (block.key_RM < low_R[:, None]).sum(dim=1, dtype=torch.int32).cpu().numpy()
    found_R = np.full(len(rank_R), -1)
    _decide(run, block, window, _decide_rank, rank_R - before_R, found_R)
    return found_R


def _bracket(run: DeviceRun, block: KeyBlock, rank_R: Index, num_negatives_R: Index) -> tuple[Tensor, Tensor]:
    """Return low and high, so that the key of this rank is in [low, high], and few others are.

    Counts close in on it: first where a normal distribution of the keys would have it, then by halves.
    """
    # If keys were normally distributed, the rank would lie at z standard deviations, in this density.
    z_R = torch.special.ndtri(torch.from_numpy((rank_R + 0.5) / num_negatives_R)).numpy()
    spread_R = np.maximum(block.spread_R, np.maximum(block.error_R, 1e-30))
    peak_R = num_negatives_R * np.exp(-(z_R**2) / 2) / np.sqrt(2 * np.pi) / spread_R
    bound_R = 1.01 * run.bank.frame.key_bound(block.norm_R) + block.error_R
    rank, error = run.send(rank_R.astype(np.int32)), run.send(block.error_R.astype(np.float32))
    at, density = (run.send(x.astype(np.float32)) for x in (block.mean_R + z_R * spread_R, np.maximum(peak_R, 1e-30)))
    low, high = run.send(-bound_R.astype(np.float32)), run.send(bound_R.astype(np.float32))
    num_negatives = run.send(num_negatives_R.astype(np.int32))
    below_low, below_high = torch.zeros_like(rank), num_negatives
    for turn in range(_TURNS):
        if bool(((below_high - below_low <= _FEW) | (high - low <= error)).all()):
            break
        # Not a number, or beyond what is known: take the middle.
        at = torch.where((at > low) & (at < high), at, low + (high - low) / 2)
        below = (block.key_RM < at[:, None]).sum(dim=1, dtype=torch.int32)
        under = below <= rank
        low, below_low = torch.where(under, at, low), torch.where(under, below, below_low)
        high, below_high = torch.where(under, high, at), torch.where(under, below_high, below)
        # A little beyond the wanted rank, so that the next count closes the bracket from the other side.
        miss = rank - below + torch.where(under, _FEW // 3, -_FEW // 3)
        known = (below_low > 0) & (below_high < num_negatives)
        density = torch.where(known, (below_high - below_low) / (high - low), density)
        at = at + miss / density if turn < _GUESSES else torch.full_like(at, torch.nan)
    return low, high


def _farthest(run: DeviceRun, block: KeyBlock) -> _Window:
    """Return the windows that hold the farthest item."""
    key_RM, reach_R = block.key_RM, run.send((2 * block.error_R).astype(np.float32))
    key_RM.masked_fill_(block.own_RM, -torch.inf)
    most_R = key_RM.amax(dim=1)
    farthest = _between(key_RM, most_R - reach_R, most_R)
    key_RM.masked_fill_(block.own_RM, torch.inf)
    return farthest


def _at_least(run: DeviceRun, block: KeyBlock, tau_R: Float64, asked_R: NDArray[np.bool_]) -> _Window:
    """Return the windows that hold the nearest item with d ≥ tau, if there is one; none for rows that are not asked."""
    limit_R = 2 * run.bank.frame.key_bound(block.norm_R)
    # No key is beyond its bound, so a threshold need not be either.
    value_R = np.clip(run.bank.frame.key_of(tau_R, block.norm_R**2 / 2), -limit_R, limit_R)
    low_R = np.where(tau_R > 0, value_R - block.error_R, -np.inf)
    sure_R = np.where(tau_R > 0, value_R + block.error_R, -np.inf)
    key_RM, asked = block.key_RM, torch.from_numpy(asked_R).to(run.device)
    low, sure, reach = (run.send(x.astype(np.float32)) for x in (low_R, sure_R, 2 * block.error_R))
    # From `sure` on every item is far enough; the nearest of these ends the window.
    least = torch.where(key_RM >= sure[:, None], key_RM, torch.inf).amin(dim=1)
    high = (least + reach).clamp(max=torch.finfo(torch.float32).max)
    return _between(key_RM, low, torch.where(asked, high, -torch.inf))


def _between(key_RM: Tensor, low_R: Tensor, high_R: Tensor) -> _Window:
    """Return the windows of the keys from low to high."""
    inside_RM = (key_RM >= low_R[:, None]) & (key_RM <= high_R[:, None])
    count = inside_RM.sum(dim=1, dtype=torch.int32)
    full = count > WINDOW
    inside_RM &= ~full[:, None]
    column_n = inside_RM.nonzero()[:, 1].to(torch.int32).cpu().numpy()
    full_R, count_R = full.cpu().numpy(), count.cpu().numpy()
    return _Window(np.concatenate([[0], np.cumsum(np.where(full_R, 0, count_R))]), column_n, full_R)


def _nearest_within(run: DeviceRun, block: KeyBlock, window: _Window, tau_R: Float64) -> Index:
    found_R = np.full(len(tau_R), -1)
    _decide(run, block, window, _decide_nearest, tau_R, found_R)
    return found_R


def _decide(run: DeviceRun, block: KeyBlock, window: _Window, kernel: Callable[..., None], *arguments: object) -> None:
    p, num_rows = run.problem, len(block.anchor_R)
    among = _Among(p.bank_ND.readable, block.anchor_R, p.candidates_M, window.start_R1, window.column_n)

    def work(first: int) -> None:
        kernel(among, *arguments, first, min(first + _DECIDED_AT_ONCE, num_rows))

    for_each(work, range(0, num_rows, _DECIDED_AT_ONCE), run.threads)


@compiled()
def _decide_extreme(among: _Among, sign: Scalar, distance_R: Array, first: Scalar, last: Scalar) -> None:
    """Write the largest sign·distance of each window, unsigned."""
    bank_ND, anchor_R, item_M, start_R1, column_n = among
    for r in range(first, last):
        best = -np.inf
        for i in range(start_R1[r], start_R1[r + 1]):
            best = max(best, sign * np.float64(exact_distance_of(bank_ND, anchor_R[r], item_M[column_n[i]])))
        if best > -np.inf:
            distance_R[r] = np.float32(sign * best)


@compiled()
def _decide_nearest(among: _Among, tau_R: Array, found_R: Array, first: Scalar, last: Scalar) -> None:
    """Write the nearest item of each window with d ≥ tau, ties by item index."""
    bank_ND, anchor_R, item_M, start_R1, column_n = among
    for r in range(first, last):
        best, best_distance = -1, np.float32(np.inf)
        for i in range(start_R1[r], start_R1[r + 1]):
            item = item_M[column_n[i]]
            distance = exact_distance_of(bank_ND, anchor_R[r], item)
            if np.float64(distance) >= tau_R[r] and (
                best < 0 or distance < best_distance or (distance == best_distance and item < best)
            ):
                best, best_distance = item, distance
        if best >= 0:
            found_R[r] = best


@compiled()
def _decide_rank(among: _Among, rank_R: Array, found_R: Array, first: Scalar, last: Scalar) -> None:
    """Write the item of a 0-based rank, by (distance, item index), within each window."""
    bank_ND, anchor_R, item_M, start_R1, column_n = among
    for r in range(first, last):
        columns = column_n[start_R1[r] : start_R1[r + 1]]
        if not 0 <= rank_R[r] < columns.size:
            continue
        item_n = np.sort(item_M[columns])
        distance_n = np.empty(item_n.size, np.float32)
        for i in range(item_n.size):
            distance_n[i] = exact_distance_of(bank_ND, anchor_R[r], item_n[i])
        # A stable sort keeps items of one distance in the order of their indices.
        found_R[r] = item_n[np.argsort(distance_n, kind="mergesort")[rank_R[r]]]
