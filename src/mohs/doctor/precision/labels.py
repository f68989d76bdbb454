"""Likely label errors: pictures that fit another class well and their own not, judged by other pictures.

The *fit* of a picture to a class is the mean similarity to the two most similar other pictures of that class, copies of
the picture itself left out (one, if the class has only one other). The *margin* is its best fit to another class minus
the fit to its own: it grows with the doubt. How large is too large is not a matter of taste: labels are made wrong at
random, the margins that this gives are compared with those seen, and the threshold is the smallest at which the
estimated share of right labels among those called wrong is at most 0.2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from mohs.distances import unit_rows
from mohs.evaluation.checked import Bools, Float32, Float64, Index
from mohs.randomness import generator

__all__ = ["LabelDoubt", "class_fit", "label_doubt"]

SUPPORT = 2
"""How many pictures of a class speak for it."""

CLEARLY = 0.1
_ROUNDING = 1e-6  # the same fit comes out of products of other shapes
_NUM_RIVALS = 3
_NUM_SIMULATED = 10_000
_MOST_WRONG = 0.25
_MAX_FALSE_SHARE = 0.2  # of right labels among those called wrong, by estimate


@final
@dataclass(frozen=True, eq=False)
class LabelDoubt:
    """How well each item fits its own class and another one.

    Attributes:
        own_fit_N: to its own class, float64 [N]; NaN if no other picture of it can speak.
        rival_N: the other class that it fits best among those of its neighbours, int64 [N]; -1 if there is none.
        rival_fit_N: to that class, float64 [N]; NaN likewise.
        margin_N: rival_fit − own_fit; NaN where either is.
        threshold: the smallest margin that counts as an error; inf if there is none with few enough false ones.
        false_share: estimated share of right labels among those with at least that margin; NaN if the threshold is inf.
        error_share: estimated share of wrong labels among all items.
        wrong_N: which labels are called wrong, bool [N].
    """

    own_fit_N: Float64
    rival_N: Index
    rival_fit_N: Float64
    margin_N: Float64
    threshold: float
    false_share: float
    error_share: float
    wrong_N: Bools


def class_fit(x_ND: Float32, class_N: Index, picture_N: Index, item_Q: Index, class_Q: Index) -> Float64:
    """Return the fit of items to classes, float64 [Q]: the mean of the two largest similarities; NaN if nobody speaks.

    Args:
        x_ND: unit rows.
        class_N: class of each item.
        picture_N: number of its picture; items with the same one are copies and do not speak for each other.
        item_Q: items.
        class_Q: the class that each is held against.

    >>> x_ND = np.float32([[1, 0], [0.6, 0.8], [0, 1]])
    >>> class_fit(x_ND, np.array([0, 0, 1]), np.arange(3), np.array([0, 0]), np.array([0, 1])).round(3).tolist()
    [0.6, 0.0]
    """
    fit_Q = np.full(len(item_Q), np.nan)
    order_N = np.argsort(class_N, kind="stable")
    for rows, label in _groups(class_Q):
        start, stop = np.searchsorted(class_N[order_N], [label, label + 1])
        members = order_N[start:stop]
        for begin in range(0, len(rows), 4096):
            part = rows[begin : begin + 4096]
            items = item_Q[part]
            similarity = (x_ND[items] @ x_ND[members].T).astype(np.float64)
            similarity[picture_N[items][:, None] == picture_N[members]] = -np.inf
            best = -np.partition(-similarity, min(SUPPORT, len(members)) - 1, axis=1)[:, :SUPPORT]
            speaks = np.isfinite(best)
            total = np.where(speaks, best, 0.0).sum(axis=1)
            count = speaks.sum(axis=1)
            fit_Q[part] = np.divide(total, count, out=np.full(len(part), np.nan), where=count > 0)
    return fit_Q


def label_doubt(
    embeddings_ND: npt.ArrayLike, class_N: Index, neighbours_NK: Index, *, picture_N: Index | None = None, seed: int = 0
) -> LabelDoubt:
    """Return how doubtful each label is, and from which margin on it is called wrong.

    With S(t) the share of items whose margin is at least t, and W(t) that share when labels are wrong (a random other
    class, drawn by its size, for up to 10,000 items), the share of wrong labels is about π = S/W at the margin that
    three quarters of the simulated errors have (one standard deviation is added to the count). Of the items with
    margin t or more about 1 − π·W(t)/S(t) have a right label: the false discovery rate with an estimated share of
    nulls (Storey 2002), the two hypotheses exchanged, since it is wrong labels that can be simulated. It assumes that
    labels are wrong at random; two classes that are systematically taken for each other are not seen. An embedder
    that was trained on the wrong labels fits them better than it should, so that fewer are found.

    π is an estimate, and from few items where few labels are wrong; the added deviation favours finding them. So the
    share of right labels is not held exactly. With simulated rows (24 numbers, 150 classes of 6) it was 0.09, 0.16,
    0.29 and 0.43 with 10%, 5%, 2% and 1% of the labels wrong where classes are apart (noise of 0.6), and 0.29, 0.35,
    0.42 and 0.48 where they overlap (0.9); 92% to 100% of the wrong labels were found. Look at the pictures.

    If more than a quarter of the labels seem wrong, none is called so: what then lies at margins of wrong labels are
    right ones, and the embedder does not know the classes well enough to judge. (Pixels called 43% of the emoji and
    55% of omniglot wrong, two drawings a class; all these labels are right.) The estimate does not see fewer hard
    pictures of that kind: a right picture that is unlike its class counts as an error.

    A label that is called wrong is looked at again, heard against pictures whose label is less doubtful: of two
    pictures in a class, the one that fits elsewhere is wrong, not both.

    Args:
        embeddings_ND: numbers [N, D].
        class_N: class codes, int64 [N].
        neighbours_NK: from `nearest_items`.
        picture_N: copies of a picture have the same number; None: no copies.
        seed: of the simulation.
    """
    x_ND = unit_rows(embeddings_ND)
    items = np.arange(len(x_ND))
    picture_N = items if picture_N is None else picture_N
    own_fit_N = class_fit(x_ND, class_N, picture_N, items, class_N)
    rival_N, rival_fit_N = _best_rival(x_ND, class_N, picture_N, neighbours_NK)
    margin_N = rival_fit_N - own_fit_N
    random = generator(seed, "wrong labels")
    known = np.flatnonzero(np.isfinite(own_fit_N))
    sample = np.sort(random.permutation(known)[:_NUM_SIMULATED])
    wrong_S = class_N[random.integers(len(items), size=len(sample))]
    sample, wrong_S = sample[wrong_S != class_N[sample]], wrong_S[wrong_S != class_N[sample]]
    fit_S = class_fit(x_ND, class_N, picture_N, sample, wrong_S)
    simulated_S = np.fmax(own_fit_N[sample], rival_fit_N[sample]) - fit_S
    threshold, false_share, error_share = _threshold(
        margin_N[np.isfinite(margin_N)], simulated_S[np.isfinite(simulated_S)]
    )
    wrong_N = _confirmed(x_ND, class_N, picture_N, rival_N, margin_N, threshold)
    return LabelDoubt(own_fit_N, rival_N, rival_fit_N, margin_N, threshold, false_share, error_share, wrong_N)


def _groups(class_Q: Index) -> Iterator[tuple[Index, int]]:
    """Yield the positions of each class in `class_Q`, and the class."""
    order = np.argsort(class_Q, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(class_Q[order])) + 1):
        if len(rows):
            yield rows, int(class_Q[rows[0]])


def _best_rival(x_ND: Float32, class_N: Index, picture_N: Index, neighbours_NK: Index) -> tuple[Index, Float64]:
    """Return the class that each item fits best among the first three other classes of its neighbours, and the fit."""
    rival_NR = np.full((len(x_ND), _NUM_RIVALS), -1, dtype=np.int64)
    num_N = np.zeros(len(x_ND), dtype=np.int64)
    items = np.arange(len(x_ND))
    for neighbour_N in neighbours_NK.T:
        class_of_N = class_N[neighbour_N]
        new_N = (neighbour_N >= 0) & (class_of_N != class_N) & (num_N < _NUM_RIVALS)
        new_N &= picture_N[neighbour_N] != picture_N
        new_N &= ~(rival_NR == class_of_N[:, None]).any(axis=1)
        rival_NR[items[new_N], num_N[new_N]] = class_of_N[new_N]
        num_N += new_N
    item_Q, place_Q = np.nonzero(rival_NR >= 0)
    fit_NR = np.full(rival_NR.shape, -np.inf)
    fit_Q = class_fit(x_ND, class_N, picture_N, item_Q, rival_NR[item_Q, place_Q])
    fit_NR[item_Q, place_Q] = np.where(np.isnan(fit_Q), -np.inf, fit_Q)
    best_N = fit_NR.argmax(axis=1)
    fit_N = fit_NR[items, best_N]
    none_N = ~np.isfinite(fit_N)
    return np.where(none_N, -1, rival_NR[items, best_N]), np.where(none_N, np.nan, fit_N)


def _threshold(margin_K: Float64, simulated_S: Float64) -> tuple[float, float, float]:
    """Return the threshold, the estimated false share from there on, and the share of wrong labels."""
    if not len(margin_K) or not len(simulated_S):
        return np.inf, np.nan, 0.0
    seen_K, simulated_S = np.sort(margin_K)[::-1], np.sort(simulated_S)
    # Three quarters of wrong labels have a margin above this one, hardly any right label has.
    quarter = float(np.quantile(simulated_S, 0.25))
    num_beyond = int((seen_K >= quarter).sum())
    # One standard deviation more than counted: of few errors fewer than three quarters can lie there by chance.
    error_share = min(1.0, (num_beyond + num_beyond**0.5) / 0.75 / len(seen_K))
    share_K = np.arange(1, len(seen_K) + 1) / len(seen_K)
    simulated_share_K = 1 - np.searchsorted(simulated_S, seen_K, side="left") / len(simulated_S)
    false_share_K = np.maximum(0.0, 1 - error_share * simulated_share_K / share_K)
    last_of_tie_K = np.append(np.diff(seen_K) != 0, True)
    good = np.flatnonzero((seen_K > 0) & last_of_tie_K & (false_share_K <= _MAX_FALSE_SHARE))
    if not error_share or not len(good) or error_share > _MOST_WRONG:
        return np.inf, np.nan, error_share
    return float(seen_K[good[-1]]), float(false_share_K[good[-1]]), error_share


def _confirmed(
    x_ND: Float32, class_N: Index, picture_N: Index, rival_N: Index, margin_N: Float64, threshold: float
) -> Bools:
    """Return which labels stay wrong when only pictures speak whose own label is less doubtful.

    The right picture in a class of two whose other one is wrong fits its class badly, too; the wrong one fits another
    class better, so that it alone is called wrong.
    """
    doubtful_N: Bools = margin_N >= threshold
    wrong_N = doubtful_N.copy()
    for item in np.flatnonzero(doubtful_N).tolist():
        speaks_N = (~doubtful_N | (margin_N < margin_N[item] - CLEARLY)) & (picture_N != picture_N[item])
        fits = []
        for label in (rival_N[item], class_N[item]):
            speakers = np.flatnonzero(speaks_N & (class_N == label))
            best = np.sort(x_ND[speakers] @ x_ND[item])[-SUPPORT:]
            fits.append(float(best.mean()) if len(best) else np.nan)
        wrong_N[item] = fits[0] - fits[1] >= threshold - _ROUNDING
    return wrong_N
