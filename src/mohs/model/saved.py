"""The files of a saved embedder: where they lie, and the settings among them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mohs.artefacts import read_json, write_json
from mohs.data.images import ImagePolicy
from mohs.errors import InputError, Problem
from mohs.model.hub import HUB_PREFIX, hub_embedder
from mohs.settings.config import ModelConfig, setting_problems

__all__ = ["embedder_folder", "read_embedder_settings", "write_embedder_settings"]

_FORMAT = 1


def embedder_folder(name: str | Path, *, place: str = "") -> Path:
    """Return the folder of a saved embedder: of a folder itself, of a run, or of the Hugging Face hub's cache.

    Raises `InputError`, at `place` if one is given, if there is none.
    """
    if str(name).startswith(HUB_PREFIX):
        return hub_embedder(str(name))
    folder = Path(name)
    if not (folder / "embedder.json").is_file() and (folder / "embedder" / "embedder.json").is_file():
        folder = folder / "embedder"
    if place and not (folder / "embedder.json").is_file():
        what, fix = f"{name}: no embedder (no embedder.json)", "give a finished run, or a saved embedder"
        raise InputError(Problem(place, what, fix))
    return folder


def write_embedder_settings(folder: Path, config: ModelConfig, policy: ImagePolicy) -> None:
    """Write `embedder.json`; where the weights came from at first is left out, since others lie beside it."""
    # Without a white level as before it could be set, so that older versions read it.
    pictures = {name: value for name, value in asdict(policy).items() if value is not None}
    model = config.model_dump(mode="json", exclude={"weights", "pretrained", "start"})
    write_json(folder / "embedder.json", {"format": _FORMAT, "model": model, "pictures": pictures})


def read_embedder_settings(folder: Path) -> tuple[ModelConfig, ImagePolicy]:
    """Return what `embedder.json` says; raise `InputError` if it is missing, of another format, or wrong."""
    file = folder / "embedder.json"
    settings: Any = read_json(file)
    try:
        if settings["format"] != _FORMAT:
            what = f"format {settings['format']} is not {_FORMAT}"
            raise InputError(Problem(str(file), what, "use the version of mohs that saved it"))
        return _without_beginning(ModelConfig.model_validate(settings["model"])), ImagePolicy(**settings["pictures"])
    except InputError as error:
        raise InputError(*(p if p.startswith(str(file)) else f"{file}: {p}" for p in error.problems)) from None
    except ValidationError as error:
        raise InputError(*setting_problems(error, source=str(file))) from None
    except (KeyError, TypeError) as error:
        what = f"not an embedder's settings ({error!r})"
        raise InputError(Problem(str(file), what, "use one saved by mohs")) from None


def _without_beginning(config: ModelConfig) -> ModelConfig:
    """Return the settings; raise `InputError` if they name other weights than those beside them."""
    if config.beginning is not None:
        raise InputError(Problem(config.beginning, "a saved embedder loads no other file", "remove the line"))
    return config
