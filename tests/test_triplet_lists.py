import csv
import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.triplet_lists import create_data

T = 60


def read(path):
    with Path(path).open(newline="") as file:
        return {row["picture"]: row["kind"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """CSV files with columns of other names: 40 pictures of 20 classes (one of them alone), 20 catalog pictures.

    A class is a grey level, so that even an untrained network sees which classes are alike.
    """
    folder = tmp_path_factory.mktemp("tables")
    images, catalog = ["kind,picture"], ["kind,picture"]
    for label in range(20):
        for number in range(3):
            name = f"img/{label:02d}-{number}.png"
            (folder / "img").mkdir(exist_ok=True)
            pixels = np.full((12, 12), 10 + 12 * label, np.uint8)
            pixels[number * 3 : number * 3 + 2, :] += 2
            Image.fromarray(pixels).save(folder / name)
            if label == 0 and number == 1:
                continue
            (catalog if number == 2 else images).append(f"{label:02d},{name}")
    (folder / "images.csv").write_text("\n".join(images) + "\n")
    (folder / "catalog.csv").write_text("\n".join(catalog) + "\n")
    return folder


@pytest.fixture(scope="module")
def plain(tables):
    return create_data(tables / "images.csv", None, 0.2, "kind", "picture", total_data_points=T)


@pytest.fixture(scope="module")
def with_catalog(tables):
    return create_data(
        str(tables / "images.csv"), str(tables / "catalog.csv"), 0.2, "kind", "picture", total_data_points=T
    )


def test_the_signature_is_the_published_one():
    parameters = inspect.signature(create_data).parameters
    assert list(parameters) == [
        "data_filename",
        "catalog_filename",
        "train_test_split_ratio",
        "ycolname",
        "xcolname",
        "total_data_points",
        "hardness_threshold",
        "num_hardness_cycles",
        "encoder",
        "seed",
    ]
    positional = [name for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == list(parameters)[:5]
    assert {name: each.default for name, each in parameters.items() if name not in positional} == {
        "total_data_points": 10_000,
        "hardness_threshold": 0.85,
        "num_hardness_cycles": 10,
        "encoder": None,
        "seed": 0,
    }


@pytest.mark.parametrize("which", ["plain", "with_catalog"])
def test_six_lists_of_names_as_written(which, tables, request):
    lists = request.getfixturevalue(which)
    known = set(read(tables / "images.csv")) | (set(read(tables / "catalog.csv")) if which == "with_catalog" else set())
    assert isinstance(lists, tuple)
    assert [type(each) for each in lists] == [list] * 6
    assert [len(each) for each in lists] == [T] * 6
    assert set().union(*lists) <= known


@pytest.mark.parametrize("which", ["plain", "with_catalog"])
def test_no_class_is_in_both_splits_and_a_fifth_is_for_the_test(which, tables, request):
    lists = request.getfixturevalue(which)
    kind = read(tables / "images.csv") | read(tables / "catalog.csv")
    train, test = ({kind[name] for each in part for name in each} for part in (lists[:3], lists[3:]))
    assert (len(train), len(test)) == (16, 4)
    assert not train & test


@pytest.mark.parametrize("which", ["plain", "with_catalog"])
def test_positives_are_of_the_class_and_negatives_of_another(which, tables, request):
    lists = request.getfixturevalue(which)
    kind = read(tables / "images.csv") | read(tables / "catalog.csv")
    for references, positives, negatives in (lists[:3], lists[3:]):
        for reference, positive, negative in zip(references, positives, negatives, strict=True):
            assert kind[reference] == kind[positive] != kind[negative]


def test_without_a_catalog_a_positive_is_another_picture_where_there_is_one(plain, tables):
    pairs = {*zip(plain[0], plain[1], strict=True), *zip(plain[3], plain[4], strict=True)}
    assert {a for a, b in pairs if a == b} == {"img/00-0.png"}  # the only picture of its class
    assert len(pairs) > 30


def test_with_a_catalog_positives_are_its_pictures_and_references_are_not(with_catalog, tables):
    catalog = set(read(tables / "catalog.csv"))
    assert set(with_catalog[1]) | set(with_catalog[4]) == catalog
    assert not (set(with_catalog[0]) | set(with_catalog[3])) & catalog


def test_every_class_is_a_reference_equally_often(plain, tables):
    kind = read(tables / "images.csv")
    for references in (plain[0], plain[3]):
        counts = np.unique([kind[name] for name in references], return_counts=True)[1]
        assert counts.max() - counts.min() <= 1


def test_the_seed_decides_everything(plain, tables):
    arguments = (tables / "images.csv", None, 0.2, "kind", "picture")
    assert create_data(*arguments, total_data_points=T) == plain
    other = create_data(*arguments, total_data_points=T, seed=1)
    assert set(other[3]) != set(plain[3])  # other test classes
    assert other[0] != plain[0]


class GreyEncoder:
    """The mean grey as a point on a quarter of a circle: distances are known."""

    policy = ImagePolicy(size=8)

    def embed(self, pictures):
        angle = np.asarray(pictures).reshape(len(pictures), -1).mean(1) / 255 * np.pi / 2
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def grey(name):
    return int(name[4:6])


@pytest.mark.parametrize("cycles", [1, 4])
def test_negatives_get_harder_within_each_cycle(cycles, tables):
    arguments = (tables / "images.csv", None, 0.5, "kind", "picture")
    lists = create_data(
        *arguments, total_data_points=240, num_hardness_cycles=cycles, hardness_threshold=1.0, encoder=GreyEncoder()
    )
    for references, _, negatives in (lists[:3], lists[3:]):
        distance = np.array([abs(grey(a) - grey(n)) for a, n in zip(references, negatives, strict=True)], float)
        quarters = distance.reshape(cycles, 4, -1).mean(2)
        assert (quarters[:, 0] > 1.5 * quarters[:, 3]).all(), quarters
        assert (quarters[:, 1] > quarters[:, 2]).all(), quarters


def test_the_threshold_is_the_hardest_negative_asked_for(tables):
    arguments = (tables / "images.csv", None, 0.2, "kind", "picture")
    mean = []
    for threshold in (0.0, 0.5, 1.0):
        lists = create_data(*arguments, total_data_points=T, hardness_threshold=threshold, encoder=GreyEncoder())
        mean.append(np.mean([abs(grey(a) - grey(n)) for a, n in zip(lists[0], lists[2], strict=True)]))
    assert mean[0] > mean[1] > mean[2]


def test_wrong_parameters(tables):
    images = tables / "images.csv"
    columns = f"{images}: no column 'shape'; the columns are 'kind', 'picture'; name the right one with "
    cases = [
        ({"total_data_points": 0}, "total_data_points: 0 is not a whole number of at least 1; use for example 10000"),
        (
            {"total_data_points": 2.5},
            "total_data_points: 2.5 is not a whole number of at least 1; use for example 10000",
        ),
        (
            {"train_test_split_ratio": 1.0},
            "train_test_split_ratio: 1.0 is not in (0, 1); 0.2 keeps 20% of the classes ",
        ),
        ({"train_test_split_ratio": "0.2"}, "train_test_split_ratio: '0.2' is not in (0, 1); 0.2 keeps 20% of the "),
        ({"train_test_split_ratio": float("nan")}, "train_test_split_ratio: nan is not in (0, 1); 0.2 keeps 20% of "),
        ({"hardness_threshold": 1.5}, "hardness_threshold: 1.5 is not in [0, 1]; use for example 0.85"),
        ({"num_hardness_cycles": 0}, "num_hardness_cycles: 0 is not a whole number of at least 1; use for example 10"),
        ({"seed": -1}, "seed: -1 is not an integer in [0, 2**63); use for example seed=0"),
        ({"data_filename": tables / "none.csv"}, f"{tables}/none.csv: no such file or folder; "),
        ({"catalog_filename": tables / "none.csv"}, f"{tables}/none.csv: no such file or folder; "),
        ({"ycolname": "shape"}, columns),
        ({"xcolname": "shape"}, columns),
    ]
    for change, message in cases:
        given = {
            "data_filename": images,
            "catalog_filename": None,
            "train_test_split_ratio": 0.2,
            "ycolname": "kind",
            "xcolname": "picture",
        }
        with pytest.raises(InputError) as caught:
            create_data(**(given | change))
        assert str(caught.value).startswith(message), str(caught.value)
        assert len(caught.value.problems) == 1


def test_wrong_tables_and_pictures(tables):
    (tables / "three.csv").write_text("kind,picture\n" + "".join(f"{i},img/0{i}-0.png\n" for i in range(3)))
    with pytest.raises(InputError) as caught:
        create_data(tables / "three.csv", None, 0.5, "kind", "picture", total_data_points=4)
    assert str(caught.value) == (
        f"{tables}/three.csv: 3 classes ('0', '1', '2'); similarity learning needs at least 4; "
        "add pictures of other classes"
    )
    (tables / "gone.csv").write_text("kind,picture\n" + "".join(f"{i},img/0{i}-{i}.png\n" for i in range(5)))
    with pytest.raises(InputError) as caught:
        create_data(tables / "gone.csv", None, 0.5, "kind", "picture", total_data_points=4)
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].startswith(f"{tables}/gone.csv: row 5: 'img/03-3.png': ")
    (tables / "four.csv").write_text("kind,picture\n" + "".join(f"{i},img/0{i}-0.png\n" for i in range(4)))
    with pytest.raises(InputError) as caught:
        create_data(tables / "four.csv", None, 0.2, "kind", "picture", total_data_points=4)
    assert str(caught.value) == (
        "train_test_split_ratio: 0.2 puts 1 of 4 classes in the test; both splits need at least 2: "
        "use another ratio, or add classes"
    )
