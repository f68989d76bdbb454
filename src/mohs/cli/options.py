"""Options that several commands share, and how flags become settings and settings, in messages, flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from mohs.errors import InputError, Problem

if TYPE_CHECKING:
    from mohs.settings.config import RunConfig

__all__ = [
    "SETTINGS",
    "Backbone",
    "Cap",
    "Catalog",
    "Channels",
    "ClassColumn",
    "Config",
    "Curve",
    "Cycles",
    "FileColumn",
    "GroupColumn",
    "Growth",
    "Json",
    "MaxBad",
    "MultiLabelOption",
    "Quiet",
    "ScaleOption",
    "Seed",
    "Setting",
    "Settings",
    "Size",
    "SourceArgument",
    "TableOfFiles",
    "Weights",
    "WhiteLevel",
    "flag_of",
    "is_marked",
    "naming_flags",
    "read_settings",
]

SETTINGS = {
    "source": "data.source",
    "seed": "seed",
    "out": "out",
    "catalog": "data.catalog",
    "file_column": "data.file_column",
    "class_column": "data.class_column",
    "group_column": "data.group_column",
    "multi_label": "data.multi_label",
    "white_level": "data.white_level",
    "max_bad": "data.max_bad_images",
    "size": "data.size",
    "channels": "data.channels",
    "per_class": "data.per_class",
    "split_by": "data.split_by",
    "test_fraction": "data.test_fraction",
    "validation_fraction": "data.validation_fraction",
    "backbone": "model.backbone",
    "weights": "model.weights",
    "pretrained": "model.pretrained",
    "from_": "model.start",
    "loss": "loss.name",
    "margin": "loss.margin",
    "curve": "hardness.curve",
    "cap": "hardness.cap",
    "growth": "hardness.growth",
    "cycles": "hardness.cycles",
    "scale": "hardness.scale",
    "triplets": "training.num_triplets",
    "stop_after": "training.stop_after",
    "batch": "training.batch_triplets",
    "learning_rate": "training.learning_rate",
    "device": "training.device",
    "anchors": "training.anchors",
    "prefer": "training.prefer_positive",
    "tensorboard": "training.tensorboard",
}
"""Parameters of commands that are settings, and the setting that each is; the order is that of messages."""

SourceArgument = Annotated[str, typer.Argument(help="CSV, Parquet, folder of class folders, or 'glyphs' (built in).")]
TableOfFiles = Annotated[str, typer.Argument(help="CSV, Parquet, or folder of class folders.")]
Backbone = Annotated[str | None, typer.Option(help="small, or a timm model.")]
Weights = Annotated[str | None, typer.Option(help="safetensors file for the backbone.")]
Catalog = Annotated[str | None, typer.Option(help="Table with one reference picture per class.")]
FileColumn = Annotated[str | None, typer.Option(help="Column of file names; default 'file'.")]
ClassColumn = Annotated[str | None, typer.Option(help="Column of classes; default 'class'.")]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of groups, such as sessions or cameras; default 'group' where the table has it; '' for none."
    ),
]
MultiLabelOption = Annotated[
    str | None,
    typer.Option(
        "--multi-label", help="What to do with a picture under several classes: error (default), first, drop or merge."
    ),
]
WhiteLevel = Annotated[
    float | None, typer.Option(help="Value of white in grey pictures of more than 8 bits; default 65535.")
]
MaxBad = Annotated[
    int | None,
    typer.Option(
        "--max-bad", min=0, help="Go on if at most this many pictures cannot be read, and name them; default 0."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Decides every random choice; default 0.")]
Size = Annotated[int | None, typer.Option(help="Side of the square network input, pixels; default 64.")]
Channels = Annotated[int | None, typer.Option(help="1 grey, 3 colour; default 3.")]
Curve = Annotated[
    str | None,
    typer.Option(
        help="How hardness changes: constant, linear, sine, tanh, logarithmic, sigmoid or closed-loop; "
        "default sigmoid, or constant with an in-batch loss."
    ),
]
Cap = Annotated[
    float | None,
    typer.Option(help="Largest hardness of the curve, 0 to 1; default 0.85, or 1 with an in-batch loss."),
]
Growth = Annotated[float | None, typer.Option(help="How steeply tanh, logarithmic and sigmoid rise; default 3.")]
Cycles = Annotated[int | None, typer.Option(help="Repetitions of the curve; default 1.")]
ScaleOption = Annotated[
    str | None,
    typer.Option("--scale", help="What a hardness means: range, rank, log-rank or margin; default log-rank."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
Config = Annotated[Path | None, typer.Option(help="TOML file (or a run's config.json); flags override it.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting: section.name=value; repeatable.", metavar="S.N=V"),
]


@final
@dataclass(frozen=True)
class Settings:
    """The settings of a command, and what is to be said about them: notes, and settings given without effect."""

    config: RunConfig
    notes: tuple[str, ...] = ()
    idle: tuple[Problem, ...] = ()

    def lines(self) -> list[str]:
        """Return what is to be said, a line each."""
        return [*self.notes, *(f"warning: {problem}" for problem in self.idle)]


def read_settings(
    file: Path | None,
    parameters: Mapping[str, Any],
    settings: Sequence[str] = (),
    preset: str | None = None,
    budget: str | None = None,
) -> Settings:
    """Return the settings of a budget and a preset, changed by a file, by `--set` and by flags; messages name the flag.

    `parameters` are a command's, by name: those that are settings and not None count, all others are passed over.
    Where weights are given and no preset, the preset is "fine-tune": the defaults, which are for a network that knows
    nothing, would wash out what the weights know. What was taken from it is noted, and so is each setting that was
    given and has no effect under the others (in a file, which may well be a whole `--print-config`, only if it is not
    at its default).
    """
    from mohs.settings.config import RunConfig, override_config, parse_settings
    from mohs.settings.effects import without_effect
    from mohs.settings.presets import budget_settings, preset_settings
    from mohs.settings.toml import flat_settings, read_settings_file

    given = {SETTINGS[name]: name for name, value in parameters.items() if name in SETTINGS and value is not None}
    values = {setting: parameters[name] for setting, name in given.items()}
    said = {**parse_settings(settings), **values}
    in_file = {} if file is None else flat_settings(read_settings_file(file))
    begins = [name for name in ("model.weights", "model.pretrained", "model.start") if name in said or name in in_file]
    chosen = dict(preset_settings(preset or ("fine-tune" if begins else "small")))
    start = said.get("model.start", in_file.get("model.start"))
    if start is not None:
        from mohs.model.beginning import settings_of_start

        chosen.pop("finetune.head", None)  # it comes with the weights
        chosen |= settings_of_start(str(start))
    base = {**budget_settings(budget or "small"), **chosen}
    with naming_flags({setting: flag_of(name) for setting, name in given.items()}):
        config = override_config(file, settings, values, preset=base)
    notes = []
    usual = flat_settings(RunConfig().model_dump())
    taken = [
        f"{name} {value}"
        for name, value in chosen.items()
        if name not in said and name not in in_file and value != usual[name] and name in preset_settings("fine-tune")
    ]
    if preset is None and taken:
        notes.append(
            f"{begins[0]}: uses the preset fine-tune, for loaded weights ({', '.join(taken)}); --preset small "
            "trains like a new network"
        )
    changed = {name for name, value in flat_settings(config.model_dump()).items() if value != usual[name]}
    return Settings(config, tuple(notes), tuple(without_effect(config, {*said, *(changed & in_file.keys())})))


def flag_of(parameter: str) -> str:
    """Return how a user knows a parameter of a command.

    >>> flag_of("one_means"), flag_of("run")
    ('--one-means', 'RUN')
    """
    return parameter.upper() if parameter in ("run", "source") else f"--{parameter.rstrip('_').replace('_', '-')}"


def is_marked(file: Path) -> bool:
    """Return whether a JSON file says if what is in its folder is finished: then the folder is the command's own."""
    from mohs.artefacts import read_json

    try:
        return file.is_file() and "finished" in read_json(file)
    except InputError:
        return False


@contextmanager
def naming_flags(flags: Mapping[str, str]) -> Iterator[None]:
    """Let errors name flags: problems of settings or parameters that `flags` has are told of their flags."""
    try:
        yield
    except InputError as error:
        problems = (each.named(flags) if isinstance(each, Problem) else each for each in error.problems)
        raise InputError(*problems) from None
