"""Fine-tuning: what is frozen stays bit for bit, what learns is what was asked, rates fall towards the input."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import EvoNorm2dB0
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from mohs.data.images import ImagePolicy
from mohs.errors import InputError
from mohs.model.embedder import Embedder
from mohs.model.finetune import Finetuning
from mohs.settings.config import FinetuneConfig, ModelConfig

IMAGENET = Path(__file__).parents[3] / "shared" / "weights" / "mobilenetv2_100_imagenet.safetensors"
SIZES = {"small": 16, "test_resnet": 32, "test_vit": 160, "mobilenetv2_100": 32}
STAGES = {
    "small": ("stages.0+stages.1", "stages.4+stages.5", "stages.8+stages.9"),
    "test_resnet": ("conv1+bn1", "layer1", "layer2", "layer3", "layer4"),
    "test_vit": ("cls_token+pos_embed+patch_embed", *(f"blocks.{i}" for i in range(5)), "blocks.5+norm"),
    "mobilenetv2_100": ("conv_stem+bn1", *(f"blocks.{i}" for i in range(6)), "blocks.6+conv_head+bn2"),
}


def create(backbone: str = "small", **options: Any) -> Embedder:
    model = ModelConfig(
        backbone=backbone, widths=(4, 6, 8), hidden_dim=12, embedding_dim=6, **{"backbone_options": {}, **options}
    )
    return Embedder.create(model, ImagePolicy(size=SIZES[backbone]))


def build(backbone: str = "small", *, pretrained: bool = True, **config: Any) -> tuple[Embedder, Finetuning]:
    embedder = create(backbone)
    return embedder, Finetuning(embedder, FinetuneConfig(**config), pretrained=pretrained)


def optimizer_of(groups: list[dict[str, Any]], kind: str, rate: float = 1e-2) -> torch.optim.Optimizer:
    if kind == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(groups, lr=rate)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)
    return optimizer


def train(embedder: Embedder, optimizer: torch.optim.Optimizer, num_steps: int = 3, seed: int = 0) -> None:
    """Take real steps on noise, in whatever mode the embedder is; each picture is to be unlike the others."""
    generator = torch.Generator().manual_seed(seed)
    size = embedder.policy.size
    for _ in range(num_steps):
        embeddings = embedder(torch.rand(6, 3, size, size, generator=generator))
        loss = nn.functional.cross_entropy(embeddings @ embeddings.detach().roll(1, 0).T, torch.arange(6))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def snapshot(embedder: Embedder) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in embedder.state_dict().items()}


def changed(embedder: Embedder, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in embedder.state_dict().items() if not torch.equal(value, before[name])}


def learning(embedder: Embedder) -> set[str]:
    return {name for name, parameter in embedder.named_parameters() if parameter.requires_grad}


def statistics(embedder: Embedder, part: str) -> set[str]:
    """The names of the buffers of batch norms in a part."""
    return {name for name, _ in embedder.named_buffers() if name.startswith(part)}


CASES = [
    ("small", {"trainable_stages": 0}),
    ("small", {"trainable_stages": 2}),
    ("small", {"train_from": "stages.4"}),
    ("test_resnet", {"train_from": "layer3.0.conv2"}),
    ("test_vit", {"trainable_stages": 2}),
    ("mobilenetv2_100", {"train_from": "blocks.5.1"}),
]


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
@pytest.mark.parametrize(("backbone", "config"), CASES, ids=str)
def test_frozen_parts_stay_bit_for_bit_and_all_others_change(backbone: str, config: dict[str, Any], kind: str) -> None:
    embedder, finetuning = build(backbone, pretrained=False, **config)
    optimizer = optimizer_of(finetuning.parameter_groups(weight_decay=0.5), kind)
    before, learns = snapshot(embedder), learning(embedder)
    finetuning.train_mode()
    train(embedder, optimizer)
    # Statistics move exactly where the norm that holds them learns.
    moving = {name for name, _ in embedder.named_buffers() if name.rpartition(".")[0] + ".weight" in learns}
    assert changed(embedder, before) == learns | moving
    assert learns.issuperset(f"head.{name}" for name, _ in embedder.head.named_parameters())
    assert learns < {name for name, _ in embedder.named_parameters()}


@pytest.mark.parametrize("backbone", list(SIZES))
@pytest.mark.parametrize("config", [{}, {"trainable_stages": 1, "unfreeze_at": (0.5,), "layer_decay": 0.5}], ids=str)
def test_groups_hold_what_may_learn_once_from_input_to_output(backbone: str, config: dict[str, Any]) -> None:
    embedder, finetuning = build(backbone, **config)
    groups = finetuning.parameter_groups(0.1)
    name_of = {parameter: name for name, parameter in embedder.named_parameters()}
    held = [name_of[parameter] for group in groups for parameter in group["params"]]
    finetuning.at(1.0)
    now = learning(embedder)
    assert held == [name for name in name_of.values() if name in now]  # in the order of registration
    assert (len(held) == len(name_of)) == (not config)
    assert {group["weight_decay"] for group in groups} == {0.1}
    names = [group["name"] for group in groups]
    assert names[-1] == "head"
    numbers = [int(name.removeprefix("backbone.")) for name in names[:-1]]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert (numbers[0] == 0) == (not config)


@pytest.mark.parametrize("backbone", list(STAGES))
def test_factors_fall_towards_the_input_by_the_formula(backbone: str) -> None:
    _, finetuning = build(backbone, layer_decay=0.7, backbone_rate=0.2)
    factors = [group["rate_factor"] for group in finetuning.parameter_groups(0.0)]
    num_groups = len(factors) - 1
    assert factors == pytest.approx([0.2 * 0.7 ** (num_groups - 1 - g) for g in range(num_groups)] + [1.0], rel=1e-12)
    assert all(a < b for a, b in itertools.pairwise(factors))
    assert factors[-2] == 0.2
    _, plain = build(backbone)
    assert {group["rate_factor"] for group in plain.parameter_groups(0.0)} == {1.0}


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "mobilenetv2_100"])
def test_factors_are_those_of_timm(backbone: str) -> None:
    embedder, finetuning = build(backbone, layer_decay=0.75)
    theirs = {
        parameter: group["lr_scale"]
        for group in param_groups_layer_decay(embedder.backbone, layer_decay=0.75)
        for parameter in group["params"]
    }
    ours = {p: group["rate_factor"] for group in finetuning.parameter_groups(0.0)[:-1] for p in group["params"]}
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_freezing_does_not_change_the_rate_of_what_learns() -> None:
    _, whole = build("mobilenetv2_100", layer_decay=0.5)
    _, part = build("mobilenetv2_100", layer_decay=0.5, trainable_stages=3)
    factor = {group["name"]: group["rate_factor"] for group in whole.parameter_groups(0.0)}
    assert {g["name"]: g["rate_factor"] for g in part.parameter_groups(0.0)}.items() < factor.items()


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_with_the_defaults_groups_train_as_one_group_does(kind: str) -> None:
    results = []
    for grouped in (True, False):
        embedder, finetuning = build("small", pretrained=False)
        groups = finetuning.parameter_groups(0.1) if grouped else [{"params": list(embedder.parameters())}]
        optimizer = optimizer_of(groups, kind)
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.1
        finetuning.train_mode() if grouped else embedder.train()
        train(embedder, optimizer)
        results.append(snapshot(embedder))
    assert not {name for name, value in results[0].items() if not torch.equal(value, results[1][name])}


@pytest.mark.parametrize("backbone", list(STAGES))
def test_stages_and_their_names(backbone: str) -> None:
    embedder, finetuning = build(backbone)
    stages = STAGES[backbone]
    assert finetuning.trainable() == (*stages, "head")
    for num in range(len(stages) + 1):
        finetuning = Finetuning(embedder, FinetuneConfig(trainable_stages=num), pretrained=True)
        assert finetuning.trainable() == (*stages[len(stages) - num :], "head")
        units = [unit for stage in stages[len(stages) - num :] for unit in stage.split("+")]
        assert learning(embedder) == {
            name
            for name, _ in embedder.named_parameters()
            if name.startswith("head.") or any(f"{name}.".startswith(f"backbone.{unit}.") for unit in units)
        }


@pytest.mark.parametrize("backbone", list(STAGES))
def test_unfreezing_adds_exactly_the_next_stage(backbone: str) -> None:
    embedder, finetuning = build(backbone, trainable_stages=1, unfreeze_at=(0.25, 0.5))
    stages = STAGES[backbone]
    seen = []
    for progress in (0.0, 0.2, 0.25, 0.3, 0.5, 1.0):
        before = learning(embedder)
        moved = finetuning.at(progress)
        assert moved == (learning(embedder) != before)
        assert not finetuning.at(progress)
        seen.append(len(finetuning.trainable()) - 1)
        assert finetuning.trainable() == (*stages[-seen[-1] :], "head")
    assert seen == [1, 1, 2, 2, 3, 3]


@settings(max_examples=30, deadline=None)
@given(
    num_learning=st.integers(0, 4),
    shares=st.lists(st.floats(0, 1, exclude_max=True), max_size=4).map(sorted),
    progress=st.floats(0, 1),
)
def test_number_of_learning_stages(num_learning: int, shares: list[float], progress: float) -> None:
    model = ModelConfig(widths=(2, 2, 2, 2), hidden_dim=0, embedding_dim=2)
    embedder = Embedder.create(model, ImagePolicy(size=8))
    config = FinetuneConfig(trainable_stages=num_learning, unfreeze_at=tuple(shares))
    if num_learning + len(shares) > 4:
        with pytest.raises(InputError, match=r"^finetune\.unfreeze_at: "):
            Finetuning(embedder, config, pretrained=True)
        return
    finetuning = Finetuning(embedder, config, pretrained=True)
    finetuning.at(progress)
    assert len(finetuning.trainable()) - 1 == num_learning + sum(share <= progress for share in shares)


def test_going_back_freezes_again_and_drops_gradients() -> None:
    """A run that is taken up in its middle, or rolled back, must not apply a gradient of what is frozen then."""
    embedder, finetuning = build("small", trainable_stages=0, unfreeze_at=(0.5,))
    optimizer = optimizer_of(finetuning.parameter_groups(0.1), "adamw")
    assert finetuning.at(0.7)
    finetuning.train_mode()
    train(embedder, optimizer, 1)
    assert finetuning.at(0.2)
    assert learning(embedder) == {f"head.{name}" for name, _ in embedder.head.named_parameters()}
    before = snapshot(embedder)
    optimizer.step()
    assert all(name.startswith("head.") for name in changed(embedder, before))


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_optimiser_state_survives_unfreezing(kind: str) -> None:
    """As a frozen parameter waits in its group, the others train as if it were not there, and so on after it."""
    waiting, finetuning = build("small", trainable_stages=1, unfreeze_at=(0.5,))
    optimizer = optimizer_of(finetuning.parameter_groups(0.5), kind)
    alone, fixed = build("small", trainable_stages=1)
    without = optimizer_of(fixed.parameter_groups(0.5), kind)
    for embedder, tuning, each in ((waiting, finetuning, optimizer), (alone, fixed, without)):
        tuning.train_mode()
        train(embedder, each)
    assert not changed(waiting, snapshot(alone))
    unfrozen = waiting.backbone.get_parameter("stages.4.weight")
    head = waiting.head[0].weight
    assert not optimizer.state.get(unfrozen)
    momentum = {key: value.clone() for key, value in optimizer.state[head].items() if isinstance(value, Tensor)}
    assert momentum
    assert finetuning.at(0.5)
    assert all(torch.equal(optimizer.state[head][key], value) for key, value in momentum.items())
    finetuning.train_mode()
    train(waiting, optimizer, 1)
    assert optimizer.state[unfrozen]
    if kind == "adamw":
        assert (float(optimizer.state[head]["step"]), float(optimizer.state[unfrozen]["step"])) == (4.0, 1.0)


@pytest.mark.parametrize("backbone", list(STAGES))
def test_train_from_any_block_is_a_cut_in_the_order_of_parameters(backbone: str) -> None:
    embedder = create(backbone)
    names = [name for name, _ in embedder.backbone.named_parameters()]
    blocks = [path for path, module in embedder.backbone.named_modules() if path]
    seen = 0
    for block in blocks[:: max(1, len(blocks) // 60)]:
        finetuning = Finetuning(embedder, FinetuneConfig(train_from=block), pretrained=True)
        now = learning(embedder)
        learns = [name for name in names if f"backbone.{name}" in now]
        first = next((i for i, name in enumerate(names) if name.startswith(f"{block}.")), None)
        if first is None:  # without parameters: what follows it learns
            assert learns == names[len(names) - len(learns) :]
        else:
            seen += 1
            assert learns == names[first:]
        held = sum(len(group["params"]) for group in finetuning.parameter_groups(0.0)[:-1])
        assert held == len(learns)
    assert seen > len(STAGES[backbone]) - 1


@pytest.mark.parametrize(
    ("backbone", "block", "trainable"),
    [
        ("small", "stages.4", ("stages.4+stages.5", "stages.8+stages.9", "head")),
        ("small", "stages.3", ("stages.4+stages.5", "stages.8+stages.9", "head")),  # a pooling
        ("small", "stages.11", ("head",)),  # the last pooling
        ("small", "stages", (*STAGES["small"], "head")),
        ("test_resnet", "layer4", ("layer4", "head")),
        ("test_resnet", "bn1", ("bn1", *STAGES["test_resnet"][1:], "head")),
        ("test_vit", "blocks.5.mlp", ("blocks.5.mlp+norm", "head")),
        ("test_vit", "patch_embed", ("patch_embed", *STAGES["test_vit"][1:], "head")),
        ("mobilenetv2_100", "blocks.5.1", ("blocks.5.1+blocks.5.2", STAGES["mobilenetv2_100"][-1], "head")),
        ("mobilenetv2_100", "blocks.5.0.bn1", ("blocks.5.0.bn1+…+blocks.5.2", STAGES["mobilenetv2_100"][-1], "head")),
    ],
)
def test_what_learns_from_a_block_on(backbone: str, block: str, trainable: tuple[str, ...]) -> None:
    assert build(backbone, train_from=block)[1].trainable() == trainable


def test_a_divided_stage_is_the_first_to_be_completed() -> None:
    _, finetuning = build("mobilenetv2_100", train_from="blocks.5.1", unfreeze_at=(0.5, 0.5, 0.75))
    tail = ("blocks.5", "blocks.6+conv_head+bn2", "head")
    assert finetuning.trainable() == ("blocks.5.1+blocks.5.2", *tail[1:])
    finetuning.at(0.5)
    assert finetuning.trainable() == ("blocks.4", *tail)
    finetuning.at(0.75)
    assert finetuning.trainable() == ("blocks.3", "blocks.4", *tail)


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("batch_norm", ["auto", "train", "eval"])
@pytest.mark.parametrize("num_learning", [None, 0, 1])
def test_which_batch_norms_keep_their_statistics(batch_norm: str, pretrained: bool, num_learning: int | None) -> None:
    embedder, finetuning = build(
        "small", pretrained=pretrained, batch_norm=batch_norm, trainable_stages=num_learning, layer_decay=0.9
    )
    before = snapshot(embedder)
    finetuning.train_mode()
    train(embedder, optimizer_of(finetuning.parameter_groups(0.1), "adamw"))
    moved = {name for name in changed(embedder, before) if name in dict(embedder.named_buffers())}
    keep = batch_norm == "eval" or (batch_norm == "auto" and pretrained)
    free = {None: ("1", "5", "9"), 0: (), 1: ("9",)}[num_learning]
    expected = set() if keep else {name for i in free for name in statistics(embedder, f"backbone.stages.{i}.")}
    assert moved == expected | statistics(embedder, "head.")
    # Scale and shift learn whatever the statistics do.
    assert {f"backbone.stages.{i}.weight" for i in free} <= changed(embedder, before)


@pytest.mark.parametrize("batch_norm", ["train", "eval"])
def test_statistics_of_norms_that_are_no_subclass_of_batch_norm(batch_norm: str) -> None:
    embedder = create("small")
    embedder.backbone.stages[5] = EvoNorm2dB0(6)
    finetuning = Finetuning(embedder, FinetuneConfig(batch_norm=batch_norm), pretrained=True)
    before = snapshot(embedder)
    finetuning.train_mode()
    train(embedder, optimizer_of(finetuning.parameter_groups(0.1), "adamw"))
    assert ("backbone.stages.5.running_var" in changed(embedder, before)) == (batch_norm == "train")


def test_dropout_and_stochastic_depth_are_off_exactly_where_frozen() -> None:
    embedder = create("test_vit", backbone_options={"drop_path_rate": 0.5, "proj_drop_rate": 0.5, "pos_drop_rate": 0.5})
    finetuning = Finetuning(embedder, FinetuneConfig(trainable_stages=2, unfreeze_at=(0.5,)), pretrained=True)
    x = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))

    def differs_after() -> list[int]:
        """Return the blocks whose output is another one the second time."""
        outputs: list[list[Tensor]] = [[], []]
        for kept in outputs:
            hooks = [
                block.register_forward_hook(lambda _module, _given, output, kept=kept: kept.append(output.detach()))
                for block in embedder.backbone.blocks
            ]
            embedder(x)
            for hook in hooks:
                hook.remove()
        return [i for i, (a, b) in enumerate(zip(*outputs, strict=True)) if not torch.equal(a, b)]

    with torch.random.fork_rng():
        torch.manual_seed(0)
        embedder.train()
        assert differs_after() == [0, 1, 2, 3, 4, 5]
        finetuning.train_mode()
        assert differs_after() == [4, 5]
        finetuning.at(0.5)
        finetuning.train_mode()
        assert differs_after() == [3, 4, 5]
    assert embedder.training
    assert embedder.head.training


def test_embedding_undoes_the_mode_and_train_mode_restores_it() -> None:
    embedder, finetuning = build("small", trainable_stages=1, batch_norm="train")
    finetuning.train_mode()
    modes = {path: module.training for path, module in embedder.named_modules()}
    stages = embedder.backbone.stages
    assert [module.training for module in stages] == [False] * 8 + [True] * 4
    embedder.embed(np.zeros((1, 16, 16, 3), dtype=np.uint8))
    assert all(module.training for module in stages)
    finetuning.train_mode()
    assert {path: module.training for path, module in embedder.named_modules()} == modes


def test_a_new_one_frees_what_an_earlier_one_froze() -> None:
    embedder, _ = build("small", trainable_stages=0)
    Finetuning(embedder, FinetuneConfig(), pretrained=True)
    assert learning(embedder) == {name for name, _ in embedder.named_parameters()}


SMALL_STAGES = "stages.0+stages.1, stages.4+stages.5, stages.8+stages.9"


@pytest.mark.parametrize(
    ("backbone", "config", "problems"),
    [
        (
            "mobilenetv2_100",
            {"train_from": "blocks.9"},
            (
                "finetune.train_from: 'blocks.9' is not a block of 'mobilenetv2_100'; its blocks are blocks.6, "
                "blocks.5, blocks.4, conv_stem, bn1, blocks.0, blocks.1, blocks.2, blocks.3, conv_head, bn2, and any "
                "module within them",
            ),
        ),
        (
            "test_vit",
            {"train_from": "cls_token"},
            (
                "finetune.train_from: 'cls_token' is not a block of 'test_vit'; its blocks are patch_embed, blocks.0, "
                "blocks.1, blocks.2, blocks.3, blocks.4, blocks.5, norm, and any module within them",
            ),
        ),
        (
            "small",
            {"train_from": ""},
            (
                "finetune.train_from: '' is not a block of 'small'; its blocks are stages.0, stages.1, stages.4, "
                "stages.5, stages.8, stages.9, and any module within them",
            ),
        ),
        (
            "small",
            {"train_from": "stages.4", "trainable_stages": 1},
            (
                "finetune.train_from: 'stages.4' and finetune.trainable_stages, 1, both say what learns; give one of "
                "them",
            ),
        ),
        (
            "small",
            {"trainable_stages": 4},
            (
                "finetune.trainable_stages: 4 is more than the stages of 'small', 3, from input to output "
                f"{SMALL_STAGES}; use 0 to 3",
            ),
        ),
        (
            "small",
            {"unfreeze_at": (0.3,)},
            (
                "finetune.unfreeze_at: 0.3 has no effect, since nothing is frozen; say with finetune.trainable_stages "
                "or finetune.train_from what learns at first",
            ),
        ),
        (
            "small",
            {"trainable_stages": 1, "unfreeze_at": (0.1, 0.2, 0.3)},
            (
                "finetune.unfreeze_at: 3 shares are more than the stages that are frozen at first, 2, from input to "
                "output stages.0+stages.1, stages.4+stages.5; give at most 2",
            ),
        ),
        (
            "small",
            {"trainable_stages": 9, "unfreeze_at": (1.0, 0.5)},
            (
                "finetune.trainable_stages: 9 is more than the stages of 'small', 3, from input to output "
                f"{SMALL_STAGES}; use 0 to 3",
                "finetune.unfreeze_at: 1.0, 0.5 do not rise; give the shares of the run in order, 0.5, 1.0",
                "finetune.unfreeze_at: 1.0 is the end of the run, where nothing learns; give shares below it",
            ),
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_settings(backbone: str, config: dict[str, Any], problems: tuple[str, ...]) -> None:
    embedder = create(backbone)
    with pytest.raises(InputError) as caught:
        Finetuning(embedder, FinetuneConfig(**config), pretrained=True)
    assert caught.value.problems == problems
    assert all(parameter.requires_grad for parameter in embedder.parameters())


def test_long_lists_of_blocks_are_cut_and_counted() -> None:
    embedder = Embedder.create(ModelConfig(widths=(2,) * 12, embedding_dim=2), ImagePolicy(size=8))
    with pytest.raises(InputError, match=r"; its blocks are stages\.0, .*, stages\.37 and 4 more, and any module"):
        Finetuning(embedder, FinetuneConfig(train_from="qqq"), pretrained=True)


@pytest.mark.parametrize("progress", [-0.1, 1.1, math.nan])
def test_progress_out_of_range(progress: float) -> None:
    with pytest.raises(InputError) as caught:
        build("small")[1].at(progress)
    assert str(caught.value) == f"progress: {progress} is not in [0, 1]; give the share of the run that is done"


class Other(nn.Module):
    """A network that registers its second layer before its first."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(4, 4)
        self.first = nn.Linear(4, 4)
        self.third = nn.Linear(4, 4)


