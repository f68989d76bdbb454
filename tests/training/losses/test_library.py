"""Every loss and every miner of the installed library, by name; and every message."""

import math

import pytest
import torch
from torch import Tensor, nn

from mohs.errors import InputError
from mohs.settings import loss_records
from mohs.settings.config import LossConfig
from mohs.training.losses.build import build_loss, check_loss
from mohs.training.losses.library import (
    NAMED_MINERS,
    REFUSED_LOSSES,
    REFUSED_MINERS,
    close_matches,
    find_loss,
    find_miner,
    library_losses,
    library_miners,
)

NEEDED = {"RankedListLoss": {"margin": 0.4, "Tn": 5}}
LOSSES = sorted({*library_losses()} - {*REFUSED_LOSSES})
MINERS = sorted({*library_miners(), *NAMED_MINERS} - {*REFUSED_MINERS})
# Classes of one of these start where chance puts them: the first batch says nothing about a direction.
WITH_PARAMETERS = {
    "ArcFaceLoss",
    "CosFaceLoss",
    "LargeMarginSoftmaxLoss",
    "NormalizedSoftmaxLoss",
    "P2SGradLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "SoftTripleLoss",
    "SphereFaceLoss",
    "SubCenterArcFaceLoss",
}
# LargeMarginSoftmaxLoss and SphereFaceLoss give tensors to scipy.
LIBRARY_WARNING = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")
NO_MINER = ["P2SGradLoss", "PNPLoss", "RankedListLoss"]


