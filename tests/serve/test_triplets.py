"""The triplets of a run: in an order, of a class, with pictures, and marked."""

import csv
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from mohs.artefacts import read_events
from mohs.data.dataset import open_dataset
from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.plan import TripletPlan
from mohs.runs import Run
from mohs.serve.run_plans import read_run_plans
from mohs.serve.settings import read_settings
from mohs.serve.triplets import create_run_app
from mohs.sums import read_summed, write_summed
from mohs.training.false_negatives import read_review_list


@pytest.fixture
def walked(client_of, run):
    return client_of(run, create_run_app)


@pytest.fixture(scope="module")
def plans(run):
    return read_run_plans(run)


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def walk(client, **params):
    answer = client.get("/triplets", params={"num": 100, **params})
    assert answer.status_code == 200
    return answer.json()["triplets"]


def test_every_triplet_is_told_as_it_was_trained_on(walked, run):
    rows = rows_of(run / "items.csv")
    trained = [(row["file"].rpartition("/")[2], row["class"]) for row in rows if row["split"] == "train"]
    loss = Run.open(run).config.loss
    segments = [TripletPlan.load(file) for file in sorted((run / "plans").iterdir())]
    steps = [event for event in read_events(run / "events.jsonl") if event["event"] == "step"]
    told = walk(walked)
    assert [each["triplet"] for each in told] == list(range(60))
    expected = [(s, t) for s, plan in enumerate(segments) for t in range(len(plan))]
    for each, (s, t) in zip(told, expected, strict=True):
        plan = segments[s]
        assert each["segment"] == s
        for name in ("anchor", "positive", "negative"):
            item = int(getattr(plan, name)[t])
            assert each[name] == {"item": item, "file": trained[item][0], "class": trained[item][1]}
        for ours, column in (("asked_hardness", "hardness"), ("achieved_hardness", "achieved_hardness")):
            assert each[ours] == pytest.approx(float(getattr(plan, column)[t]))
        positive, negative = float(plan.anchor_positive_distance[t]), float(plan.anchor_negative_distance[t])
        assert (each["anchor_positive_distance"], each["anchor_negative_distance"]) == (positive, negative)
        # The loss is on squared distances.
        assert each["active_when_mined"] == (positive**2 - negative**2 + loss.margin > 0)
        step = next(step for step in steps if step["triplets"] > each["triplet"])
        assert each["batch_active_fraction"] == step["active_fraction"]
    assert {each["active_when_mined"] for each in told} == {True, False}


def test_orders_and_classes(walked):
    told = {order: walk(walked, order=order) for order in ("time", "hardest", "easiest", "nearest")}
    hardness = [each["achieved_hardness"] for each in told["hardest"]]
    assert hardness == sorted(hardness, reverse=True) != [each["achieved_hardness"] for each in told["time"]]
    assert [each["achieved_hardness"] for each in told["easiest"]] == sorted(hardness)
    distances = [each["anchor_negative_distance"] for each in told["nearest"]]
    assert distances == sorted(distances)
    label = told["time"][7]["negative"]["class"]
    of_class = walk(walked, order="hardest", **{"class": label})
    assert 0 < len(of_class) < 60
    assert of_class == [
        each for each in told["hardest"] if label in (each["anchor"]["class"], each["negative"]["class"])
    ]
    page = walked.get("/triplets", params={"order": "hardest", "start": 50, "num": 7}).json()
    assert (page["num_triplets"], page["start"]) == (60, 50)
    assert page["triplets"] == told["hardest"][50:57]
    assert walk(walked, start=60) == []
    assert walked.get("/classes", params={"contains": "RING 1"}).json()[:1] == ["ring 1"]
    assert walked.get("/classes", params={"contains": "nothing"}).json() == []
    assert len(walked.get("/classes").json()) == 20
    assert walk(walked, **{"class": "ring"}) == []


def test_pictures_are_as_the_network_saw_them(walked, plans):
    small = np.asarray(Image.open(io.BytesIO(walked.get("/pictures/5").content)))
    assert np.array_equal(small, plans.picture(5))
    assert small.shape == (16, 16, 3)
    large = Image.open(io.BytesIO(walked.get("/pictures/5?large=true").content))
    assert large.size == (512, 512)
    assert walked.get(f"/pictures/{len(plans.item_M)}").status_code == 404
    assert walked.get("/pictures/-1").status_code == 422
    assert walked.get("/pictures/..%2Fconfig.json").status_code in (404, 422)