class Ordered(Other):
    """The same, with groups in the order in which they run; none coarse, as some models of timm have it."""

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        assert not coarse, "coarse grouping is not implemented"
        return {"first": r"^first", "second": r"^second", "third": r"^third"}


def test_a_block_that_does_not_divide_its_network_is_refused() -> None:
    embedder = create("small")
    embedder.backbone = Ordered()
    with pytest.raises(InputError) as caught:
        Finetuning(embedder, FinetuneConfig(train_from="first"), pretrained=True)
    assert str(caught.value) == (
        "finetune.train_from: 'first' does not divide 'small': its parameter second.weight is registered before "
        "first.weight but runs after it; use finetune.trainable_stages"
    )
    assert Finetuning(embedder, FinetuneConfig(train_from="third"), pretrained=True).trainable() == ("third", "head")
    two = Finetuning(embedder, FinetuneConfig(trainable_stages=2), pretrained=True)
    assert two.trainable() == ("second", "third", "head")  # layer groups for want of coarse ones


def test_a_network_without_groups_is_one_stage() -> None:
    embedder = create("small")
    embedder.backbone = Other()
    finetuning = Finetuning(embedder, FinetuneConfig(train_from="first", unfreeze_at=(0.5,)), pretrained=True)
    assert finetuning.trainable() == ("first+third", "head")
    assert finetuning.at(0.5)
    assert finetuning.trainable() == ("second+first+third", "head")
    assert [group["name"] for group in finetuning.parameter_groups(0.0)] == ["backbone.0", "head"]
    with pytest.raises(InputError) as caught:
        Finetuning(embedder, FinetuneConfig(trainable_stages=2, layer_decay=0.5), pretrained=True)
    assert caught.value.problems == (
        "finetune.trainable_stages: 2 is more than the stages of 'small', 1, from input to output second+first+third; "
        "use 0 to 1",
        "finetune.layer_decay: 0.5 has no effect, since 'small' is one layer group; leave it at 1.0 and use "
        "finetune.backbone_rate",
    )


