"""The inner loops over one block of anchors × candidates, compiled by numba without the interpreter's lock.

A block holds *keys*, float32[R, M]: key = ‖b‖²/2 − a·b of centred rows, so that d² = ‖a‖² + 2·key and a smaller key is
closer. Keys carry the rounding of a float32 matrix product. `eps` bounds, for an anchor, how far a key may lie from the
one that the exact distance implies, so a key decides only beyond eps; nearer than that the exact distance of the
original rows decides, with ties by item index. The result is that of the definition, whatever rounded the product.

The candidates are sorted by class, so an anchor's own class is one slice [own_start, own_stop) to step over.
"""

import math

import numpy as np
from numba import njit

__all__ = ["scan_nearest", "scan_range", "scan_rank"]


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _exact(bank_ND, a, b):
    """Distance of two rows: float64 inside, rounded to float32 once."""
    total = 0.0
    for k in range(bank_ND.shape[1]):
        difference = np.float64(bank_ND[a, k]) - np.float64(bank_ND[b, k])
        total += difference * difference
    return np.float32(math.sqrt(total))


@njit(nogil=True, cache=True)
def _nearest_at_least(keys, own_start, own_stop, half_norm, eps, tau, bank_ND, anchor, item_M):
    """Return (item, distance) of the nearest with distance ≥ tau, ties by item index; item −1 if there is none."""
    centre = tau * tau / 2.0 - half_norm if tau > 0.0 else -np.inf
    low, high = centre - eps, centre + eps
    smallest = np.inf
    for j in range(len(keys)):
        if (j < own_start or j >= own_stop) and keys[j] >= high and keys[j] < smallest:
            smallest = np.float64(keys[j])
    bound = smallest + 2.0 * eps
    best, best_distance = -1, np.float32(np.inf)
    for j in range(len(keys)):
        if (j < own_start or j >= own_stop) and keys[j] >= low and keys[j] <= bound:
            item = item_M[j]
            distance = _exact(bank_ND, anchor, item)
            if np.float64(distance) >= tau and (
                distance < best_distance or best < 0 or (distance == best_distance and item < best)
            ):
                best, best_distance = item, distance
    return best, best_distance


@njit(nogil=True, cache=True)
def _extremes(keys, own_start, own_stop, eps, bank_ND, anchor, item_M):
    """Return the exact smallest and largest distance."""
    smallest, largest = np.inf, -np.inf
    for j in range(len(keys)):
        if j < own_start or j >= own_stop:
            smallest = min(smallest, np.float64(keys[j]))
            largest = max(largest, np.float64(keys[j]))
    dmin, dmax = np.float32(np.inf), np.float32(-np.inf)
    for j in range(len(keys)):
        if j < own_start or j >= own_stop:
            if keys[j] <= smallest + 2.0 * eps:
                dmin = min(dmin, _exact(bank_ND, anchor, item_M[j]))
            if keys[j] >= largest - 2.0 * eps:
                dmax = max(dmax, _exact(bank_ND, anchor, item_M[j]))
    return dmin, dmax


@njit(nogil=True, cache=True)
def scan_range(
    keys_RM, anchor_R, own_start_R, own_stop_R, half_norm_R, eps_R, hardness_R, bank_ND, item_M, found_R, dmin_R, dmax_R
):
    """Write the nearest item with d ≥ dmax − h·(dmax − dmin), and the two extremes."""
    for r in range(len(anchor_R)):
        keys, own_start, own_stop, eps, anchor = keys_RM[r], own_start_R[r], own_stop_R[r], eps_R[r], anchor_R[r]
        dmin, dmax = _extremes(keys, own_start, own_stop, eps, bank_ND, anchor, item_M)
        easiest = np.float64(dmax)
        tau = min(easiest - hardness_R[r] * (easiest - np.float64(dmin)), easiest)
        found_R[r], _ = _nearest_at_least(keys, own_start, own_stop, half_norm_R[r], eps, tau, bank_ND, anchor, item_M)
        dmin_R[r], dmax_R[r] = dmin, dmax


@njit(nogil=True, cache=True)
def scan_nearest(keys_RM, anchor_R, own_start_R, own_stop_R, half_norm_R, eps_R, tau_KR, bank_ND, item_M, found_R):
    """Write the nearest item with d ≥ the first of K thresholds that any item reaches (the last one must be 0)."""
    for r in range(len(anchor_R)):
        for k in range(len(tau_KR)):
            found_R[r], _ = _nearest_at_least(
                keys_RM[r],
                own_start_R[r],
                own_stop_R[r],
                half_norm_R[r],
                eps_R[r],
                tau_KR[k, r],
                bank_ND,
                anchor_R[r],
                item_M,
            )
            if found_R[r] >= 0:
                break


@njit(nogil=True, cache=True)
def scan_rank(keys_RM, anchor_R, own_start_R, own_stop_R, eps_R, rank_R, bank_ND, item_M, found_R):
    """Write the item of the 0-based rank asked for, by (distance, item index)."""
    for r in range(len(anchor_R)):
        keys, start, stop, eps = keys_RM[r], own_start_R[r], own_stop_R[r], eps_R[r]
        negatives = np.concatenate((keys[:start], keys[stop:]))
        key = np.float64(np.partition(negatives, rank_R[r])[rank_R[r]])
        low, high = key - 2.0 * eps, key + 2.0 * eps
        below, count = 0, 0
        for j in range(len(keys)):
            if j < start or j >= stop:
                below += keys[j] < low
                count += keys[j] >= low and keys[j] <= high
        item, distance, n = np.empty(count, np.int64), np.empty(count, np.float32), 0
        for j in range(len(keys)):
            if (j < start or j >= stop) and keys[j] >= low and keys[j] <= high:
                item[n] = item_M[j]
                distance[n] = _exact(bank_ND, anchor_R[r], item_M[j])
                n += 1
        by_item = np.argsort(item, kind="mergesort")
        order = by_item[np.argsort(distance[by_item], kind="mergesort")]
        found_R[r] = item[order[rank_R[r] - below]]