def batch(spread: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    """Twelve anchors, two classes twice, and positives near them."""
    generator = torch.Generator().manual_seed(0)
    a = nn.functional.normalize(torch.randn(12, 16, generator=generator), dim=1)
    p = nn.functional.normalize(a + spread * torch.randn(12, 16, generator=generator), dim=1)
    return a, p, torch.tensor([7, 1, 2, 3, 7, 5, 6, 0, 8, 9, 5, 11])


def config(name: str, **settings: object) -> LossConfig:
    return LossConfig.model_validate({"name": name, "options": NEEDED.get(name, {}), **settings})


def line(settings: LossConfig) -> list[str]:
    with pytest.raises(InputError) as refusal:
        check_loss(settings, margin_is_mined=False)
    return list(refusal.value.problems)


@LIBRARY_WARNING
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_the_library_works_by_name(name: str) -> None:
    """A finite loss with a gradient; and positives that change places raise it."""
    loss = build_loss(config(name), num_classes=12, embedding_dim=16)
    assert isinstance(loss, nn.Module)
    assert bool(list(loss.parameters())) == (name in WITH_PARAMETERS)
    a, p, classes = batch(spread=0.4)
    a.requires_grad_()
    value = loss(a, p, None, classes)
    gradients = torch.autograd.grad(value.loss, [a, *loss.parameters()])
    assert math.isfinite(float(value.loss.detach()))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert all(bool((gradient != 0).any()) for gradient in gradients)
    if name not in WITH_PARAMETERS:
        wrong = loss(a.detach(), p.roll(1, 0), None, classes)
        assert float(wrong.loss) > float(value.loss.detach())
    collapsed = loss.collapsed_loss(12)
    assert collapsed is None or math.isfinite(collapsed)


@LIBRARY_WARNING
@pytest.mark.parametrize("name", sorted(WITH_PARAMETERS))
def test_losses_with_parameters_pull_embeddings_to_their_classes(name: str) -> None:
    """After training embeddings and parameters freely, positives that change places cost more."""
    loss = build_loss(config(name), num_classes=12, embedding_dim=16)
    assert isinstance(loss, nn.Module)
    a, p, classes = (x.clone() for x in batch())
    optimizer = torch.optim.Adam([a.requires_grad_(), p.requires_grad_(), *loss.parameters()], lr=0.05)
    for _ in range(30):
        units = [nn.functional.normalize(x, dim=1) for x in (a, p)]
        optimizer.zero_grad()
        loss(*units, None, classes).loss.backward()
        optimizer.step()
    with torch.no_grad():
        a, p = (nn.functional.normalize(x, dim=1) for x in (a, p))
        assert float(loss(a, p, None, classes).loss) < float(loss(a.roll(1, 0), p.roll(1, 0), None, classes).loss)


@pytest.mark.parametrize("name", MINERS)
@pytest.mark.parametrize("loss_name", ["supcon", "TripletMarginLoss", "proxy-anchor"])
def test_a_miner_of_the_library_works_by_name(name: str, loss_name: str) -> None:
    loss = build_loss(config(loss_name, miner=name), num_classes=12, embedding_dim=16)
    a, p, classes = batch(spread=0.4)
    value = loss(a.requires_grad_(), p, None, classes)
    assert math.isfinite(float(value.loss.detach()))
    assert bool(torch.autograd.grad(value.loss, a)[0].isfinite().all())


def test_every_class_is_tried_or_refused_with_a_reason() -> None:
    assert {*LOSSES, *REFUSED_LOSSES} == {*library_losses()}
    assert {*MINERS, *REFUSED_MINERS} == {*library_miners(), *NAMED_MINERS}
    assert len(LOSSES) > 20
    for name, reason in REFUSED_LOSSES.items():
        assert line(config(name)) == [f"loss.name: {name} cannot be used: {reason}"]
    for name, reason in REFUSED_MINERS.items():
        assert line(config("supcon", miner=name)) == [f"loss.miner: {name} cannot be used: {reason}"]


@pytest.mark.parametrize("name", NO_MINER)
def test_losses_that_take_no_miner_are_refused_with_one(name: str) -> None:
    class_name = "BatchHardMiner"
    assert line(config(name, miner="batch-hard")) == [
        f"loss: {name} with {class_name} failed on a batch of 16 pictures (ValueError: indices_tuple is not supported "
        "for this loss function); change loss.name, loss.options or loss.miner"
    ]


BUILT_IN = f"use {', '.join(loss.name for loss in loss_records.LOSSES)} or a class of pytorch_metric_learning.losses"


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (
            {"name": "Tripet"},
            [f"loss.name: 'Tripet' is unknown (did you mean 'triplet' or 'soft-triplet'?); {BUILT_IN}"],
        ),
        ({"name": "Circleloss"}, [f"loss.name: 'Circleloss' is unknown (did you mean 'CircleLoss'?); {BUILT_IN}"]),
        ({"name": "Xyzzy"}, [f"loss.name: 'Xyzzy' is unknown; {BUILT_IN}"]),
        (
            {"name": "Xyzzy", "miner": "batchhard"},
            [
                f"loss.name: 'Xyzzy' is unknown; {BUILT_IN}",
                "loss.miner: 'batchhard' is unknown (did you mean 'batch-hard' or 'BatchHardMiner'?); use semi-hard, "
                "batch-hard, multi-similarity, distance-weighted or a class of pytorch_metric_learning.miners",
            ],
        ),
        (
            {"name": "CircleLoss", "options": {"gama": 3, "distance": 1}},
            [
                "loss.options: 'gama' is not a parameter of CircleLoss (did you mean 'gamma'?); "
                "its parameters: m = 0.4, gamma = 80",
                "loss.options: 'distance' is not a parameter of CircleLoss; its parameters: m = 0.4, gamma = 80",
            ],
        ),
        (
            {"name": "RankedListLoss", "options": {"Tn": 5}},
            ["loss.options: RankedListLoss needs margin; its parameters: margin, Tn, imbalance = 0.5, alpha, Tp = 0"],
        ),
        (
            {"name": "arcface", "options": {"num_classes": 3}},
            ["loss.options: 'num_classes' is not a parameter of arcface; its parameters: margin = 28.6, scale = 64"],
        ),
        (
            {"name": "NPairsLoss", "options": {"a": 1}},
            ["loss.options: 'a' is not a parameter of NPairsLoss; it has none"],
        ),
        (
            {"name": "supcon", "miner": "semi-hard", "miner_options": {"type_of_triplets": "easy"}},
            ["loss.miner_options: 'type_of_triplets' is not a parameter of semi-hard; its parameters: margin = 0.2"],
        ),
        (
            {"name": "supcon", "miner": "batch-hard", "miner_options": {"pos_strategy": "easy"}},
            ["loss.miner_options: 'pos_strategy' is not a parameter of batch-hard; it has none"],
        ),
        (
            {"name": "PNPLoss", "options": {"variant": "Z"}},
            [
                "loss: PNPLoss cannot be built (ValueError: variant=Z but must be one of ['Ds', 'Dq', 'Iu', 'Ib', "
                "'O']); change loss.options or loss.miner_options"
            ],
        ),
        (
            {"name": "CircleLoss", "options": {"gamma": "a"}},
            [
                "loss: CircleLoss failed on a batch of 16 pictures (TypeError: bad operand type for unary -: 'str'); "
                "change loss.name, loss.options or loss.miner"
            ],
        ),
        (
            {"name": "CircleLoss", "options": {"gamma": 1e39}},
            [
                "loss: CircleLoss is inf on a small batch, its largest gradient nan; "
                "change loss.options or loss.miner_options"
            ],
        ),
    ],
)
def test_messages_about_names_and_parameters(settings: dict[str, object], messages: list[str]) -> None:
    assert line(LossConfig.model_validate(settings)) == messages


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (
            {"name": "infonce", "swap": True, "options": {"a": 1}, "learning_rate": 0.1},
            [
                "loss.swap: True has no effect on the loss 'infonce'; leave it out",
                "loss.options: {'a': 1} has no effect on the loss 'infonce'; leave it out",
                "loss.learning_rate: 0.1 has no effect on the loss 'infonce'; leave it out",
            ],
        ),
        (
            {"name": "triplet", "temperature": 0.5, "miner": "semi-hard", "miner_options": {"margin": 1}},
            [
                "loss.temperature: 0.5 has no effect on the loss 'triplet'; leave it out",
                "loss.miner: 'semi-hard' has no effect on the loss 'triplet'; leave it out",
                "loss.miner_options: {'margin': 1} has no effect on the loss 'triplet'; leave it out",
            ],
        ),
        (
            {"name": "contrastive", "squared": False},
            ["loss.squared: False has no effect on the loss 'contrastive'; leave it out"],
        ),
        (
            {"name": "selective-triplet", "margin": 0.5, "swap": True},
            [
                "loss.margin: 0.5 has no effect on the loss 'selective-triplet'; leave it out",
                "loss.swap: True has no effect on the loss 'selective-triplet'; leave it out",
            ],
        ),
        (
            {"name": "semi-hard", "miner": "batch-hard"},
            ["loss.miner: 'batch-hard' has no effect on the loss 'semi-hard'; leave it out"],
        ),
        (
            {"name": "arcface", "temperature": 0.5},
            ["loss.temperature: 0.5 has no effect on the loss 'arcface'; leave it out"],
        ),
        (
            {"name": "supcon", "miner_options": {"margin": 1}},
            ["loss.miner_options: {'margin': 1} without loss.miner; name the miner"],
        ),
        (
            {"name": "CircleLoss", "learning_rate": 0.1},
            ["loss.learning_rate: 0.1 has no effect on the loss 'CircleLoss', which has no parameters; leave it out"],
        ),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, object], messages: list[str]) -> None:
    assert line(LossConfig.model_validate(settings)) == messages


