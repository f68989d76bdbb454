"""Arrays of every kind in every public function: the answer for the plain equivalent, or one line that names the place.

The matrix is inputs × functions. An input either means the same as a plain array, and then gives the same answer, or it
is refused with an `InputError` of one line that begins with the parameter.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

import mohs
from mohs.classify.thresholds import choose_threshold
from mohs.errors import InputError
from mohs.evaluation.collapse import spread
from mohs.evaluation.embedded import Embedded
from mohs.evaluation.exact_neighbours import nearest_negatives
from mohs.evaluation.intervals import class_interval
from mohs.evaluation.pair_calibration import reliability_table
from mohs.evaluation.pair_scores import pair_scores
from mohs.evaluation.pairs import cross_pairs, pair_distances, sample_pairs
from mohs.evaluation.retrieval import LeftOut, evaluate_all_against_all, evaluate_retrieval
from mohs.evaluation.summary import evaluate_embeddings
from mohs.evaluation.triplets import sample_triplets, triplet_accuracy, triplet_accuracy_of
from mohs.evaluation.verification import evaluate_pairs

from .reliability import check_table_of

N = 12
X = np.random.Generator(np.random.PCG64(0)).integers(-8, 8, (N, 4)).astype(np.float32)  # exact in every type
X[:, 0] += np.arange(N) // 2 + 1
Y = np.arange(N) // 2
NAMES = np.array([f"ring {label}" for label in Y])
SCORE = np.array([0.5, 0.25, 1.0, 0.125, 0.75, 0.0] * 2)  # exact in float16


def reader_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array


def every_other(array: np.ndarray) -> np.ndarray:
    return np.repeat(array, 2, axis=0)[::2]


def backwards(array: np.ndarray) -> np.ndarray:
    return array[::-1].copy()[::-1]


def masked(array: np.ndarray, *, at: int | None = None) -> np.ma.MaskedArray:
    hidden = np.zeros(array.shape, dtype=bool)
    if at is not None:
        hidden[at] = True
    return np.ma.MaskedArray(array, hidden)


def ragged(array: np.ndarray) -> list[Any]:
    rows = array.tolist()
    return [[*row, 1.0] if i == 1 else row for i, row in enumerate(rows)] if array.ndim > 1 else [[1], *rows[1:]]


def structured(array: np.ndarray) -> np.ndarray:
    return np.zeros(array.shape[:1], dtype=[("a", "f4"), ("b", "i8")])


def with_none(array: np.ndarray) -> np.ndarray:
    held = array.astype(object)
    held.flat[-1] = None
    return held


SAME: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
    "list of rows": list,
    "read-only": reader_only,
    "every other row": every_other,
    "negative strides": backwards,
    "object": lambda a: a.astype(object),
    "nothing masked": masked,
}
SAME_NUMBERS: dict[str, Callable[[np.ndarray], Any]] = SAME | {
    "Fortran order": np.asfortranarray,
    "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "float16": lambda a: a.astype(np.float16),
    "float64": lambda a: a.astype(np.float64),
    "float128": lambda a: a.astype(np.longdouble),
    "tensor": torch.tensor,
    "tensor with a gradient": lambda a: torch.tensor(a, requires_grad=True),
    "bfloat16": lambda a: torch.tensor(a).to(torch.bfloat16),
    "float16 tensor": lambda a: torch.tensor(a).half(),
    "strided tensor": lambda a: torch.tensor(np.repeat(a, 2, axis=0))[::2],
    "matrix": lambda a: a if a.ndim != 2 else np.asarray(a).view(np.matrix),
}
SAME_LABELS: dict[str, Callable[[np.ndarray], Any]] = {name: SAME[name] for name in SAME if name != "list of rows"} | {
    "int8": lambda a: a.astype(np.int8),
    "uint64": lambda a: a.astype(np.uint64),
    "big endian": lambda a: a.astype(">i4"),
    "tensor": torch.tensor,
    "numpy integers": list,
}
REFUSED: dict[str, Callable[[np.ndarray], Any]] = {
    "None": lambda _: None,
    "nothing": lambda _: [],
    "one value": lambda _: np.float64(3.0),
    "one text": lambda _: "shop.csv",
    "an object": lambda _: object(),
    "a set": lambda _: {1, 2},
    "a dictionary": lambda _: {"a": 1},
    "ragged": ragged,
    "one value masked": lambda a: masked(a, at=3),
    "records": structured,
    "sparse": lambda a: scipy.sparse.csr_matrix(np.atleast_2d(a).astype(np.float64)),
    "sparse tensor": lambda a: torch.tensor(a).to_sparse(),
    "meta tensor": lambda a: torch.zeros(a.shape, device="meta"),
    "complex": lambda a: a.astype(np.complex64) * (1 + 1j),
    "complex tensor": lambda a: torch.zeros(a.shape, dtype=torch.complex64),
    "None among them": with_none,
    "bytes": lambda a: a.astype(np.bytes_),
    "times": lambda a: a.astype("i8").astype("datetime64[s]"),
    "NaN": lambda a: np.full(a.shape, np.nan),
    "three axes": lambda _: np.zeros((2, 2, 2)),
    "one row short": lambda a: a[:-1],
}
REFUSED_NUMBERS = REFUSED | {
    "text": lambda a: a.astype(str),
    "Inf": lambda a: np.full(a.shape, np.inf),
    "beyond float64": lambda a: np.full(a.shape, np.longdouble("1e4000")),
    "beyond float32": lambda a: np.full(a.shape, 1e300),
}
REFUSED_LABELS = REFUSED | {
    "two kinds": lambda a: ["1", *a.tolist()[1:]],
    "2**63": lambda a: a.astype(np.uint64) + np.uint64(2**63),
    "2**63 in a list": lambda a: [-1, 2**63, *a.tolist()[2:]],
    "2**70 in a list": lambda a: [2**70, *a.tolist()[1:]],
    "bytes in a list": lambda a: [b"a", *["b"] * (len(a) - 1)],
    "NaN in a list": lambda a: [float("nan"), *["b"] * (len(a) - 1)],
    "truth in a list": lambda a: [True, *a.tolist()[1:]],
    "NUL at the end": lambda a: ["a", "a\0"] * (len(a) // 2),
    "a column": lambda a: a[:, None],
}


def plan_columns(plan: mohs.TripletPlan) -> list[Any]:
    return [plan.anchor.tolist(), plan.positive.tolist(), plan.negative.tolist(), plan.hardness.tolist()]


def mined(x: Any, labels: Any = Y, anchors: Any = (0, 5), hardness: Any = 0.5, **more: Any) -> list[Any]:
    return plan_columns(mohs.mine(x, labels, anchors_T=anchors, hardness_T=hardness, **more))


def classified(x: Any, labels: Any = Y) -> list[Any]:
    fitted = mohs.Classifier(method="nearest-neighbours", num_folds=2).fit(x, labels)
    return [fitted.predict(X).tolist(), fitted.classes_.tolist()]


def sampled(labels: Any) -> list[Any]:
    sampler = mohs.NeighbourhoodSampler(labels, 3)
    sampler.set_pass(1, X)
    return list(sampler)


def passed(x: Any) -> list[Any]:
    sampler = mohs.NeighbourhoodSampler(Y, 3)
    sampler.set_pass(1, x)
    return list(sampler)


EMBEDDINGS: dict[str, Callable[[Any], Any]] = {
    "mine": mined,
    "mine, cosine": lambda x: mined(x, metric="cosine"),
    "NeighbourhoodSampler.set_pass": passed,
    "Classifier.fit": classified,
    "Classifier.predict": lambda x: mohs.Classifier(method="nearest-neighbours", num_folds=2).fit(X, Y).predict(x)
    .tolist(),
    "evaluate_embeddings": lambda x: evaluate_embeddings(x, Y, verification=False).retrieval.recall,
    "evaluate_all_against_all": lambda x: evaluate_all_against_all(x, Y).recall,
    "evaluate_retrieval": lambda x: evaluate_retrieval(x, Y, X, Y, left_out=LeftOut(np.arange(N))).recall,
    "nearest_negatives": lambda x: nearest_negatives(x, Y, 3).tolist(),
    "triplet_accuracy": lambda x: triplet_accuracy(x, Y, num_triplets=50).accuracy,
    "triplet_accuracy_of": lambda x: triplet_accuracy_of(x, [0], [1], [N - 1]).accuracy,
    "evaluate_pairs": lambda x: evaluate_pairs(x, Y).curves.auc,
    "pair_distances": lambda x: pair_distances(x, sample_pairs(Y)).tolist(),
    "spread": lambda x: vars(spread(x)),
    "Embedded.of": lambda x: Embedded.of(x, Y, source="embeddings_ND").x_ND.tolist(),
    "diagnose": lambda x: [finding.cause for finding in mohs.diagnose(embeddings=x, labels=Y).findings],
}  # fmt: skip
LABELS: dict[str, Callable[[Any], Any]] = {
    "mine": lambda y: mined(X, y),
    "anchor_sequence": lambda y: mohs.anchor_sequence(y, 20, seed=0).tolist(),
    "choose_positives": lambda y: mohs.choose_positives(y, [0, 5], seed=0)[0].tolist(),
    "NeighbourhoodSampler": sampled,
    "Classifier.fit": lambda y: classified(X, y)[0],
    "evaluate_embeddings": lambda y: evaluate_embeddings(X, y, verification=False).retrieval.recall,
    "evaluate_embeddings, groups": lambda y: evaluate_embeddings(X, Y % 3, groups_N=y, verification=False)
    .retrieval.recall,
    "evaluate_all_against_all": lambda y: evaluate_all_against_all(X, y).recall,
    "sample_pairs": lambda y: sample_pairs(y).first_P.tolist(),
    "cross_pairs": lambda y: cross_pairs(y, np.arange(N) % 2 == 0).first_P.tolist(),
    "sample_triplets": lambda y: sample_triplets(y, 10, seed=0)[0].tolist(),
    "class_interval": lambda y: class_interval(SCORE, y),
    "Embedded.of": lambda y: Embedded.of(X, y, source="embeddings_ND").codes.tolist(),
    "diagnose": lambda y: [finding.cause for finding in mohs.diagnose(embeddings=X, labels=y).findings],
}  # fmt: skip
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "mine, hardness": lambda h: mined(X, anchors=np.arange(N), hardness=h),
    "TripletPlan.of, hardness": lambda h: mohs.TripletPlan.of(Y, Y + 6, Y + 12, hardness=h).hardness.tolist(),
    "TripletPlan.of, distances": lambda d: mohs.TripletPlan.of(Y, Y + 6, Y + 12, anchor_negative_distance=d)
    .anchor_negative_distance.tolist(),
    "pair_scores": lambda d: pair_scores(Y % 2 == 0, distance_P=d).closeness.tolist(),
    "reliability_table": lambda p: reliability_table(p, Y % 2 == 0, num_bins=3)[0].frequency,
    "class_interval": lambda v: class_interval(v, Y),
    "choose_threshold": lambda v: choose_threshold(v, Y % 2 == 0, [0.5], max_false_acceptance=0.0).value,
}  # fmt: skip
# Where an input is fine, and what it means is another matter than for the rest.
ALONE = ("anchor_sequence", "choose_positives", "sample_pairs", "sample_triplets", "NeighbourhoodSampler")
FINE = {
    *((name, "one row short") for name in ("spread", "Classifier.predict", "triplet_accuracy_of")),
    *((name, "one row short") for name in ALONE),
    ("NeighbourhoodSampler.set_pass", "None"),  # no embeddings: random batches
    ("evaluate_embeddings, groups", "None"),
    ("Classifier.fit", "a column"),  # scikit-learn warns, and takes it
    ("Classifier.fit", "beyond float32"),  # it is float64 throughout
    ("Classifier.predict", "beyond float32"),
    ("mine, hardness", "one value"),
    ("pair_scores", "beyond float32"),
    ("choose_threshold", "beyond float32"),
    ("TripletPlan.of, hardness", "None"),
    ("TripletPlan.of, distances", "None"),
}


def found(function: Callable[[Any], Any], value: Any) -> Any:
    """Return the answer, or what was raised, as text."""
    try:
        return function(value)
    except InputError as error:
        told = all(": " in line and "\n" not in line and len(line) < 400 for line in error.problems)
        return "refused" if told and error.problems else f"not a line for each problem: {error!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def check(name: str, function: Callable[[Any], Any], plain: np.ndarray, same: Any, not_taken: Any) -> None:
    """Compare every input of two tables with what is expected of it, and tell all that is wrong together."""
    expected = function(plain)
    wrong = []
    for kind, make in same.items():
        if (name, kind) not in FINE and (other := found(function, make(plain))) != expected:
            wrong.append(f"{kind}: {str(other)[:200]}")
    for kind, make in not_taken.items():
        if (name, kind) not in FINE and (other := found(function, make(plain))) != "refused":
            wrong.append(f"{kind}: not refused: {str(other)[:200]}")
    assert not wrong, "\n".join([name, *wrong])


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_of_every_kind_are_the_same_or_refused(name: str) -> None:
    check(name, EMBEDDINGS[name], X, SAME_NUMBERS, REFUSED_NUMBERS)


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_every_kind_are_the_same_or_refused(name: str) -> None:
    check(name, LABELS[name], Y, SAME_LABELS, REFUSED_LABELS)
    if name != "Classifier.fit":  # whose answer is the labels
        check(name, LABELS[name], NAMES, SAME, {})


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_every_kind_are_the_same_or_refused(name: str) -> None:
    check(name, NUMBERS[name], SCORE, SAME_NUMBERS, REFUSED_NUMBERS)


def test_the_table_of_the_document_is_this_matrix() -> None:
    parts = (
        ("embeddings", EMBEDDINGS, SAME_NUMBERS, REFUSED_NUMBERS),
        ("labels", LABELS, SAME_LABELS, REFUSED_LABELS),
        ("other numbers", NUMBERS, SAME_NUMBERS, REFUSED_NUMBERS),
    )
    rows = []
    for name, functions, same, not_taken in parts:
        fine = sum((function, kind) in FINE for function in functions for kind in not_taken)
        rows.append((name, len(functions), len(functions) * len(same), len(functions) * len(not_taken) - fine))
    check_table_of("arrays", ("arrays", "functions", "the same answer", "refused"), rows)
