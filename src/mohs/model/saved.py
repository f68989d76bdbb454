"""The files of a saved embedder: where they lie, and the settings among them."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from mohs.checks import path_of
from mohs.data.images import ImagePolicy
from mohs.errors import InputError, Problem
from mohs.model.hub import HUB_PREFIX, hub_embedder
from mohs.settings.config import ModelConfig
from mohs.settings.section import setting_problems
from mohs.sums import check_files, check_format, file_sums, read_summed, write_summed

__all__ = [
    "SETTINGS",
    "WEIGHTS",
    "embedder_folder",
    "read_embedder_settings",
    "weights_file",
    "write_embedder_settings",
]

WEIGHTS: Final = "model.safetensors"
SETTINGS: Final = "embedder.json"

_FORMAT = 1
# What every version has written. A default in the place of one would be another embedder, and nobody would notice.
_MODEL = (
    "backbone",
    "backbone_options",
    "mean",
    "std",
    "widths",
    "embedding_dim",
    "hidden_dim",
    "dropout",
    "batch_norm",
)
_PICTURES = ("size", "channels", "fit")


def embedder_folder(name: str | Path, *, place: str = "") -> Path:
    """Return the folder of a saved embedder: of a folder itself, of a run, or of the Hugging Face hub's cache.

    Raises `InputError`, at `place` if one is given, if there is none.
    """
    folder = path_of(place or "folder", name)
    if str(name).startswith(HUB_PREFIX):
        return hub_embedder(str(name))
    if not (folder / "embedder.json").is_file() and (folder / "embedder" / "embedder.json").is_file():
        folder = folder / "embedder"
    if place and not (folder / "embedder.json").is_file():
        what, fix = f"{name}: no embedder (no embedder.json)", "give a finished run, or a saved embedder"
        raise InputError(Problem(place, what, fix))
    return folder


def write_embedder_settings(folder: Path, config: ModelConfig, policy: ImagePolicy) -> None:
    """Write `embedder.json` beside the weights; where those came from at first is left out, since they lie there."""
    # Without a white level as before it could be set, so that older versions read it.
    pictures = {name: value for name, value in asdict(policy).items() if value is not None}
    model = config.model_dump(mode="json", exclude={"weights", "pretrained", "start"})
    files = file_sums(folder, [WEIGHTS])
    write_summed(folder / SETTINGS, {"format": _FORMAT, "model": model, "pictures": pictures, "files": files})


def read_embedder_settings(folder: Path) -> tuple[ModelConfig, ImagePolicy]:
    """Return what `embedder.json` says; raise `InputError` if it is missing, damaged or incomplete."""
    file = folder / SETTINGS
    settings = _read(folder)
    try:
        _require_complete(settings)
        return _without_beginning(ModelConfig.model_validate(settings["model"])), ImagePolicy(**settings["pictures"])
    except InputError as error:
        raise InputError(*(p if p.startswith(str(file)) else f"{file}: {p}" for p in error.problems)) from None
    except ValidationError as error:
        raise InputError(*setting_problems(error, source=str(file))) from None
    except (KeyError, TypeError) as error:
        what = f"not an embedder's settings ({error!r})"
        raise InputError(Problem(str(file), what, "use one saved by mohs")) from None


def weights_file(folder: Path) -> Path:
    """Return the file of weights; raise `InputError` if it is missing, or not the one that `embedder.json` is of."""
    file = folder / WEIGHTS
    if not file.is_file():
        raise InputError(Problem(str(file), "no such file", f"copy it beside {SETTINGS}"))
    check_files(folder / SETTINGS, _read(folder))
    return file


def _read(folder: Path) -> dict[str, Any]:
    settings = read_summed(folder / SETTINGS)
    check_format(folder / SETTINGS, settings.get("format"), _FORMAT)
    return settings


def _require_complete(settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for values that are not there, and names that are none of an embedder's."""
    sections = {"model": _MODEL, "pictures": _PICTURES}
    unknown = sorted(settings.keys() - {"format", "files", *sections})
    missing = [
        f"{section}.{name}" for section, names in sections.items() for name in names if name not in settings[section]
    ]
    if missing or unknown:
        place, what = (missing[0], "is not there") if missing else (unknown[0], "is no setting of an embedder")
        raise InputError(Problem(place, what, "copy the file again from where it was saved"))


def _without_beginning(config: ModelConfig) -> ModelConfig:
    """Return the settings; raise `InputError` if they name other weights than those beside them."""
    if config.beginning is not None:
        raise InputError(Problem(config.beginning, "a saved embedder loads no other file", "remove the line"))
    return config
