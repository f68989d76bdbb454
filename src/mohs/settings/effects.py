"""Settings that change nothing under the others, said before a run and not found out after it."""

from collections.abc import Collection
from typing import TypeAlias

from mohs.errors import Problem
from mohs.settings.config import RunConfig
from mohs.settings.losses import LOSSES, listed

__all__ = ["without_effect"]


def without_effect(config: RunConfig, given: Collection[str]) -> list[Problem]:
    """Return a problem for each setting, "section.name" in `given`, that has no effect under the other settings.

    Settings that a loss does not read are not among them but for its margin: such a loss is an error
    (`mohs.training.losses.registry.check_loss`), unless they are at their default.

    >>> without_effect(RunConfig(), ["training.momentum", "training.warmup"])
    ["training.momentum: 0.9 has no effect with training.optimizer 'auto'; it is of sgd"]
    """
    problems = []
    for names, has_effect, reason in _rules(config):
        if has_effect:
            continue
        for name in names.split():
            if name in given:
                section, _, last = name.partition(".")
                problems.append(Problem(name, f"{getattr(getattr(config, section), last)!r} has no effect {reason}"))
    return problems


_Rule: TypeAlias = tuple[str, bool, str]
"""Settings that go together, whether they have an effect, and why they might have none."""


def _rules(config: RunConfig) -> list[_Rule]:
    data, model, loss, training = config.data, config.model, config.loss, config.training
    guard, classification = config.guard, config.classification
    frozen = config.finetune.trainable_stages == 0 and not config.finetune.unfreeze_at
    warms_up = classification.num_pictures > 0
    return [
        (
            "data.file_column data.class_column data.group_column data.multi_label data.fit data.white_level "
            "data.cache data.max_bad_images",
            data.source != "glyphs",
            "on 'glyphs', which is drawn and not read",
        ),
        ("model.widths", model.backbone == "small", f"on the backbone {model.backbone!r}; it is of the small network"),
        (
            "loss.margin",
            loss.record.margin is not None or config.margin_is_mined,
            f"on the loss {loss.name!r}; it is of {listed(record for record in LOSSES if record.margin)}",
        ),
        *_of_mining(config),
        (
            "training.momentum",
            config.optimizer == "sgd",
            f"with training.optimizer {training.optimizer!r}; it is of sgd",
        ),
        (
            "finetune.backbone_rate finetune.layer_decay",
            not frozen,
            "with finetune.trainable_stages 0, which freezes the backbone",
        ),
        (
            "classification.loss classification.temperature classification.margin classification.from_catalog "
            "classification.learning_rate",
            warms_up,
            "with classification.num_pictures 0: there is no warm-up",
        ),
        (
            "classification.margin",
            not warms_up or classification.loss == "arcface",
            f"with classification.loss {classification.loss!r}; it is of arcface",
        ),
        ("guard.action guard.max_actions", guard.enabled, "with guard.enabled false"),
        (
            "guard.max_actions",
            not guard.enabled or guard.action not in ("warn", "stop"),
            f"with guard.action {guard.action!r}, which corrects nothing",
        ),
    ]


def _of_mining(config: RunConfig) -> list[_Rule]:
    hardness, loss, training = config.asked_hardness, config.loss, config.training
    # Mined negatives of an in-batch loss say which classes meet in a batch, and nothing else; a bank has hardness, too.
    mined = not loss.in_batch or (config.clique_size > 1 and training.neighbourhood_from < 1)
    may_have_bank = config.memory.num_negatives != 0  # if it is not given, the number of classes decides
    has_bank = may_have_bank and config.memory.from_progress < 1 and loss.record.extends_to_bank
    return [
        (
            "training.neighbourhood training.neighbourhood_from",
            loss.in_batch,
            f"on the loss {loss.name!r}, which trains on the plan's own negatives; it is of in-batch losses",
        ),
        (
            "training.neighbourhood_from",
            config.clique_size > 1,
            "with training.neighbourhood 1"
            if training.neighbourhood == 1
            else "with a bank of negatives, whose batches are random (training.neighbourhood)",
        ),
        (
            "training.embed_anew",
            loss.in_batch,
            f"on the loss {loss.name!r}, which mines over all items; it is of in-batch losses",
        ),
        (
            "training.prefer_positive",
            training.anchors == "any",
            f"with training.anchors {training.anchors!r}, which decides who is the positive",
        ),
        (
            "hardness.curve hardness.cap hardness.growth hardness.target_active hardness.gain negatives.skip_nearest",
            mined or has_bank,
            "where batches are not composed from mined negatives (training.neighbourhood 1 or neighbourhood_from 1), "
            "and no bank has any (memory.num_negatives 0 or from_progress 1)",
        ),
        (
            "hardness.scale",
            mined,
            "where batches are not composed from mined negatives: the bank's scale is log-rank",
        ),
        (
            "memory.size memory.from_progress memory.momentum",
            may_have_bank and loss.record.extends_to_bank,
            "with memory.num_negatives 0: there is no bank"
            if not may_have_bank
            else f"on the loss {loss.name!r}, which takes no negatives from a bank",
        ),
        (
            "hardness.growth",
            not (mined or has_bank) or hardness.curve in ("tanh", "logarithmic", "sigmoid"),
            f"on the curve {hardness.curve!r}; it is of tanh, logarithmic and sigmoid",
        ),
        (
            "hardness.target_active hardness.gain",
            not (mined or has_bank) or hardness.curve == "closed-loop",
            f"on the curve {hardness.curve!r}; it is of the closed loop",
        ),
    ]
