import dataclasses

import numpy as np
import pytest

from mohs.compare import protocols as protocols_module
from mohs.compare.protocols import ComparisonData, PerClass, fewest_classes, open_comparison, validation_parts
from mohs.compare.summary import labels_of
from mohs.errors import InputError
from mohs.settings.config import DataConfig


def config_of(table):
    return DataConfig(source=str(table), size=16, channels=1)


def table_of(folder, per_class, num_classes=20):
    """Write a table with so many pictures of every class; all pictures differ."""
    from PIL import Image

    folder.mkdir()
    lines = ["file,class"]
    for label in range(num_classes):
        for number in range(per_class):
            array = np.random.default_rng([label, number]).integers(0, 256, (16, 16)).astype(np.uint8)
            Image.fromarray(array).save(folder / f"{label}-{number}.png")
            lines.append(f"{label}-{number}.png,{label}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    return folder / "images.csv"


def files(part):
    return set(part.table.files)


def counts(part):
    return set(np.unique(part.labels, return_counts=True)[1].tolist())


def test_no_picture_and_no_class_is_on_two_sides(blot_data: ComparisonData):
    assert not files(blot_data.train) & files(blot_data.held_out)
    assert not set(blot_data.train.labels) & set(blot_data.test.labels)
    assert set(blot_data.held_out.labels) == set(blot_data.train.labels)
    assert (counts(blot_data.train), counts(blot_data.held_out), counts(blot_data.test)) == ({2}, {1}, {2})
    assert not blot_data.held_out_is_trained
    assert set(blot_data.train.roles) | set(blot_data.test.roles) == {"sample"}


def test_the_catalog_has_one_training_picture_of_every_class(blot_data: ComparisonData):
    labels = blot_data.train.labels[blot_data.catalog]
    assert sorted(labels) == sorted(set(blot_data.train.labels))
    assert blot_data.num_classes == len(labels) == 48


def test_a_test_picture_alone_in_its_class_is_no_query(blot_data: ComparisonData):
    assert blot_data.facts()["test_queries"] == blot_data.facts()["test_pictures"] == len(blot_data.test)
    labels = blot_data.test.labels
    kept = np.setdiff1d(np.arange(len(labels)), np.flatnonzero(labels == labels[0])[1:])
    fewer = dataclasses.replace(
        blot_data, test=blot_data.test.take(kept), test_group_Q=blot_data.test_group_Q[kept]
    ).facts()
    assert fewer["test_queries"] == fewer["test_pictures"] - 1 == len(kept) - 1


def test_catalog_pictures_are_trained_on_and_are_the_catalog(picture_set):
    config = DataConfig(
        source=str(picture_set / "images.csv"), catalog=str(picture_set / "catalog.csv"), size=16, channels=1
    )
    data = open_comparison(config, name="set")
    catalog_files = {data.train.table.files[i] for i in data.catalog}
    assert all(file.endswith("-3.png") for file in catalog_files)  # as `draw_pictures` names them


def test_with_two_pictures_a_class_queries_are_the_second_ones_and_it_is_said(tmp_path):
    data = open_comparison(config_of(table_of(tmp_path / "two", 2)), name="two")
    assert data.held_out_is_trained
    assert data.facts()["catalog_queries_are_trained_on"] is True
    assert files(data.held_out) < files(data.train)
    assert not files(data.held_out) & {data.train.table.files[i] for i in data.catalog}
    assert len(data.held_out) == data.num_classes


def test_more_pictures_may_be_asked_for(blots):
    data = open_comparison(config_of(blots), name="blots", per_class=PerClass(train=1, held_out=2, test=4))
    assert (counts(data.train), counts(data.held_out), counts(data.test)) == ({1}, {2}, {4})


def test_rotations_are_classes_and_stay_together(blots):
    plain = open_comparison(config_of(blots), name="blots")
    turned = open_comparison(config_of(blots), name="blots", rotations=True)
    assert turned.num_classes == 4 * plain.num_classes
    assert len(turned.test) == 4 * len(plain.test)

    def base(label):
        return label.rpartition("@")[0]

    assert {base(label) for label in turned.test.labels} == set(plain.test.labels)
    assert set(turned.group_N) == set(plain.train.labels)
    assert [base(label) for label in turned.train.labels] == turned.group_N.tolist()
    one = turned.train.labels.tolist().index(f"{plain.train.labels[0]}@90")
    assert (turned.train.pictures[one] == np.rot90(plain.train.pictures[0])).all()
    assert sorted(turned.train.labels[turned.catalog]) == sorted(set(turned.train.labels))


def test_the_validation_parts_know_nothing_of_the_test(blots):
    data = open_comparison(config_of(blots), name="blots", rotations=True)
    parts = validation_parts(data)
    for part in parts:
        assert files(part.train) | files(part.test) == files(data.train)
        assert not set(part.train.labels) & set(part.test.labels)
        assert not set(part.test_group_Q) & set(part.group_N)  # turns stay together
        assert {label.rpartition("@")[0] for label in part.test.labels} == set(part.test_group_Q)
        assert set(part.held_out.labels) == set(part.train.labels)
        assert not files(part.test) & files(data.test)
        assert sorted(part.train.labels[part.catalog]) == sorted(set(part.train.labels))


def test_many_queries_are_a_quarter_and_few_are_both_halves(blots, blot_data, monkeypatch):
    one, two = validation_parts(blot_data)  # 48 classes of two pictures
    assert set(one.test.labels) == set(two.train.labels)
    assert set(two.test.labels) == set(one.train.labels)
    assert len(set(one.test.labels)) == 24
    monkeypatch.setattr(protocols_module, "_ENOUGH_QUERIES", 24)
    [part] = validation_parts(blot_data)
    assert len(set(part.test.labels)) == 12
    few = open_comparison(config_of(blots).model_copy(update={"max_classes": 5, "test_fraction": 0.4}), name="few")
    assert few.num_classes == 3
    with pytest.raises(InputError, match=r"few: 3 classes to train on; tuning needs 6 \(leave it out: --tune 0\)"):
        validation_parts(few)


def test_the_fewest_classes_are_those_of_a_trial_with_tuning(blot_data):
    assert fewest_classes(blot_data, tuned=False) == 48
    assert fewest_classes(blot_data, tuned=True) == 24


def test_turns_of_a_class_are_one_group_of_queries(blots):
    data = open_comparison(config_of(blots), name="blots", rotations=True)
    for part, groups in ((data.test, data.test_group_Q), (data.held_out, data.held_out_group_Q)):
        assert [label.rpartition("@")[0] for label in part.labels] == groups.tolist()
    assert labels_of(data) == {"unseen": data.test_group_Q, "seen": data.held_out_group_Q}
    plain = open_comparison(config_of(blots), name="blots")
    assert plain.test_group_Q.tolist() == plain.test.labels.tolist()


def test_one_class_to_ask_for_is_too_few(tmp_path):
    folder = tmp_path / "lone"
    table = table_of(folder, 1)
    lines = table.read_text().splitlines()
    split = ["split", *(["train"] * 15 + ["test"] * 5)]
    (folder / "twice.png").write_bytes((folder / "0-0.png").read_bytes())
    (folder / "again.png").write_bytes((folder / "19-0.png").read_bytes())
    second = ["twice.png,0,train", "again.png,19,test"]
    table.write_text("\n".join([f"{a},{b}" for a, b in zip(lines, split, strict=True)] + second) + "\n")
    with pytest.raises(InputError) as caught:
        open_comparison(config_of(table), name="lone")
    assert caught.value.problems == (
        "lone: one test class has two pictures; intervals over classes need two such classes",
        "lone: one training class has two pictures; intervals over classes need two such classes",
    )


def test_the_same_seed_gives_the_same_pictures(blots):
    one, two = (open_comparison(config_of(blots), name="blots") for _ in range(2))
    other = open_comparison(config_of(blots), name="blots", seed=1)
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(InputError, match="one: no test class has two pictures, so that no query has anything to find"):
        open_comparison(config_of(table_of(tmp_path / "one", 1)), name="one")
