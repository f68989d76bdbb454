"""What is known of losses fits how they are built and what they cost."""

import re
from pathlib import Path

import pytest

from mohs.settings.config import LossConfig
from mohs.settings.loss_records import LOSSES, OF_PAIRS, LossRecord, find_record
from mohs.training.losses.build import build_loss
from mohs.training.losses.in_batch import IN_BATCH_LOSSES
from mohs.training.losses.library import library_losses
from mohs.training.losses.plan_losses import PLAN_LOSSES

ROOT = Path(__file__).parents[2]


def name_of(record: LossRecord) -> str:
    return record.name


@pytest.mark.parametrize("record", LOSSES, ids=name_of)
def test_each_loss_is_built_in_one_place_and_reads_settings_that_there_are(record: LossRecord) -> None:
    ways = [record in PLAN_LOSSES, record in IN_BATCH_LOSSES, record.library_class in library_losses()]
    assert ways.count(True) == 1
    assert record.reads <= set(LossConfig.model_fields)
    assert (record.margin is not None) == ("margin" in record.reads)
    assert record in PLAN_LOSSES or record.in_batch
    assert find_record(record.name) is record


@pytest.mark.parametrize("record", [record for record in LOSSES if record.log_name], ids=name_of)
def test_a_loss_costs_what_its_record_says_where_all_embeddings_are_the_same(record: LossRecord) -> None:
    cost = build_loss(LossConfig(name=record.name, **({"margin": 0.4} if record.margin else {}))).collapsed_loss(8)
    assert cost == pytest.approx(record.most_stuck(0.4, 8))
    assert any(value.one_point for value in record.stuck_values(0.4, 8))


def test_what_nobody_gave_is_not_guessed() -> None:
    assert [record.most_stuck(None, None) for record in OF_PAIRS] == [0.5, pytest.approx(0.6931, abs=1e-4)]
    assert find_record("infonce").most_stuck(None, None) is None
    assert find_record("triplet").most_stuck(None, 32) is None
    assert find_record("CircleLoss").stuck_values(0.2, 32) == ()


def test_no_file_lists_the_losses_but_their_records() -> None:
    """So that a new loss is a record and a builder, and no test, message or help is to be found and changed."""
    names = {record.name: re.compile(rf"(?<![\w-]){record.name}(?![\w-])") for record in LOSSES}
    listing = []
    for file in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]):
        lines = file.read_text(encoding="utf-8").splitlines()
        for number in range(len(lines)):
            near = "\n".join(lines[number : number + 3])
            if sum(name.search(near) is not None for name in names.values()) > len(LOSSES) // 2:
                listing.append(f"{file.relative_to(ROOT)}:{number + 1}")
    assert listing == []
