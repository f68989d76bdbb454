"""`mohs demo`: the whole of Mohs on real pictures, with nothing to download."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mohs.cli import options
from mohs.cli.console import print_json, print_lines, print_table, require_folder_place, say
from mohs.cli.options import is_marked
from mohs.cli.progress import training_progress
from mohs.errors import InputError

if TYPE_CHECKING:
    from mohs.evaluation.summary import EmbeddingReport
    from mohs.runs import Evaluation, Run
    from mohs.settings.config import DataConfig, RunConfig

__all__ = ["demo"]

_PICTURES = 60_000
"""Pictures that each strategy shows to the network: a pass over the training set is about 8,300."""

_MARK = "demo.json"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for runs and report; an older demo there is replaced.")] = Path(
        "mohs-demo"
    ),
    seed: Annotated[int, typer.Option(help="Decides every random choice.")] = 0,
    pictures: Annotated[int | None, typer.Option(help="Pictures that each strategy may show to the network.")] = None,
    classes: Annotated[int | None, typer.Option(help="Use only this many classes, for a quick look.")] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train and measure four strategies on the built-in set, two pictures per class, in under three minutes."""
    import numpy as np

    from mohs.artefacts import write_json
    from mohs.report.of_run import Head, write_run_report
    from mohs.runs import BASELINES, evaluate, train_on
    from mohs.settings.config import DataConfig
    from mohs.training.run_inputs import open_split_data

    num_pictures = _PICTURES if pictures is None else pictures
    if num_pictures < 12:
        raise InputError(f"--pictures: {num_pictures} is below 12; use for example {_PICTURES}")
    if seed < 0:
        raise InputError(f"--seed: {seed} is below 0; use for example --seed 0")
    if classes is not None and classes < 20:
        raise InputError(f"--classes: {classes} is below 20; leave it out for all of them")
    require_folder_place(out, "--out")
    _make_room(out)
    began = time.perf_counter()
    config = DataConfig(source="glyphs", size=32, channels=1, per_class=2, max_classes=classes)
    data = open_split_data(config, seed=seed)
    labels = data.dataset.labels
    facts = {
        "classes": len(np.unique(labels)),
        "pictures": len(labels),
        "training_classes": len(np.unique(labels[data.train_N])),
        "test_classes": len(np.unique(labels[data.test_N])),
        "draw_s": time.perf_counter() - began,
    }
    if not quiet:
        say(
            f"glyphs: {facts['classes']:,} classes, {facts['pictures']:,} pictures, two per class; "
            f"train on {facts['training_classes']:,} classes, test on {facts['test_classes']:,} unseen ones"
        )
    # From now on the folder is a demo, so that the next one may replace it even if this one is interrupted.
    write_json(out / _MARK, {"finished": False})
    runs: dict[str, tuple[Run, Evaluation]] = {}
    for name, settings in _strategies(config, seed=seed, num_pictures=num_pictures).items():
        folder = out / name.replace(" ", "-")
        with training_progress(name, quiet=quiet) as listeners:
            run = train_on(data, settings.model_copy(update={"out": str(folder)}), listeners=listeners)
        runs[name] = run, evaluate(run, data=data, baselines=name == "default", write=True)
    total_s = time.perf_counter() - began

    measured = {name: found for name, found in runs["default"][1].measured.items() if name in BASELINES}
    measured |= {name: evaluation.measured["trained"] for name, (_, evaluation) in runs.items()}
    seconds = {name: _seconds(*run) for name, run in runs.items()}
    report = out / "report.html"
    command = shlex.join(["mohs", "demo", "--seed", str(seed), "--pictures", str(num_pictures), "--out", str(out)])
    write_run_report(
        report,
        Head(
            title="Mohs demo: characters, two pictures each",
            command=command if classes is None else f"{command} --classes {classes}",
            summary=_summary(facts, num_pictures, seed, total_s),
        ),
        shown="default",
        runs=runs,
        data=data,
        rows=measured,
        highlight="default",
    )
    result = {
        "finished": True,
        **facts,
        "seed": seed,
        "num_pictures": num_pictures,
        "total_s": total_s,
        "seconds": seconds,
        "metrics": {name: found.as_record() for name, found in measured.items()},
        "report": str(report),
    }
    write_json(out / _MARK, result)
    if as_json:
        print_json(result)
    else:
        _tell(result, measured)


