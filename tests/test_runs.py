"""Runs: a folder that is whole or tells that it is not, and numbers of the right items."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import mohs.runs
from mohs.data.reading import read_table
from mohs.errors import InputError, TrainingError
from mohs.evaluation.summary import SearchSet, measure
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.runs import Run, evaluate, train, train_on
from mohs.settings.config import (
    DataConfig,
    FinetuneConfig,
    LossConfig,
    MemoryConfig,
    ModelConfig,
    NegativesConfig,
    RunConfig,
    TrainingConfig,
    load_config,
)
from mohs.training.events import Event
from mohs.training.run_inputs import open_split_data

NUM_CLASSES, NUM_EACH = 8, 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are tiny: threads only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save_pictures(folder: Path) -> Path:
    """Write class folders: a class is a pattern of grey fields, a picture is the pattern with noise."""
    rng = np.random.default_rng(0)
    for c in range(NUM_CLASSES):
        pattern = np.kron(rng.integers(60, 200, (4, 4)), np.ones((4, 4)))
        (folder / f"class{c}").mkdir(parents=True)
        for i in range(NUM_EACH):
            pixels = np.clip(pattern + rng.normal(0, 25, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{c}" / f"{i}.png")
    return folder


def write_rows(folder: Path, split: dict[tuple[int, int], str]) -> str:
    """Write a table of the pictures with a split for each (class, picture), and return its path."""
    rows = [f"class{c}/{i}.png,class{c},{split[c, i]}" for c in range(NUM_CLASSES) for i in range(NUM_EACH)]
    (folder / "images.csv").write_text("file,class,split\n" + "\n".join(rows) + "\n")
    return str(folder / "images.csv")


def settings(tmp_path: Path, *, source: str | None = None, out: str = "run", **data: Any) -> RunConfig:
    return RunConfig(
        seed=1,
        out=str(tmp_path / out),
        data=DataConfig(
            source=source or str(save_pictures(tmp_path / "pictures")),
            size=16,
            channels=1,
            cache=str(tmp_path / "cache"),
            **{"test_fraction": 0.4, **data},
        ),
        model=ModelConfig(widths=(4, 8), hidden_dim=16, embedding_dim=8),
        training=TrainingConfig(num_triplets=30, batch_triplets=10, num_segments=2, device="cpu"),
    )


def test_a_run_is_whole_and_opens_again(tmp_path: Path) -> None:
    config = settings(tmp_path)
    events: list[Event] = []
    run = train(config, listeners=[events.append])
    assert sorted(str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()) == [
        "config.json",
        "embedder/embedder.json",
        "embedder/model.safetensors",
        "events.jsonl",
        "inputs.json",
        "items.csv",
        "plans/segment-000.parquet",
        "plans/segment-001.parquet",
        "run.json",
    ]
    again = Run.open(str(run.folder))
    # The number of classes decides whether there is a bank, and that the temperature.
    decided = config.for_classes(2)
    assert (again.folder, again.config) == (run.folder, decided)
    assert [event["event"] for event in again.events()].count("step") == 4
    assert len(again.events()) == len(events) == 6
    facts = again.facts()
    assert (facts["num_items"], facts["num_classes"]) == (40, 8)
    assert (facts["num_training_items"], facts["num_test_items"]) == (25, 15)
    assert (facts["num_steps"], facts["num_pictures"], facts["num_triplets"]) == (4, 60, 30)
    assert facts["versions"] == mohs.runs.versions()
    items = read_table(run.folder / "items.csv")
    assert sorted(set(items.splits.tolist())) == ["test", "train"]
    assert items.path(0).resolve().is_file()
    assert not set(items.labels[items.splits == "train"]) & set(items.labels[items.splits == "test"])
    # The plans count training items in their order.
    plan = TripletPlan.load(run.folder / "plans" / "segment-000.parquet")
    assert max(plan.anchor.max(), plan.positive.max(), plan.negative.max()) < 25


def test_a_run_from_its_saved_settings_is_the_same_run(tmp_path: Path) -> None:
    one = train(settings(tmp_path))
    two = train(load_config(one.folder / "config.json").model_copy(update={"out": str(tmp_path / "two")}))
    for name in ("embedder/model.safetensors", "plans/segment-001.parquet"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


def broken_table(tmp_path: Path) -> str:
    (tmp_path / "broken.csv").write_text("file,class\na.png,\n")
    return str(tmp_path / "broken.csv")


def one_class(tmp_path: Path) -> str:
    save_pictures(tmp_path / "one")
    (tmp_path / "one.csv").write_text("file,class\none/class0/0.png,a\none/class0/1.png,a\n")
    return str(tmp_path / "one.csv")


def not_a_picture(tmp_path: Path) -> str:
    folder = save_pictures(tmp_path / "bad")
    (folder / "class0" / "0.png").write_text("not a picture")
    return str(folder)


def split_across(tmp_path: Path) -> str:
    split = {(c, i): "train" if i else "test" for c in range(NUM_CLASSES) for i in range(NUM_EACH)}
    return write_rows(save_pictures(tmp_path / "split"), split)


def no_test_items(tmp_path: Path) -> str:
    split = {(c, i): "train" for c in range(NUM_CLASSES) for i in range(NUM_EACH)}
    return write_rows(save_pictures(tmp_path / "train only"), split)


@pytest.mark.filterwarnings("ignore:model.weights")  # settings for weights that are not given: told, too
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": LossConfig(name="TripletLoss")}, "loss.name: 'TripletLoss' is unknown"),
        ({"memory": MemoryConfig(num_negatives=5), "loss": LossConfig(name="triplet")}, "memory.num_negatives: 5 with"),
        ({"finetune": FinetuneConfig(trainable_stages=9)}, "finetune.trainable_stages: 9"),
        ({"finetune": FinetuneConfig(train_from="typo")}, "finetune.train_from: 'typo'"),
        ({"finetune": FinetuneConfig(head="rca")}, "finetune.head: 'rca' is for a head of one linear layer"),
        ({"negatives": NegativesConfig(review_list="nowhere.csv")}, "negatives.review_list: nowhere.csv: no such file"),
    ],
)
def test_settings_that_cannot_be_leave_nothing_behind(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = settings(tmp_path).model_copy(update=changes)
    with pytest.raises(InputError, match=re.escape(message)):
        train(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (lambda _: "nowhere.csv", InputError, "no such file or folder"),
        (broken_table, InputError, "row 2: column 'class' is empty"),
        (one_class, InputError, "1 class ('a'); similarity learning needs at least 2"),
        (not_a_picture, InputError, "class0/0.png': not a picture of a known format"),
        (split_across, InputError, "by class, a class is in one split"),
        (no_test_items, InputError, "the column 'split' marks no item 'test'; mark some, or leave the column out"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_data_leave_nothing_behind(tmp_path: Path, source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        train(settings(tmp_path, source=source(tmp_path)))
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def single_pictures(folder: Path, numbers: dict[int, int]) -> str:
    """Return a table with so many pictures of each class of `save_pictures`."""
    save_pictures(folder)
    rows = [f"class{c}/{i}.png,class{c}" for c, number in numbers.items() for i in range(number)]
    (folder / "images.csv").write_text("file,class\n" + "\n".join(rows) + "\n")
    return str(folder / "images.csv")


@pytest.mark.parametrize(
    ("split_by", "message"),
    [
        ("class", "every test class has one picture, so no query has another to find; add pictures, or a catalog"),
        ("item", "every class has one picture, so by item none is left for the test; add pictures, or a catalog"),
    ],
)
def test_a_test_without_a_second_picture_is_refused_before_training(
    tmp_path: Path, split_by: str, message: str
) -> None:
    source = single_pictures(tmp_path / "single", dict.fromkeys(range(NUM_CLASSES), 1))
    with pytest.raises(InputError) as caught:
        train(settings(tmp_path, source=source, split_by=split_by))
    assert str(caught.value) == f"{source}: {message}"
    assert not (tmp_path / "run").exists()


def test_a_table_that_marks_single_pictures_for_the_test_is_refused_too(tmp_path: Path) -> None:
    split = {(c, i): "train" for c in range(NUM_CLASSES) for i in range(NUM_EACH)}
    folder = save_pictures(tmp_path / "marked")
    rows = [f"class{c}/{i}.png,class{c},{split[c, i]}" for c in range(5) for i in range(2)]
    rows += [f"class{c}/0.png,class{c},test" for c in range(5, NUM_CLASSES)]
    (folder / "images.csv").write_text("file,class,split\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError, match="every test class has one picture"):
        train(settings(tmp_path, source=str(folder / "images.csv")))


def test_single_pictures_with_a_catalog_train_and_are_measured(tmp_path: Path) -> None:
    source = single_pictures(tmp_path / "single", dict.fromkeys(range(NUM_CLASSES), 1))
    catalog = tmp_path / "single" / "catalog.csv"
    rows = [f"class{c}/1.png,class{c}" for c in range(NUM_CLASSES)]
    catalog.write_text("file,class\n" + "\n".join(rows) + "\n")
    for split_by in ("class", "item"):
        run = train(settings(tmp_path, source=source, out=split_by, split_by=split_by, catalog=str(catalog)))
        counted_Q = evaluate(run, baselines=False).measured["trained"].retrieval.counted
        assert run.facts()["num_counted_queries"] == counted_Q.sum() > 0


def test_the_queries_that_count_are_those_that_evaluation_counts(tmp_path: Path) -> None:
    source = single_pictures(tmp_path / "few", {0: 1, 1: 3, 2: 1, 3: 2, 4: 1, 5: 1, 6: 4, 7: 2})
    for seed in range(6):
        config = settings(tmp_path, source=source)
        data = open_split_data(config.data, seed=seed)
        labels = data.dataset.labels[data.test_N]
        counted = sum((labels == label).sum() > 1 for label in labels.tolist())
        if counted:
            assert data.count_queries() == counted
        else:
            with pytest.raises(InputError, match="every test class has one picture"):
                data.count_queries()


def test_fewer_triplets_than_classes_are_warned_of(tmp_path: Path) -> None:
    config = settings(tmp_path)
    short = config.model_copy(update={"training": config.training.model_copy(update={"num_triplets": 4})})
    line = "training.num_triplets: 4 triplets: 0.80 passes over 5 classes; 1 of them is never an anchor: give 5 or more"
    with pytest.warns(UserWarning, match=re.escape(line)):
        train(short)


def test_a_run_without_a_length_records_the_one_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mohs.settings.config, "usual_length", lambda num_classes: 9 * num_classes)
    config = settings(tmp_path)
    run = train(config.model_copy(update={"training": config.training.model_copy(update={"num_triplets": None})}))
    assert run.facts()["num_triplets"] == load_config(run.folder / "config.json").training.num_triplets == 45
    assert sum(len(plan) for plan in map(TripletPlan.load, sorted((run.folder / "plans").iterdir()))) == 45


def test_a_review_list_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tmp_path)
    (tmp_path / "review.csv").write_text("file,other\n")
    monkeypatch.chdir(tmp_path)
    run = train(config.model_copy(update={"negatives": NegativesConfig(review_list="review.csv")}))
    saved = load_config(run.folder / "config.json")
    assert saved.negatives.review_list == str((tmp_path / "review.csv").resolve())


def test_bad_settings_of_the_model_leave_nothing_behind(tmp_path: Path) -> None:
    config = settings(tmp_path)
    config = config.model_copy(update={"model": ModelConfig(backbone="resnet-fifty")})
    with pytest.raises(InputError, match=r"^model\.backbone: 'resnet-fifty' is neither"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_no_run_overwrites_another(tmp_path: Path) -> None:
    config = settings(tmp_path)
    taken = tmp_path / "run"
    taken.mkdir()
    (taken / "precious").write_text("1")
    with pytest.raises(InputError) as caught:
        train(config)
    assert str(caught.value) == f"out: {taken} exists already; give another folder with --out, or remove it"
    assert [file.name for file in taken.iterdir()] == ["precious"]
    (taken / "precious").unlink()
    train(config)  # an empty folder is as good as none
    with pytest.raises(InputError, match="exists already"):
        train_on(open_split_data(config.data, seed=1), config)


def test_a_taken_folder_is_told_before_the_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match="exists already"):
        train(settings(tmp_path, source="nowhere.csv"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, TrainingError("loss is nan")])
def test_an_interrupted_run_keeps_its_log_and_does_not_open(tmp_path: Path, error: Any) -> None:
    def stop(event: Event) -> None:
        if getattr(event, "step", 0) == 2:
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        train(settings(tmp_path), listeners=[stop])
    folder = tmp_path / "run"
    assert [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()] == ["step"] * 2
    with pytest.raises(InputError) as caught:
        Run.open(folder)
    assert str(caught.value) == (
        f"{folder}: this run did not finish (no run.json); go on with 'mohs train --resume {folder}'"
    )


def test_open_messages(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError) as caught:
            Run.open(folder)
        assert str(caught.value) == f"{folder}: not a run folder (no config.json); give one made by 'mohs train'"
    (tmp_path / "config.json").write_text("[]")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json: not the settings of a run"):
        Run.open(tmp_path)


def test_a_pretrained_network_is_measured_beside_what_it_knew_without_a_head(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), weights)
    config = settings(tmp_path)
    pretrained = ModelConfig(backbone="test_efficientnet", weights=str(weights), embedding_dim=8)
    config = config.model_copy(
        update={
            "model": pretrained,
            "data": config.data.model_copy(update={"size": 32, "channels": 3}),
            "training": config.training.model_copy(update={"learning_rate": 1e-3}),
            "finetune": FinetuneConfig(backbone_rate=0.1),
        }
    )
    run = train(config)
    evaluation = evaluate(run)
    assert list(evaluation.measured) == ["pixels", "untrained", "pooled features", "trained"]
    untrained = Embedder.create(config.network, config.data.policy, seed=1).eval()
    with torch.inference_mode():
        x_BCHW = untrained.to_input(np.asarray(evaluation.dataset.pictures))
        features = torch.nn.functional.normalize(untrained.features(x_BCHW), dim=1).numpy()
    np.testing.assert_allclose(untrained.embed_features(evaluation.dataset.pictures), features, atol=1e-6)
    expected = measure(
        features, SearchSet(evaluation.dataset.labels, evaluation.dataset.roles), verification=False, seed=1
    )
    found = evaluation.measured["pooled features"]
    np.testing.assert_allclose(
        found.retrieval.nearest_wrong_distance, expected.retrieval.nearest_wrong_distance, atol=1e-5
    )
    trained = evaluation.measured["trained"].retrieval
    assert not np.allclose(found.retrieval.nearest_wrong_distance, trained.nearest_wrong_distance, atol=1e-3)


def test_evaluate_unseen_classes(tmp_path: Path) -> None:
    run = train(settings(tmp_path))
    evaluation = evaluate(run)
    assert evaluation.test_N.all()
    items = read_table(run.folder / "items.csv")
    assert sorted(evaluation.dataset.labels) == sorted(items.labels[items.splits == "test"])
    assert list(evaluation.measured) == ["pixels", "untrained", "trained"]
    np.testing.assert_array_equal(evaluation.embeddings_ND, run.embedder().embed(evaluation.dataset.pictures))
    expected = measure(evaluation.embeddings_ND, SearchSet(evaluation.dataset.labels, evaluation.dataset.roles), seed=1)
    written = json.loads((run.folder / "metrics.json").read_text())
    assert written["trained"] == json.loads(json.dumps(expected.as_record()))
    assert written["trained"]["protocol"] == "unseen classes"
    assert written["trained"]["retrieval"]["num_queries"] == 15
    assert written["untrained"]["retrieval"] != written["trained"]["retrieval"]


def test_evaluate_writes_only_when_it_should(tmp_path: Path) -> None:
    run = train(settings(tmp_path))
    file = run.folder / "metrics.json"
    everything = open_split_data(run.config.data, seed=1, all_test=True)
    evaluation = evaluate(run, data=everything, baselines=False)
    assert (len(evaluation.dataset), list(evaluation.measured)) == (40, ["trained"])
    evaluate(run, write=False)
    assert not file.exists()
    assert evaluation.measured["trained"].protocol == "classes seen and unseen"
    assert evaluation.num_trained_classes == run.facts()["num_training_classes"]
    with pytest.raises(InputError, match=r": not the items that .* was trained and split on"):
        evaluate(run, data=everything, baselines=False, write=True)
    assert not file.exists()


def test_item_split_queries_the_training_items(tmp_path: Path) -> None:
    config = settings(tmp_path, split_by="item")
    run = train(config)
    evaluation = evaluate(run, baselines=False)
    assert evaluation.measured["trained"].protocol == "seen classes"
    num_test = int(evaluation.test_N.sum())
    assert len(evaluation.dataset) == 40
    assert num_test == run.facts()["num_test_items"] == 16
    assert run.facts()["num_training_classes"] == run.facts()["num_test_classes"] == 8
    retrieval = evaluation.measured["trained"].retrieval
    assert (retrieval.num_queries, retrieval.num_gallery) == (16, 24)


def test_splits_of_the_table_are_kept_to(tmp_path: Path) -> None:
    names = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    split = {(c, i): names[c] for c in range(NUM_CLASSES) for i in range(NUM_EACH)}
    source = write_rows(save_pictures(tmp_path / "pictures"), split)
    data = open_split_data(settings(tmp_path, source=source).data, seed=0)
    assert sorted(set(data.dataset.labels[data.train_N])) == [f"class{c}" for c in range(4)]
    assert sorted(set(data.dataset.labels[data.test_N])) == ["class6", "class7"]
    assert data.unseen_classes


def test_validation_is_the_test_where_there_is_no_other(tmp_path: Path) -> None:
    split = {(c, i): "validation" if c < 3 else "train" for c in range(NUM_CLASSES) for i in range(NUM_EACH)}
    source = write_rows(save_pictures(tmp_path / "pictures"), split)
    run = train(settings(tmp_path, source=source))
    evaluation = evaluate(run, baselines=False)
    assert sorted(set(evaluation.dataset.labels)) == ["class0", "class1", "class2"]
    assert run.facts()["num_test_items"] == 15


def test_per_class_limit_and_unreadable_pictures(tmp_path: Path) -> None:
    config = settings(tmp_path, source=not_a_picture(tmp_path), max_bad_images=1, per_class=3)
    data = open_split_data(config.data, seed=0)
    assert len(data.dataset) == 24
    assert len(data.dataset.left_out) == 1
    assert "class0" in data.dataset.left_out[0]
    assert train(config).facts()["left_out"] == list(data.dataset.left_out)


def test_versions_name_the_packages_that_decide_a_result() -> None:
    found = mohs.runs.versions()
    assert found["mohs"] == mohs.__version__
    assert {"python", "torch", "torchvision", "timm", "numpy", "numba", "pillow"} <= set(found)


def test_a_table_that_changed_since_training_is_not_measured(tmp_path: Path) -> None:
    config = settings(tmp_path)
    run = train(config)
    folder = Path(config.data.source) / "class-new"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.full((16, 16), 40 * i, dtype=np.uint8)).save(folder / f"{i}.png")
    # The split of the larger set would put classes that were trained on into the test.
    with pytest.raises(InputError, match=r"was trained and split on \(see its items.csv\); restore them, or"):
        evaluate(run)
    assert not (run.folder / "metrics.json").exists()


def test_the_smallest_pictures_can_be_measured(tmp_path: Path) -> None:
    config = settings(tmp_path)
    small = config.model_copy(update={"data": config.data.model_copy(update={"size": 8})})
    assert set(evaluate(train(small)).measured) == {"pixels", "untrained", "trained"}


def test_runs_without_a_name_are_numbered_and_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = settings(tmp_path).model_copy(update={"out": None})
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": "pictures"})})
    folders = [train(config).folder for _ in range(2)]
    assert folders == [Path("runs/pictures-001"), Path("runs/pictures-002")]
    run = Run.open(folders[0].resolve())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert evaluate(run, baselines=False).measured["trained"].protocol == "unseen classes"


def test_plans_of_a_run_say_what_their_indices_count(tmp_path: Path) -> None:
    run = train(settings(tmp_path))
    table = read_table(run.folder / "items.csv")
    num_training = int((table.splits == "train").sum())
    plan = TripletPlan.load(run.folder / "plans" / "segment-000.parquet")
    assert plan.header["num_items"] == num_training > max(plan.anchor.max(), plan.negative.max())
    assert plan.header["mined_num_items"] <= num_training
    assert plan.header["curve"]["curve"] == "constant"