def test_the_margin_has_an_effect_where_mining_reads_it() -> None:
    settings = LossConfig(name="infonce", margin=0.5, squared=False)
    check_loss(settings)
    assert line(settings) == [
        "loss.margin: 0.5 has no effect on the loss 'infonce'; leave it out",
        "loss.squared: False has no effect on the loss 'infonce'; leave it out",
    ]


@pytest.mark.parametrize(
    "settings",
    [
        LossConfig(name="triplet", margin=1.0, squared=False, swap=True),
        LossConfig(name="soft-triplet", squared=False, swap=True),
        LossConfig(name="selective-triplet", temperature=0.5),
        LossConfig(name="contrastive", margin=1.0),
        LossConfig(name="infonce", temperature=0.5, miner="multi-similarity", miner_options={"epsilon": 0.3}),
        LossConfig(name="semi-hard", margin=1.0, squared=False),
        LossConfig(name="proxy-anchor", options={"alpha": 16}, learning_rate=0.1),
        LossConfig(name="MarginLoss", options={"learn_beta": True}, learning_rate=0.1),
    ],
    ids=lambda settings: settings.name,
)
def test_settings_with_an_effect_are_taken(settings: LossConfig) -> None:
    check_loss(settings, margin_is_mined=False)


def test_checking_draws_nothing_from_torchs_state() -> None:
    state = torch.get_rng_state()
    check_loss(LossConfig(name="arcface", miner="distance-weighted"))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_with_classes_needs_their_number() -> None:
    with pytest.raises(InputError) as refusal:
        build_loss(LossConfig(name="proxy-anchor"))
    assert refusal.value.problems == (
        "num_classes, embedding_dim: the loss 'proxy-anchor' has parameters for each class; give build_loss both",
    )


def test_options_reach_the_class() -> None:
    built = find_loss("multi-similarity").build({"alpha": 3.5}, num_classes=0, embedding_dim=0)
    assert built.alpha == 3.5
    miner = find_miner("semi-hard").build({"margin": 0.7}, num_classes=0, embedding_dim=0)
    assert (miner.margin, miner.type_of_triplets) == (0.7, "semihard")


def test_close_matches_whatever_the_case() -> None:
    assert close_matches("TRIPLETMARGIN", ["TripletMarginLoss", "triplet", "xyz"]) == ["TripletMarginLoss", "triplet"]
    assert close_matches("circleloss", ["CosFaceLoss", "CircleLoss"]) == ["CircleLoss"]
    assert close_matches("xyzzy", ["TripletMarginLoss"]) == []
