"""What TensorBoard reads is what the event log says, of a run that was stopped and taken up, too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mohs.artefacts import read_events
from mohs.data.dataset import Dataset
from mohs.errors import InputError
from mohs.runs import train_on
from mohs.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training.events import Event, GuardEvent, StepEvent, TensorBoard, require_tensorboard
from mohs.training.run_inputs import SplitData

pytest.importorskip("tensorboard")


def settings(out: Path) -> RunConfig:
    training = TrainingConfig(
        num_triplets=60, batch_triplets=15, num_segments=2, device="cpu", checkpoint_s=1e-9, tensorboard=True
    )
    model = ModelConfig(widths=(8, 16), hidden_dim=32, embedding_dim=16)
    return RunConfig(out=str(out), data=DataConfig(size=16, channels=1), model=model, training=training)


def split(glyphs: Dataset) -> SplitData:
    test_N = glyphs.labels_id >= 18
    return SplitData(glyphs, ~test_N, test_N, True)


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0}).Reload()


def check(folder: Path) -> None:
    board, events = read(folder / "tensorboard"), read_events(folder / "events.jsonl")
    steps = [event for event in events if event["event"] == "step"]
    segments = [event for event in events if event["event"] == "segment"]
    assert len(steps) == 4
    assert len(segments) == 2
    for name in ("loss", "spread", "active_fraction", "gradient_norm", "learning_rate", "pictures_per_s"):
        found = {point.step: point.value for point in board.Scalars(f"train/{name}")}
        assert found == {event["triplets"]: pytest.approx(event[name], rel=1e-6) for event in steps}, name
    found = {point.step: point.value for point in board.Scalars("hardness/asked")}
    assert found == {event["triplets"]: pytest.approx(event["hardness"], rel=1e-6) for event in steps}
    for name in ("recall", "spread", "effective_rank"):
        found = {point.step: point.value for point in board.Scalars(f"bank/{name}")}
        assert found == {event["triplets"]: pytest.approx(event[name], rel=1e-6) for event in segments}, name
    for name in ("asked", "achieved"):
        for point, event in zip(board.Histograms(f"hardness/{name} in segment"), segments, strict=True):
            values = event[f"hardness_{name}"]
            shape = point.histogram_value
            assert point.step == event["triplets"]
            assert (shape.num, shape.min, shape.max) == (len(values), min(values), max(values))
            assert shape.sum == pytest.approx(sum(values))
            assert sum(shape.bucket) == len(values)


def test_the_board_says_what_the_log_says(glyphs: Dataset, tmp_path: Path) -> None:
    run = train_on(split(glyphs), settings(tmp_path / "run"))
    check(run.folder)
    [config] = (run.folder / "tensorboard").glob("projector_config.pbtxt")
    embeddings = np.loadtxt(run.folder / "tensorboard/00000/pictures/tensors.tsv", delimiter="\t")
    rows = [line.split("\t") for line in (config.parent / "00000/pictures/metadata.tsv").read_text().splitlines()]
    test = glyphs.take(split(glyphs).test_N)
    np.testing.assert_allclose(embeddings, run.embedder().embed(test.pictures), atol=1e-6)
    assert rows == [["class", "file"], *map(list, zip(test.labels, test.table.files, strict=True))]
    sprite = np.asarray(Image.open(config.parent / "00000/pictures/sprite.png"))
    side = int(np.ceil(np.sqrt(len(test))))
    assert sprite.shape == (16 * side, 16 * side, 3)
    for i in (0, 7, len(test) - 1):
        y, x = divmod(i, side)
        here = sprite[16 * y : 16 * y + 16, 16 * x : 16 * x + 16].astype(int)
        assert np.abs(here - test.pictures[i]).max() <= 1
    assert config.read_text().count("embeddings {") == 1


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_run_that_is_taken_up_shows_each_step_once(glyphs: Dataset, tmp_path: Path, stop_at: int) -> None:
    config = settings(tmp_path / "run")

    def stop(event: Event) -> None:
        if isinstance(event, StepEvent) and event.step == stop_at:
            raise Stopped

    with pytest.raises(Stopped):
        train_on(split(glyphs), config, resume=True, listeners=[stop])
    run = train_on(split(glyphs), config, resume=True)
    check(run.folder)
    points = [point.step for point in read(run.folder / "tensorboard").Scalars("train/loss")]
    assert points == [15, 30, 45, 60]


def test_what_the_guard_did_is_text(tmp_path: Path) -> None:
    with TensorBoard(tmp_path / "board") as board:
        board(GuardEvent(3, 45, "collapse", "recall", "it fell", "cut-rate", {"recall": 0.1}))
    [point] = read(tmp_path / "board").Tensors("guard/text_summary")
    assert point.step == 45
    assert point.tensor_proto.string_val == [b"collapse (recall): it fell; action: cut-rate"]


def test_without_the_package_one_line_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, glyphs: Dataset, tmp_path: Path
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    problem = (
        r"training.tensorboard: the package tensorboard is not installed; install it with pip install 'mohs\[track\]', "
        "or leave the setting out"
    )
    with pytest.raises(InputError, match=problem):
        require_tensorboard()
    with pytest.raises(InputError, match=problem):
        train_on(split(glyphs), settings(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
