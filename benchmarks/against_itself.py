"""A test of the harness: how often a strategy's own seeds, in two groups, seem to be two strategies."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.compare.cells import Cell, Comparison, Results
from mohs.compare.summary import PROTOCOLS, ProtocolName, hits_of, labels_of, paired_difference

__all__ = ["Itself", "against_itself", "itself_markdown", "splits"]

_GROUP = 3


@final
@dataclass(frozen=True)
class Itself:
    """Of one strategy and protocol: differences between groups of its seeds, and how many of them were called clear.

    `num_clear_classes` counts those that would be without the noise of seeds, by the interval over classes alone.
    """

    strategy: str
    protocol: ProtocolName
    num_seeds: int
    group: int
    num_splits: int
    num_clear: int
    num_clear_classes: int


def splits(num_seeds: int, group: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield each way of taking two groups of `group` out of `num_seeds`, once.

    >>> list(splits(4, 2))
    [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    """
    for one in itertools.combinations(range(num_seeds), group):
        rest = [seed for seed in range(num_seeds) if seed not in one]
        yield from ((one, two) for two in itertools.combinations(rest, group) if one < two)


def against_itself(comparison: Comparison, cells: Sequence[Cell], results: Results) -> list[Itself]:
    """Return for each trained strategy of four seeds or more how often it differs from itself, where 5% should.

    Groups are of three seeds, of two where there are four or five. All splits of the same seeds are alike: a share far
    from 5% may be the luck of a few seeds, and only many strategies and sets together tell.
    """
    labels = labels_of(comparison.data)
    found = []
    for strategy in comparison.strategies:
        own = [cell for cell in cells if cell.strategy == strategy.name]
        group = min(_GROUP, len(own) // 2)
        if group < 2:
            continue
        hits = hits_of(own, results)
        for protocol in PROTOCOLS:
            pairs = list(splits(len(own), group))
            clear = [_clear(hits[protocol], one, two, labels[protocol]) for one, two in pairs]
            both, classes = (sum(column) for column in zip(*clear, strict=True))
            found.append(Itself(strategy.name, protocol, len(own), group, len(pairs), both, classes))
    return found


def _clear(
    hits_SQ: NDArray[np.float64], one: tuple[int, ...], two: tuple[int, ...], labels_Q: NDArray[np.str_]
) -> tuple[bool, bool]:
    one_SQ, two_SQ = hits_SQ[list(one)], hits_SQ[list(two)]
    # As one seed whose hits are means: then the interval is over classes alone.
    one_1Q, two_1Q = (side.mean(axis=0, keepdims=True) for side in (one_SQ, two_SQ))
    low, high = paired_difference(one_1Q, two_1Q, labels_Q, to="").interval
    return paired_difference(one_SQ, two_SQ, labels_Q, to="").is_clear, low > 0 or high < 0


def itself_markdown(found: Sequence[Itself]) -> str:
    """Return as Markdown how often strategies differ from themselves."""
    lines = [["strategy against itself", "R@1", "seeds", "differences", "clear", "over classes alone"], ["---"] * 6]
    for one in found:
        seeds = f"{one.group} against {one.group} of {one.num_seeds}"
        shares = [f"{count / one.num_splits:.0%}" for count in (one.num_clear, one.num_clear_classes)]
        lines.append([one.strategy, one.protocol, seeds, str(one.num_splits), *shares])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
