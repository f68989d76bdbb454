"""What mining will take, before it starts."""

from math import prod
from typing import Literal, get_args

import numpy as np

from mohs.checks import require, wrong_choice, wrong_whole
from mohs.distances import VALUES_PER_CHECK
from mohs.hardness.scales import Scale, rule_of
from mohs.mining.bank import bank_bytes, tile_buffer_shape
from mohs.mining.blocks import buffer_shapes, rows_per_block
from mohs.mining.exact import SWEEP_SHARE, SWEEP_SHARE_RANGE, threads_for
from mohs.mining.options import Method, Metric, method_problems, option_problems
from mohs.mining.sampled import sample_bytes
from mohs.mining.streamed import streamed_bytes
from mohs.mining.sweep import sweep_bytes
from mohs.mining.threads import num_threads

__all__ = ["estimate_peak_bytes"]

BankDtype = Literal["float32", "float16", "bfloat16"]

_ITEM_BYTES = 100  # labels, class numbers, candidates and the sorts that make them
# The same for a bank in shards, of which nothing else grows with the items: while labels are sorted, and after that.
_SORTED_ITEM_BYTES, _KEPT_ITEM_BYTES = 53, 29
_ANCHOR_BYTES = 120  # the columns of the plan and what they are computed from
_SAMPLED_ANCHOR_BYTES = 80  # ranks, shares, estimates and errors, kept while some are mined exactly
# What each further negative of an anchor adds: while they are searched (exactly, or in a sample), and at the end, when
# the plan is put together and of the rest only the bank's copy is left.
_FOUND_BYTES, _FOUND_IN_SAMPLE_BYTES, _ROW_BYTES = 16, 40, 66
_SLACK = 1.05  # of the allocator


def estimate_peak_bytes(
    num_items: int,
    dim: int,
    num_anchors: int,
    *,
    num_candidates: int | None = None,
    scale: Scale = "range",
    method: Method = "exact",
    num_sampled: int = 4096,
    num_negatives: int = 1,
    metric: Metric = "euclidean",
    threads: int | None = None,
    bank_dtype: BankDtype = "float32",
    in_memory: bool = True,
    in_shards: bool = False,
) -> int:
    """Return the most memory, in bytes, that `mine` takes at any time beyond its inputs.

    It is the sum of the buffers, with 5% for the allocator. In outline, for M candidates and D dimensions: 4·M·D for a
    float32 bank in memory, none for other banks; for each thread 54 MB (up to 200,000 candidates) or 256·M; some 100
    to 400 bytes per item and anchor. Pages of a memory map that the system keeps are not counted: it drops them when
    memory is wanted.

    Anchors are taken to be as many different items as they can be. If many are the same, `range` may need as much as
    `rank`. On `margin`, and for `method="sampled"` and `"auto"`, it counts what the worst hardness needs: blocks for
    anchors that a sweep finds nothing for, or that a sample cannot serve. Labels are taken for integers; text adds
    about 20 bytes per character and item. A bank that is copied to float32 first (float64, lists, tensors on another
    device) takes 4·N·D more. Not counted: the search for easy or hard positives in a class of K ≥ 512 items, which
    takes 8·K·D before mining begins, and excluded pairs, about 100 bytes each.

    Args:
        num_items: N, items in the bank.
        dim: D, numbers in a row.
        num_anchors: T.
        num_candidates: M; None for all items.
        scale: as in `mine`.
        method: as in `mine`.
        num_sampled: as in `mine`.
        num_negatives: as in `mine`.
        metric: as in `mine`; "cosine" adds the unit rows, 4·N·D, which then are a float32 bank in memory.
        threads: None for as many as `mine` would use.
        bank_dtype: "float32", "float16" or "bfloat16".
        in_memory: False for a memory map.
        in_shards: True for a bank in shards, which is never in memory: of it two pieces are.

    Raises `InputError` for numbers below 1 and names that `mine` refuses.

    >>> estimate_peak_bytes(1_000_000, 512, 100_000, scale="rank", threads=8) // 10**6
    4520
    >>> estimate_peak_bytes(1_000_000, 512, 100_000, scale="rank", threads=8, bank_dtype="float16") // 10**6
    2379
    """
    counts = {"num_items": num_items, "dim": dim, "num_anchors": num_anchors}
    optional = {"num_candidates": num_candidates, "threads": threads}
    require(
        *(wrong_whole(name, count) for name, count in counts.items()),
        *(wrong_whole(name, count) for name, count in optional.items() if count is not None),
        *option_problems(scale, metric, "random", num_negatives),
        *method_problems(method, num_sampled, scale),
        wrong_choice("bank_dtype", bank_dtype, get_args(BankDtype)),
    )
    num_candidates = num_items if num_candidates is None else num_candidates
    wanted = num_threads() if threads is None else threads
    keeps_tiles = metric == "cosine" or (bank_dtype == "float32" and in_memory)
    tile = 4 * prod(tile_buffer_shape(dim, keeps_tiles))
    used = threads_for(num_anchors, num_candidates, wanted)
    in_blocks = num_anchors
    sweeps = 0
    needs = rule_of(scale).needs
    can_sweep = needs != "ranks" and num_candidates == num_items and num_negatives == 1
    share, searches = (SWEEP_SHARE_RANGE, 2) if needs == "extremes" else (SWEEP_SHARE, 1)
    if can_sweep and num_anchors >= share * num_items:
        sweeps = sweep_bytes(num_items, searches, used) + (2 * used + 1) * tile
        if needs == "extremes":
            rest = num_anchors % num_items
            in_blocks = rest if num_anchors > num_items and rest < share * num_items else 0
    if in_shards:
        # Of several negatives at a distance the first may have to move, and then both ends are looked for at once.
        ranks_at_once = 1 if needs == "ranks" else 0 if num_negatives == 1 else 2
        columns = num_items * _KEPT_ITEM_BYTES + num_anchors * (_ANCHOR_BYTES + num_negatives * _ROW_BYTES)
        streams = columns + streamed_bytes(num_items, dim, num_anchors, used, ranks_at_once=ranks_at_once)
        return int(_SLACK * max(num_items * _SORTED_ITEM_BYTES, streams))
    blocks = used * (_block_bytes(num_candidates, dim, in_blocks, used) + tile) + 32 * dim**2 if in_blocks else 0
    bank = bank_bytes(num_candidates, dim, keeps_tiles)
    further = num_anchors * (num_negatives - 1)
    mining = bank + max(sweeps, blocks) + further * _FOUND_BYTES
    if method != "exact":
        mining = max(mining, sample_bytes(num_candidates, dim, num_sampled, wanted))
        mining += num_anchors * _SAMPLED_ANCHOR_BYTES + further * (_FOUND_IN_SAMPLE_BYTES - _FOUND_BYTES)
    mining = max(mining, bank + further * _ROW_BYTES)
    checks = min(num_items * dim, VALUES_PER_CHECK) * (1 if bank_dtype == "float32" else 5)
    columns = num_items * _ITEM_BYTES + num_anchors * _ANCHOR_BYTES
    unit_rows = 4 * num_items * dim if metric == "cosine" else 0
    return int(_SLACK * (unit_rows + max(checks, columns + mining)))


def _block_bytes(num_candidates: int, dim: int, num_anchors: int, threads: int) -> int:
    """Return what one thread takes for its blocks, without the buffer for a tile."""
    rows = rows_per_block(num_candidates, num_anchors, threads)
    buffers = sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in buffer_shapes(rows, num_candidates))
    # Columns and distances of the window of a rank; the anchors' rows, once in float32 and thrice in float64.
    return buffers + 8 * num_candidates + 28 * rows * dim
