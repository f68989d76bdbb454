"""Logs of any library, as columns."""

import math

import numpy as np
import pytest

import mohs
from mohs.doctor.findings import Check, combined, examine
from mohs.doctor.log.evidence import rose
from mohs.doctor.log.training_log import log_of_events, read_training_log
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
    ("header", "field"),
    [
        (name, field)
        for field, names in {
            "loss": "train_loss_epoch train_loss_step Loss/train epoch_loss trainLoss total_loss triplet_loss "
            "train/arcface_loss box_loss avg_loss objective train_loss/dataloader_idx_0",
            "val_loss": "val_loss_epoch eval/loss Loss/val validation-loss test_loss valLoss eval_triplet_loss",
            "accuracy": "train_acc binary_accuracy sparse_categorical_accuracy acc@1",
            "val_accuracy": "metrics/accuracy_top1 val_top1_acc eval_accuracy test_acc eval_cosine_accuracy valAcc",
            "retrieval": "val_mAP mAP@R map_at_r metrics/mAP50(B) recall@1 R@1 val_R@1 recall_at_1 recall1 P@1 val_r1 "
            "precision_at_1 hit@10 hit_rate@5 top-1 Rank1 cmc_rank1 val/recall_at_1/dataloader_idx_0 r_precision "
            "mean_average_precision_at_r val_ndcg@10 mrr test_recall_at_1 val_knn_acc",
            "learning_rate": "lr/pg0 lr-AdamW/pg1 train/learning_rate LR",
            "positive_distance": "train/d_ap pos_dist mean_d_ap",
            "negative_distance": "d_neg dist_an",
            "equal_error_rate": "EER val_eer equal_error_rate eval/EER",
            "clustering": "NMI val/AMI AMI_level0 val_normalized_mutual_info ARI",
        }.items()
        for name in names.split()
    ]
    + [("bright-sun-7 - train/loss", "loss"), ("run - val/loss", "val_loss"), ("Validation Loss", "val_loss")],
)
def test_columns_by_the_names_of_libraries(tmp_path, header, field):
    values = "0.5,1\n0.25,2\n"
    more = "" if field in ("loss", "retrieval") or "acc" in field or "val" in field else "loss"
    log = read(tmp_path, f"{header},{more or 'other'}\n{values}")
    assert getattr(log, field).tolist() == [0.5, 0.25]
    if field == "retrieval":
        assert log.retrieval_name == header


@pytest.mark.parametrize(
    "header",
    [
        "loss_scale",
        "best_loss",
        "grad_norm",
        "time",
        "eval_runtime",
        "eval_samples_per_second",
        "precision",
        "rank",
        "R2",
        "val_f1",
        "lossless",
        "run - train/loss__MAX",
        "loss_std",
        "lr-Adam-momentum",
    ],
)
def test_columns_that_are_no_loss(tmp_path, header):
    log = read(tmp_path, f"loss,{header}\n3,1\n2,7\n")
    assert log.loss.tolist() == [3, 2]
    fields = ("val_loss", "accuracy", "val_accuracy", "learning_rate", "retrieval")
    assert [getattr(log, field) for field in fields] == [None] * 5


def test_what_lightning_writes(tmp_path):
    rows = ["epoch,lr-AdamW,step,train_loss_epoch,train_loss_step,val_acc,val_loss"]
    for epoch in range(6):
        at = 100 * epoch + 99
        rows += [f"{epoch},,{at - 50},,{1 / (epoch + 1)},,", f",1e-3,{at},,,,", f"{epoch},,{at},,,0.{epoch},0.9"]
        rows.append(f"{epoch},,{at},{2 / (epoch + 1)},,,")
    log = read(tmp_path, "\n".join(rows) + "\n")
    # A row of the file is of one logger; what was written at one step stands in one row.
    assert (log.unit, log.position.tolist()) == ("step", [at + k for at in range(49, 600, 100) for k in (0, 50)])
    assert log.loss[1::2].tolist() == [2 / (epoch + 1) for epoch in range(6)]
    assert np.isnan(log.loss[::2]).all()
    assert log.val_accuracy[1::2].tolist() == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert log.learning_rate[1::2].tolist() == [1e-3] * 6


def test_steps_are_read_where_there_are_few_epochs(tmp_path):
    log = read(tmp_path, "step,train_loss_epoch,train_loss_step\n1,,3\n2,,2\n3,2.5,\n4,,1\n")
    np.testing.assert_equal(log.loss, [3, 2, math.nan, 1])


