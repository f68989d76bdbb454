import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mohs.classify.classifier import Classifier
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig
from mohs.sums import read_summed, write_summed

METHODS = ("linear", "nearest-neighbours", "nearest-catalog")


def embedder(seed=0):
    config = ModelConfig(widths=(8,), hidden_dim=0, embedding_dim=8)
    return Embedder.create(config, ImagePolicy(size=8, channels=1), seed=seed).eval()


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    """A saved linear classifier; not to be changed."""
    place = tmp_path_factory.mktemp("saved") / "classifier"
    Classifier(embedder(), num_epochs=3, num_folds=2).fit(pictures, np.arange(24) % 4).save(place)
    return place


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("labels", [np.arange(24) % 4 * 7, np.array(["é", "007", "1.0", "NA"])[np.arange(24) % 4]])
def test_what_is_loaded_is_what_was_saved(method, labels, pictures, tmp_path):
    threshold = {"min_probability" if method == "linear" else "min_similarity": 0.5}
    first = Classifier(embedder(), method=method, num_epochs=np.int64(3), num_folds=2, **threshold).fit(
        pictures, labels
    )
    first.save(tmp_path / "deep" / "folder", facts={"run": "runs/x"})
    second = Classifier.load(tmp_path / "deep" / "folder")
    assert (second.predict_proba(pictures) == first.predict_proba(pictures)).all()
    assert second.predict(pictures).tolist() == first.predict(pictures).tolist()
    assert second.classes_.tolist() == first.classes_.tolist()
    assert second.calibration_ == first.calibration_
    assert second.facts_ == {"run": "runs/x"}
    for name in ("confidence_K", "correct_K"):
        assert (getattr(second.held_out_, name) == getattr(first.held_out_, name)).all()
    names = {"classifier.json", "classifier.safetensors", "embedder"}
    assert {path.name for path in (tmp_path / "deep" / "folder").iterdir()} == names
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["folder"]
    without = [name for name in first.get_params() if name != "embedder"]
    assert {name: second.get_params()[name] for name in without} == {name: first.get_params()[name] for name in without}


def test_what_was_not_fitted_is_not_saved(pictures, tmp_path):
    classifier = Classifier(embedder(), method="nearest-neighbours", num_neighbours=1).fit(pictures, np.arange(24) % 4)
    classifier.set_params(num_neighbours=20, min_similarity=0.1)
    with pytest.raises(InputError) as caught:
        classifier.save(tmp_path / "folder")
    assert str(caught.value) == "num_neighbours: 20 was set after fit, which had 1; fit again, or set it back"
    assert not (tmp_path / "folder").exists()
    classifier.set_params(num_neighbours=1).save(tmp_path / "folder")
    loaded = Classifier.load(tmp_path / "folder")
    loaded.save(tmp_path / "again")
    assert loaded.min_similarity == 0.1


def test_the_same_fit_gives_the_same_bytes(pictures, folder, tmp_path):
    Classifier(embedder(), num_epochs=3, num_folds=2).fit(pictures, np.arange(24) % 4).save(tmp_path / "again")
    for name in ("classifier.safetensors", "classifier.json", "embedder/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_without_an_embedder_embeddings_are_taken(tmp_path):
    x = np.random.default_rng(0).normal(size=(12, 3))
    first = Classifier(method="nearest-neighbours", num_folds=2).fit(x, np.arange(12) % 3)
    first.save(tmp_path / "c")
    second = Classifier.load(tmp_path / "c")
    assert second.embedder is None
    assert second.embedder_sha256_ is None
    assert (second.predict_proba(x) == first.predict_proba(x)).all()


def test_another_embedder_is_refused(folder, tmp_path):
    place = tmp_path / "c"
    shutil.copytree(folder, place)
    shutil.rmtree(place / "embedder")
    embedder(seed=1).save_pretrained(place / "embedder")
    with pytest.raises(InputError) as caught:
        Classifier.load(place)
    [line] = caught.value.problems
    assert line.startswith(
        f"{place}/embedder: not the embedder that the classifier was fitted on (SHA-256 of the weights "
    )
    assert line.endswith("…); fit the classifier again on this one")


def test_an_existing_folder_is_refused_and_a_failure_leaves_nothing(folder, pictures, tmp_path, monkeypatch):
    classifier = Classifier.load(folder)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match=r"there: exists already; name another folder, or remove it$"):
        classifier.save(tmp_path / "there")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Embedder, "save_pretrained", fail)
    with pytest.raises(KeyboardInterrupt):
        classifier.save(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def change(place, **values):
    file = place / "classifier.json"
    write_summed(file, read_summed(file) | {"files": {}} | values)


def drop_tensor(place):
    tensors = load_file(place / "classifier.safetensors")
    del tensors["bias_C"]
    save_file(tensors, place / "classifier.safetensors")
    change(place)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda place: (place / "classifier.json").unlink(),
            ": not a classifier (no classifier.json); give a folder made by 'mohs classify fit'",
        ),
        (lambda place: (place / "classifier.json").write_text("{"), "/classifier.json: not JSON ("),
        (
            lambda place: (place / "classifier.json").write_text("[]"),
            "/classifier.json: not a JSON object; write it again or use another file",
        ),
        (lambda place: change(place, format=2), "/classifier.json: format 2 is newer than 1, the newest"),
        (lambda place: change(place, num_features="x"), "/classifier.json: num_features: 'x' is wrong: input should"),
        (
            lambda place: change(place, classes=["a"]),
            ": settings and tensors do not fit (weight_CD is float32[4, 8], not floats [1, 8])",
        ),
        (lambda place: change(place, parameters={"x": 1}), ": settings and tensors do not fit ("),
        (drop_tensor, ": settings and tensors do not fit ('bias_C'); fit the classifier again"),
        (
            lambda place: (place / "classifier.safetensors").write_bytes(b"12345678"),
            "/classifier.safetensors: damaged, or changed since it was written: SHA-256 is not the one in ",
        ),
        (lambda place: (place / "classifier.safetensors").unlink(), "/classifier.safetensors: no such file; copy it "),
        (lambda place: shutil.rmtree(place / "embedder"), "/embedder/embedder.json: no such file; check the path"),
    ],
)
def test_a_damaged_folder_is_one_line(spoil, message, folder, tmp_path):
    place = tmp_path / "c"
    shutil.copytree(folder, place)
    spoil(place)
    with pytest.raises(InputError) as caught:
        Classifier.load(place)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{place}{message}"), caught.value.problems[0]
