"""What training lowers: the loss that the settings name, built, and checked before a run.

What is known of each loss is its record (`mohs.settings.loss_records`); how it is built stands with its mathematics
(`plan_losses`, `in_batch`). Every other name is a class of pytorch-metric-learning (`library`).
"""

import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from mohs.checks import require
from mohs.data.dataset import Dataset
from mohs.errors import InputError, Problem, TrainingError
from mohs.randomness import torch_seeded
from mohs.settings.config import LossConfig, RunConfig
from mohs.training.false_negatives import duplicate_pairs, read_review_list
from mohs.training.losses.in_batch import CLASS_VECTORS, IN_BATCH_LOSSES, InBatchLoss, build_miner
from mohs.training.losses.library import LibraryClass, find_loss, find_miner
from mohs.training.losses.plan_losses import PLAN_LOSSES
from mohs.training.losses.protocol import Loss

__all__ = ["build_loss", "check_kept_apart", "check_loss"]

_TRIAL_CLASSES, _TRIAL_DIM = 4, 8


def build_loss(
    config: LossConfig,
    *,
    num_classes: int | None = None,
    embedding_dim: int | None = None,
    seed: int = 0,
    margin_is_mined: bool = True,
) -> Loss:
    """Return the loss that `config` names, checked by `check_loss`.

    Args:
        config: the settings.
        num_classes: C, for losses with parameters for each class; classes are numbered 0 … C − 1.
        embedding_dim: D, for losses with parameters in the embedding space.
        seed: in [0, 2**63); decides the initial parameters of a loss and what it or its miner draws.
        margin_is_mined: as in `check_loss`.

    A loss with parameters is an `nn.Module` (`InBatchLoss`). Raises `InputError` as `check_loss` does, and if the loss
    needs `num_classes` and `embedding_dim` and they are not given.

    >>> build_loss(LossConfig(name="triplet", margin=0.5))
    TripletLoss(margin=0.5, squared=True, soft=False, swap=False)
    >>> loss = build_loss(LossConfig(name="proxy-anchor"), num_classes=10, embedding_dim=4)
    >>> [tuple(parameter.shape) for parameter in loss.parameters()]
    [(10, 4)]
    """
    check_loss(config, margin_is_mined=margin_is_mined)
    return _build(config, num_classes, embedding_dim, seed)


def check_loss(config: LossConfig, *, margin_is_mined: bool = True) -> None:
    """Raise `InputError` if the settings name no loss that can work, or set what has no effect; one line for each.

    Refused are names that are unknown (close ones are told) or that stand for classes that cannot work on embeddings
    and labels, parameters that are unknown or missing, settings that the loss does not read but that are not at their
    default, and losses that fail on a small random batch of four classes.

    Args:
        config: the settings.
        margin_is_mined: whether mining reads `margin` and `squared`, as on `hardness.scale` "margin" and in the closed
            loop; they then have an effect whatever the loss.

    >>> check_loss(LossConfig(name="triplet", miner="batch-hard", swap=True))
    Traceback (most recent call last):
    mohs.errors.InputError: loss.miner: 'batch-hard' has no effect on the loss 'triplet'; leave it out
    """
    problems: list[str] = []
    loss: LibraryClass | None = None
    record = config.record
    if record not in PLAN_LOSSES and record not in IN_BATCH_LOSSES:
        try:
            loss = find_loss(config.name)
            problems += loss.problems("loss.options", config.options)
        except InputError as error:
            # What an unknown loss reads is unknown.
            raise InputError(*error.problems, *_miner_problems(config)) from None
    problems += _without_effect(config, record.reads | ({"margin", "squared"} if margin_is_mined else frozenset()))
    if "miner" in record.reads:
        problems += _miner_problems(config)
    require(*problems)
    if loss is not None or config.miner is not None:
        _try(config)