def test_what_hugging_face_writes(tmp_path):
    rows = ["epoch,eval_accuracy,eval_loss,eval_runtime,grad_norm,learning_rate,loss,step,train_loss,train_runtime"]
    rows += ["0.5,,,,1,1e-3,2.0,50,,", "0.5,0.3,1.9,8,,,,50,,", "1.0,,,,1,5e-4,1.0,100,,", "1.0,0.4,1.8,8,,,,100,,"]
    log = read(tmp_path, "\n".join([*rows, "1.0,,,,,,,100,1.5,9"]) + "\n")
    assert (log.unit, log.position.tolist(), log.loss.tolist()) == ("epoch", [0.5, 1.0], [2.0, 1.0])
    assert (log.val_loss.tolist(), log.val_accuracy.tolist()) == ([1.9, 1.8], [0.3, 0.4])


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("scalars.csv", "loss"),
        ("run-exp1-tag-Loss_train.csv", "loss"),
        ("run-.-tag-val_loss.csv", "val_loss"),
        ("val_recall_at_1.csv", "retrieval"),
    ],
)
def test_a_scalar_of_tensorboard(tmp_path, file, field):
    (tmp_path / file).write_text("Wall time,Step,Value\n1.7e9,10,0.5\n1.8e9,20,0.25\n")
    log = read_training_log(tmp_path / file)
    assert (log.unit, log.position.tolist(), getattr(log, field).tolist()) == ("step", [10, 20], [0.5, 0.25])


def test_what_wandb_writes(tmp_path):
    header = "Step,run-1 - train/loss,run-1 - train/loss__MIN,run-1 - train/loss__MAX\n"
    assert read(tmp_path, header + '"1","3","1","5"\n"2","2","0","4"\n').loss.tolist() == [3, 2]
    with pytest.raises(InputError, match=r"columns 'a - loss' and 'b - loss' are both loss; remove one"):
        read(tmp_path, "Step,a - loss,b - loss\n1,3,4\n2,2,3\n")


def test_what_is_nearest_to_what_is_wanted(tmp_path):
    header = "triplet_loss,center_loss,loss,val_loss,test_loss,R@5,mAP,R@1,lr/pg0,lr/pg1\n"
    log = read(tmp_path, header + "1,2,3,4,5,0.5,0.4,0.3,0,1e-3\n1,2,3,4,5,0.6,0.5,0.4,0,1e-4\n")
    assert (log.loss[0], log.val_loss[0], log.retrieval[0]) == (3, 4, 0.3)
    assert log.learning_rate.tolist() == [1e-3, 1e-4]
    with pytest.raises(InputError, match="columns 'triplet_loss' and 'softmax_loss' are both loss; remove one"):
        read(tmp_path, "triplet_loss,softmax_loss\n1,2\n1,2\n")


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ("train_loss,valid_loss,accuracy", "val_accuracy"),  # fastai
        ("loss,val_loss,accuracy", "accuracy"),  # Keras
        ("train_loss,test_loss,acc", "val_accuracy"),
    ],
)
def test_whose_an_accuracy_is(tmp_path, header, field):
    assert getattr(read(tmp_path, header + "\n3,2,0.5\n2,1,0.6\n"), field).tolist() == [0.5, 0.6]


@pytest.mark.parametrize(
    "cell", ["nan", "NaN", "-nan", "-nan(ind)", "nan(snan)", "1.#QNAN", "-1.#IND", "#NUM!", "+nan"]
)
def test_a_number_that_broke_is_not_an_empty_cell(tmp_path, cell):
    assert read(tmp_path, f"loss\n1\n{cell}\n").loss.tolist() == [1, math.inf]


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity", "1.#INF", "-1.#INF00"])
def test_a_number_that_has_no_end(tmp_path, cell):
    assert np.isinf(read(tmp_path, f"loss\n1\n{cell}\n").loss).tolist() == [False, True]


@pytest.mark.parametrize("cell", ["", " ", "None", "null", "NA", "n/a", "-"])
def test_a_number_that_was_not_written(tmp_path, cell):
    np.testing.assert_equal(read(tmp_path, f"loss,val_loss\n1,1\n0.9,{cell}\n").val_loss, [1, math.nan])


def test_a_validation_every_third_epoch_did_not_break(tmp_path):
    log = read(tmp_path, "loss,val_loss\n5,nan\n4,nan\n3,0.5\n2,nan\n1,nan\n1,0.4\n")
    np.testing.assert_equal(log.val_loss, [math.nan, math.nan, 0.5, math.nan, math.nan, 0.4])
    assert np.isinf(read(tmp_path, "loss,val_loss\n5,0.4\n4,nan\n3,nan\n2,nan\n").val_loss[1:]).all()


