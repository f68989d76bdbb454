import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from mohs.distances import unit_rows
from mohs.errors import InputError
from mohs.hardness import scales
from mohs.hardness.scales import SCALES, rule_of
from mohs.mining import mine, on_device
from mohs.plan import POSITIVE_ORIGINS


@pytest.fixture(scope="module")
def bank():
    rows = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


LABELS = np.arange(3000) // 2


def options_of(scale):
    return {"margin": 0.2} if scale == "margin" else {}


@pytest.mark.parametrize("scale", SCALES)
def test_one_is_hardest_and_zero_easiest(bank, scale):
    """On every scale a harder negative is a closer one; an exchanged sign anywhere turns this round."""
    anchors = np.arange(0, 3000, 10)
    options = {"margin": 1.0, "positives_T": anchors} if scale == "margin" else {}
    easy, middle, hard = (
        mine(bank, LABELS, anchors_T=anchors, hardness_T=h, scale=scale, **options).anchor_negative_distance
        for h in (0.0, 0.5, 1.0)
    )
    assert (easy >= middle).all()
    assert (middle >= hard).all()
    assert easy.mean() > hard.mean() + 0.3


@pytest.mark.parametrize("scale", ["range", "rank", "log-rank"])
def test_the_ends_are_the_nearest_and_the_farthest_negative(bank, scale):
    distance = np.linalg.norm(bank - bank[7], axis=1)
    other = np.flatnonzero(LABELS[7] != LABELS)
    plan = mine(bank, LABELS, anchors_T=[7, 7], hardness_T=[1.0, 0.0], scale=scale)
    assert plan.negative.tolist() == [other[distance[other].argmin()], other[distance[other].argmax()]]
    assert plan.achieved_hardness.tolist() == [1.0, 0.0]


def test_margin_takes_the_nearest_beyond_the_positive_or_the_farthest():
    bank = np.float32([[0.0], [1.0], [1.05], [1.3], [0.2]])
    labels = ["a", "a", "b", "c", "d"]

    def negative(hardness, margin, candidates=None, squared=False, positive=1):
        plan = mine(
            bank,
            labels,
            anchors_T=[0],
            positives_T=[positive],
            hardness_T=hardness,
            scale="margin",
            margin=margin,
            candidates=candidates,
            squared=squared,
        )
        return plan.negative[0], plan.achieved_hardness[0]

    assert negative(1.0, 0.5) == (2, pytest.approx(0.9))
    assert negative(0.5, 0.5) == (3, pytest.approx(0.4))
    assert negative(0.5, 1.0, squared=True) == (3, pytest.approx(0.31, abs=1e-6))  # 1.69 ≥ 1 + 0.5, 1.1025 is not
    assert negative(0.0, 0.5) == (3, pytest.approx(0.4))  # none reaches 1.5: the farthest
    assert negative(1.0, 0.5, candidates=[2, 4]) == (2, pytest.approx(0.9))
    assert negative(0.0, 0.5, candidates=[2, 4]) == (2, pytest.approx(0.9))
    assert negative(1.0, 0.5, candidates=[4]) == (4, 1.0)  # none is beyond 1 either
    assert negative(1.0, 0.5, positive=0) == (4, pytest.approx(0.6))  # an augmentation lies at distance 0


def test_ties_go_to_the_lower_index():
    bank = np.float32([[0.0], [1.0], [-1.0], [1.0], [-1.0]])
    for labels in (["a", "b", "c", "d", "e"], ["z", "e", "d", "c", "b"]):
        for scale in SCALES:
            plan = mine(bank, labels, anchors_T=[0], hardness_T=1.0, scale=scale, **options_of(scale))
            assert plan.negative.tolist() == [1]
        ranks = mine(bank, labels, anchors_T=[0] * 4, hardness_T=[1, 2 / 3, 1 / 3, 0], scale="rank")
        assert ranks.negative.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("more", [{}, {"num_negatives": 3, "metric": "cosine"}], ids=["plain", "several, cosine"])