def check_kept_apart(dataset: Dataset, config: RunConfig, loss: Loss | None = None) -> None:
    """Raise `InputError` if pictures must not be negatives of each other and the loss cannot leave such pairs out.

    These are losses with a vector for each class (proxies, class weights), which are compared with every class, and
    those that weigh a batch as a whole. One line for each setting that asks for it. `loss` is one that is built already
    or a caller's own; None: the one that `config` names.
    """
    if not config.loss.in_batch:
        return
    if loss is None:
        loss = _build(config.loss, _TRIAL_CLASSES, _TRIAL_DIM, seed=0)
    if isinstance(loss, InBatchLoss):
        name, compares_with = repr(config.loss.name), loss.compares_with
    else:
        name, compares_with = type(loss).__name__, None
        called = loss.forward if isinstance(loss, nn.Module) else loss.__call__
        if "apart_MM" not in inspect.signature(called).parameters:
            compares_with = "what it likes (it takes no apart_MM)"
    if compares_with is None:
        return
    what = f"with the loss {name}, which compares with {compares_with}"
    fix = "or take a loss on pairs or triplets, such as infonce"
    negatives, problems = config.negatives, []
    if negatives.drop_duplicates and (num := len(duplicate_pairs(dataset)) // 2):
        found = f"{num:,} pairs of equal pictures under two classes cannot be left out {what}"
        problems.append(Problem("negatives.drop_duplicates", found, f"join their classes, set it to false, {fix}"))
    if negatives.review_list is not None:
        num = len(read_review_list(Path(negatives.review_list), dataset.table.files)) // 2
        if num:
            problems.append(
                Problem("negatives.review_list", f"{num:,} pairs cannot be left out {what}", f"leave it out, {fix}")
            )
    if (ratio := negatives.min_distance_ratio) > 0:
        problems.append(
            Problem("negatives.min_distance_ratio", f"{ratio:g} cannot leave pairs out {what}", f"set it to 0, {fix}")
        )
    # Vectors of classes are no pictures, of the catalog or not.
    if config.training.anchors == "catalog" and compares_with != CLASS_VECTORS:
        problems.append(Problem("training.anchors", f"'catalog' is not possible {what}", f"use 'any', {fix}"))
    require(*problems)


def _without_effect(config: LossConfig, reads: frozenset[str]) -> list[str]:
    fields = LossConfig.model_fields
    values = {name: getattr(config, name) for name in fields if name != "name" and name not in reads}
    shown = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return [
        Problem(f"loss.{name}", f"{shown[name]!r} has no effect on the loss {config.name!r}", "leave it out")
        for name, value in values.items()
        if value != fields[name].get_default(call_default_factory=True)
    ]


def _miner_problems(config: LossConfig) -> list[str]:
    if config.miner is None:
        if config.miner_options:
            return [f"loss.miner_options: {dict(config.miner_options)} without loss.miner; name the miner"]
        return []
    try:
        return find_miner(config.miner).problems("loss.miner_options", config.miner_options)
    except InputError as error:
        return list(error.problems)


def _try(config: LossConfig) -> None:
    """Raise `InputError` if the loss fails on a small batch, or if a learning rate is set and nothing learns by it."""
    what = f"loss: {config.name}" + ("" if config.miner is None else f" with {config.miner}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come again when the loss is built
            loss = _build(config, _TRIAL_CLASSES, _TRIAL_DIM, seed=0)
            with torch_seeded(0, "trial of a loss"):
                x_2BD = torch.randn(2, 2 * _TRIAL_CLASSES, _TRIAL_DIM)
            x_2BD = nn.functional.normalize(x_2BD, dim=-1).requires_grad_()
            value = loss(x_2BD[0], x_2BD[1], None, torch.arange(2 * _TRIAL_CLASSES) % _TRIAL_CLASSES).loss
            gradient = torch.autograd.grad(value, x_2BD)[0]
    except TrainingError as error:
        raise InputError(error.problems[0]) from None
    except Exception as error:  # the library's classes raise any kind
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        raise InputError(f"{what} cannot be built ({reason}); change loss.options or loss.miner_options") from None
    if not bool(value.isfinite() & gradient.isfinite().all()):
        raise InputError(
            f"{what} is {float(value.detach())} on a small batch, its largest gradient {float(gradient.abs().max())}; "
            "change loss.options or loss.miner_options"
        )
    learns = isinstance(loss, nn.Module) and any(True for _ in loss.parameters())
    if config.learning_rate is not None and not learns:
        what = f"{config.learning_rate} has no effect on the loss {config.name!r}, which has no parameters"
        raise InputError(Problem("loss.learning_rate", what, "leave it out"))


def _build(config: LossConfig, num_classes: int | None, embedding_dim: int | None, seed: int) -> Loss:
    if (of_plan := PLAN_LOSSES.get(config.record)) is not None:
        return of_plan(config)
    if (in_batch := IN_BATCH_LOSSES.get(config.record)) is not None:
        return in_batch(config, seed)
    return InBatchLoss(_library_loss(config, num_classes, embedding_dim, seed), build_miner(config), seed=seed)


def _library_loss(config: LossConfig, num_classes: int | None, embedding_dim: int | None, seed: int) -> nn.Module:
    loss = find_loss(config.name)
    if loss.needs_data and (num_classes is None or embedding_dim is None):
        what = f"the loss {config.name!r} has parameters for each class"
        raise InputError(Problem("num_classes, embedding_dim", what, "give build_loss both"))
    with torch_seeded(seed, "loss parameters"):
        return loss.build(config.options, num_classes=num_classes or 0, embedding_dim=embedding_dim or 0)
