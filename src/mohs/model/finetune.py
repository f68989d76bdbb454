"""Fine-tuning: which parts of a pretrained backbone learn, how fast, and from when.

A little long, since the two cuts that it makes must agree.

A backbone is cut twice, each time from its input to its output:

- **Layer groups** are the steps of the learning rate. For a timm model they are those of its own
  `group_matcher(coarse=False)`, as in timm's layer-wise decay: in general one per residual block.
- **Stages** are what is frozen or learns as a whole. For a timm model they are the groups of
  `group_matcher(coarse=True)`, as in timm's own freezing: the stem, then each stage of blocks; what timm counts to a
  stage (as the last convolution of mobilenetv2_100 to its last blocks) belongs to it. A model for which timm has no
  coarse groups has its layer groups as stages; one without any groups is one layer group and one stage.

For the small built-in network both are its stages: a convolution with the batch norm that follows it.

A layer group or stage is named by the modules it is made of: 'conv_stem+bn1', 'blocks.0', …,
'blocks.6+conv_head+bn2' are the 8 stages of mobilenetv2_100.
"""

import difflib
import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from mohs.checks import require
from mohs.errors import InputError, Problem
from mohs.model.backbones import SmallNetwork
from mohs.model.embedder import Embedder
from mohs.settings.config import FinetuneConfig, RunConfig

__all__ = ["Finetuning", "check_pictures_at_once", "random_weights_warning", "rate_warning"]

_NUM_NAMED = 20
_FAST = 2e-3


