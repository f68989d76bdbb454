"""Logs of any library, as columns."""

import math

import numpy as np
import pytest

import mohs
from mohs.diagnosis.training_log import log_of_events, read_training_log
from mohs.errors import InputError

NO_LOSS = "columns 'a', 'b': none is a loss or an accuracy; name one 'loss', 'val_loss', 'accuracy' or 'val_accuracy'"
NO_NUMBER = "is not a number; correct it or empty it"


def read(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    return read_training_log(tmp_path / "log.csv")


def test_columns_by_their_usual_names(tmp_path):
    header = "Epoch,Train Loss,val-loss,acc,val.accuracy,LR,d_ap,d_an,active,spread,other\n"
    log = read(tmp_path, header + "1,1,2,0.3,0.4,5,6,7,0.8,0.9,x\n2,1,2,0.3,0.4,5,6,7,0.8,0.9,y\n")
    names = ("loss", "val_loss", "accuracy", "val_accuracy", "learning_rate")
    names += ("positive_distance", "negative_distance", "active_fraction", "spread")
    assert [getattr(log, name)[1] for name in names] == [1, 2, 0.3, 0.4, 5, 6, 7, 0.8, 0.9]
    assert (log.unit, log.position.tolist(), len(log)) == ("epoch", [1, 2], 2)
    assert log.source == str(tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("text", "unit", "position"),
    [
        ("epoch,loss\n0,1\n1,1\n", "epoch", [0, 1]),
        ("step,loss\n10,1\n20,1\n", "step", [10, 20]),
        ("iteration,loss\n10,1\n20,1\n", "step", [10, 20]),
        ("epoch,loss\n1,1\n2,1\n0,1\n", "row", [1, 2, 3]),  # written to twice
        ("epoch,loss\n1,1\n1,1\n", "row", [1, 2]),
        ("epoch,loss\n1,1\n,1\n", "row", [1, 2]),
        ("loss\n1\n1\n", "row", [1, 2]),
    ],
)
def test_what_a_row_is(tmp_path, text, unit, position):
    log = read(tmp_path, text)
    assert (log.unit, log.position.tolist()) == (unit, position)


def test_empty_cells_and_numbers_that_broke(tmp_path):
    log = read(tmp_path, "loss,val_loss,d_ap,acc\n1,,1,\nNaN,0.5,nan,nan\ninf,nan,inf,0.5\n-nan, ,2,0.7\n")
    np.testing.assert_equal(log.loss, [1, math.inf, math.inf, math.inf])
    np.testing.assert_equal(log.val_loss, [math.nan, 0.5, math.inf, math.nan])
    np.testing.assert_equal(log.positive_distance, [1, math.nan, math.nan, 2])
    np.testing.assert_equal(log.accuracy, [math.nan, math.nan, 0.5, 0.7])


def test_accuracies_in_percent(tmp_path):
    log = read(tmp_path, "acc,val_acc\n0.5,0.5\n97,1\n")
    assert (log.accuracy.tolist(), log.val_accuracy.tolist()) == ([0.005, 0.97], [0.5, 1.0])


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("loss,train_loss\n1,1\n1,1\n", ["columns 'loss' and 'train_loss' are both loss; remove one"]),
        ("a,b\n1,1\n1,1\n", [NO_LOSS]),
        ("loss\n1\n", ["1 rows; a log needs 2 or more"]),
        ("loss\n", ["0 rows; a log needs 2 or more"]),
        (
            "loss,lr\n1,fast\nx,1\n",
            [f"row 3: column 'loss': 'x' {NO_NUMBER}", f"row 2: column 'lr': 'fast' {NO_NUMBER}"],
        ),
        ("acc\n0.5\n-0.1\n", ["accuracy is neither in [0, 1] nor in percent; correct it or leave it out"]),
        ("acc\n0.5\n101\n", ["accuracy is neither in [0, 1] nor in percent; correct it or leave it out"]),
        ("", ["empty file; write a header with 'file,class' and a row for each picture"]),
    ],
)
def test_logs_that_cannot_be_read(tmp_path, text, lines):
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert error.value.problems == tuple(f"{tmp_path}/log.csv: {line}" for line in lines)


def test_places_without_a_log(tmp_path):
    for path, line in {
        tmp_path / "none.csv": "no such file; check the path",
        tmp_path: "a folder; give a CSV file (a run folder needs no --log)",
        tmp_path / "log.parquet": "a log is a CSV file; write it as CSV",
    }.items():
        with pytest.raises(InputError) as error:
            read_training_log(path)
        assert error.value.problems == (f"{path}: {line}",)


def test_a_file_is_diagnosed_as_it_is_read(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,loss\n1,0.5\n2,0.4\n3,nan\n")
    found = mohs.diagnose(log=tmp_path / "log.csv")
    assert [each.cause for each in found.findings] == ["not-finite"]
    assert found.first.what == "loss is NaN or Inf from epoch 3 on"
    assert found.not_checked["dead-positives"] == "no embeddings with labels"
    assert found.not_checked["nothing-active"] == "no column 'active_fraction' and no margin"
    assert "overfitting" in found.not_checked
    assert "nothing-active" in mohs.diagnose(log=tmp_path / "log.csv", margin=0.2).checked


def test_steps_of_a_run():
    def step(number, **values):
        return {"event": "step", "step": number, "num_steps": 9, "loss": 0.5, "spread": 0.9, **values}

    events = [{"event": "segment"}, step(1, negative_distance=None), step(2, negative_distance=1.0, loss=0.4)]
    log = log_of_events(events, source="run")
    assert (log.unit, log.position.tolist(), log.loss.tolist()) == ("step", [1, 2], [0.5, 0.4])
    np.testing.assert_equal(log.negative_distance, [math.nan, 1.0])
    assert (log.val_loss, log.positive_distance) == (None, None)
    assert log_of_events(events[:2], source="run") is None
    in_batch = [step(number, negative_distance=None) for number in (1, 2, 3)]
    assert log_of_events(in_batch, source="run").negative_distance is None


def test_what_a_log_says_of_itself(log_of):
    log = log_of(accuracy=[0.5] * 30, val_accuracy=[0.5] * 27 + [0.6, 0.7, 0.8], learning_rate=[0.1] * 29 + [np.nan])
    assert log.last_accuracy() == pytest.approx(0.7)
    assert log.learned()
    assert log.lower_rate() == {"training.learning_rate": 0.01}
    assert log.lacks("accuracy", "val_loss", "loss") == "no column 'val_loss'"
    empty = log_of(accuracy=[0.64] * 5, val_accuracy=[np.nan] * 5, learning_rate=[np.nan] * 5)
    assert (empty.last_accuracy(), empty.learned(), empty.peak_rate()) == (pytest.approx(0.64), False, None)
    assert log_of(loss=[1.0, 1.0], learning_rate=[0.0, 0.0]).lower_rate() == {}