@pytest.mark.parametrize(
    ("text", "unit", "position"),
    [
        ("epoch,step,loss\n1,5,1\n1,10,1\n2,15,1\n", "step", [5, 10, 15]),
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
        ("loss,train_loss\n1,1\n1,2\n", ["columns 'loss' and 'train_loss' are both loss; remove one"]),
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
        tmp_path / "trainer_state.json": "a log is a CSV file; write it as CSV",
    }.items():
        with pytest.raises(InputError) as error:
            read_training_log(path)
        assert error.value.problems == (f"{path}: {line}",)


def test_a_file_is_diagnosed_as_it_is_read(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,loss\n1,0.5\n2,0.4\n3,nan\n")
    found = mohs.diagnose(log=tmp_path / "log.csv")
    assert [each.cause for each in found.findings] == ["not-finite"]
    assert found.first.what == "loss is NaN or Inf from epoch 3 on"
    assert found.not_checked["dead-positives"] == "no column 'positive_distance'; no embeddings with labels"
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
    assert log.lower_rate() == {"training.learning_rate": 0.01}
    assert log.lacks("accuracy", "val_loss", "loss") == "no column 'val_loss'"
    empty = log_of(accuracy=[0.64] * 5, val_accuracy=[np.nan] * 5, learning_rate=[np.nan] * 5)
    assert (empty.last_accuracy(), empty.peak_rate()) == (pytest.approx(0.64), None)
    assert log_of(loss=[1.0, 1.0], learning_rate=[0.0, 0.0]).lower_rate() == {}


def test_every_reason_is_kept_and_none_where_a_cause_was_looked_for():
    checks = [Check("swapped", lambda: None, "no log"), Check("swapped", lambda: None, "no pairs")]
    checks += [Check("collapsed", lambda: None, "no log"), Check("collapsed", lambda: None)]
    assert examine(checks).not_checked == {"swapped": "no log; no pairs"}
    both = combined([examine(checks), examine([Check("swapped", lambda: None, "no embeddings")])])
    assert both.not_checked == {"swapped": "no log; no pairs; no embeddings"}


@pytest.mark.parametrize(
    "names", [("s_ap", "s_an"), ("pos_sim", "neg_sim"), ("train/positive_similarity", "train/negative_similarity")]
)
def test_similarities_are_read_as_cosine_distances(tmp_path, names):
    log = read(tmp_path, f"loss,{','.join(names)}\n1,0.75,-0.25\n0.5,1,\n")
    assert log.positive_distance.tolist() == [0.25, 0.0]
    assert log.negative_distance[0] == 1.25
    assert np.isnan(log.negative_distance[1])
    products = read(tmp_path, f"loss,{','.join(names)}\n1,14,3\n0.5,20,2\n")
    assert (products.positive_distance, products.negative_distance) == (None, None)


def test_similarities_that_part_are_progress(tmp_path):
    rows = "".join(f"0.2,{0.3 + t / 50},{0.3 - t / 90}\n" for t in range(30))
    assert rose(read(tmp_path, "loss,s_ap,s_an\n" + rows)).says == "negatives moved away from positives"
    # The wrong way round, with a loss that falls.
    rows = "".join(f"{1 / (t + 1)},{0.6 - t / 50},{0.1 + t / 50}\n" for t in range(30))
    found = mohs.diagnose(log=read(tmp_path, "loss,s_ap,s_an\n" + rows))
    assert "swapped" in {each.cause for each in found.findings}


@pytest.mark.parametrize(
    ("name", "first", "last", "says"),
    [("EER", 0.4, 0.1, "1 − EER rose"), ("NMI", 0.3, 0.7, "agreement of clusters rose"), ("AMI", -0.01, 0.4, "agree")],
)
def test_other_measures_of_progress(tmp_path, name, first, last, says):
    def log(one, other):
        values = np.linspace(one, other, 20)
        return read(tmp_path, f"loss,{name}\n" + "".join(f"0.2,{value}\n" for value in values))

    assert rose(log(first, last)).says.startswith(says)
    assert rose(log(last, max(0.0, first))).holds is None


def test_clusters_that_stay_are_no_chance(tmp_path):
    rows = "".join(f"{1 / (t + 1)},0.7\n" for t in range(20))
    log = read(tmp_path, "loss,NMI\n" + rows)
    assert "at-chance" not in {each.cause for each in mohs.diagnose(log=log).findings}
    poor = read(tmp_path, "loss,EER\n" + rows.replace(",0.7", ",0.5"))
    assert "at-chance" in {each.cause for each in mohs.diagnose(log=poor).findings}
