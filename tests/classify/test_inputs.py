import numpy as np
import pytest

from mohs.classify.classifier import Classifier
from mohs.classify.inputs import are_pictures, check_parameters
from mohs.errors import InputError

WRONG = [
    ({"method": "svm"}, "method: 'svm' is not one of 'linear', 'nearest-neighbours', 'nearest-catalog'"),
    ({"dropout": 1.0}, "dropout: 1.0 is not a number in [0, 1); use for example 0.5"),
    ({"dropout": float("nan")}, "dropout: nan is not a number in [0, 1); use for example 0.5"),
    ({"num_epochs": 0}, "num_epochs: 0 is not a whole number of at least 1; use for example 50"),
    ({"num_epochs": 1.5}, "num_epochs: 1.5 is not a whole number of at least 1; use for example 50"),
    ({"learning_rate": 0}, "learning_rate: 0 is not a number in (0, 1e+06]; use for example 0.01"),
    ({"weight_decay": -1}, "weight_decay: -1 is not a number of at least 0; use for example 0.01"),
    ({"num_neighbours": True}, "num_neighbours: True is not a whole number of at least 1; use for example 5"),
    ({"num_folds": 1}, "num_folds: 1 is not a whole number of at least 2; use for example 5"),
    ({"seed": -1}, "seed: -1 is not an integer in [0, 2**63); use for example seed=0"),
    ({"min_probability": 1.1}, "min_probability: 1.1 is not a number in [0, 1]; use for example 0.5"),
    (
        {"min_similarity": 0.5},
        "min_similarity: 0.5 is no threshold of the method 'linear', which has min_probability; leave it out",
    ),
    (
        {"method": "nearest-catalog", "min_probability": 0.5},
        "min_probability: 0.5 is no threshold of the method 'nearest-catalog', which has min_similarity; leave it",
    ),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[str(given) for given, _ in WRONG])
def test_a_wrong_parameter_is_one_line(given, message):
    with pytest.raises(InputError) as caught:
        check_parameters(Classifier(**given).get_params())
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(message)


def test_all_wrong_parameters_are_told_together():
    with pytest.raises(InputError) as caught:
        Classifier(dropout=-1, num_epochs=-1, min_probability=2).fit(np.eye(4), [0, 0, 1, 1])
    assert [line.split(":")[0] for line in caught.value.problems] == ["dropout", "num_epochs", "min_probability"]


def test_good_parameters_pass():
    check_parameters(Classifier().get_params())
    check_parameters(Classifier(dropout=0, num_epochs=np.int64(3), learning_rate=1, min_probability=0).get_params())
    # A threshold chosen to refuse everything.
    check_parameters(Classifier(method="nearest-catalog", min_similarity=float(np.nextafter(1.0, 2.0))).get_params())


def test_what_pictures_are():
    assert are_pictures(np.zeros((1, 8, 8, 3), np.uint8))
    assert are_pictures(["a.png", "b.png"])
    for other in (np.zeros((1, 8), np.uint8), np.zeros((1, 8, 8, 3)), [[1.0, 2.0]], [], "a.png" and np.array(["a"])):
        assert not are_pictures(other)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 0, 0, 0], "y: 1 class (0); a classifier needs at least 2: add pictures of others"),
        ([0.5, 0.1, 0.2, 0.3], "y: Unknown label type: continuous."),
        (
            [True, False, True, False],
            "y: True at position 0 is neither text nor a whole number; give class names or numbers",
        ),
        ([0, 1], "X: Found input variables with inconsistent numbers of samples: [4, 2]"),
    ],
)
def test_labels_that_cannot_be_used(y, message):
    with pytest.raises(InputError) as caught:
        Classifier(method="nearest-catalog").fit(np.eye(4), y)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(message)


def test_catalog_marks_that_cannot_be_used():
    x, y = np.eye(6), ["a", "a", "b", "b", "c", "d"]
    classifier = Classifier(method="nearest-catalog")
    with pytest.raises(InputError) as caught:
        classifier.fit(x, y, catalog_N=np.arange(6) < 3)
    assert str(caught.value) == (
        "catalog_N: 2 of 4 classes have no catalog picture ('c', 'd'); add one for each, or use the method "
        "'nearest-neighbours'"
    )
    with pytest.raises(InputError, match=r"^catalog_N: int64\(6,\) is not bool \[6\]; give one flag an item$"):
        classifier.fit(x, y, catalog_N=np.arange(6))


def test_held_out_classes_must_be_fitted():
    with pytest.raises(
        InputError, match=r"^held_out: 1 classes that were not fitted \('z'\); leave their pictures out$"
    ):
        Classifier(method="nearest-catalog").fit(np.eye(2), ["a", "b"], held_out=(np.eye(2), ["a", "z"]))
