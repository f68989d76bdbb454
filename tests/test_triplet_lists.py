import csv
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mohs import triplet_lists
from mohs.data.images import ImagePolicy
from mohs.errors import DataWarning, InputError
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
        "split_by",
        "group_column",
        "multi_label",
        "plot",
        "progress",
    ]
    positional = [name for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == list(parameters)[:5]
    assert {name: each.default for name, each in parameters.items() if name not in positional} == {
        "total_data_points": 10_000,
        "hardness_threshold": 0.85,
        "num_hardness_cycles": 10,
        "encoder": None,
        "seed": 0,
        "split_by": "class",
        "group_column": "group",
        "multi_label": "error",
        "plot": None,
        "progress": None,
    }


def test_its_parts_are_counted_to_their_ends(tables, plain):
    told = []
    lists = create_data(
        tables / "images.csv",
        None,
        0.2,
        "kind",
        "picture",
        total_data_points=T,
        progress=lambda *each: told.append(each),
    )
    assert lists == plain
    ends = {name: [each for each in told if each[0] == name][-1] for name, *_ in told}
    assert set(ends) >= {"embedding", "mining"}  # pictures that were read before are not read again
    assert all(done == total for _, done, total in ends.values())


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


def test_with_a_catalog_its_pictures_are_references_and_nothing_else(with_catalog, tables):
    catalog = set(read(tables / "catalog.csv"))
    assert set(with_catalog[0]) | set(with_catalog[3]) == catalog
    for part in (1, 2, 4, 5):
        assert not set(with_catalog[part]) & catalog


@pytest.fixture(scope="module")
def four_a_class(tables):
    """Six classes of four samples, and a catalog picture of all but class 0; class 9 has nothing but one."""
    images = ["kind,picture"]
    for number in range(4):
        for kind in range(6):
            name = f"four/{kind}-{number}.png"
            (tables / "four").mkdir(exist_ok=True)
            Image.fromarray(np.full((12, 12), 10 + 40 * kind + 3 * number, np.uint8)).save(tables / name)
            images.append(f"{kind},{name}")
    catalog = ["kind,picture"] + [f"{kind},img/{kind:02d}-2.png" for kind in (1, 2, 3, 4, 5, 9)]
    (tables / "samples.csv").write_text("\n".join(images) + "\n")
    (tables / "some.csv").write_text("\n".join(catalog) + "\n")
    return tables / "samples.csv", tables / "some.csv"


@pytest.mark.parametrize("split_by", ["class", "item"])
def test_roles_are_as_published_and_classes_without_a_catalog_picture_are_counted(four_a_class, split_by):
    images, catalog = four_a_class
    with pytest.warns(UserWarning, match=r"^classes without a catalog picture: 1 of 6; a sample is their anchor$"):
        lists = create_data(images, catalog, 0.5, "kind", "picture", total_data_points=120, split_by=split_by, seed=3)
    kind, references_of = read(images), read(catalog)
    for references, positives, negatives in (lists[:3], lists[3:]):
        shown = {name for name in {*positives, *negatives} if name.startswith("four/")}
        for reference, positive, negative in zip(references, positives, negatives, strict=True):
            own = (references_of | kind)[reference]
            assert (own == "0") == (reference in kind)  # the one class without a catalog picture
            assert kind[positive] == own != kind[negative]
            assert reference != positive
            early = sorted(name for name in shown if kind[name] == own)[:2]
            assert positive in early
            if split_by == "class":
                assert positive[-5] in "01"
        assert references_of.keys() & {*references}
        assert not references_of.keys() & {*positives, *negatives}
        assert "img/09-2.png" not in {*references, *positives, *negatives}


def test_negatives_are_picked_by_their_distance_from_the_catalog_picture(four_a_class):
    """At hardness 1 on the range scale: the nearest sample of another class, nothing but samples."""
    images, catalog = four_a_class
    catalog_without_9 = catalog.with_name("without-9.csv")
    catalog_without_9.write_text("".join(f"{line}\n" for line in catalog.read_text().splitlines() if line[:1] != "9"))
    embeddings = {}

    class Encoder:
        policy = ImagePolicy(size=8)
        embedding_dim = 2

        def embed(self, pictures, batch_size=256):
            found = GreyEncoder().embed(pictures, batch_size)
            embeddings["all"] = found
            return found

    with pytest.warns(UserWarning, match="1 of 6"):
        lists = create_data(
            images, catalog_without_9, 0.5, "kind", "picture", total_data_points=120, hardness_threshold=1.0,
            num_hardness_cycles=1, encoder=Encoder(),
        )  # fmt: skip
    names = [*read(images), *read(catalog_without_9)]
    kind = read(images) | read(catalog_without_9)
    place = {name: embeddings["all"][i] for i, name in enumerate(names)}
    for references, _, negatives in (lists[:3], lists[3:]):
        split = {kind[name] for name in references}
        allowed = [name for name in read(images) if kind[name] in split]
        for reference, negative in list(zip(references, negatives, strict=True))[-3:]:  # the hardest
            distance = {n: np.linalg.norm(place[reference] - place[n]) for n in allowed if kind[n] != kind[reference]}
            assert distance[negative] <= np.quantile(list(distance.values()), 0.4)


def test_a_split_by_item_has_every_class_on_both_sides_and_no_sample_twice(tables):
    lists = create_data(
        tables / "images.csv", tables / "catalog.csv", 0.5, "kind", "picture", total_data_points=200, split_by="item"
    )
    kind = read(tables / "images.csv") | read(tables / "catalog.csv")
    train, test = ({*part[1], *part[2]} for part in (lists[:3], lists[3:]))
    assert not train & test
    assert len(train) + len(test) == len(read(tables / "images.csv"))
    assert len({kind[name] for name in lists[0]} & {kind[name] for name in lists[3]}) > 10
    with pytest.raises(InputError, match=r"^split_by: 'row' is not one of 'class', 'item'$"):
        create_data(tables / "images.csv", None, 0.5, "kind", "picture", split_by="row")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_plot_shows_every_triplet_of_both_splits(tables, tmp_path, ending):
    path = tmp_path / "new" / f"hardness.{ending}"
    lists = create_data(
        tables / "images.csv", tables / "catalog.csv", 0.2, "kind", "picture", total_data_points=T, plot=path
    )
    assert len(lists[0]) == T
    if ending == "png":
        with Image.open(path) as picture:
            assert picture.size[0] > 800
            assert np.asarray(picture.convert("RGB")).std() > 5
    else:
        text = path.read_text()
        assert text.count("<use") >= 2 * T  # a dot for each
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_plot_that_cannot_be_written_is_refused_before_any_work(tables, tmp_path):
    arguments = (tables / "none.csv", None, 0.2, "kind", "picture")
    (tmp_path / "file").write_text("x")
    for path, message in (
        ("x.foo", "plot: x.foo: matplotlib writes no .foo; use .png"),
        ("hardness", "plot: hardness: matplotlib writes no file without an ending; use .png"),
        (tmp_path / "file" / "x.png", f"plot: {tmp_path}/file/x.png: {tmp_path}/file is a file; name another file"),
    ):
        with pytest.raises(InputError) as caught:
            create_data(*arguments, plot=path)
        assert str(caught.value) == message


def test_the_picture_itself_under_another_class_is_no_negative(tmp_path, monkeypatch):
    # The curve comes near 1; only at 1 is the nearest taken that is at distance 0.
    monkeypatch.setattr(triplet_lists, "schedule", lambda _, num: np.ones(num))
    # Two shots of each class; one of class 0 is there under class 1, too, and so nearest to itself.
    random = np.random.Generator(np.random.PCG64(1))
    rows = []
    for label in range(6):
        for number in range(2):
            Image.fromarray(random.integers(0, 256, (12, 12), dtype=np.uint8)).save(tmp_path / f"{label}-{number}.png")
            rows.append(f"{label}-{number}.png,{label},{'test' if label > 3 else 'train'}")
    (tmp_path / "again.png").write_bytes((tmp_path / "0-0.png").read_bytes())
    (tmp_path / "shop.csv").write_text("\n".join(["file,class,split", *rows, "again.png,1,train"]) + "\n")
    lists = create_data(tmp_path / "shop.csv", None, 0.2, "class", "file", total_data_points=T)
    met = {frozenset(pair) for pair in zip(lists[0], lists[2], strict=True)}
    assert any("again.png" in pair for pair in met)
    assert frozenset(("0-0.png", "again.png")) not in met


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
    embedding_dim = 2

    def embed(self, pictures, batch_size=256):  # noqa: ARG002
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
            "train_test_split_ratio: 1.0 is not a number in (0, 1); use for example 0.2",
        ),
        (
            {"train_test_split_ratio": "0.2"},
            "train_test_split_ratio: '0.2' is not a number in (0, 1); use for example 0.2",
        ),
        (
            {"train_test_split_ratio": float("nan")},
            "train_test_split_ratio: nan is not a number in (0, 1); use for example 0.2",
        ),
        ({"hardness_threshold": 1.5}, "hardness_threshold: 1.5 is not a number in [0, 1]; use for example 0.85"),
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


