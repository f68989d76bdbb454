"""Embeddings with their classes; whether the nearest of each is of its class (R@1), and what a change does to that."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mohs.checks import class_labels
from mohs.evaluation import same_picture
from mohs.evaluation.checked import Array, Bools, Float64, Index, checked_embeddings
from mohs.evaluation.collapse import Spread, spread
from mohs.evaluation.exact_neighbours import nearest_by_class
from mohs.evaluation.intervals import difference_and_interval
from mohs.evaluation.ranks import tie_limit
from mohs.randomness import generator

__all__ = ["MAX_ITEMS", "Embedded", "Gain", "Recall", "gain_of", "hits_at_1", "of_one_length", "recall_at_1"]

MAX_ITEMS = 4096
"""Items of a sample: whole classes are drawn until there are so many."""


@final
@dataclass(frozen=True, eq=False)
class Recall:
    """R@1 beside what a guess would have.

    Attributes:
        value: of the queries that count.
        chance: mean over them of the share of gallery items that are of their class.
        num: queries that count.
        hits, counted: of each query, as `hits_at_1` returns them.
    """

    value: float
    chance: float
    num: int
    hits: Bools
    counted: Bools

    @property
    def skill(self) -> float:
        """How much of the way from chance to 1 there is: 0 a guess, 1 all right, below 0 worse than a guess."""
        return (self.value - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0

    @property
    def at_chance(self) -> bool:
        """Whether R@1 is what a guess has, or hardly more.

        As many hits by chance have a probability above 5% (binomial), or above 1% and the skill is below 0.1; or the
        skill is below 0.02 and R@1 is below three times chance. Never where all items are of one class.
        """
        from scipy.stats import binom

        if self.chance >= 1:
            return False
        by_chance = float(binom.sf(round(self.value * self.num) - 1, self.num, self.chance))
        return (
            by_chance > 0.05
            or (by_chance > 0.01 and self.skill < 0.1)
            or (self.skill < 0.02 and self.value < 3 * self.chance)
        )


@final
@dataclass(frozen=True, eq=False)
class Embedded:
    """N embeddings with the class of each as text, and what else is known of them.

    Attributes:
        source: where they come from, for messages.
        x_ND: the numbers, [N, D].
        labels: the classes, str [N].
        roles: "sample" or "catalog", str [N]; None if not known.
        files: the picture of each item, str [N]; None if not known.
        groups: the group of each item, "" for none, str [N]; None if not known.
    """

    source: str
    x_ND: Array
    labels: NDArray[np.str_]
    roles: NDArray[np.str_] | None = None
    files: NDArray[np.str_] | None = None
    groups: NDArray[np.str_] | None = None

    @classmethod
    def of(cls, embeddings_ND: ArrayLike, labels_N: ArrayLike | Sequence[Any], *, source: str) -> "Embedded":
        """Return checked embeddings as float64; numbers of classes are taken as text.

        Raises `InputError` as `checked_embeddings` and `mohs.checks.class_labels` do.
        """
        x_ND = checked_embeddings(embeddings_ND, source)
        labels = class_labels(f"labels of {source}", labels_N, len(x_ND))
        return cls(source, x_ND, labels.astype(np.str_))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, items: Index) -> "Embedded":
        """Return these items, in this order."""
        more = (None if column is None else column[items] for column in (self.roles, self.files, self.groups))
        return Embedded(self.source, self.x_ND[items], self.labels[items], *more)

    def with_rows(self, x_ND: NDArray[np.floating]) -> "Embedded":
        """Return the same items with other embeddings."""
        return replace(self, x_ND=x_ND)

    @cached_property
    def codes(self) -> Index:
        """The number of each item's class, int64[N]."""
        return np.unique(self.labels, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def norms(self) -> Float64:
        """Euclidean norms, float64[N]."""
        norm_N: Float64 = np.linalg.norm(self.x_ND, axis=1)
        return norm_N

    @cached_property
    def spread(self) -> Spread:
        """The spread of all items."""
        return spread(self.x_ND)

    @property
    def relative_spread(self) -> float:
        """√(Σ variance) over the mean norm: 0 for one point, whatever the scale."""
        return self.spread.std_sqrt_dim / self.spread.mean_norm if self.spread.mean_norm > 0 else 0.0

    @property
    def has_pairs(self) -> bool:
        """Whether there are two classes, and one with two items."""
        count_C = np.bincount(self.codes)
        return len(count_C) > 1 and int(count_C.max()) > 1

    @cached_property
    def recall(self) -> Recall | None:
        """R@1 of each item among all others; None if no class has two. For up to some thousand items."""
        return recall_at_1(self, self, same_items=True)

    def unit(self) -> "Embedded":
        """Return the same with every row divided by its norm (rows of norm 0 stay)."""
        norms = np.where(self.norms > 0, self.norms, 1.0)
        return self.with_rows(self.x_ND / norms[:, None])

    def sample_items(self, *, seed: int, max_items: int = MAX_ITEMS) -> Index:
        """Return the items of whole classes, drawn until there are `max_items` or more of them, ascending."""
        if len(self) <= max_items:
            return np.arange(len(self), dtype=np.int64)
        order_C = generator(seed, "classes to diagnose").permutation(int(self.codes.max()) + 1)
        count_C = np.bincount(self.codes)[order_C]
        num = int(np.searchsorted(np.cumsum(count_C), max_items)) + 1
        return np.flatnonzero(np.isin(self.codes, order_C[:num]))[: 2 * max_items]

    def sample(self, *, seed: int) -> "Embedded":
        """Return the items of `sample_items`: these themselves if it is all of them, so that what is known is kept."""
        return self if len(self) <= MAX_ITEMS else self.take(self.sample_items(seed=seed))


def of_one_length(one: Embedded, other: Embedded) -> tuple[Embedded, Embedded]:
    """Return both at one length, as `mohs.evaluation.same_picture.of_one_length` does."""
    rows = same_picture.of_one_length(one.x_ND, other.x_ND)
    if rows[0] is one.x_ND:
        return one, other
    return one.with_rows(rows[0]), other.with_rows(rows[1])


def hits_at_1(
    queries: Embedded, gallery: Embedded, *, same_items: bool, farthest: bool = False, beyond_Q: Float64 | None = None
) -> tuple[Bools, Bools]:
    """Return for each query whether its nearest gallery item is of its class, and whether there is one of its class.

    Euclidean; ties count against it (`mohs.evaluation.ranks`). With `same_items` the queries are the gallery and each
    is left out of its own. With `farthest`, the farthest item is asked for. With `beyond_Q`, items no farther than that
    from their query are left out.
    """
    _, codes = np.unique(np.concatenate([queries.labels, gallery.labels]), return_inverse=True)
    own_Q, other_Q = nearest_by_class(
        queries.x_ND, codes[: len(queries)], gallery.x_ND, codes[len(queries) :],
        same_items=same_items, farthest=farthest, beyond_Q=beyond_Q,
    )  # fmt: skip
    counted_Q = np.isfinite(own_Q)
    if farthest:
        hits_Q = own_Q > tie_limit(np.maximum(other_Q, 0.0), queries.norms)
    else:
        hits_Q = tie_limit(np.where(counted_Q, own_Q, 0.0), queries.norms) < other_Q
    return hits_Q & counted_Q, counted_Q


def recall_at_1(
    queries: Embedded, gallery: Embedded, *, same_items: bool, beyond_Q: Float64 | None = None
) -> Recall | None:
    """Return R@1 with its chance level; None if no query has an item of its class to find.

    `same_items` and `beyond_Q` are those of `hits_at_1`; the chance level does not count what `beyond_Q` leaves out.

    >>> two = Embedded.of([[0.0], [0.1], [5.0], [5.1]], ["a", "a", "b", "b"], source="x")
    >>> found = recall_at_1(two, two, same_items=True)
    >>> found.value, round(found.chance, 3), found.at_chance
    (1.0, 0.333, False)
    """
    hits, counted = hits_at_1(queries, gallery, same_items=same_items, beyond_Q=beyond_Q)
    if not counted.any():
        return None
    names, count_C = np.unique(gallery.labels, return_counts=True)
    place = np.searchsorted(names, queries.labels[counted])
    chance = float(((count_C[place] - same_items) / (len(gallery) - same_items)).mean())
    return Recall(float(hits[counted].mean()), chance, int(counted.sum()), hits, counted)


@final
@dataclass(frozen=True)
class Gain:
    """What a change does to R@1 of the same queries.

    Attributes:
        before, after: R@1 of the queries that count.
        gain: mean of the paired differences, after less before.
        low, high: its 95% interval over classes.
        num: queries that count.
    """

    before: float
    after: float
    gain: float
    low: float
    high: float
    num: int

    def numbers(self, before: str, after: str, gain: str = "gain") -> dict[str, float]:
        """Return what a finding keeps of it, under these names; `gain` with the ends of its interval."""
        return {before: self.before, after: self.after, gain: self.gain, "low": self.low, "high": self.high}


def gain_of(before: Recall, after_hits_Q: Bools, queries: Embedded) -> Gain:
    """Return what a change does to R@1, from the hits (bool [Q]) after it."""
    counted = before.counted
    after = after_hits_Q[counted].astype(np.float64)
    gain, low, high = difference_and_interval(after - before.hits[counted], queries.labels[counted])
    return Gain(before.value, float(after.mean()), gain, low, high, before.num)