def test_what_is_marked_is_a_review_list_that_training_reads(walked, products, tmp_path):
    one, other = [each for each in walk(walked) if each["anchor"]["class"] != each["negative"]["class"]][:2]
    review, table = tmp_path / "review.csv", open_dataset(products / "shop.csv", policy=ImagePolicy(size=16)).table
    for each in (one, other):
        assert walked.post("/feedback", json={"triplet": each["triplet"], "verdict": "same"}).status_code == 201
    [first, _] = rows_of(review)
    assert (first["file"], first["other"], first["verdict"]) == (one["anchor"]["file"], one["negative"]["file"], "same")
    assert (first["class"], first["other_class"]) == (one["anchor"]["class"], one["negative"]["class"])
    assert float(first["distance"]) == pytest.approx(one["anchor_negative_distance"], rel=1e-4)
    found = {frozenset(pair) for pair in read_review_list(review, table.files).tolist()}
    files = [frozenset((each["anchor"]["file"], each["negative"]["file"])) for each in (one, other)]
    assert {frozenset(table.files[item] for item in pair) for pair in found} == set(files)
    # Taken back, it is a negative again, and the page says what counts.
    walked.post("/feedback", json={"triplet": one["triplet"], "verdict": "different"})
    assert walk(walked)[one["triplet"]]["verdict"] == "different"
    assert walk(walked)[other["triplet"]]["verdict"] == "same"
    assert len(read_review_list(review, table.files)) == 2
    assert walked.post("/feedback", json={"triplet": 60, "verdict": "same"}).status_code == 404
    for wrong in ({"verdict": "maybe"}, {"triplet": True}, {"triplet": "7"}, {"triplet": 7.5}, {"triplet": -1}):
        said = {"triplet": 0, "verdict": "same", **wrong}
        assert walked.post("/feedback", json=said).status_code == 422, wrong
    assert walked.post("/feedback", json={"triplet": 7.0, "verdict": "different"}).status_code == 201


def test_what_is_not_known_is_not_told(client_of, in_batch_run):
    client = client_of(in_batch_run, create_run_app)
    about = client.get("/about").json()
    assert (about["loss"], about["in_batch"], about["distances_tell_active"]) == ("infonce", True, False)
    assert (about["num_triplets"], about["note"]) == (60, "")
    assert {each["active_when_mined"] for each in walk(client)} == {None}
    assert all(0 <= each["batch_active_fraction"] <= 1 for each in walk(client))


def test_the_limits_are_those_of_every_service(client_of, run):
    client = client_of(run, create_run_app, max_body_bytes=100)
    page = client.get("/")
    assert "Triplets of a run" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert client.get("/health", headers={"host": "elsewhere.example"}).status_code == 400
    assert client.post("/feedback", content=b"x" * 101).status_code == 413
    said = {"triplet": 0, "verdict": "same"}
    assert client.post("/feedback", json=said, headers={"origin": "http://elsewhere.example"}).status_code == 403
    assert 'mohs_refused_total{reason="origin"} 1.0' in client.get("/metrics").text


def test_a_run_that_cannot_be_walked_through_is_one_line(run, products, tmp_path):
    def told(folder, **settings):
        with pytest.raises(InputError) as caught:
            create_run_app(folder, read_settings(settings))
        return str(caught.value)

    assert told(products) == f"{products}: not a run folder (no config.json); give one made by 'mohs train'"
    begun = tmp_path / "begun"
    shutil.copytree(run, begun)
    (begun / "run.json").unlink()
    (begun / "events.jsonl").unlink()
    unfinished = read_run_plans(begun)
    assert np.isnan(unfinished.batch_active_fraction_T).all()
    for file in (begun / "plans").iterdir():
        file.unlink()
    assert told(begun) == f"{begun}: the run has no plan yet; wait for its first segment"
    # A list of another form: rows with a verdict would be read as something else.
    suspected = tmp_path / "suspected.csv"
    suspected.write_text("file,other,class,other_class,distance,positive_distance,segment\n")
    line = "has the columns 'file,other,class,other_class,distance,positive_distance,segment', not those of feedback"
    assert told(run, review_list=str(suspected)) == f"{suspected}: {line}; give another file with --review"
    other = tmp_path / "other"
    shutil.copytree(run, other)
    [plan, *_] = sorted((other / "plans").iterdir())
    TripletPlan.load(plan).with_header({"data_fingerprint": "0"}).save(plan)
    changed = (
        f"{plan}: damaged, or changed since it was written: SHA-256 is not the one in run.json; copy or make it again"
    )
    assert told(other) == changed
    write_summed(other / "run.json", read_summed(other / "run.json") | {"files": {}})
    source = products / "shop.csv"
    problem = f"not the items that {other} was trained on (see its items.csv)"
    assert told(other) == f"{source}: {problem}; restore them"
