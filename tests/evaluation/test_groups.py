"""The query's own group left out of the gallery: the kernels against a plain oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mohs.errors import InputError
from mohs.evaluation.retrieval import LeftOut, RetrievalResult, evaluate_all_against_all, evaluate_retrieval


def oracle(queries, query_labels, gallery, gallery_labels, left_out):
    """One query after the other; ties: the irrelevant item first. `left_out(q, g)` says what is not ranked."""
    rows = []
    for q, (x, label) in enumerate(zip(queries, query_labels, strict=True)):
        items = [
            (float(np.sqrt(((y - x) ** 2).sum())), bool(other == label), g)
            for g, (y, other) in enumerate(zip(gallery, gallery_labels, strict=True))
            if not left_out(q, g)
        ]
        ranked = [match for _, match, _ in sorted(items)]
        R = sum(ranked)
        wrong = [(distance, gallery_labels[g], g) for distance, match, g in items if not match]
        nearest_wrong = min(wrong)[2] if wrong else -1
        if R == 0:
            rows.append((-1, np.nan, 0, nearest_wrong, len(items)))
            continue
        precisions = [sum(ranked[: i + 1]) / (i + 1) for i in range(len(ranked))]
        ap = sum(p for p, match in zip(precisions, ranked, strict=True) if match) / R
        rows.append((ranked.index(True) + 1, ap, R, nearest_wrong, len(items)))
    return rows


def assert_is(result: RetrievalResult, rows) -> None:
    assert result.first_match_rank.tolist() == [row[0] for row in rows]
    np.testing.assert_allclose(result.average_precision, [row[1] for row in rows], rtol=1e-12)
    assert result.num_relevant.tolist() == [row[2] for row in rows]
    assert result.nearest_wrong.tolist() == [row[3] for row in rows]
    counted = [row for row in rows if row[2]]
    assert result.num_queries_without_match == len(rows) - len(counted)
    for k, value in result.recall.items():
        assert value == pytest.approx(np.mean([row[0] <= k for row in counted]))
    for k, value in result.precision.items():
        hits = value * len(counted)
        assert hits <= sum(min(row[2], k) / min(k, row[4]) for row in counted) + 1e-9
    assert result.chance["recall@1"] == pytest.approx(np.mean([row[2] / row[4] for row in counted]))


cases = st.integers(2, 16).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), min_size=n, max_size=n),
        st.lists(st.sampled_from("abc"), min_size=n, max_size=n),
        st.lists(st.sampled_from(["", "", "g1", "g2", "g3"]), min_size=n, max_size=n),
    )
)


@settings(max_examples=200, deadline=None)
@given(cases)
def test_all_against_all_is_the_oracle(case) -> None:
    points, labels, groups = case
    x = np.array(points, dtype=np.float32)

    def left_out(q: int, g: int) -> bool:
        return q == g or (groups[q] != "" and groups[q] == groups[g])

    rows = oracle(x.astype(float), labels, x.astype(float), labels, left_out)
    if not any(row[2] for row in rows):
        with pytest.raises(InputError, match="none of the"):
            evaluate_all_against_all(x, labels, groups_N=groups, ks=(1, 3))
        return
    assert_is(evaluate_all_against_all(x, labels, groups_N=groups, ks=(1, 3)), rows)


@settings(max_examples=100, deadline=None)
@given(cases, st.integers(1, 16), st.booleans())
def test_queries_against_a_gallery_are_the_oracle(case, num_queries: int, known: bool) -> None:
    points, labels, groups = case
    x = np.array(points, dtype=np.float32)
    num_queries = min(num_queries, len(x) - 1)
    queries, gallery = slice(0, num_queries), slice(num_queries, None)
    own = np.arange(num_queries) % (len(x) - num_queries) if known else np.full(num_queries, -1)

    def left_out(q: int, g: int) -> bool:
        return g == own[q] or (groups[q] != "" and groups[q] == groups[num_queries + g])

    given_labels, given_groups = np.array(labels), np.array(groups)
    rows = oracle(x[queries].astype(float), labels[queries], x[gallery].astype(float), labels[gallery], left_out)
    arguments = (x[queries], given_labels[queries], x[gallery], given_labels[gallery])
    without = LeftOut(own, given_groups[queries], given_groups[gallery])
    if not any(row[2] for row in rows):
        with pytest.raises(InputError, match="none of the"):
            evaluate_retrieval(*arguments, left_out=without)
        return
    assert_is(evaluate_retrieval(*arguments, ks=(1, 2), left_out=without), rows)


@pytest.mark.parametrize("per_class", [3, 30])  # few limits, and grids
def test_many_items_over_blocks_and_tiles(per_class: int) -> None:
    random = np.random.default_rng(per_class)
    labels = np.repeat(np.arange(1800 // per_class), per_class)
    groups = random.integers(-1, 400, 1800)
    # Whole numbers: squares are exact, and ties are ties.
    x = random.integers(-9, 10, size=(len(labels), 5)).astype(np.float32)
    result = evaluate_all_against_all(x, labels, groups_N=groups)
    square_NN = ((x[:, None].astype(float) - x[None]) ** 2).sum(axis=2)
    out_NN = (groups[:, None] == groups[None]) & (groups[:, None] >= 0) | np.eye(len(x), dtype=bool)
    same_NN = (labels[:, None] == labels[None]) & ~out_NN
    first_N = np.where(same_NN, square_NN, np.inf).min(axis=1)
    rank_N = 1 + ((square_NN <= first_N[:, None]) & (labels[:, None] != labels[None]) & ~out_NN).sum(axis=1)
    np.testing.assert_array_equal(result.first_match_rank, np.where(same_NN.any(axis=1), rank_N, -1))
    np.testing.assert_array_equal(result.num_relevant, same_NN.sum(axis=1))
    for q in (0, 700, 1799):
        order = np.lexsort((same_NN[q], square_NN[q]))
        ranked = same_NN[q][order][~out_NN[q][order]]
        places = np.flatnonzero(ranked) + 1
        assert result.average_precision[q] == pytest.approx((np.arange(1, len(places) + 1) / places).mean())


def test_a_twin_of_the_same_session_is_no_answer() -> None:
    # Two sessions a class; the pictures of a session lie together, those of a class do not.
    random = np.random.default_rng(0)
    labels, session = np.repeat(np.arange(12), 4), np.repeat(np.arange(24), 2)
    x = random.normal(size=(24, 16))[session] + 0.01 * random.normal(size=(48, 16))
    with_own = evaluate_all_against_all(x, labels)
    without = evaluate_all_against_all(x, labels, groups_N=session)
    assert with_own.recall[1] == 1.0
    assert without.recall[1] < 0.2
    assert without.num_queries_without_match == 0
    # A group of one changes nothing, and neither does no group.
    for alone in (np.arange(48), np.full(48, -1), [""] * 48):
        result = evaluate_all_against_all(x, labels, groups_N=alone)
        assert result.metrics == with_own.metrics
        assert result.intervals == with_own.intervals


def test_groups_are_checked() -> None:
    x, labels = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    with pytest.raises(InputError, match=r"^query_groups_Q: 3 labels for 4 embeddings"):
        evaluate_all_against_all(x, labels, groups_N=[1, 2, 3])
    with pytest.raises(InputError, match="one without the other"):
        evaluate_retrieval(x, labels, x, labels, left_out=LeftOut(query_groups_Q=[1] * 4))
    with pytest.raises(
        InputError, match="outside its own group; check that groups are sessions or the like, and not the"
    ):
        evaluate_all_against_all(x, labels, groups_N=labels)
