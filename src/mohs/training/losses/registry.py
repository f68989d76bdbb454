"""What training lowers: the loss that the settings name.

======================  =====================================================  ===========================
loss.name               settings it reads                                      negatives
======================  =====================================================  ===========================
triplet                 margin, squared, swap                                  the plan's
soft-triplet            squared, swap                                          the plan's
selective-triplet       temperature                                            the plan's
contrastive             margin                                                 the plan's
infonce, supcon         temperature, miner, miner_options                      the batch's
semi-hard               margin, squared                                        the batch's
multi-similarity        options, miner, miner_options                          the batch's
proxy-anchor, arcface   options, miner, miner_options, learning_rate           one parameter vector a class
a class of the library  options, miner, miner_options (and learning_rate       the batch's, or parameters
                        if it has parameters)
======================  =====================================================  ===========================

The library is pytorch-metric-learning. "infonce" and "supcon" are the same loss: with one positive per anchor SupCon is
InfoNCE, and where a class is in a batch twice, SupCon is what does not take its pictures for negatives of each other.
"""

import inspect
import warnings
from pathlib import Path

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from torch import nn

from mohs.data.dataset import Dataset
from mohs.errors import InputError, TrainingError
from mohs.randomness import torch_seeded
from mohs.settings.config import LossConfig, RunConfig
from mohs.training.false_negatives import duplicate_pairs, read_review_list
from mohs.training.losses.in_batch import CLASS_VECTORS, InBatchLoss
from mohs.training.losses.library import LibraryClass, find_loss, find_miner
from mohs.training.losses.loss import Loss, LossValue
from mohs.training.losses.plan_losses import ContrastiveLoss, SelectiveTripletLoss, TripletLoss

__all__ = [
    "ContrastiveLoss",
    "InBatchLoss",
    "Loss",
    "LossValue",
    "SelectiveTripletLoss",
    "TripletLoss",
    "build_loss",
    "check_kept_apart",
    "check_loss",
]

# What each built-in loss reads, of all settings but its name.
_BUILT_IN = {
    "triplet": frozenset({"margin", "squared", "swap"}),
    "soft-triplet": frozenset({"squared", "swap"}),
    "selective-triplet": frozenset({"temperature"}),
    "contrastive": frozenset({"margin"}),
    "infonce": frozenset({"temperature", "miner", "miner_options"}),
    "supcon": frozenset({"temperature", "miner", "miner_options"}),
    "semi-hard": frozenset({"margin", "squared"}),
}
_LIBRARY = frozenset({"options", "miner", "miner_options", "learning_rate"})
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
    if config.name not in _BUILT_IN:
        try:
            loss = find_loss(config.name, built_in=_BUILT_IN)
            problems += loss.problems("loss.options", config.options)
        except InputError as error:
            # What an unknown loss reads is unknown.
            raise InputError(*error.problems, *_miner_problems(config)) from None
    reads = _BUILT_IN.get(config.name, _LIBRARY)
    problems += _without_effect(config, reads | ({"margin", "squared"} if margin_is_mined else frozenset()))
    if "miner" in reads:
        problems += _miner_problems(config)
    if problems:
        raise InputError(*problems)
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
    what = f"with the loss {name}, which compares with {compares_with} and cannot leave out pairs of pictures"
    fix = "or take a loss on pairs or triplets, such as infonce"
    negatives, problems = config.negatives, []
    if negatives.drop_duplicates and (num := len(duplicate_pairs(dataset)) // 2):
        problems.append(
            f"negatives.drop_duplicates: {num:,} pairs of equal pictures under two classes {what}; join their classes, "
            f"set it to false, {fix}"
        )
    if negatives.review_list is not None:
        num = len(read_review_list(Path(negatives.review_list), dataset.table.files)) // 2
        if num:
            problems.append(f"negatives.review_list: {num:,} pairs {what}; leave it out, {fix}")
    if negatives.min_distance_ratio > 0:
        problems.append(f"negatives.min_distance_ratio: {negatives.min_distance_ratio:g} {what}; set it to 0, {fix}")
    # Vectors of classes are no pictures, of the catalog or not.
    if config.training.anchors == "catalog" and compares_with != CLASS_VECTORS:
        problems.append(f"training.anchors: 'catalog' {what}; use 'any', {fix}")
    if problems:
        raise InputError(*problems)


def _without_effect(config: LossConfig, reads: frozenset[str]) -> list[str]:
    fields = LossConfig.model_fields
    values = {name: getattr(config, name) for name in fields if name != "name" and name not in reads}
    return [
        f"loss.{name}: {dict(value) if name.endswith('options') else value!r} has no effect on the loss "
        f"{config.name!r}; leave it out"
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
            f"{what} gives {float(value.detach())} with a gradient of {float(gradient.abs().max())} on a small batch; "
            "change loss.options or loss.miner_options"
        )
    learns = isinstance(loss, nn.Module) and any(True for _ in loss.parameters())
    if config.learning_rate is not None and not learns:
        raise InputError(
            f"loss.learning_rate: {config.learning_rate} has no effect on the loss {config.name!r}, which has no "
            "parameters; leave it out"
        )


def _build(config: LossConfig, num_classes: int | None, embedding_dim: int | None, seed: int) -> Loss:
    match config.name:
        case "triplet":
            return TripletLoss(margin=config.margin, squared=config.squared, swap=config.swap)
        case "soft-triplet":
            return TripletLoss(margin=config.margin, squared=config.squared, soft=True, swap=config.swap)
        case "selective-triplet":
            return SelectiveTripletLoss(temperature=config.temperature)
        case "contrastive":
            return ContrastiveLoss(margin=config.margin)
        case "semi-hard":
            distance = LpDistance(power=2 if config.squared else 1)
            return InBatchLoss(
                TripletMarginLoss(margin=config.margin, distance=distance),
                TripletMarginMiner(margin=config.margin, type_of_triplets="semihard", distance=distance),
                active_margin=config.margin,
                squared=config.squared,
            )
        case "infonce" | "supcon":
            # With one positive per anchor SupCon is InfoNCE (NT-Xent), term by term, in a B x B matrix; the library's
            # NTXentLoss builds one of pairs x negatives, which costs more than the network here.
            return InBatchLoss(SupConLoss(temperature=config.temperature), _build_miner(config), seed=seed)
        case _:
            return InBatchLoss(_library_loss(config, num_classes, embedding_dim, seed), _build_miner(config), seed=seed)


def _library_loss(config: LossConfig, num_classes: int | None, embedding_dim: int | None, seed: int) -> nn.Module:
    loss = find_loss(config.name, built_in=_BUILT_IN)
    if loss.needs_data and (num_classes is None or embedding_dim is None):
        raise InputError(
            f"num_classes, embedding_dim: the loss {config.name!r} has parameters for each class; give build_loss both"
        )
    with torch_seeded(seed, "loss parameters"):
        return loss.build(config.options, num_classes=num_classes or 0, embedding_dim=embedding_dim or 0)


def _build_miner(config: LossConfig) -> nn.Module | None:
    if config.miner is None:
        return None
    return find_miner(config.miner).build(config.miner_options, num_classes=0, embedding_dim=0)
