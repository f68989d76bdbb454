"""Banks, labels and wishes to hold mining against the oracle with; for tests only."""

import numpy as np
from hypothesis import strategies as st
from oracle import oracle_negatives, oracle_positives

from mohs.distances import unit_rows
from mohs.hardness.scales import SCALES
from mohs.mining import mine

__all__ = ["KINDS", "assert_agrees", "cases", "random_bank", "random_labels"]


def random_bank(rng, num_items, dim, kind):
    bank = rng.normal(size=(num_items, dim))
    if kind == "unit":
        bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    elif kind == "grid":  # plenty of ties
        bank = np.rint(bank)
    elif kind == "duplicates":
        bank = bank[rng.integers(0, max(1, num_items // 4), num_items)]
    elif kind == "near-duplicates":
        bank = bank[rng.integers(0, max(1, num_items // 4), num_items)]
        bank *= 1 + 3e-7 * rng.normal(size=bank.shape)
    elif kind == "collapsed":
        bank = bank * 1e-4 + rng.normal(size=dim)
    elif kind == "one point":
        bank[:] = bank[0]
    elif kind == "outlier":
        bank[rng.integers(num_items)] *= 1e4
    elif kind == "huge":
        bank *= 1e18
    elif kind == "shell":  # seen from item 0, all are equally far to about the last digit
        bank *= (1 + 4e-7 * rng.random((num_items, 1))) / np.linalg.norm(bank, axis=1, keepdims=True)
        bank[0] = 0.0
    elif kind == "tiny":
        bank *= 1e-30
    return bank.astype(np.float32)


KINDS = (
    "plain",
    "unit",
    "grid",
    "duplicates",
    "near-duplicates",
    "collapsed",
    "one point",
    "outlier",
    "huge",
    "tiny",
    "shell",
)


def random_labels(rng, num_items, kind):
    """At least two classes; "pairs" are two or three a class, "few" are large classes, "single" are one a class."""
    num_classes = {"pairs": num_items // 2, "few": 3, "single": num_items}[kind]
    labels = rng.permutation(num_items) if kind == "single" else rng.integers(0, max(2, num_classes), num_items)
    labels[:2] = (0, 1) if kind != "single" else labels[:2]
    return labels


def assert_agrees(
    bank, labels, anchors, hardness, scale, candidates, margin, squared, *, k=1, excluded=None, rule="random",
    metric="euclidean", stored=None,
):  # fmt: skip
    """Hold `mine` against the oracle; `stored` is the same bank in another form, which is mined instead."""
    options = {"margin": margin, "squared": squared} if scale == "margin" else {}
    plan = mine(
        bank if stored is None else stored, labels, anchors_T=anchors, hardness_T=hardness, scale=scale,
        candidates=candidates, num_negatives=k, excluded_pairs=excluded, positive_rule=rule, metric=metric, **options,
    )  # fmt: skip
    rows = unit_rows(bank) if metric == "cosine" else bank
    positives = plan.positive[::k]
    negatives, achieved = oracle_negatives(
        rows,
        labels,
        anchors_T=anchors,
        positives_T=positives,
        hardness_T=hardness,
        scale=scale,
        candidates_N=candidates,
        num_negatives=k,
        excluded_pairs=() if excluded is None else excluded,
        **options,
    )
    np.testing.assert_array_equal(plan.negative, negatives)
    np.testing.assert_allclose(plan.achieved_hardness, achieved, atol=1e-6)
    np.testing.assert_array_equal(plan.anchor, np.repeat(anchors, k))
    np.testing.assert_array_equal(plan.positive, np.repeat(positives, k))
    if rule != "random":
        np.testing.assert_array_equal(positives, oracle_positives(rows, labels, anchors_T=anchors, rule=rule))


def random_exclusions(rng, labels, anchors, candidates):
    """Pairs of all sorts, many of them of the anchors and both ways; no anchor loses all its negatives."""
    num_items = len(labels)
    pairs = rng.integers(0, num_items, (int(rng.choice([0, 5, 200])), 2))
    pairs[::2, 0] = rng.choice(anchors, len(pairs[::2]))
    if rng.random() < 0.5:
        pairs = np.concatenate([pairs, pairs[: len(pairs) // 2, ::-1], pairs[: len(pairs) // 3]])
    if rng.random() < 0.2:  # nearly everything, for one anchor
        others = rng.permutation(num_items)
        pairs = np.concatenate([pairs, np.stack([np.full(num_items, anchors[0]), others], axis=1)])
    spared = np.full(num_items, -1)
    for anchor in set(anchors.tolist()):
        allowed = labels != labels[anchor]
        spared[anchor] = rng.choice(np.flatnonzero(allowed if candidates is None else allowed & candidates))
    return pairs[spared[pairs[:, 0]] != pairs[:, 1]]


def least_num_negatives(labels, anchors, candidates, excluded):
    allowed = np.ones(len(labels), dtype=bool) if candidates is None else candidates
    counts = []
    for anchor in set(anchors.tolist()):
        left = allowed & (labels != labels[anchor])
        left[excluded[excluded[:, 0] == anchor, 1]] = False
        counts.append(left.sum())
    return int(min(counts))


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_items = draw(st.integers(3, 300))
    bank = random_bank(rng, num_items, draw(st.integers(1, 12)), draw(st.sampled_from(KINDS)))
    labels = random_labels(rng, num_items, draw(st.sampled_from(["pairs", "few", "single"])))
    if draw(st.integers(0, 3)) == 0:  # nearly all items, some of them twice
        anchors = rng.permutation(np.r_[np.arange(num_items), np.arange(num_items // 2)])
        anchors = anchors[: rng.integers(num_items, len(anchors) + 1)]
    else:
        anchors = rng.integers(0, num_items, draw(st.integers(1, 24)))
        anchors[rng.random(len(anchors)) < 0.3] = 0
    num_anchors = len(anchors)
    ends = draw(st.sampled_from(["any", "0", "1", "mixed"]))
    hardness = rng.random(num_anchors)
    if ends == "mixed":
        hardness = np.where(rng.random(num_anchors) < 0.5, np.rint(hardness), hardness)
    elif ends != "any":
        hardness[:] = float(ends)
    candidates = None
    if draw(st.booleans()):
        candidates = rng.random(num_items) < 0.5
        candidates[:2] = True  # two classes: every anchor has a negative
    scale = draw(st.sampled_from(SCALES))
    margin = draw(st.sampled_from([0.05, 0.2, 1.0, 3.0])) * float(np.median(np.abs(bank)) + 1e-6)
    margin = min(margin, 1e19)  # more is refused
    excluded = np.empty((0, 2), dtype=np.int64)
    if draw(st.booleans()):
        excluded = random_exclusions(rng, labels, anchors, candidates)
    k = draw(st.sampled_from([1, 1, 2, 3, 7, 1000]))
    if k > 1:  # 1000: all there are
        k = min(k, least_num_negatives(labels, anchors, candidates, excluded))
    metric = draw(st.sampled_from(["euclidean", "euclidean", "cosine"]))
    if metric == "cosine":
        bank[~bank.any(axis=1)] = 1.0
    more = {"k": k, "excluded": excluded, "rule": draw(st.sampled_from(["random", "easy", "hard"])), "metric": metric}
    return (bank, labels, anchors, hardness, scale, candidates, margin, draw(st.booleans())), more