def _summary(facts: Mapping[str, Any], num_pictures: int, seed: int, total_s: float) -> list[tuple[str, str]]:
    return [
        ("data", "glyphs (built in)"),
        ("classes", f"{facts['classes']:,}"),
        ("pictures", f"{facts['pictures']:,}, two per class"),
        ("test", f"{facts['test_classes']:,} unseen classes"),
        ("pictures shown by each strategy", f"{num_pictures:,}"),
        ("seed", str(seed)),
        ("seconds", f"{total_s:.0f}"),
    ]


def _tell(result: Mapping[str, Any], measured: Mapping[str, EmbeddingReport]) -> None:
    from mohs.report.words import METRIC_HEADER, metric_row, queries_counted

    title = f"{queries_counted(measured['default'].retrieval)}, unseen, seed {result['seed']}"
    rows = [[name, *metric_row(found)] for name, found in measured.items()]
    print_table(title, ["strategy", *METRIC_HEADER], rows, strong=len(rows) - 1)
    seconds = result["seconds"]
    header = ["seconds", *next(iter(seconds.values()))]
    print_table("", header, [[name, *(f"{s:.1f}" for s in each.values())] for name, each in seconds.items()])
    print_lines([f"{result['classes']:,} classes, {result['pictures']:,} pictures, {result['total_s']:.0f} s in all"])
    print_lines([f"report: {result['report']}"])


def _strategies(data: DataConfig, *, seed: int, num_pictures: int) -> dict[str, RunConfig]:
    """Return the settings of the strategies by name: the same network, rate and number of pictures shown.

    Each has the head of its optimiser (`RunConfig.network`): triplets were worse without a hidden layer.

    "hardest": triplets with the nearest negative; "sigmoid": triplets on the sigmoid curve and the `range` scale, as
    published; "cyclic sigmoid": ten cycles of it; "default": what `mohs train` does.
    """
    from mohs.settings.config import HardnessConfig, LossConfig, RunConfig, TrainingConfig

    hardest = HardnessConfig(curve="constant", cap=1.0, scale="rank")
    sigmoid = HardnessConfig(curve="sigmoid", scale="range")
    chosen = {
        "hardest": (hardest, LossConfig(name="triplet")),
        "sigmoid": (sigmoid, LossConfig(name="triplet")),
        "cyclic sigmoid": (sigmoid.model_copy(update={"cycles": 10}), LossConfig(name="triplet")),
        "default": (HardnessConfig(), LossConfig()),
    }
    return {
        name: RunConfig(
            seed=seed,
            data=data,
            hardness=hardness,
            loss=loss,
            training=TrainingConfig(num_triplets=max(2, num_pictures // loss.pictures_per_triplet)),
        )
        for name, (hardness, loss) in chosen.items()
    }


def _seconds(run: Run, evaluation: Evaluation) -> dict[str, float]:
    facts = run.facts()
    return {
        "embed": facts["embed_s"] + evaluation.embed_s,
        "mine": facts["mine_s"],
        "train": facts["train_s"],
        "evaluate": evaluation.evaluate_s,
    }


def _make_room(out: Path) -> None:
    """Remove an older demo, finished or not; refuse a folder that is anything else."""
    if not out.exists():
        return
    if is_marked(out / _MARK):
        shutil.rmtree(out)
    elif not out.is_dir() or any(out.iterdir()):
        raise InputError(f"--out: {out} exists and is not a demo; give another folder, or remove it")