def test_real_weights_before_the_block_are_kept_and_serve_unchanged() -> None:
    """Real ImageNet weights, trained from blocks.5 on: all before it is kept, whatever the batch."""
    if not IMAGENET.is_file():
        pytest.skip(f"{IMAGENET} is absent: fine-tuning of real weights is NOT tested")
    embedder = create("mobilenetv2_100", weights=str(IMAGENET), backbone_options={"pad_type": "same"})
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = embedder.eval().backbone(x)
        # The batch norms of this file are folded into its convolutions: their statistics must stay as they are.
        for batch_norm in ("auto", "train"):
            Finetuning(embedder, FinetuneConfig(batch_norm=batch_norm), pretrained=True).train_mode()
            assert torch.equal(embedder.backbone(x), features) == (batch_norm == "auto")
    loaded = snapshot(embedder)
    config = FinetuneConfig(train_from="blocks.5", layer_decay=0.9, backbone_rate=0.1)
    finetuning = Finetuning(embedder, config, pretrained=True)
    assert finetuning.trainable() == ("blocks.5", "blocks.6+conv_head+bn2", "head")
    finetuning.train_mode()
    train(embedder, optimizer_of(finetuning.parameter_groups(5e-4), "sgd"))
    moved = changed(embedder, loaded)
    assert moved == learning(embedder) | statistics(embedder, "head.")
    parts = {".".join(name.split(".")[:3]) for name in moved if name.startswith("backbone.")}
    assert parts == {
        f"backbone.{name}" for name in ("blocks.5", "blocks.6", "conv_head.weight", "bn2.weight", "bn2.bias")
    }
