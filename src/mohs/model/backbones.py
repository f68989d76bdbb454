"""Networks from a picture to features: the small built-in one, and timm's with the options that they may have.

The small one trains on two cores at thousands of pictures a second. No option of timm's may read a file or an address:
configurations come from strangers, with saved embedders, and timm passes what it does not know on, so that a list of
what is refused would be short of something with every version. There is a list of what is allowed.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mohs.bounds import STAGES
from mohs.checks import require
from mohs.errors import InputError, Problem, reason_of
from mohs.settings.config import ModelConfig

__all__ = [
    "OPTIONS",
    "Backbone",
    "SmallNetwork",
    "build_backbone",
    "check_options",
    "classifier_prefixes",
    "load_weights",
    "require_timm_model",
    "timm_name",
]

_GRID = 4


@final
class SmallNetwork(nn.Module):
    """Stages of 3×3 convolution, batch norm, ReLU and 2×2 max pooling; the first convolution has stride 2.

    Takes float pictures [B, C, H, W] with H, W ≥ 8 and returns features [B, 16·W_last]: the last stage averaged to a
    4×4 grid and flattened, because where a stroke lies tells classes of drawings and parts apart. Any input size works.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, batch_norm: bool = True) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width_in = channels
        for stage, width in enumerate(widths):
            stride = 2 if stage == 0 else 1
            stages.append(nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=not batch_norm))
            if batch_norm:
                stages.append(nn.BatchNorm2d(width))
            stages.append(nn.ReLU(inplace=True))
            # ceil_mode keeps tiny inputs from shrinking to nothing.
            stages.append(nn.MaxPool2d(2, ceil_mode=True))
            width_in = width
        self.stages = nn.Sequential(*stages)
        self.num_features = width_in * _GRID * _GRID

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return features [B, F]."""
        pooled: Tensor = nn.functional.adaptive_avg_pool2d(self.stages(x_BCHW), _GRID)
        return torch.flatten(pooled, 1)


@final
@dataclass(frozen=True)
class Backbone:
    """A network from pictures to features [B, num_features], and the input statistics it expects."""

    network: nn.Module
    num_features: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def build_backbone(config: ModelConfig, *, channels: int, size: int) -> Backbone:
    """Return the backbone that `config` names, without pretrained weights (see `load_weights`).

    `size` is the side of its square input in pixels. Raises `InputError` for a name that neither Mohs nor timm has
    (close names are suggested), for options that the model does not take or that would read a file, and for a model
    that does not give one vector per picture of that size. Parameters are drawn from torch's generator: seed it, or use
    `Embedder.create`.
    """
    if config.backbone == "small":
        STAGES.check("model.widths", len(config.widths))
        small = SmallNetwork(channels, config.widths, batch_norm=config.batch_norm)
        mean, std = (0.5,) * channels, (0.5,) * channels
        return Backbone(small, small.num_features, *_statistics(config, channels, mean, std))
    import timm

    require_timm_model("model.backbone", config.backbone, "is neither 'small' nor a timm model", others=("small",))
    check_options(config.backbone_options)
    try:
        network = timm.create_model(
            timm_name(config), pretrained=False, num_classes=0, in_chans=channels, **config.backbone_options
        )
    except MemoryError:
        raise
    except Exception as error:  # a model's own code raises almost anything on values that it was not made for
        reason = reason_of(error)
        what = f"{dict(config.backbone_options)} does not fit {config.backbone!r} ({reason})"
        raise InputError(Problem("model.backbone_options", what)) from None
    settings = network.pretrained_cfg
    mean, std = tuple(settings["mean"]), tuple(settings["std"])
    if channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    num_features = _measure_features(network, config.backbone, channels, size)
    return Backbone(network, num_features, *_statistics(config, channels, mean, std))


def require_timm_model(place: str, name: str, what: str, *, others: Sequence[str] = ()) -> None:
    """Raise `InputError` at a place, with close names, if timm has no model of this name."""
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, [*others, *timm.list_models()], n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "timm.list_models() lists the names"
        raise InputError(Problem(place, f"{name!r} {what}", hint))


def timm_name(config: ModelConfig) -> str:
    """Return timm's name of the backbone with the tag of `config.pretrained`, whose mean and spread pictures have.

    Raises `InputError` for a tag that timm does not have.
    """
    import timm

    tag = config.pretrained
    if tag in (None, "default"):
        return config.backbone
    bare = config.backbone.partition(".")[0]
    known = [name.partition(".")[2] for name in timm.list_pretrained(f"{bare}.*")]
    if tag not in known or config.backbone not in (bare, f"{bare}.{tag}"):
        has = f"its tags are {', '.join(known[:20])}" if known else "it has none"
        raise InputError(f"model.pretrained: {tag!r} is no tag of {config.backbone!r}; {has}")
    return f"{bare}.{tag}"


def _measure_features(network: nn.Module, name: str, channels: int, size: int) -> int:
    """Return the length of the vector that a picture gives: for many families it is not timm's `num_features`."""
    network.eval()
    try:
        with torch.inference_mode():
            shape = network(torch.zeros(1, channels, size, size)).shape
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        reason = reason_of(error)
        what = f"{name!r} does not take pictures of {size} x {size} ({reason})"
        fix = "use the size it was made for (--size 224 is common)"
        raise InputError(Problem("model.backbone", what, fix)) from None
    if len(shape) != 2:
        what = f"{name!r} gives {tuple(shape)} for a picture, not one vector"
        raise InputError(Problem("model.backbone", what, "use another timm model"))
    network.train()
    return int(shape[1])


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a safetensors file into a backbone, casting to float32; a classifier in the file is left out.

    Every parameter of the backbone must be in the file in the same shape: all that are missing, of another shape or
    left over are reported together in one `InputError`, and then nothing is loaded.
    """
    path = Path(path)
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise InputError(Problem("model.weights", f"{path}: no such file", "check the path")) from None
    except (SafetensorError, OSError) as error:
        raise InputError(Problem("model.weights", f"{path}: not a safetensors file ({error})")) from None
    own: Mapping[str, Tensor] = network.state_dict()
    classifier = classifier_prefixes(network)
    state = {name: value for name, value in state.items() if not name.startswith(classifier)}
    # Files from before batch norm counted its batches lack this counter, and nothing depends on it.
    required = {name for name in own if not name.endswith("num_batches_tracked")}
    problems = [
        f"model.weights: {path}: {name} is missing; use weights of this backbone" for name in required - set(state)
    ]
    problems += [f"model.weights: {path}: {name} is not part of this backbone" for name in set(state) - set(own)]
    problems += [
        f"model.weights: {path}: {name} has shape {tuple(state[name].shape)}, the backbone {tuple(own[name].shape)}"
        for name in set(state) & set(own)
        if state[name].shape != own[name].shape
    ]
    if problems:
        problems.sort()
        more = [f"… and {len(problems) - 10} more"] if len(problems) > 10 else []
        raise InputError(*problems[:10], *more)
    # Counters are integers; everything else is computed in float32 whatever the file's type.
    cast = {name: value if value.dtype == torch.int64 else value.float() for name, value in state.items()}
    network.load_state_dict({**own, **cast})


def classifier_prefixes(network: nn.Module) -> tuple[str, ...]:
    """Return what the names of the parameters of a network's classifier begin with."""
    names = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def _statistics(
    config: ModelConfig, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    chosen = []
    for name, given, default in (("mean", config.mean, mean), ("std", config.std, std)):
        value = default if given is None else given
        if len(value) != channels:
            raise InputError(
                Problem(f"model.{name}", f"{len(value)} values for {channels} channels", "give one per channel")
            )
        chosen.append(value)
    if min(chosen[1]) <= 0:
        raise InputError(
            Problem("model.std", f"{min(chosen[1])} is not positive", "give the spread of pictures in [0, 1]")
        )
    return chosen[0], chosen[1]


OPTIONS: Final = frozenset(
    {
        # What is left out at random in training.
        "attn_drop_rate", "drop_block_rate", "drop_path_rate", "drop_rate", "head_drop_rate", "patch_drop_rate",
        "pos_drop_rate", "proj_drop_rate",
        # What the input is, and how it is cut up.
        "act_layer", "aa_layer", "always_partition", "dynamic_img_pad", "dynamic_img_size", "img_size", "in_22k",
        "pad_type", "patch_size", "strict_img_size", "stem_type", "stem_width", "window_size",
        # What a transformer is made of.
        "class_token", "embed_norm", "fc_norm", "final_norm", "init_values", "mlp_layer", "mlp_ratio",
        "no_embed_class", "norm_layer", "num_heads", "pos_embed", "pre_norm", "qk_norm", "qkv_bias", "reg_tokens",
        "rope_type", "scale_attn_norm", "scale_mlp_norm", "use_abs_pos", "use_rel_pos_bias", "use_rot_pos_emb",
        # How large a network is, and what leaves it.
        "base_width", "bn_eps", "bn_momentum", "cardinality", "conv_bias", "depth", "embed_dim", "fix_group_size",
        "global_pool", "group_size", "head_hidden_size", "head_norm_first", "layer_scale_init_value", "num_features",
        "output_stride", "se_layer", "use_grn", "zero_init_last",
    }
)  # fmt: skip
"""Names of options that shape a network. Their values are numbers, truth values or one plain word."""

_WORD: Final = re.compile(r"[A-Za-z0-9_-]{0,40}")
_LARGEST: Final = 8_192
# Blocks are made one by one, each in milliseconds, before their number can be seen in anything else.
_DEEPEST: Final = 256


def check_options(options: Mapping[str, str | int | float | bool]) -> None:
    """Raise `InputError` for options that are not in `OPTIONS`, and values that are no number or plain word.

    >>> check_options({"img_size": 64, "pad_type": "same"})
    >>> check_options({"checkpoint_path": "x.pth"})
    Traceback (most recent call last):
    mohs.errors.InputError: model.backbone_options.checkpoint_path: not an option that shapes a network; weights are \
given by model.weights
    """
    problems = []
    for name, value in options.items():
        place = f"model.backbone_options.{name}"
        if name not in OPTIONS:
            fix = "weights are given by model.weights" if _loads(name) else "leave it out"
            problems.append(Problem(place, "not an option that shapes a network", fix))
        elif isinstance(value, str) and not _WORD.fullmatch(value):
            problems.append(Problem(place, f"{value[:80]!r} is not a plain word", "write letters, digits, - and _"))
        elif not isinstance(value, str) and not abs(value) <= (limit := _DEEPEST if name == "depth" else _LARGEST):
            problems.append(Problem(place, f"{value!r} is not in [-{limit}, {limit}]", "use a smaller number"))
    require(*problems)


def _loads(name: str) -> bool:
    return "pretrain" in name or "checkpoint" in name or "cache" in name or "weight" in name