@pytest.mark.parametrize("scale", SCALES)
def test_the_plan_does_not_depend_on_threads(bank, scale, more, monkeypatch, tmp_path):
    rng = np.random.default_rng(1)
    hardness = rng.random(3000)
    options = {**options_of(scale), **more, "excluded_pairs": rng.integers(0, 3000, (5000, 2))}
    for threads in (1, 2, 5):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        plan = mine(bank, LABELS, anchors_T=np.arange(3000), hardness_T=hardness, scale=scale, **options)
        plan.save(tmp_path / f"{threads}.parquet")
    files = [(tmp_path / f"{threads}.parquet").read_bytes() for threads in (1, 2, 5)]
    assert files[0] == files[1] == files[2]


def test_memory_does_not_grow_with_the_square_of_the_bank():
    peaks = []
    for num_items in (6000, 12000):
        rows = np.random.default_rng(0).normal(size=(num_items, 4)).astype(np.float32)
        tracemalloc.start()
        mine(rows, np.arange(num_items), anchors_T=np.arange(num_items), hardness_T=0.5)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.2 * peaks[0]
    assert peaks[1] < 12000**2 / 2  # bytes; a matrix of any kind would take more


def test_torch_tensors_and_lists_are_banks_too(bank):
    plan = mine(bank, LABELS, anchors_T=[5, 9], hardness_T=0.7)
    for other in (torch.from_numpy(bank).requires_grad_(), bank.astype(np.float64), bank.tolist()):
        again = mine(other, LABELS.tolist(), anchors_T=[5, 9], hardness_T=[0.7, 0.7])
        assert again.to_arrow().equals(plan.to_arrow(), check_metadata=True)


def test_candidates_as_mask_and_as_indices_agree_and_bind(bank):
    mask = np.zeros(3000, dtype=bool)
    mask[100:200] = True
    plan = mine(bank, LABELS, anchors_T=np.arange(300), hardness_T=0.9, candidates=mask)
    assert ((plan.negative >= 100) & (plan.negative < 200)).all()
    again = mine(bank, LABELS, anchors_T=np.arange(300), hardness_T=0.9, candidates=np.r_[199:99:-1, 150])
    np.testing.assert_array_equal(plan.negative, again.negative)
    assert plan.header["num_candidates"] == 100


def test_columns_and_header(bank):
    plan = mine(bank, LABELS, anchors_T=[4, 4, 2], positives_T=[5, 4, 3], hardness_T=[0.1, 0.2, 0.3], seed=8)
    assert [POSITIVE_ORIGINS[o] for o in plan.positive_origin] == ["given", "augmentation", "given"]
    assert plan.anchor_positive_distance[1] == 0.0
    np.testing.assert_allclose(
        plan.anchor_negative_distance, np.linalg.norm(bank[plan.anchor] - bank[plan.negative], axis=1), rtol=1e-5
    )
    np.testing.assert_array_equal(plan.hardness, np.float32([0.1, 0.2, 0.3]))
    header = dict(plan.header)
    assert len(header.pop("bank_fingerprint")) == 32
    assert len(header.pop("labels_fingerprint")) == 32
    assert set(header.pop("versions")) == {"mohs", "numpy"}
    assert header == {
        "scale": "range",
        "margin": None,
        "squared": False,
        "metric": "euclidean",
        "num_negatives": 1,
        "positive_rule": "given",
        "method": "exact",
        "device": "cpu",
        "num_items": 3000,
        "num_classes": 1500,
        "num_candidates": 3000,
        "num_excluded_pairs": 0,
        "seed": 8,
    }


def test_achieved_hardness_is_near_what_was_asked(bank):
    hardness = np.linspace(0, 1, 200)
    for scale, tolerance in (("range", 0.2), ("rank", 1e-3), ("log-rank", 0.06)):
        plan = mine(bank, LABELS, anchors_T=np.arange(200), hardness_T=hardness, scale=scale)
        assert np.abs(plan.achieved_hardness - hardness).max() < tolerance
        if scale == "range":  # never nearer than the threshold
            assert (plan.achieved_hardness <= hardness + 1e-6).all()


