"""Real sets beside the project, where they are: a few classes of each, by a network that was not trained."""

import copy
import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mohs.classify.calibration import Calibration
from mohs.classify.classifier import Classifier
from mohs.classify.measure import measure_classifier
from mohs.data.dataset import Dataset, open_dataset
from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig

SETS = Path(__file__).resolve().parents[3] / "shared" / "data"
METHODS = ("linear", "nearest-neighbours", "nearest-catalog")


def opened(tmp_path: Path, name: str, channels: int, num_classes: int) -> Dataset:
    archive = SETS / f"{name}.zip"
    if not archive.is_file():
        pytest.skip(f"the real set {name}.zip is not in ../shared/data beside the project")
    with zipfile.ZipFile(archive) as files:
        for table in {f"{name}/images.csv", f"{name}/catalog.csv"} & set(files.namelist()):
            rows = list(csv.DictReader(io.StringIO(files.read(table).decode())))
            keep = set(sorted({row["class"] for row in rows})[:num_classes])
            rows = [row for row in rows if row["class"] in keep]
            for row in rows:
                files.extract(f"{name}/{row['file']}", tmp_path)
            with (tmp_path / table).open("w", newline="") as file:
                writer = csv.DictWriter(file, ["file", "class"], extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)
    policy = ImagePolicy(size=32, channels=channels)
    return open_dataset(tmp_path / name, policy=policy, cache_dir=tmp_path / "cache")


# Emoji have 2 to 5 pictures: 40 classes leave 77 to test, too few to measure a calibration error by.
@pytest.mark.parametrize(("name", "channels", "num_classes"), [("emoji", 3, 240), ("omniglot", 1, 40)])
def test_real_set(tmp_path: Path, name: str, channels: int, num_classes: int) -> None:
    dataset = opened(tmp_path, name, channels, num_classes)
    num_known = num_classes * 3 // 4
    embedder = Embedder.create(ModelConfig(), ImagePolicy(size=32, channels=channels), seed=0).eval()
    x_ND = embedder.embed(dataset.pictures)
    # Place of each picture in its class, at random: files are in the order of vendors or writers, and pictures that
    # calibrate must be like those that test.
    random = np.random.default_rng(0)
    place = np.zeros(len(dataset), dtype=int)
    for label in np.unique(dataset.labels):
        place[dataset.labels == label] = random.permutation((dataset.labels == label).sum())
    known = dataset.labels_id < num_known
    catalog = dataset.roles == "catalog"
    # Two pictures of a class are fitted, and the catalog picture where there is one; the others test.
    fitted, test = known & ((place < 2) | catalog), (place >= 2) & ~catalog
    unseen = x_ND[~known]
    for method in METHODS:
        classifier = Classifier(embedder, method=method, num_epochs=20)
        classifier.fit(x_ND[fitted], dataset.labels[fitted], catalog_N=catalog[fitted])
        threshold = classifier.find_threshold(unseen[::2], max_false_acceptance=0.2)
        classifier.set_params(**{"min_probability" if method == "linear" else "min_similarity": threshold.value})
        found = measure_classifier(classifier, x_ND[test], dataset.labels[test])
        assert found.num_pictures >= 300
        # Three times chance, and probabilities that are better than equal ones.
        assert found.accuracy > 3 / num_known, (method, found.accuracy)
        assert found.negative_log_likelihood < np.log(num_known), (method, found.negative_log_likelihood)
        # Similarities are worth nothing before their calibration; a linear head is trained for probabilities, and at
        # two pictures per class its calibration (on heads with one) gains nothing: 2.69 against 2.68 on Omniglot.
        if method != "linear":
            guessed = copy.copy(classifier)
            guessed.calibration_ = Calibration.guess(0.07)
            uncalibrated = measure_classifier(guessed, x_ND[test], dataset.labels[test])
            assert found.negative_log_likelihood < uncalibrated.negative_log_likelihood, method
        assert found.expected_calibration_error < 0.25, (method, found.expected_calibration_error)
        assert found.at_threshold is not None
        assert found.at_threshold.false_acceptance == pytest.approx(0.2, abs=0.15)
        assert found.num_unknown == (test & ~known).sum()