@final
class Finetuning:
    """Which parameters of an embedder learn now and how fast, and which batch norms keep their statistics.

    What learns at progress 0 (the module's docstring says what a stage is; the head always learns):

    - `train_from`: the module of this name and all parts of the backbone that are registered after it, which is the
      order in which they run; what comes before is frozen. A parameter that belongs to a module around it (as the
      position embedding of a ViT) comes before it. Where the order of registration contradicts timm's layer groups, so
      that "before" has no meaning, the name is refused.
    - `trainable_stages`: so many stages of the backbone, counted from its output.
    - neither: the whole backbone.

    At the i-th share in `unfreeze_at` one more stage begins to learn: the nearest to the output that does not learn as
    a whole already. Rates: a parameter of the head has the factor 1, one in layer group g = 0 … G − 1 of the backbone
    backbone_rate · layer_decay^(G − 1 − g), whatever is frozen.

    Sources: Howard and Ruder, "Universal Language Model Fine-tuning" (2018), sections 3.2 (rates divided by 2.6 from
    layer to layer) and 3.3 (gradual unfreezing); timm's `param_groups_layer_decay`, where the head counts as group G
    and the last group of the backbone so has layer_decay; here it has backbone_rate.

    A frozen part is in evaluation mode: its batch norm keeps its statistics, its dropout and stochastic depth are off.
    A module without parameters goes with the parameter registered before it. With `batch_norm` "eval", or "auto" and
    `pretrained`, batch norm also keeps its statistics where the backbone learns (its scale and shift do learn). The
    head's batch norm always trains.

    Building one freezes what is frozen at progress 0 and makes all else learn, whatever was frozen before.

    Args:
        embedder: changed in place: `requires_grad` of its parameters, and the mode of its modules.
        config: see above.
        pretrained: whether the backbone's weights come from a file.

    Raises `InputError` for a `train_from` that is not a module of the backbone, for both `train_from` and
    `trainable_stages`, for more stages or more shares than there are, for shares that fall or are 1, and for settings
    without effect: `unfreeze_at` with nothing frozen, `layer_decay` with a single layer group.

    >>> from mohs.settings.config import ModelConfig
    >>> from mohs.data.images import ImagePolicy
    >>> embedder = Embedder.create(ModelConfig(widths=(4, 8)), ImagePolicy(size=16))
    >>> finetuning = Finetuning(embedder, FinetuneConfig(trainable_stages=0, unfreeze_at=(0.5,)), pretrained=True)
    >>> finetuning.trainable()
    ('head',)
    >>> finetuning.at(0.5), finetuning.trainable()
    (True, ('stages.4+stages.5', 'head'))
    """

    def __init__(self, embedder: Embedder, config: FinetuneConfig, *, pretrained: bool) -> None:
        self._embedder = embedder
        self._config = config
        self._keep_statistics = config.batch_norm == "eval" or (config.batch_norm == "auto" and pretrained)
        self._layers = _read_layers(embedder)
        begin = _begin(self._layers, config)
        parameters = dict(embedder.backbone.named_parameters())
        self._begin = [(parameters[name], share) for name, share in begin.items()]
        self._begin += [(parameter, 0.0) for parameter in embedder.head.parameters()]
        self._may_learn = {name for name, share in begin.items() if share < math.inf}
        self.at(0.0)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the groups for a torch optimiser, from input to output, the head last.

        Each is {"params", "name", "rate_factor", "weight_decay"}; the rate of a group is the run's rate times its
        `rate_factor`. There is one group "backbone.G" for each layer group, numbered from 0 at the input, and "head".
        Every parameter that learns at any time of the run is in exactly one group, and no other is; a group without
        any is left out. All are decayed, biases and those of norms too. An optimiser leaves a parameter alone, decay
        included, while its gradient is None: that is until it begins to learn, if gradients are set to None.
        """
        parameters = dict(self._embedder.backbone.named_parameters())
        last = len(self._layers.groups) - 1
        groups: list[dict[str, Any]] = []
        for g, names in enumerate(self._layers.groups):
            if chosen := [parameters[name] for name in names if name in self._may_learn]:
                factor = self._config.backbone_rate * self._config.layer_decay ** (last - g)
                groups.append({"params": chosen, "name": f"backbone.{g}", "rate_factor": factor})
        groups.append({"params": list(self._embedder.head.parameters()), "name": "head", "rate_factor": 1.0})
        return [group | {"weight_decay": weight_decay} for group in groups]

    def at(self, progress: float) -> bool:
        """Make learn what learns at `progress` in [0, 1], freeze the rest; return whether anything changed.

        A stage learns from progress ≥ its share on. Going back freezes it again (its gradient is then dropped), so a
        run that is taken up in its middle only needs this call. If it returns True, call `train_mode` before the next
        step. Raises `InputError` for progress outside [0, 1].
        """
        if not 0.0 <= progress <= 1.0:
            raise InputError(
                Problem("progress", f"{progress} is not in [0, 1]", "give the share of the run that is done")
            )
        changed = False
        for parameter, share in self._begin:
            learns = share <= progress
            if parameter.requires_grad != learns:
                parameter.requires_grad_(learns)
                if not learns:
                    parameter.grad = None  # an optimiser would still apply it, with its decay
                changed = True
        return changed

    def train_mode(self) -> None:
        """Put the embedder in training mode, but frozen parts, and batch norms that keep statistics, in evaluation.

        Call it wherever `embedder.train()` would stand: after `Embedder.embed`, which puts all parts back in training
        mode, and after `at` has changed anything.
        """
        self._embedder.train()
        for module, decisive in _modules(self._embedder.backbone):
            frozen = not any(parameter.requires_grad for parameter in decisive)
            if frozen or (self._keep_statistics and _is_batch_norm(module)):
                module.training = False

    def learned_statistics(self) -> str | None:
        """Return the name of a batch norm whose statistics come from batches at some time of the run; None: of none."""
        changed = self.at(1.0)
        self.train_mode()
        names = [name for name, module in self._embedder.named_modules() if module.training and _is_batch_norm(module)]
        if changed:
            self.at(0.0)
        return names[0] if names else None

    def trainable(self) -> tuple[str, ...]:
        """Return the names of the stages that learn now, from input to output, and "head".

        Of a stage that `train_from` divides, the name says which modules learn.
        """
        learning = {name for name, parameter in self._embedder.backbone.named_parameters() if parameter.requires_grad}
        parts = [learning.intersection(stage) for stage in self._layers.stages]
        return (*(self._layers.label(part) for part in parts if part), "head")


@final
@dataclass(frozen=True)
class _Layers:
    """A backbone's parameters by name, in the order of registration, and cut into groups and stages."""

    backbone: str
    network: nn.Module
    names: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    stages: tuple[tuple[str, ...], ...]

    def units(self, part: Collection[str]) -> list[str]:
        """Return the largest modules that lie within a part (else the parameters), in order."""
        size = Counter(prefix for name in self.names for prefix in _prefixes(name))
        size_within = Counter(prefix for name in part for prefix in _prefixes(name))
        whole = (
            next(prefix for prefix in _prefixes(name) if size_within[prefix] == size[prefix])
            for name in self.names
            if name in part
        )
        return list(dict.fromkeys(whole))

    def label(self, part: Collection[str]) -> str:
        """Return the name of a part: its modules, or the first and the last of more than three."""
        units = self.units(part)
        return "+".join(units if len(units) <= 3 else (units[0], "…", units[-1]))

    def list_stages(self, stages: Sequence[Collection[str]]) -> str:
        """Return the names of stages, for a message."""
        return _shorten([self.label(stage) for stage in stages])


def _read_layers(embedder: Embedder) -> _Layers:
    network = embedder.backbone
    names = tuple(name for name, _ in network.named_parameters())
    if isinstance(network, SmallNetwork):
        groups = stages = _small_stages(network)
    elif hasattr(network, "group_matcher"):
        groups = _timm_groups(network, coarse=False)
        try:
            stages = _timm_groups(network, coarse=True)
        except AssertionError:  # how timm says that a model has none
            stages = groups
    else:
        groups = stages = (names,)
    assert sorted(itertools.chain(*groups)) == sorted(itertools.chain(*stages)) == sorted(names)
    return _Layers(embedder.config.backbone, network, names, groups, stages)