@pytest.fixture
def grouped(tmp_path):
    """Return a function that writes a table of 6 classes with 4 pictures each and a column more, and returns it."""

    def write(column: str, value: Callable[..., str]) -> Path:
        path = tmp_path / "grouped.csv"
        rows = []
        for c in range(6):
            for k in range(4):
                file = f"g{c}_{k}.png"
                Image.new("RGB", (16, 16), (40 * c, 20 * k, 99)).save(tmp_path / file)
                rows.append(f"{file},{c},{value(c=c, k=k)}")
        path.write_text(f"file,class,{column}\n" + "\n".join(rows) + "\n")
        return path

    return write


@pytest.mark.parametrize(
    ("split_by", "group_of"), [("class", lambda c, **_: c // 2), ("item", lambda c, k: (c, k // 2))]
)
def test_a_group_is_in_one_split(grouped, split_by, group_of):
    """Without groups both splits have pictures of the same session."""
    path = grouped("group", lambda c, k: str(group_of(c=c, k=k)).replace(",", "-"))

    def divided(**kwargs: object) -> int:
        lists = create_data(path, None, 0.34, "class", "file", total_data_points=300, split_by=split_by, **kwargs)
        names_of = [{name for names in part for name in names} for part in (lists[:3], lists[3:])]
        sides = [{group_of(c=int(name[1]), k=int(name[3])) for name in names} for names in names_of]
        return len(sides[0] & sides[1])

    assert divided() == 0
    assert divided(group_column="") > 0


def test_groups_that_allow_no_split_are_an_error(grouped):
    with pytest.raises(InputError, match=r"^groups: they join 6 classes into 1 set"):
        create_data(grouped("group", lambda **_: "one"), None, 0.3, "class", "file", total_data_points=30)


def test_a_column_split_is_kept(grouped):
    path = grouped("split", lambda c, **_: "test" if c < 2 else "train")
    lists = create_data(path, None, 0.9, "class", "file", total_data_points=60)
    assert {name[1] for name in lists[3]} == {"0", "1"}
    assert {name[1] for name in lists[0]} == {"2", "3", "4", "5"}


def test_classes_of_one_picture_cannot_be_divided_by_item(grouped):
    path = grouped("other", lambda **_: "")
    rows = path.read_text().splitlines()
    path.write_text("\n".join(row for row in rows if "_" not in row or "_0" in row))
    wanted = r"^split_by: 'item' divides the pictures of a class, and 6 of 6 classes have one; add pictures"
    with pytest.raises(InputError, match=wanted):
        create_data(path, None, 0.3, "class", "file", total_data_points=30, split_by="item")


def test_fewer_triplets_than_classes_are_warned_of(grouped):
    path = grouped("other", lambda **_: "")
    wanted = (
        r"^total_data_points: 3 triplets: 0\.75 passes over 4 classes; 1 of them is never an anchor: give 4 or more$"
    )
    with pytest.warns(UserWarning, match=wanted):
        create_data(path, None, 0.34, "class", "file", total_data_points=3)


def test_a_picture_under_several_classes_is_as_multi_label_says(grouped):
    path = grouped("other", lambda **_: "")
    path.write_text(path.read_text() + "g0_0.png,1,\n")
    with pytest.raises(InputError, match="with class '0'"):
        create_data(path, None, 0.34, "class", "file", total_data_points=30)
    with pytest.warns(DataWarning, match="1 picture is under several classes"):
        lists = create_data(path, None, 0.34, "class", "file", total_data_points=30, multi_label="drop")
    assert "g0_0.png" not in {name for names in lists for name in names}


def test_a_catalog_of_other_classes_is_told(grouped):
    path = grouped("other", lambda **_: "")
    catalog = path.parent / "far.csv"
    catalog.write_text("file,class\ng0_3.png,0.0\ng1_3.png,1.0\n")
    rows = path.read_text().splitlines()
    path.write_text("\n".join(row for row in rows if "_3" not in row))
    with pytest.warns(UserWarning, match="catalog") as told:
        create_data(path, catalog, 0.34, "class", "file", total_data_points=30)
    lines = [str(each.message) for each in told]
    assert any("none of the 2 classes of the catalog has a sample" in line for line in lines)
    assert any("4 classes look like 2: '0' and '0.0' (numbers)" in line for line in lines)
    assert "classes without a catalog picture: 6 of 6; a sample is their anchor" in lines
