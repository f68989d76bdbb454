"""Cases of the kinds that were reported, tried afterwards: other names, formats, lengths and evidence."""

from pathlib import Path

import numpy as np
import pytest

import mohs
from mohs.data.rows import read_rows
from mohs.doctor.log.columns import meaning
from mohs.doctor.log.training_log import read_training_log
from mohs.errors import InputError

LOSS = [f"{0.2 + 0.5 * 0.9**i:.4f}" for i in range(30)]


def noisy(value: float, num: int, noise: float, *, seed: int = 0) -> np.ndarray:
    return value * (1 + np.random.default_rng(seed).normal(0, noise, num))


def fall(first: float, last: float, num: int) -> np.ndarray:
    return last + (first - last) * np.exp(-4 * np.arange(num) / num)


def write(path: Path, **columns: object) -> Path:
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))
    return path


def found(**given: object) -> dict[str, str]:
    diagnosis = mohs.diagnose(**given)
    return {finding.cause: finding.severity for finding in diagnosis.findings}


PLAIN = "epoch,loss\n" + "".join(f"{i},{loss}\n" for i, loss in enumerate(LOSS))


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", ";").replace(".", ","),
        PLAIN.replace(",", "\t"),
        "# my run\n# rate 1e-3, margin 0.2\n" + PLAIN,
        "# " + PLAIN,
        PLAIN.replace("15,", "epoch,loss\n15,", 1),
        PLAIN.replace("\n", ",\n").replace("loss,", "loss", 1),
    ],
    ids=["semicolons", "decimal commas", "tabs", "comments", "numpy's header", "header again", "commas at the end"],
)
def test_the_same_table_in_other_forms(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    log = read_training_log(tmp_path / "log.csv")
    assert log.loss is not None
    np.testing.assert_array_equal(log.loss, [float(loss) for loss in LOSS])


def test_a_first_column_called_hash_is_no_comment(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("#,file,class\n1,a.png,x\n")
    assert read_rows(tmp_path / "a.csv") == ({"#": ["1"], "file": ["a.png"], "class": ["x"]}, [2])


def test_thousands_are_not_taken_for_decimals(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch;loss\n1;1,250\n2;1,125\n")
    with pytest.raises(InputError, match=r"row 2: column 'loss': '1,250' is not a number"):
        read_training_log(tmp_path / "log.csv")


def test_a_cell_in_percent(tmp_path: Path) -> None:
    log = read_training_log(write(tmp_path / "log.csv", loss=[0.5, 0.4], val_acc=["0.9%", "1.2%"]))
    assert log.val_accuracy is not None
    np.testing.assert_allclose(log.val_accuracy, [0.009, 0.012])


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("pos_pair_dist", "positive_distance"),
        ("d(a,p)", "positive_distance"),
        ("train/mean_d_ap", "positive_distance"),
        ("hardest_negative_distance", "negative_distance"),
        ("d_n_loss", "loss"),
        ("val_ap", None),
        ("val_auroc", "auc"),
        ("pr_auc", None),
        ("precision_at_1_level0", "retrieval"),
        ("mean_average_precision_at_r_level0", "retrieval"),
        ("val_tar@far=0.001", "retrieval"),
    ],
)
def test_names_of_columns(name: str, field: str | None) -> None:
    told = meaning(name)
    assert (None if told is None else told.field) == field


def test_an_auc_that_rises_outranks_a_loss_at_the_margin(tmp_path: Path) -> None:
    loss, auc = noisy(0.2, 40, 0.003), 1 - fall(0.4, 0.05, 40)
    given = {"loss_name": "triplet", "margin": 0.2}
    assert found(log=write(tmp_path / "log.csv", loss=loss, val_auc=auc), **given) == {}
    assert found(log=write(tmp_path / "log.csv", loss=loss, val_auc=noisy(0.5, 40, 0.01)), **given)


def test_a_late_rise_to_the_margin_is_seen_and_a_late_fall_to_it_is_not(tmp_path: Path) -> None:
    rest = noisy(0.2, 20, 0.001)
    late = np.r_[fall(0.2, 0.05, 80), rest]
    given = {"loss_name": "triplet", "margin": 0.2}
    assert found(log=write(tmp_path / "log.csv", loss=late), **given) == {"collapsed": "warning"}
    slow = np.r_[np.linspace(0.9, 0.21, 80), rest]
    assert found(log=write(tmp_path / "log.csv", loss=slow), **given) == {}


@pytest.mark.parametrize("last", [2.2, 2.9, 4.0])
def test_a_loss_without_a_name_that_ends_at_three_times_its_start(tmp_path: Path, last: float) -> None:
    loss = np.r_[noisy(0.7, 10, 0.02), np.linspace(0.7, last, 50)]
    assert found(log=write(tmp_path / "log.csv", loss=loss)) == {"learning-rate-too-high": "warning"}
    recall = 1 - fall(0.8, 0.3, 60)
    assert found(log=write(tmp_path / "log.csv", loss=loss, val_recall_at_1=recall)) == {}


def test_steps_that_scatter_by_a_tenth_and_stand(tmp_path: Path) -> None:
    assert found(log=write(tmp_path / "log.csv", loss=noisy(0.43, 3000, 0.1))) == {"stalled": "warning"}
    assert found(log=write(tmp_path / "log.csv", loss=noisy(0.43, 3000, 0.1) * np.linspace(1.1, 1, 3000))) == {}


def test_a_small_loss_of_few_active_triplets_is_idle(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", loss=[0.001] * 60, active_fraction=[0.003] * 60)
    assert "nothing-active" in found(log=log, loss_name="triplet", margin=0.2)


def test_a_loss_that_falls_while_held_out_pairs_stay_at_chance(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", loss=fall(0.3, 0.01, 60), val_acc=noisy(0.5, 60, 0.01))
    assert found(log=log, loss_name="triplet", margin=0.2) == {"at-chance": "warning"}
    log = write(tmp_path / "log.csv", loss=fall(0.3, 0.01, 60), val_acc=noisy(0.9, 60, 0.01))
    assert found(log=log, loss_name="triplet", margin=0.2) == {}


def test_embeddings_at_chance_prove_what_a_loss_says(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(40), 4)
    noise_ND = np.random.default_rng(0).normal(size=(160, 32))
    given = {"loss_name": "triplet", "margin": 0.2, "embeddings": noise_ND, "labels": labels}
    rests = mohs.diagnose(log=write(tmp_path / "log.csv", loss=noisy(0.2, 40, 0.001)), **given)
    assert [(each.cause, each.severity) for each in rests.findings[:2]] == [
        ("stalled", "error"),
        ("at-chance", "error"),
    ]
    idle = mohs.diagnose(log=write(tmp_path / "log.csv", loss=[0.0] * 40), **given)
    assert idle.first is not None
    assert (idle.first.cause, idle.first.severity) == ("nothing-active", "error")


def scores(same: float, different: float, noise: float, *, num: int = 200, share: float = 0.5) -> dict[str, np.ndarray]:
    same_P = np.arange(num) < share * num
    value_P = np.where(same_P, same, different) + np.random.default_rng(0).normal(0, noise, num)
    return {"same": same_P.astype(int), "value": value_P}


def test_pairs_at_chance(tmp_path: Path) -> None:
    pairs = scores(1.0, 1.0, 0.1)
    path = write(tmp_path / "pairs.csv", same=pairs["same"], distance=pairs["value"])
    assert found(pairs=path) == {"at-chance": "error"}
    # Twenty pairs do not show it.
    few = scores(1.0, 1.0, 0.1, num=20)
    assert found(pairs=write(tmp_path / "few.csv", same=few["same"], distance=few["value"])) == {}


@pytest.mark.parametrize(("threshold", "causes"), [(0.05, {"fixed-threshold": "error"}), (0.65, {})])
def test_a_threshold_that_finds_none_of_few_pairs_of_one_class(
    tmp_path: Path, threshold: float, causes: dict[str, str]
) -> None:
    pairs = scores(0.3, 1.0, 0.07, num=2000, share=0.05)
    path = write(tmp_path / "pairs.csv", same=pairs["same"], distance=pairs["value"])
    assert found(pairs=path, threshold=threshold) == causes


@pytest.mark.parametrize("name", ["cosine_distance", "Euclidean Distance", "l2", "sq_dist"])
def test_names_of_distances(tmp_path: Path, name: str) -> None:
    pairs = scores(0.3, 1.0, 0.1)
    assert found(pairs=write(tmp_path / "a.csv", **{"is_similar": pairs["same"], name: pairs["value"]})) == {}
    turned = found(pairs=write(tmp_path / "b.csv", **{"is_duplicate": 1 - pairs["same"], name: pairs["value"]}))
    assert turned == {"swapped": "error"}


def test_words_for_pairs_and_a_cell_without_a_number(tmp_path: Path) -> None:
    pairs = scores(0.9, 0.2, 0.1)
    words = np.where(pairs["same"] == 1, "positive", "negative")
    assert found(pairs=write(tmp_path / "a.csv", label=words, cos_sim=pairs["value"])) == {}
    broken = [*pairs["value"][:-1], "nan"]
    with pytest.raises(InputError, match=r"row 201: column 'cos_sim': 'nan' is not a finite number"):
        found(pairs=write(tmp_path / "b.csv", label=words, cos_sim=broken))