def _is_batch_norm(module: nn.Module) -> bool:
    # Not by class: some norms of timm that are no subclass of torch's keep a variance.
    return "running_var" in module._buffers


def check_pictures_at_once(finetuning: Finetuning, config: RunConfig) -> None:
    """Raise `InputError` if a batch is to go through a network in pieces whose batch norm needs all of it at once."""
    num = config.training.pictures_at_once
    if num is not None and (name := finetuning.learned_statistics()):
        what = f"{num} pictures at a time, but its batch norm ({name}) needs the whole batch"
        fix = (
            "leave it out, or take a network without batch norm: model.batch_norm false, and for a pretrained backbone "
            "finetune.batch_norm 'eval'"
        )
        raise InputError(Problem("training.pictures_at_once", what, fix))


def rate_warning(config: RunConfig) -> str | None:
    """Return a line if a pretrained backbone would learn under AdamW at more than 2e-3, which ruins it; None otherwise.

    At 1e-3 mobilenetv2_100 still came out better than frozen (recall@1 0.26 against 0.23, see `mohs.settings.presets`),
    at 4e-3, the default for new networks, it was destroyed (0.009).

    >>> from mohs.settings.config import ModelConfig
    >>> rate_warning(RunConfig(model=ModelConfig(weights="w.safetensors"))).partition(",")[0]
    'model.weights: the backbone learns at a rate of 0.004'
    """
    training, finetune = config.training, config.finetune
    rate = training.learning_rate * finetune.backbone_rate
    frozen = finetune.trainable_stages == 0 and not finetune.unfreeze_at
    if config.model.beginning is None or config.optimizer != "adamw" or rate <= _FAST or frozen:
        return None
    return (
        f"{config.model.beginning}: the backbone learns at a rate of {rate:.2g}, which washes out what they know; "
        "lower training.learning_rate or finetune.backbone_rate, or take the settings of the preset 'fine-tune'"
    )


def random_weights_warning(config: RunConfig) -> str | None:
    """Return a line if settings are for pretrained weights and there are none: the backbone is random. None otherwise.

    Such settings are all of `finetune` that differ from their defaults. The presets for fine-tuning each have one.

    >>> from mohs.settings.config import ModelConfig
    >>> print(random_weights_warning(RunConfig(finetune=FinetuneConfig(backbone_rate=0.1))))
    model.weights: none are given, so 'small' starts from random weights, and finetune.backbone_rate 0.1 is for \
pretrained ones; give --weights FILE, or leave it out
    >>> random_weights_warning(RunConfig(model=ModelConfig(weights="w.safetensors")))
    """
    usual, own = FinetuneConfig().model_dump(), config.finetune.model_dump()
    changed = [f"finetune.{name} {value}" for name, value in own.items() if value != usual[name]]
    if config.model.beginning is not None or not changed:
        return None
    are, them = ("is", "it") if len(changed) == 1 else ("are", "them")
    return (
        f"model.weights: none are given, so {config.model.backbone!r} starts from random weights, and "
        f"{', '.join(changed)} {are} for pretrained ones; give --weights FILE, or leave {them} out"
    )


def _small_stages(network: SmallNetwork) -> tuple[tuple[str, ...], ...]:
    stages: list[list[str]] = []
    for place, module in network.stages.named_children():
        if isinstance(module, nn.Conv2d):
            stages.append([])
        stages[-1] += [f"stages.{place}.{name}" for name, _ in module.named_parameters()]
    return tuple(map(tuple, stages))


def _timm_groups(network: Any, *, coarse: bool) -> tuple[tuple[str, ...], ...]:
    from timm.models import group_parameters

    groups = group_parameters(network, network.group_matcher(coarse=coarse))
    return tuple(tuple(names) for _, names in sorted(groups.items()))


def _modules(network: nn.Module) -> Iterator[tuple[nn.Module, tuple[nn.Parameter, ...]]]:
    """Yield each module with the parameters that decide whether it is frozen: all must be."""
    before = tuple(itertools.islice(network.parameters(), 1))
    for module in network.modules():
        yield module, tuple(module.parameters()) or before
        before = tuple(module.parameters(recurse=False))[-1:] or before


