"""Two classes that are perhaps one: their pictures are as near to each other as pictures of one class are."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from mohs.doctor.findings import Finding
from mohs.evaluation.checked import Float64, Index
from mohs.evaluation.embedded import Embedded
from mohs.neighbour_search import nearest_rows

__all__ = ["SplitClasses", "find_split_classes", "find_split_ids"]

_MAX_FALSE_SHARE = 0.1
_MIN_CLASSES = 20
_NUM_NEAREST = 8
# Of two halves of one class 95% have a smaller ratio than this many standard deviations above 1.
_SURE = 1.645
# R@1 of the other classes from which on classes that lie close are an exception.
_TOLD_APART = 0.9


@final
@dataclass(frozen=True, eq=False)
class SplitClasses:
    """Pairs of classes that are perhaps one, the nearest first.

    Attributes:
        first_P, second_P: class codes, int64 [P], first below second.
        ratio_P: squared distance of their means over what two samples of one class have, float64 [P]: 1 for one class.
        usual: the median ratio of a class to its nearest other one.
        false_share: how many of these pairs are expected to be two classes after all, as a share.
    """

    first_P: Index
    second_P: Index
    ratio_P: Float64
    usual: float
    false_share: float

    def __len__(self) -> int:
        return len(self.first_P)


def find_split_classes(x_ND: NDArray[np.floating], class_N: Index) -> SplitClasses:
    """Return the pairs of classes whose pictures are as near across as within.

    With n pictures of class c around their mean m, and s² their variance summed over dimensions (of both classes; of
    all classes where they have one picture), the *ratio* of two classes is ‖m_a − m_b‖² / (s²/n_a + s²/n_b). For two
    samples of one cluster it is 1 on average, with a variance of 2/d, where d is the effective number of dimensions,
    (Σλ)²/Σλ² of the covariance within classes. Two classes are perhaps one if

    - their ratio is no larger than it is for 95% of such samples, and
    - so few ratios are expected there by chance that at most a tenth of the pairs are false. What is expected is what a
      normal distribution has there with the median and the median deviation of the logarithm of the ratios that classes
      have to their nearest other one: an embedder that sees many classes near each other proves nothing.

    Look-alikes that the embedder does tell apart have a larger ratio, since the means of their pictures differ. None
    are found among fewer than 20 classes.

    Args:
        x_ND: embeddings as they are compared.
        class_N: class codes, 0 to C − 1, each with an item.
    """
    from scipy.special import ndtr

    none = np.zeros(0, dtype=np.int64)
    nothing = SplitClasses(none, none, np.zeros(0), float("nan"), float("nan"))
    count_C = np.bincount(class_N)
    num_classes = len(count_C)
    if num_classes < _MIN_CLASSES or not (count_C > 1).any():
        return nothing
    x = np.asarray(x_ND, dtype=np.float64)
    order = np.argsort(class_N, kind="stable")
    start_C = np.concatenate([[0], np.cumsum(count_C)[:-1]])
    mean_CD = np.add.reduceat(x[order], start_C, axis=0) / count_C[:, None]
    rest_ND = x - mean_CD[class_N]
    square_C = np.bincount(class_N, weights=np.square(rest_ND).sum(axis=1))
    several_C = count_C > 1
    pooled = float(square_C[several_C].sum() / (count_C[several_C] - 1).sum())
    if pooled <= 0:
        return nothing
    variance_C = np.where(several_C, square_C / np.maximum(count_C - 1, 1), pooled)
    value_D = np.maximum(np.linalg.eigvalsh(rest_ND.T @ rest_ND), 0.0)
    dims = float(value_D.sum() ** 2 / np.square(value_D).sum())

    centred_CD = mean_CD - mean_CD.mean(axis=0)
    near_Ck = nearest_rows(centred_CD, centred_CD, _NUM_NEAREST, same_items=True)
    a, b = np.repeat(np.arange(num_classes), near_Ck.shape[1]), near_Ck.ravel()
    within = (variance_C[a] + variance_C[b]) / 2 * (1 / count_C[a] + 1 / count_C[b])
    ratio = np.square(mean_CD[a] - mean_CD[b]).sum(axis=1) / np.maximum(within, 1e-3 * pooled)
    ratio_Ck = ratio.reshape(near_Ck.shape)
    best_C = ratio_Ck.argmin(axis=1)
    smallest_C = ratio_Ck.min(axis=1)
    log_C = np.log(np.maximum(smallest_C, 1e-12))
    usual = float(np.median(log_C))
    deviation = 1.4826 * float(np.median(np.abs(log_C - usual)))
    other_C = near_Ck[np.arange(num_classes), best_C]
    pair_2P = np.stack([np.minimum(np.arange(num_classes), other_C), np.maximum(np.arange(num_classes), other_C)])
    pair_2P, first = np.unique(pair_2P, axis=1, return_index=True)
    ratio_P = smallest_C[first]
    by_ratio = np.argsort(ratio_P, kind="stable")
    pair_2P, ratio_P = pair_2P[:, by_ratio], ratio_P[by_ratio]
    limit = 1 + _SURE * float(np.sqrt(2 / dims))
    expected_P = len(ratio_P) * ndtr((np.log(np.maximum(ratio_P, 1e-12)) - usual) / max(deviation, 1e-12))
    false_P = expected_P / np.arange(1, len(ratio_P) + 1)
    good = np.flatnonzero((ratio_P <= limit) & (false_P <= _MAX_FALSE_SHARE))
    if not len(good):
        return nothing
    num = int(good[-1]) + 1
    first_P, second_P = pair_2P[:, :num]
    return SplitClasses(first_P, second_P, ratio_P[:num], float(np.exp(usual)), float(false_P[num - 1]))


def find_split_ids(embedded: Embedded) -> Finding | None:
    """Find classes that are perhaps one under two names (`find_split_classes`).

    A warning if they are a hundredth of all classes or more, at most one in a hundred of the pairs is expected to be
    two classes after all, and the embedder tells the other classes apart (R@1 of their pictures is 0.9 or more); else
    a note: an embedder that confuses many classes says little of a few.
    """
    found = find_split_classes(embedded.x_ND, embedded.codes)
    sample = embedded.sample(seed=0)
    recall = sample.recall
    # Who cannot tell any classes apart cannot say that two are one.
    if not len(found) or recall is None or recall.at_chance:
        return None
    names = np.unique(embedded.labels)
    share = 2 * len(found) / len(names)
    of_others_Q = ~np.isin(sample.labels, names[np.union1d(found.first_P, found.second_P)]) & recall.counted
    others = float(recall.hits[of_others_Q].mean()) if of_others_Q.any() else 0.0
    pairs = ", ".join(
        f"{str(names[a])!r} and {str(names[b])!r}"
        for a, b in zip(found.first_P[:3].tolist(), found.second_P[:3].tolist(), strict=True)
    )
    more = ", …" if len(found) > 3 else ""
    numbers = {
        "num_pairs": float(len(found)), "share": share, "largest_ratio": float(found.ratio_P[-1]),
        "usual_ratio": found.usual, "recall_of_others": others, "false_share": found.false_share,
    }  # fmt: skip
    return Finding(
        cause="perhaps-one-class",
        severity="warning" if share >= 0.01 and found.false_share <= 0.01 and others >= _TOLD_APART else "note",
        what=f"{len(found):,} {'pairs' if len(found) > 1 else 'pair'} of classes lie as near to each other as pictures "
        f"of one class do: {pairs}{more}; the squared distance of their means is at most {found.ratio_P[-1]:.1f} times "
        f"that of two samples of one class ({found.usual:.1f} times for usual classes)",
        why="Perhaps one class has two names, as a product with two numbers; or they differ by less than the network "
        "sees. Such classes cost recall, and teach the network to push one thing apart.",
        fix="Look at both, and join the classes if they are one.",
        numbers=numbers,
        share=min(1.0, share),
    )
