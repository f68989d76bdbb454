import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import mohs
from mohs.classify.classifier import Classifier
from mohs.data.images import ImagePolicy
from mohs.errors import InputError, TrainingError
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig

METHODS = ("linear", "nearest-neighbours", "nearest-catalog")
QUICK = {"num_epochs": 15, "learning_rate": 0.05, "num_folds": 2}


def blobs(num_classes=5, per_class=12, dim=8, *, seed=0, spread=0.6):
    random = np.random.default_rng(seed)
    class_N = np.repeat(np.arange(num_classes), per_class)
    centres = np.random.default_rng(99).normal(size=(num_classes, dim))
    return centres[class_N] + spread * random.normal(size=(len(class_N), dim)), np.array(list("abcdefgh"))[class_N]


@pytest.fixture
def blots(picture_set):
    """Pictures [48, 16, 16, 1] of 12 classes and their labels."""
    dataset = mohs.open_dataset(picture_set, policy=ImagePolicy(size=16, channels=1))
    return np.asarray(dataset.pictures), dataset.labels


@pytest.fixture
def embedder():
    config = ModelConfig(widths=(8,), hidden_dim=0, embedding_dim=16)
    return Embedder.create(config, ImagePolicy(size=16, channels=1), seed=0).eval()


# A zero vector has no direction, so cosine similarity to it is not defined: the X of small integers that this check
# makes has such a row. It is refused by name, and not given a class by luck.
CANNOT_HOLD = {"check_estimators_dtypes": "a row of norm 0 has no cosine similarity"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_takes_it_for_one_of_its_own(method):
    estimator = Classifier(method=method, num_epochs=4, learning_rate=0.3, num_folds=2)
    expected = {} if method == "linear" else CANNOT_HOLD
    results = check_estimator(estimator, expected_failed_checks=expected, on_skip=None)
    found = {result["check_name"]: result["status"] for result in results}
    assert {name for name, status in found.items() if status == "xfail"} == set(expected)
    # Skipped are checks of packages that are not here: pandas, and scipy's array API.
    assert {name for name, status in found.items() if status == "skipped"} <= {
        "check_array_api_input",
        "check_classifier_data_not_an_array",
    }
    assert sum(status == "passed" for status in found.values()) >= 49


@pytest.mark.parametrize("method", METHODS)
def test_it_tells_classes_apart(method):
    x, y = blobs()
    test_x, test_y = blobs(seed=1)
    classifier = Classifier(method=method, **QUICK).fit(x, y)
    assert classifier.classes_.tolist() == ["a", "b", "c", "d", "e"]
    assert classifier.score(test_x, test_y) > 0.85
    assert classifier.score(test_x, np.roll(test_y, 12)) < 0.15
    proba = classifier.predict_proba(test_x)
    assert proba.shape == (60, 5)
    assert proba.sum(axis=1) == pytest.approx(1)
    assert (classifier.classes_[proba.argmax(axis=1)] == classifier.predict(test_x)).all()
    assert np.log(proba) == pytest.approx(classifier.log_proba(test_x))
    assert classifier.calibration_.source == "cross-validation"
    assert classifier.calibration_.num_pictures == len(classifier.held_out_.correct_K) == 60


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_are_right_as_often_as_they_say(method):
    x, y = blobs(per_class=60, spread=1.5)
    test_x, test_y = blobs(per_class=200, seed=1, spread=1.5)
    classifier = Classifier(method=method, **QUICK | {"num_folds": 5}).fit(x, y)
    largest = classifier.predict_proba(test_x).max(axis=1)
    assert 0.4 < classifier.score(test_x, test_y) < 0.95
    assert largest.mean() == pytest.approx(classifier.score(test_x, test_y), abs=0.06)


@pytest.mark.parametrize("method", METHODS)
def test_one_picture_per_class_cannot_be_calibrated_and_says_so(method):
    x, y = blobs(per_class=1)
    calibration = Classifier(method=method, **QUICK).fit(x, y).calibration_
    temperature = 1.0 if method == "linear" else 0.07
    assert (calibration.source, calibration.num_pictures, calibration.temperature) == ("none", 0, temperature)
    assert calibration.warning == (
        "not calibrated: every class has one picture, so none can be held out; probabilities are those of temperature "
        f"{temperature:g} and may be far too high or too low; give held-out pictures"
    )
    other_x, other_y = blobs(per_class=20, seed=1)
    classifier = Classifier(method=method, **QUICK).fit(x, y, held_out=(other_x, other_y))
    assert (classifier.calibration_.source, classifier.calibration_.warning) == ("held-out pictures", "")
    assert len(classifier.held_out_.confidence_K) == 100


def test_catalog_pictures_are_the_references_and_the_others_calibrate():
    x, y = blobs()
    catalog_N = np.arange(60) % 12 == 0
    classifier = Classifier(method="nearest-catalog").fit(x, y, catalog_N=catalog_N)
    assert len(classifier.head_.references_MD) == 5
    assert (classifier.calibration_.source, classifier.calibration_.num_pictures) == ("held-out pictures", 55)
    expected = [y[catalog_N][np.argmax(x[catalog_N] @ row / np.linalg.norm(x[catalog_N], axis=1))] for row in x]
    assert classifier.predict(x).tolist() == expected
    # The other methods learn from all of them.
    neighbours = Classifier(method="nearest-neighbours").fit(x, y, catalog_N=catalog_N)
    assert len(neighbours.head_.references_MD) == 60


@pytest.mark.parametrize(("labels", "none"), [(list("abcdefgh"), "none of these"), (range(3, 11), -1)])
def test_below_the_threshold_it_is_none_of_these(labels, none):
    x, y = blobs()
    y = np.array(list(labels))[np.searchsorted(np.array(list("abcde")), y)]
    test_x, stranger = blobs(seed=1)[0], -x[:1]
    for method, name in (("linear", "min_probability"), ("nearest-neighbours", "min_similarity")):
        classifier = Classifier(method=method, **QUICK).fit(x, y)
        assert none not in classifier.predict(np.concatenate([test_x, stranger])).tolist()
        confidence = classifier.confidence(test_x)
        limit = float(np.sort(confidence)[30])  # one of them, which is not below it
        classifier.set_params(**{name: limit})
        predicted = classifier.predict(test_x)
        assert ((predicted == none) == (confidence < limit)).all()
        assert (predicted == none).sum() == 30
    assert classifier.set_params(min_similarity=0.9).predict(stranger).tolist() == [none]


def test_a_class_of_that_name_is_refused():
    x, y = blobs(num_classes=2)
    y = np.where(y == "a", "none of these", y)
    classifier = Classifier(method="nearest-catalog", min_similarity=0.5).fit(x, y)
    with pytest.raises(InputError, match=r"^y: a class is named 'none of these', which is what is predicted below "):
        classifier.predict(x)


def test_a_threshold_found_with_unseen_classes_keeps_its_promise_on_others():
    x, y = blobs(num_classes=8, per_class=40, spread=0.8)
    test_x, _ = blobs(num_classes=8, per_class=40, spread=0.8, seed=1)
    known = np.isin(y, list("abcde"))
    classifier = Classifier(method="nearest-neighbours").fit(x[known], y[known])
    loose, strict = (classifier.find_threshold(x[~known], max_false_acceptance=share) for share in (0.3, 0.05))
    assert (strict.num_known, strict.num_unseen) == (200, 120)
    assert strict.value > loose.value
    assert strict.coverage < loose.coverage
    assert (classifier.confidence(test_x[~known]) >= strict.value).mean() < 0.12
    assert classifier.threshold is None  # nothing was changed
    precise = classifier.find_threshold(min_precision=0.99)
    assert precise.false_acceptance is None
    assert precise.precision >= 0.99


@pytest.mark.parametrize("method", METHODS)
def test_pictures_give_what_their_embeddings_give(method, blots, embedder):
    pictures, labels = blots
    by_pictures = Classifier(embedder, method=method, **QUICK).fit(pictures, labels)
    by_embeddings = Classifier(embedder, method=method, **QUICK).fit(embedder.embed(pictures), labels)
    assert by_pictures.predict_proba(pictures) == pytest.approx(by_embeddings.predict_proba(embedder.embed(pictures)))
    assert by_pictures.score(pictures, labels) > 0.5
    with pytest.raises(InputError, match=r"^X: pictures, but the classifier has no embedder; give it one, or give "):
        Classifier(method=method).fit(pictures, labels)
    with pytest.raises(InputError, match=r"^X: 3 dimensions, but the embedder's vectors have 16; give its embeddings"):
        Classifier(embedder, method=method).fit(np.eye(3), list("abc"))


def test_the_embedder_is_not_changed_and_its_change_is_noticed(blots, embedder, monkeypatch):
    pictures, labels = blots
    embedder.train()  # batch norm would learn from every forward pass
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    classifier = Classifier(embedder, **QUICK).fit(pictures, labels)
    assert all((value == before[name]).all() for name, value in embedder.state_dict().items())
    assert len(classifier.embedder_sha256_) == 64
    embed = Embedder.embed

    def meddle(self, *arguments, **options):
        self.mean += 0.001
        return embed(self, *arguments, **options)

    monkeypatch.setattr(Embedder, "embed", meddle)
    with pytest.raises(TrainingError, match=r"^embedder: its weights changed while the classifier was fitted"):
        Classifier(embedder, **QUICK).fit(pictures, labels)


def test_files_are_read_by_the_embedder(picture_set):
    config = ModelConfig(widths=(8,), hidden_dim=0, embedding_dim=16)
    embedder = Embedder.create(config, ImagePolicy(size=16), seed=0).eval()
    table = mohs.read_table(picture_set)
    files = [table.path(i) for i in range(len(table))]
    classifier = mohs.Classifier(embedder, method="nearest-neighbours").fit(files, table.labels)
    assert classifier.predict([str(files[0])]).tolist() == [table.labels[0]]
    assert classifier.n_features_in_ == 16


def test_it_works_inside_scikit_learn():
    x, y = blobs()
    search = GridSearchCV(Classifier(method="nearest-neighbours", num_folds=2), {"num_neighbours": [1, 5]}, cv=2)
    assert search.fit(x, y).best_score_ > 0.8
    assert make_pipeline(StandardScaler(), Classifier(**QUICK)).fit(x, y).score(x, y) > 0.9


def test_a_clone_is_a_new_classifier_on_the_same_weights(embedder, blots):
    pictures, labels = blots
    first = Classifier(embedder, method="nearest-catalog").fit(pictures, labels)
    second = clone(first)
    assert not hasattr(second, "classes_")
    assert second.fit(pictures, labels).embedder_sha256_ == first.embedder_sha256_


def test_the_seed_decides_everything():
    x, y = blobs(spread=1.5)
    first, again, other = (Classifier(seed=seed, **QUICK).fit(x, y).predict_proba(x) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_few_of_many_pictures_calibrate(monkeypatch):
    x, y = blobs()
    monkeypatch.setattr("mohs.classify.classifier._MAX_SCORES", 5 * 20)
    assert Classifier(method="nearest-neighbours", num_folds=2).fit(x, y).calibration_.num_pictures == 20
    marked = np.arange(60) % 12 == 0
    assert Classifier(method="nearest-catalog").fit(x, y, catalog_N=marked).calibration_.num_pictures == 20


@pytest.mark.parametrize("method", ["linear", "nearest-neighbours"])
@pytest.mark.parametrize(("per_class", "told"), [(2, True), (3, True), (6, False)])
def test_a_calibration_by_heads_with_fewer_pictures_is_told(method, per_class, told):
    random = np.random.default_rng(0)
    y_N = np.repeat(np.arange(40), per_class)
    x_ND = random.normal(size=(40, 16))[y_N] + 0.5 * random.normal(size=(len(y_N), 16))
    fitted = Classifier(method=method, num_epochs=5).fit(x_ND, y_N)
    line = f"calibrated by heads that had {per_class - 1} of {per_class} pictures of most classes"
    assert (line in fitted.calibration_.warning) == told
    # Pictures that were held out for good are calibrated by the final head itself.
    held_out = Classifier(method=method, num_epochs=5).fit(x_ND, y_N, held_out=(x_ND, y_N))
    assert held_out.calibration_.warning == ""
