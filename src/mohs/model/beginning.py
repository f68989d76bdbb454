"""What a network begins with: a file of weights, those of timm on the Hugging Face hub, or another embedder's."""

from collections.abc import Mapping
from typing import Any, Final

from safetensors.torch import load_file
from torch import Tensor, nn

from mohs.checks import require
from mohs.data.images import ImagePolicy
from mohs.errors import InputError, Problem, reason_of
from mohs.model.backbones import load_weights, timm_name
from mohs.model.hub import hub_file
from mohs.model.saved import embedder_folder, read_embedder_settings, weights_file
from mohs.settings.config import ModelConfig

__all__ = ["differences", "load_beginning", "settings_of_start", "takes_head"]

_BACKBONE: Final = ("backbone", "backbone_options", "widths")
_HEAD: Final = ("embedding_dim", "hidden_dim", "batch_norm")
_INPUT: Final = ("mean", "std")


def load_beginning(backbone: nn.Module, head: nn.Module, config: ModelConfig, policy: ImagePolicy) -> None:
    """Load into a new network what `config` says that it begins with: `weights`, `pretrained`, `start`, or nothing.

    Raises `InputError` for more than one of them, and for weights that cannot be had or do not fit.
    """
    given = [f"model.{name}" for name in ("weights", "pretrained", "start") if getattr(config, name) is not None]
    if len(given) > 1:
        raise InputError(
            Problem(", ".join(given), "only one of them can give the first weights", "leave the others out")
        )
    if config.weights is not None:
        load_weights(backbone, config.weights)
    elif config.pretrained is not None:
        backbone.load_state_dict(_pretrained(config, policy.channels))
    elif config.start is not None:
        _load_start(backbone, head, config, policy)


def _pretrained(config: ModelConfig, channels: int) -> Mapping[str, Tensor]:
    """Return the weights of timm's tag, adapted by timm to the network: its input's channels, its size."""
    import timm

    place = "model.pretrained"
    if config.backbone == "small":
        fix = "name a timm model"
        raise InputError(Problem(place, "'small' has no pretrained weights", fix))
    name = timm_name(config)
    about = timm.get_pretrained_cfg(name)
    if about is None or about.hf_hub_id is None:
        raise InputError(Problem(place, f"timm has no weights of {name!r} on the hub", "use another model, or weights"))
    repo, _, revision = str(about.hf_hub_id).partition("@")
    file = hub_file(repo, _safe_name(about.hf_hub_filename), revision=revision or None, place=place)
    # timm's own loader reads pickles as well; here it is given a safetensors file, and nothing else.
    overlay = {"file": str(file), "custom_load": False}
    try:
        network = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            num_classes=0,
            in_chans=channels,
            **config.backbone_options,
        )
    except (RuntimeError, KeyError, ValueError) as error:
        reason = reason_of(error)
        raise InputError(
            Problem(place, f"the weights of {name!r} do not fit it ({reason})", "leave model.backbone_options out")
        ) from None
    state: Mapping[str, Tensor] = network.state_dict()
    return state


def _safe_name(file: str | None) -> str:
    """Return the name of the safetensors file beside one that timm names; of a pickle, what the hub converts it to.

    >>> _safe_name(None), _safe_name("open_clip_pytorch_model.bin")
    ('model.safetensors', 'open_clip_model.safetensors')
    """
    if file is None or file.endswith(".safetensors"):
        return file or "model.safetensors"
    return f"{file.rpartition('.')[0].replace('pytorch_model', 'model')}.safetensors"


def settings_of_start(start: str) -> dict[str, Any]:
    """Return the settings that a run takes from the embedder it starts from, "section.name" to value.

    They are what its weights are for: the backbone, the head, and how pictures are prepared.
    """
    config, policy = read_embedder_settings(embedder_folder(start, place="model.start"))
    model = config.model_dump(mode="json")
    taken = {f"model.{name}": model[name] for name in (*_BACKBONE, *_HEAD, *_INPUT)}
    pictures = {"size": policy.size, "channels": policy.channels, "fit": policy.fit, "white_level": policy.white_level}
    values = taken | {f"data.{name}": value for name, value in pictures.items()}
    return {name: value for name, value in values.items() if value is not None}


def takes_head(config: ModelConfig) -> bool:
    """Return whether the head of the embedder that a network starts from is taken: if it is built alike."""
    if config.start is None:
        return False
    other, _ = read_embedder_settings(embedder_folder(config.start, place="model.start"))
    return not _head_differs(config, other)


def differences(config: ModelConfig, policy: ImagePolicy) -> list[str]:
    """Return what differs between a network and the embedder it starts from, a line each; the first says what is taken.

    Raises `InputError` for what cannot differ: the backbone, its options and widths, and the channels of pictures.
    """
    if config.start is None:
        return []
    other, other_policy = read_embedder_settings(embedder_folder(config.start, place="model.start"))
    _require_same(config, policy, other, other_policy)
    own_head = _head_differs(config, other)
    taken = "the backbone; the head is new" if own_head else "backbone and head"
    lines = [f"starts from {config.start}: {taken}"]
    lines += [_differs(f"model.{name}", getattr(config, name), getattr(other, name)) for name in (*own_head, *_INPUT)]
    for name in ("size", "fit", "white_level"):
        lines.append(_differs(f"data.{name}", getattr(policy, name), getattr(other_policy, name)))
    return [line for line in lines if line]


def _head_differs(config: ModelConfig, other: ModelConfig) -> list[str]:
    """Return the settings of the head that two networks do not share."""
    one, two = (each.model_copy(update={"hidden_dim": each.hidden_units}) for each in (config, other))
    return [name for name in _HEAD if getattr(one, name) != getattr(two, name)]


def _differs(name: str, own: object, other: object) -> str:
    return "" if own == other else f"{name}: {own!r} here, {other!r} there"


def _require_same(config: ModelConfig, policy: ImagePolicy, other: ModelConfig, other_policy: ImagePolicy) -> None:
    small = config.backbone == "small"
    names = [name for name in _BACKBONE if name != "widths" or small] + (["batch_norm"] if small else [])
    pairs = [(f"model.{name}", getattr(config, name), getattr(other, name)) for name in names]
    pairs.append(("data.channels", policy.channels, other_policy.channels))
    require(
        *(
            Problem(name, f"{own!r}, but the weights of {config.start} fit only {there!r}", "leave it out")
            for name, own, there in pairs
            if own != there
        )
    )


def _load_start(backbone: nn.Module, head: nn.Module, config: ModelConfig, policy: ImagePolicy) -> None:
    differences(config, policy)  # refuses what cannot differ
    file = weights_file(embedder_folder(str(config.start), place="model.start"))
    try:
        state = load_file(file)
    except Exception as error:  # safetensors raises several kinds, none of them public
        raise InputError(f"model.start: {file}: not the weights of an embedder ({error}); use another") from None
    for part, network in (("backbone", backbone), ("head", head)):
        if part == "head" and not takes_head(config):
            continue
        own = {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            # A picture of another size has another number of patches.
            reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
            raise InputError(f"model.start: {file}: does not fit ({reason}); leave data.size as it is there") from None
