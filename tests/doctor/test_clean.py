import numpy as np
import pytest
from PIL import Image

from mohs.data.table import Table
from mohs.doctor.clean import CLEAN_CAUSES, Issue, find_issues, issue_fixes

NUM_CLASSES, PER_CLASS, SIZE = 20, 6, 32


def photograph(seed: int) -> np.ndarray:
    """A smooth coloured picture with some detail, unlike any other."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)).astype(np.float64)
    return np.clip(smooth + random.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def paler(picture: np.ndarray) -> np.ndarray:
    return (picture * 0.7 + 40).astype(np.uint8)


@pytest.fixture
def pictures() -> np.ndarray:
    return np.stack([photograph(i) for i in range(NUM_CLASSES * PER_CLASS)])


@pytest.fixture
def labels() -> np.ndarray:
    return np.repeat([f"class {c:02d}" for c in range(NUM_CLASSES)], PER_CLASS)


def vectors(labels: np.ndarray) -> np.ndarray:
    centre = np.random.default_rng(0).normal(size=(NUM_CLASSES, 24))
    class_N = np.unique(labels, return_inverse=True)[1]
    x_ND = centre[class_N] + 0.4 * np.random.default_rng(1).normal(size=(len(labels), 24))
    return (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)


def test_sound_pictures_have_no_issue(pictures: np.ndarray, labels: np.ndarray) -> None:
    issues, notes = find_issues(labels, pictures, x_ND=vectors(labels))
    assert (issues, notes) == ([], [])


def test_each_defect_is_found_and_nothing_else(pictures: np.ndarray, labels: np.ndarray) -> None:
    x_ND = vectors(labels)
    pictures[1], pictures[8] = pictures[0], pictures[0]  # a copy of its own class, and one of another
    pictures[13] = paler(pictures[12])  # of its own class
    pictures[60] = paler(pictures[30])  # of another class
    pictures[40] = 128
    for item, wanted in ((90, "class 03"), (100, "class 07")):
        labels[item] = wanted
    issues, notes = find_issues(labels, pictures, x_ND=x_ND)
    assert not notes
    assert [(each.cause, each.item, each.other, each.to, each.suggestion) for each in issues if each.item != 90] == [
        ("duplicate", 1, 0, "", "drop"),
        ("two-labels", 8, 0, "class 00", "look"),
        ("near-duplicate", 13, 12, "", "look"),
        ("near-duplicate-two-labels", 60, 30, "class 05", "look"),
        ("label-error", 100, issues[-2].other, "class 16", "look"),
        ("blank", 40, -1, "", "drop"),
    ]
    wrong = next(each for each in issues if each.item == 90)
    assert (wrong.cause, wrong.to, labels[wrong.other]) == ("label-error", "class 15", "class 15")
    assert wrong.other_fit > wrong.own_fit + 0.3


def test_without_vectors_labels_are_not_doubted(pictures: np.ndarray, labels: np.ndarray) -> None:
    labels[90] = "class 03"
    assert find_issues(labels, pictures) == ([], ["wrong labels: not looked for; give an embedder"])


def test_line_drawings_are_not_compared(labels: np.ndarray) -> None:
    drawings = np.full((len(labels), SIZE, SIZE, 1), 255, np.uint8)
    random = np.random.default_rng(0)
    for drawing in drawings:
        drawing[random.integers(0, SIZE - 3) :][:3, 4:28] = 0
    issues, notes = find_issues(labels, drawings, x_ND=vectors(labels))
    assert notes == ["near-duplicates: not looked for (line drawings, which are alike by nature)"]
    assert {each.cause for each in issues} <= {"duplicate", "two-labels"}


def test_a_picture_is_dropped_once() -> None:
    table = Table(
        files=("a.png", "b.png"),
        labels=np.array(["ring", "ring"]),
        roles=np.array(["sample", "sample"]),
        splits=np.array(["", ""]),
    )
    issues = [Issue(1, "duplicate", 0, difference=0.0), Issue(1, "blank"), Issue(0, "blurred")]
    fixes = issue_fixes(issues, table)
    assert [(fix.file, fix.suggestion, fix.cause, fix.other, fix.difference) for fix in fixes] == [
        ("b.png", "drop", "duplicate", "a.png", "0.000"),
        ("a.png", "look", "blurred", "", ""),
    ]
    assert all(fix.cause in CLEAN_CAUSES for fix in fixes)
