"""Settings that change nothing under the others, said before a run and not found out after it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import final

from mohs.errors import Problem
from mohs.settings.config import RunConfig
from mohs.settings.loss_records import LOSSES, listed

__all__ = ["when_it_matters", "without_effect"]


def without_effect(config: RunConfig, given: Collection[str]) -> list[Problem]:
    """Return a problem for each setting, "section.name" in `given`, that has no effect under the other settings.

    Settings that a loss does not read are not among them but for its margin: such a loss is an error
    (`mohs.training.losses.build.check_loss`), unless they are at their default.

    >>> without_effect(RunConfig(), ["training.momentum", "training.warmup"])
    ["training.momentum: 0.9 has no effect with training.optimizer 'auto'; it is of sgd"]
    """
    problems = []
    for rule in _rules(config):
        if rule.has_effect:
            continue
        for name in rule.names.split():
            if name in given:
                section, _, last = name.partition(".")
                value = getattr(getattr(config, section), last)
                problems.append(Problem(name, f"{value!r} has no effect {rule.reason}"))
    return problems


def when_it_matters(name: str) -> list[str]:
    """Return the conditions under which the setting "section.name" has an effect; all of them hold; none: always.

    >>> when_it_matters("classification.margin")
    ['with classification.num_pictures above 0', "with classification.loss 'arcface'"]
    """
    return [rule.matters for rule in _rules(RunConfig()) if name in rule.names.split()]


@final
@dataclass(frozen=True)
class _Rule:
    """Settings that go together, whether they have an effect, why they might have none, and when they have one."""

    names: str
    has_effect: bool
    reason: str
    matters: str


def _rules(config: RunConfig) -> list[_Rule]:
    data, model, loss, training = config.data, config.model, config.loss, config.training
    guard, classification = config.guard, config.classification
    frozen = config.finetune.trainable_stages == 0 and not config.finetune.unfreeze_at
    warms_up = classification.num_pictures > 0
    with_margin = listed(record for record in LOSSES if record.margin)
    return [
        _Rule(
            "data.file_column data.class_column data.group_column data.multi_label data.fit data.white_level "
            "data.cache data.max_bad_images",
            data.source != "glyphs",
            "on 'glyphs', which is drawn and not read",
            "with any data.source but 'glyphs', which is drawn and not read",
        ),
        _Rule(
            "model.widths",
            model.backbone == "small",
            f"on the backbone {model.backbone!r}; it is of the small network",
            "with model.backbone 'small'",
        ),
        _Rule(
            "loss.margin",
            loss.record.margin is not None or config.margin_is_mined,
            f"on the loss {loss.name!r}; it is of {with_margin}",
            f"with the losses {with_margin}, or where mining reads it (hardness.scale 'margin', hardness.curve "
            "'closed-loop' or negatives.min_distance_ratio above 0)",
        ),
        *_of_mining(config),
        _Rule(
            "training.momentum",
            config.optimizer == "sgd",
            f"with training.optimizer {training.optimizer!r}; it is of sgd",
            "with training.optimizer 'sgd'",
        ),
        _Rule(
            "finetune.backbone_rate finetune.layer_decay",
            not frozen,
            "with finetune.trainable_stages 0, which freezes the backbone",
            "unless finetune.trainable_stages is 0 and finetune.unfreeze_at empty, which freezes the backbone",
        ),
        _Rule(
            "classification.loss classification.temperature classification.margin classification.from_catalog "
            "classification.learning_rate",
            warms_up,
            "with classification.num_pictures 0: there is no warm-up",
            "with classification.num_pictures above 0",
        ),
        _Rule(
            "classification.margin",
            not warms_up or classification.loss == "arcface",
            f"with classification.loss {classification.loss!r}; it is of arcface",
            "with classification.loss 'arcface'",
        ),
        _Rule("guard.action guard.max_actions", guard.enabled, "with guard.enabled false", "with guard.enabled true"),
        _Rule(
            "guard.max_actions",
            not guard.enabled or guard.action not in ("warn", "stop"),
            f"with guard.action {guard.action!r}, which corrects nothing",
            "with guard.action 'lower-hardness', 'cut-rate' or 'roll-back'",
        ),
    ]


def _of_mining(config: RunConfig) -> list[_Rule]:
    hardness, loss, training = config.asked_hardness, config.loss, config.training
    # Mined negatives of an in-batch loss say which classes meet in a batch, and nothing else; a bank has hardness, too.
    mined = config.trains_on_mined
    may_have_bank = config.may_have_bank
    has_bank = may_have_bank and config.memory.from_progress < 1 and loss.extends_to_bank
    with_miner = "" if loss.miner is None else f" with the miner {loss.miner!r}"
    of_in_batch = f"with a loss.name that takes its negatives from the batch, not {_of_plans()}"
    return [
        _Rule(
            "training.neighbourhood training.neighbourhood_from",
            loss.in_batch,
            f"on the loss {loss.name!r}, which trains on the plan's own negatives; it is of in-batch losses",
            of_in_batch,
        ),
        _Rule(
            "training.neighbourhood_from",
            config.clique_size > 1,
            "with training.neighbourhood 1"
            if training.neighbourhood == 1
            else "with a bank of negatives, whose batches are random (training.neighbourhood)",
            "with training.neighbourhood above 1 (given, or usual where there is no bank)",
        ),
        _Rule(
            "training.embed_anew",
            loss.in_batch,
            f"on the loss {loss.name!r}, which mines over all items; it is of in-batch losses",
            of_in_batch,
        ),
        _Rule(
            "training.prefer_positive",
            training.anchors == "any",
            f"with training.anchors {training.anchors!r}, which decides who is the positive",
            "with training.anchors 'any'",
        ),
        _Rule(
            "hardness.curve hardness.cap hardness.growth hardness.target_active hardness.gain negatives.skip_nearest",
            mined or has_bank,
            "where batches are not composed from mined negatives (training.neighbourhood 1 or neighbourhood_from 1), "
            "and no bank has any (memory.num_negatives 0 or from_progress 1)",
            f"with loss.name {_of_plans()}, with training.neighbourhood above 1, or with a bank of negatives",
        ),
        _Rule(
            "hardness.scale",
            mined,
            "where batches are not composed from mined negatives: the bank's scale is log-rank",
            f"with loss.name {_of_plans()}, or with training.neighbourhood above 1",
        ),
        _Rule(
            "memory.size memory.from_progress memory.momentum",
            may_have_bank and loss.extends_to_bank,
            "with memory.num_negatives 0: there is no bank"
            if config.memory.num_negatives == 0
            else f"on the loss {loss.name!r}{with_miner}, which takes no negatives from a bank"
            if not loss.extends_to_bank
            else "where no bank is usual: that is with Muon on a new network and without the closed loop, unless "
            "memory.num_negatives is given",
            f"with memory.num_negatives above 0 (given, or usual), loss.name {_of_bank()}, and no loss.miner",
        ),
        _Rule(
            "hardness.growth",
            not (mined or has_bank) or hardness.curve in ("tanh", "logarithmic", "sigmoid"),
            f"on the curve {hardness.curve!r}; it is of tanh, logarithmic and sigmoid",
            "with hardness.curve tanh, logarithmic or sigmoid",
        ),
        _Rule(
            "hardness.cycles",
            hardness.curve not in ("constant", "closed-loop"),
            f"on the curve {hardness.curve!r}, which does not rise and fall",
            "with hardness.curve linear, sine, tanh, logarithmic or sigmoid",
        ),
        _Rule(
            "hardness.target_active hardness.gain",
            not (mined or has_bank) or hardness.curve == "closed-loop",
            f"on the curve {hardness.curve!r}; it is of the closed loop",
            "with hardness.curve 'closed-loop'",
        ),
    ]


def _of_bank() -> str:
    return listed((record for record in LOSSES if record.extends_to_bank), last="or")


def _of_plans() -> str:
    return listed((record for record in LOSSES if not record.in_batch), last="or")