@pytest.mark.parametrize("scale", SCALES)
def test_cosine_divides_the_rows_by_their_norms_first(bank, scale):
    stretched = bank * np.random.default_rng(5).uniform(0.1, 10.0, (3000, 1)).astype(np.float32)
    options = {"anchors_T": np.arange(200), "hardness_T": np.linspace(0, 1, 200), "scale": scale, **options_of(scale)}
    plan = mine(stretched, LABELS, **options, metric="cosine")
    assert plan.header["metric"] == "cosine"
    rows = unit_rows(stretched)
    again = mine(rows, LABELS, **options)
    np.testing.assert_array_equal(plan.negative, again.negative)
    assert plan.header["bank_fingerprint"] == again.header["bank_fingerprint"]
    similarity = np.einsum("td,td->t", rows[plan.anchor].astype(np.float64), rows[plan.negative])
    np.testing.assert_allclose(plan.anchor_negative_distance.astype(np.float64) ** 2, 2 - 2 * similarity, atol=1e-6)
    assert (mine(stretched, LABELS, **options).negative != plan.negative).mean() > 0.5


SMALL = np.float32([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
GOOD = {"embeddings_ND": SMALL, "labels_N": ["a", "a", "b", "c"], "anchors_T": [0, 1], "hardness_T": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": "rnak"}, "scale: 'rnak' is not one of 'range', 'rank', 'log-rank', 'margin'"),
        ({"method": "quick"}, "method: 'quick' is not one of 'exact', 'sampled', 'auto'"),
        ({"metric": "dot"}, "metric: 'dot' is not one of 'euclidean', 'cosine'"),
        (
            {"metric": "cosine"},
            "embeddings_ND: row 0 has norm 0 (1 in all) and cannot be normalised; leave it out or use plain Euclidean "
            "distances",
        ),
        ({"device": "gpu"}, "device: 'gpu' is not one of 'cpu', 'cuda', 'cuda:0' and so on, 'mps'"),
        (
            {"device": "cuda", "num_negatives": 2},
            "num_negatives: 2 is for the CPU, not for 'cuda'; use 1, or leave the device out",
        ),
        (
            {"device": "cuda", "excluded_pairs": [[0, 1]]},
            "excluded_pairs: they are for the CPU, not for 'cuda'; leave them out, or leave the device out",
        ),
        ({"seed": -1}, "seed: -1 is not an integer in [0, 2**63); use for example seed=0"),
        (
            {"labels_N": ["a", "b"]},
            "labels_N: 2 labels for 4 embeddings; give one label for each row",
        ),
        (
            {"labels_N": ["a"] * 4},
            "labels_N: all 4 items are of class 'a'; give at least two classes",
        ),
        (
            {"labels_N": [0.5, 1.0, 2.0, 3.0]},
            "labels_N: 0.5 at position 0 is neither text nor a whole number; give class names or numbers",
        ),
        (
            {"anchors_T": [0, 4]},
            "anchors_T: 4 at position 1 is not an item index in [0, 4) (1 such values)",
        ),
        (
            {"anchors_T": [0.5]},
            "anchors_T: float64[1] is not a list of item indices; give integers [T]",
        ),
        ({"anchors_T": []}, "anchors_T: is empty; give at least one anchor"),
        (
            {"hardness_T": [0.5, 1.5]},
            "hardness_T: 1.5 at position 1 is not in [0, 1] (1 such values); hardness runs from 0 (easiest) to 1 "
            "(hardest)",
        ),
        (
            {"hardness_T": np.nan},
            "hardness_T: nan at position 0 is not in [0, 1] (2 such values); hardness runs from 0 (easiest) to 1 "
            "(hardest)",
        ),
        (
            {"hardness_T": [0.5]},
            "hardness_T: shape (1,) does not match 2 anchors; give one, or one per anchor",
        ),
        ({"positives_T": [1]}, "positives_T: 1 positives for 2 anchors; give one per anchor"),
        (
            {"positives_T": [1, 2]},
            "positives_T: item 2 at position 1 is of class 'b', its anchor 1 of class 'a' (1 such positives); give "
            "items of the anchor's class",
        ),
        (
            {"candidates": [0, 1]},
            "candidates: anchor 0 (position 0) of class 'a' has no negative: none of the 2 candidates is of another "
            "class (2 such anchors); add candidates of other classes or leave these anchors out",
        ),
        ({"candidates": []}, "candidates: none is left; allow at least one item to be a negative"),
        ({"candidates": [True, False]}, "candidates: bool mask of shape (2,) is not [4]; give one per item"),
        ({"candidates": [9]}, "candidates: 9 at position 0 is not an item index in [0, 4) (1 such values)"),
        (
            {"scale": "margin"},
            "margin: the scale 'margin' needs the loss's margin; use for example 0.2",
        ),
        ({"scale": "margin", "margin": 0.0}, "margin: 0.0 is not a number in (0, 1e+19]; use for example 0.2"),
        ({"scale": "margin", "margin": np.inf}, "margin: inf is not a number in (0, 1e+19]; use for example 0.2"),
        ({"margin": 0.2}, "margin: 0.2 has no meaning on the scale 'range'; leave it out, or use the scale margin"),
        (
            {"embeddings_ND": [[0, 0], [np.inf, 0], [1, 0], [0, np.nan]]},
            "embeddings_ND: rows 1, 3 have NaN or Inf (2 rows in all); leave them out or embed them again",
        ),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(InputError) as caught:
        mine(**{**GOOD, **change})
    assert str(caught.value) == message


def test_it_works_where_nothing_can_be_written(tmp_path):
    """Without a place for compiled code, it is compiled again; nothing is refused."""
    program = """
import numba
compile = numba.njit
def njit(*, cache=False, **options):
    def refuse(function):
        raise RuntimeError("cannot cache function: no locator available")
    return refuse if cache else compile(**options)
numba.njit = njit
from mohs.mining import mine
numba.njit = compile
print(mine([[0.0], [1.0], [2.0]], [0, 1, 2], anchors_T=[0], hardness_T=1.0, scale="margin", margin=0.1).negative)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (result.stdout.strip(), result.returncode) == ("[1]", 0), result.stderr


@pytest.mark.parametrize("method", ["exact", "sampled", "device"])
def test_a_scale_is_what_its_record_says(method, monkeypatch):
    """Another rule for a scale is all that another scale needs, whoever mines."""
    bank = np.random.default_rng(5).normal(size=(1500, 3)).astype(np.float32)
    rule = replace(
        rule_of("rank"),
        rank=lambda h_T, m_T: np.rint((1 - h_T) ** 2 * (m_T - 1)),
        at_rank=lambda r_T, m_T: 1 - np.sqrt(r_T / (m_T - 1)),
    )
    monkeypatch.setitem(scales._RULES, "rank", rule)
    monkeypatch.setattr(on_device, "mining_device", lambda _: torch.device("cpu"))
    how = {"device": "cuda"} if method == "device" else {"method": method, "num_sampled": 1024}
    plan = mine(bank, np.arange(1500), anchors_T=[3, 7], hardness_T=[0.5, 0.3], scale="rank", seed=1, **how)
    distance_TN = np.linalg.norm(bank[[3, 7]][:, None] - bank, axis=2)
    rank_T = (distance_TN < plan.anchor_negative_distance[:, None] - 1e-6).sum(axis=1) - 1
    np.testing.assert_allclose(rank_T / 1498, [0.25, 0.49], atol=0.05 if method == "sampled" else 0.001)
    np.testing.assert_allclose(plan.achieved_hardness, [0.5, 0.3], atol=0.001)