def _begin(layers: _Layers, config: FinetuneConfig) -> dict[str, float]:
    """Return for each parameter of the backbone the progress at which it begins to learn; infinity: never."""
    problems: list[str] = []
    frozen: set[str] = set()
    if config.train_from is not None and config.trainable_stages is not None:
        problems.append(
            f"finetune.train_from: {config.train_from!r} and finetune.trainable_stages, {config.trainable_stages}, "
            "both say what learns; give one of them"
        )
    elif config.train_from is not None:
        frozen, problems = _before(layers, config.train_from)
    elif config.trainable_stages is not None:
        frozen, problems = _all_but_last(layers, config.trainable_stages)
    waiting = [part for stage in reversed(layers.stages) if (part := frozen.intersection(stage))]
    # How many stages are frozen is not known after a mistake in what learns.
    problems += _share_problems(layers, config.unfreeze_at, None if problems else waiting)
    if config.layer_decay < 1.0 and len(layers.groups) < 2:
        problems.append(
            f"finetune.layer_decay: {config.layer_decay} has no effect, since {layers.backbone!r} is one layer group; "
            "leave it at 1.0 and use finetune.backbone_rate"
        )
    require(*problems)
    begin = {name: math.inf if name in frozen else 0.0 for name in layers.names}
    for share, part in zip(config.unfreeze_at, waiting, strict=False):
        begin |= dict.fromkeys(part, share)
    return begin


def _all_but_last(layers: _Layers, num_learning: int) -> tuple[set[str], list[str]]:
    """Return the parameters outside the last stages, and what is wrong with their number."""
    num_stages = len(layers.stages)
    if num_learning > num_stages:
        return set(), [
            f"finetune.trainable_stages: {num_learning} is more than the stages of {layers.backbone!r}, "
            f"{num_stages}, from input to output {layers.list_stages(layers.stages)}; use 0 to {num_stages}"
        ]
    return set(itertools.chain(*layers.stages[: num_stages - num_learning])), []


def _before(layers: _Layers, block: str) -> tuple[set[str], list[str]]:
    """Return the parameters registered before a module, and what is wrong with its name."""
    modules = dict(layers.network.named_modules())
    if not block or block not in modules:  # the network itself has the name ""
        close = difflib.get_close_matches(block, modules, n=3) if block else []
        blocks = [unit for stage in layers.stages for unit in layers.units(stage) if unit in modules]
        named = _shorten(list(dict.fromkeys([*close, *blocks])))
        return set(), [
            f"finetune.train_from: {block!r} is not a block of {layers.backbone!r}; its blocks are {named}, and any "
            "module within them"
        ]
    owners = itertools.takewhile(lambda path: path != block, modules)
    registered = {
        f"{path}.{name}" if path else name
        for path in owners
        for name, _ in modules[path].named_parameters(recurse=False)
    }
    frozen = [name for name in layers.names if name in registered]
    learning = [name for name in layers.names if name not in registered]
    group_of = {name: g for g, names in enumerate(layers.groups) for name in names}
    if frozen and learning:
        last, first = max(frozen, key=group_of.__getitem__), min(learning, key=group_of.__getitem__)
        if group_of[last] > group_of[first]:
            return set(), [
                f"finetune.train_from: {block!r} does not divide {layers.backbone!r}: its parameter {last} is "
                f"registered before {first} but runs after it; use finetune.trainable_stages"
            ]
    return set(frozen), []


def _share_problems(layers: _Layers, shares: tuple[float, ...], waiting: Sequence[Collection[str]] | None) -> list[str]:
    """Return what is wrong with `unfreeze_at`; `waiting` is what is frozen at first, the next to learn first."""
    problems = []
    if list(shares) != sorted(shares):
        problems.append(
            f"finetune.unfreeze_at: {_list(shares)} do not rise; give the shares of the run in order, "
            f"{_list(sorted(shares))}"
        )
    if 1.0 in shares:
        problems.append("finetune.unfreeze_at: 1.0 is the end of the run, where nothing learns; give shares below it")
    if waiting is not None and shares and not waiting:
        problems.append(
            f"finetune.unfreeze_at: {_list(shares)} has no effect, since nothing is frozen; say with "
            "finetune.trainable_stages or finetune.train_from what learns at first"
        )
    elif waiting is not None and len(shares) > len(waiting):
        problems.append(
            f"finetune.unfreeze_at: {len(shares)} shares are more than the stages that are frozen at first, "
            f"{len(waiting)}, from input to output {layers.list_stages(waiting[::-1])}; give at most {len(waiting)}"
        )
    return problems


def _list(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _shorten(names: Sequence[str]) -> str:
    if len(names) <= _NUM_NAMED:
        return _list(names)
    return f"{_list(names[:_NUM_NAMED])} and {len(names) - _NUM_NAMED} more"


def _prefixes(name: str) -> list[str]:
    """Return the paths of the modules that hold a parameter, the outermost first, and its own."""
    return list(itertools.accumulate(name.split("."), lambda path, part: f"{path}.{part}"))
