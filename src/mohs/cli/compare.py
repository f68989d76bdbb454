"""`mohs compare`: strategies × seeds on the same budget, in a terminal, as CSV, JSON and a page."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from mohs.cli import options
from mohs.cli.console import print_json, print_lines, print_table, require_folder_place, say
from mohs.cli.pictures_read import tell_pictures
from mohs.cli.progress import decoding_progress
from mohs.errors import InputError, Problem

if TYPE_CHECKING:
    from mohs.compare.cells import Comparison, Results
    from mohs.compare.strategies import Strategy
    from mohs.compare.tuning import Trial
    from mohs.report.of_comparison import MeasuredComparison
    from mohs.settings.config import RunConfig

__all__ = ["compare"]

_PICTURES = 60_000
"""Pictures that each run shows, as in the demo."""

_EQUAL: Mapping[str, tuple[str, ...]] = {"pictures": ("pictures",), "cpu": ("cpu",), "both": ("pictures", "cpu")}
"""What every run may have alike: pictures, CPU seconds, or once the one and once the other."""

_PAPER_EPOCHS, _PAPER_TRIPLETS = 10, 1000

_MARK = "comparison.json"
_LEAST_PICTURES = 12
_PER_CLASS = 2
# A trial is to rank settings, not to be good.
_TRIAL_SHARE = 0.25


def compare(
    source: options.SourceArgument,
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Strategies to compare, with commas between; 'list' shows them; default: all (hours of work)."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Seeds that each strategy is trained with; intervals include their noise.")
    ] = 5,
    pictures: Annotated[
        int | None, typer.Option(help="Pictures that each run shows to the network, at most; default 60,000.")
    ] = None,
    equal: Annotated[
        str,
        typer.Option(help="What is equal for all runs: pictures, cpu (seconds, by a short probe), or both in turn."),
    ] = "pictures",
    tune: Annotated[
        int,
        typer.Option(
            help="Tuning: most settings tried for each strategy, on a part of the training classes, 0 to 12; 0: none."
        ),
    ] = 0,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="Compare by the published protocol: 10 epochs of about 1,000 triplets (or of --pictures), "
            "four strategies.",
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for results and report; a run whose result is there is not repeated.")
    ] = (Path("mohs-compare")),
    config: options.Config = None,
    preset: Annotated[str | None, typer.Option(help="Preset to begin with; see 'mohs train --help'.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Network and batch: small or medium (two cores), large (a GPU).")
    ] = None,
    catalog: options.Catalog = None,
    file_column: options.FileColumn = None,
    class_column: options.ClassColumn = None,
    max_bad: options.MaxBad = None,
    size: options.Size = None,
    channels: options.Channels = None,
    per_class: Annotated[int | None, typer.Option(help="Pictures of a class that train; default 2.")] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Share of the test classes; default 0.2.")] = None,
    rotations: Annotated[
        bool, typer.Option("--rotations", help="Each picture turned by 0, 90, 180, 270 degrees is a class of its own.")
    ] = False,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    setting: options.Setting = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train strategies on the same budget with several seeds and compare them, with paired intervals."""
    given = locals() | dict.fromkeys(("out", "per_class"))  # --out is no run's folder
    settings = options.read_settings(config, given, setting or (), preset, budget)
    from mohs.compare.strategies import STRATEGIES

    names = None if strategies is None else [name.strip() for name in strategies.split(",")]
    if names == ["list"]:
        for strategy in STRATEGIES.values():
            print_lines([f"{strategy.name}: {strategy.description}"])
        return
    if pictures is None:
        pictures = _PAPER_EPOCHS * _PAPER_TRIPLETS * 3 if paper else _PICTURES
    if per_class is None:
        per_class = settings.config.data.per_class or _PER_CLASS
    require_folder_place(out, "--out")
    _require_own(out)
    from mohs.lock import only_writer

    with only_writer(out, "comparing"):
        _compare(
            _Asked(names, seeds, pictures, tune, paper, out, per_class, rotations, budget, equal),
            settings,
            quiet=quiet,
            as_json=as_json,
        )


@final
@dataclass(frozen=True)
class _Asked:
    """What was asked for; `names` none: all strategies, or those of the publication; `equal` is one of `_EQUAL`."""

    names: Sequence[str] | None
    num_seeds: int
    num_pictures: int
    num_trials: int
    paper: bool
    out: Path
    per_class: int
    rotations: bool
    budget: str | None
    equal: str


def _compare(asked: _Asked, settings: options.Settings, *, quiet: bool, as_json: bool) -> None:
    """Run what is not there yet of a comparison, print its table and write its files."""
    from mohs.artefacts import write_json, write_text
    from mohs.compare.budget import common_segments, trial_budget, whole_budget
    from mohs.compare.cells import Comparison, Results, read_cells
    from mohs.compare.notes import budget_notes, comparison_notes
    from mohs.compare.protocols import PerClass, fewest_classes, open_comparison
    from mohs.compare.table import comparison_markdown
    from mohs.compare.training import check_strategies
    from mohs.compare.tuning import tune
    from mohs.report.of_comparison import write_comparison_report
    from mohs.settings.toml import flat_settings

    config, own_budget = settings.config, asked.budget
    strategies = _checked(asked, config)
    require_folder_place(asked.out, "--out")
    _require_own(asked.out)
    epochs = _PAPER_EPOCHS if asked.paper else None
    notes = comparison_notes(settings.idle, config, strategies, budget=own_budget, paper_segments=epochs)
    for note in (*settings.notes, *notes):
        say(note)
    if asked.paper:
        # Ten segments: an epoch each.
        config = config.model_copy(update={"training": config.training.model_copy(update={"num_segments": epochs})})
    values = flat_settings(config.model_dump(mode="json", exclude={"out", "seed"}))
    segments = common_segments(strategies, values)
    batch = 2 * config.training.batch_triplets
    wanted = whole_budget(asked.num_pictures, batch, segments, num_classes=batch)
    check_strategies(strategies, values, wanted, num_trials=asked.num_trials)  # before pictures are read
    with decoding_progress(quiet=quiet):
        data = open_comparison(
            config.data, name=_name(config.data.source), per_class=PerClass(train=asked.per_class),
            rotations=asked.rotations,
        )  # fmt: skip
    num_classes = fewest_classes(data, tuned=asked.num_trials > 0)
    budget = whole_budget(asked.num_pictures, batch, segments, num_classes=num_classes)
    for note in budget_notes(budget, batch, segments):
        say(note)
    comparison = Comparison(data, values, budget, tuple(strategies), asked.num_seeds, look=asked.paper)
    results = Results(asked.out)
    results.folder.mkdir(parents=True, exist_ok=True)
    read_cells(results.table)  # a table of something else is an error before the first run
    write_json(asked.out / _MARK, {"finished": False})  # an older one's figures may not be these
    facts = data.facts()
    tell_pictures(data.reading, asked.out / "quarantine.csv", quiet=quiet or as_json)
    if not quiet:
        say(
            f"{data.name}: train on {facts['training_pictures']:,} pictures of {facts['training_classes']:,} classes; "
            f"{facts['test_queries']:,} queries of {facts['test_classes']:,} unseen classes, "
            f"{facts['catalog_queries']:,} of the catalog; every run shows {budget.num_pictures:,} pictures in "
            f"{budget.num_steps:,} steps of {budget.batch_pictures}"
        )
    trials: dict[str, list[Trial]] = {}
    if asked.num_trials:
        trials = tune(
            comparison, results.folder / "tuning.csv", num_trials=asked.num_trials,
            budget=trial_budget(budget, _TRIAL_SHARE, segments), started=_saying("trial", quiet=quiet),
        )  # fmt: skip
    measured = _measured(comparison, results, trials, equal=asked.equal, segments=segments, quiet=quiet)
    tables = [comparison_markdown(each.comparison, each.cells, results, each.rows) for each in measured]
    if asked.paper:
        from mohs.compare.table import paper_markdown

        tables.append(paper_markdown(measured[0].rows))
    write_text(results.folder / "table.md", "\n".join(tables))
    report = results.folder / "report.html"
    write_comparison_report(report, measured, results, paper=asked.paper, command=_command(asked, config))
    record = {**_record(measured, asked, values, trials, report), "pictures_read": data.reading.as_record()}
    write_json(asked.out / _MARK, record)
    if as_json:
        print_json(record)
        return
    _print_tables(measured, asked)
    print_lines([f"all figures: {results.folder / 'table.md'}, {results.table}"])
    print_lines([f"report: {report}"])


def _record(
    measured: Sequence[MeasuredComparison],
    asked: _Asked,
    settings: Mapping[str, Any],
    trials: Mapping[str, list[Trial]],
    report: Path,
) -> dict[str, Any]:
    """Return what comparison.json says."""
    from mohs.runs import versions

    first = measured[0]
    record = {
        "finished": True,
        "data": first.comparison.data.facts(),
        "equal": first.equal,
        "num_pictures": first.comparison.budget.num_pictures,
        "batch_pictures": first.comparison.budget.batch_pictures,
        "num_seeds": asked.num_seeds,
        "settings": settings,
        "tuned": {name: _tuned(own) for name, own in trials.items()},
        "strategies": [row.as_record() for row in first.rows],
        "versions": versions(),
        "report": str(report),
    }
    if len(measured) > 1:
        record["strategies_at_equal_cpu"] = [row.as_record() for row in measured[1].rows]
    if asked.paper:
        from mohs.compare.table import PUBLISHED_TOP_50

        record["published_top_50"] = dict(PUBLISHED_TOP_50)
    return record


def _tuned(trials: list[Trial]) -> dict[str, Any]:
    from mohs.compare.tuning import best_trial, is_at_edge

    best = best_trial(trials)
    return {
        "learning_rate": best.learning_rate,
        "value": best.value,
        "validation_mrr": best.validation_mrr,
        "rate_at_edge": is_at_edge(trials),
        "num_trials": len(trials),
    }


def _measured(
    comparison: Comparison,
    results: Results,
    trials: Mapping[str, list[Trial]],
    *,
    equal: str,
    segments: int,
    quiet: bool,
) -> list[MeasuredComparison]:
    """Train and measure the cells that are not there, for each thing that runs are to have alike."""
    from mohs.compare.cells import run_cells
    from mohs.compare.equal_cpu import cpu_budgets
    from mohs.compare.summary import summarise
    from mohs.compare.tuning import best_trial, is_at_edge
    from mohs.report.of_comparison import MeasuredComparison

    choices = {name: best_trial(own).choice for name, own in trials.items()}
    at_edge = [name for name, own in trials.items() if is_at_edge(own)]
    measured = []
    for alike in _EQUAL[equal]:
        compared = comparison
        if alike == "cpu":
            probes, say_probe = results.folder / "probes.csv", _saying("probe of steps", quiet=quiet)
            budgets = cpu_budgets(comparison, probes, segments, choices, started=say_probe)
            compared = replace(comparison, own_budgets=budgets)
        cells = []
        for cell in run_cells(compared, results, choices, started=_saying("seed", quiet=quiet)):
            cells.append(cell)
            if not quiet:
                how = f"; trained in {cell.train_s:.1f} s" if cell.num_pictures else ""
                say(
                    f"{cell.strategy}, seed {cell.seed}: R@1 {cell.metrics.unseen_recall_1:.3f} on unseen classes, "
                    f"{cell.metrics.seen_recall_1:.3f} in the catalog{how}{', COLLAPSED' if cell.collapsed else ''}"
                )
        measured.append(
            MeasuredComparison(alike, compared, cells, summarise(comparison.data, cells, results, at_edge=at_edge))
        )
    return measured


def _saying(what: str, *, quiet: bool) -> Callable[[str, int], None]:
    def started(name: str, number: int) -> None:
        if not quiet:
            say(f"{name}, {what} {number} …")

    return started


def _print_tables(measured: Sequence[MeasuredComparison], asked: _Asked) -> None:
    from mohs.compare.table import SHORT, short_rows

    for each in measured:
        names = [row.strategy for row in each.rows]
        strong = names.index("default") if "default" in names else None
        alike = (
            "equal CPU seconds" if each.equal == "cpu" else f"{each.comparison.budget.num_pictures:,} pictures a run"
        )
        seeds = f"{asked.num_seeds} {'seed' if asked.num_seeds == 1 else 'seeds'}"
        print_table(f"{alike}, {seeds}", SHORT, short_rows(each.rows), strong=strong)
    if asked.paper:
        from mohs.compare.table import PAPER_HEADER, paper_rows

        print_table("the published protocol", PAPER_HEADER, paper_rows(measured[0].rows))


def _checked(asked: _Asked, config: RunConfig) -> list[Strategy]:
    """Return the strategies that were asked for; raise `InputError` for all that is wrong with the request."""
    from mohs.compare.strategies import PAPER, all_strategies, find_strategies
    from mohs.compare.tuning import MOST_TRIALS
    from mohs.settings.toml import flat_settings

    problems: list[str] = []
    strategies: list[Strategy] = []
    names = asked.names
    if names is None:
        settings = flat_settings(config.model_dump(mode="json"))
        names = PAPER if asked.paper else [strategy.name for strategy in all_strategies(settings)]
    try:
        strategies = find_strategies(names)
    except InputError as error:
        problems += error.problems
    if asked.num_seeds < 1:
        problems.append(Problem("--seeds", f"{asked.num_seeds} is below 1", "use for example --seeds 5"))
    if asked.num_pictures < _LEAST_PICTURES:
        what = f"{asked.num_pictures} is below {_LEAST_PICTURES}"
        problems.append(Problem("--pictures", what, f"use for example {_PICTURES}"))
    if not 0 <= asked.num_trials <= MOST_TRIALS:
        problems.append(Problem("--tune", f"{asked.num_trials} is not in [0, {MOST_TRIALS}]", "0 leaves it out"))
    if asked.equal not in _EQUAL:
        problems.append(Problem("--equal", f"{asked.equal!r} is unknown", f"use one of {', '.join(_EQUAL)}"))
    if asked.per_class < 1:
        problems.append(Problem("--per-class", f"{asked.per_class} is below 1", "use for example 2"))
    if problems:
        raise InputError(*problems)
    return strategies


def _require_own(out: Path) -> None:
    """Raise `InputError` if the folder holds anything but a comparison."""
    from mohs.lock import LOCK_NAME

    if out.is_dir() and not any(entry.name != LOCK_NAME for entry in out.iterdir()):
        return
    if out.exists() and not options.is_marked(out / _MARK):
        raise InputError(f"--out: {out} exists and is not a comparison; give another folder, or remove it")


def _name(source: str) -> str:
    path = Path(source)
    return (path.parent.name if path.stem == "images" and path.parent.name else path.stem) or "data"


def _command(asked: _Asked, config: RunConfig) -> str:
    """Return the command line that does the same again: every setting that is not at its default is in it."""
    from mohs.settings.config import RunConfig
    from mohs.settings.toml import flat_settings, toml_value

    usual = flat_settings(RunConfig().model_dump(mode="json"))
    own = flat_settings(config.model_dump(mode="json", exclude={"out", "seed"}))
    elsewhere = {"data.source", "data.per_class", "data.split_by", "training.num_triplets"}
    words = ["mohs", "compare", config.data.source, "--seeds", str(asked.num_seeds), "--tune", str(asked.num_trials)]
    words += ["--pictures", str(asked.num_pictures), "--per-class", str(asked.per_class)]
    if asked.names is not None:
        words += ["--strategies", ",".join(asked.names)]
    words += ["--equal", asked.equal] if asked.equal != "pictures" else []
    words += [flag for flag, on in (("--paper", asked.paper), ("--rotations", asked.rotations)) if on]
    if config.model.beginning is not None:
        words += ["--preset", "small"]  # else weights alone would choose one; its settings follow
    for name, value in own.items():
        if value != usual[name] and name not in elsewhere:
            words += ["--set", f"{name}={toml_value(value)}"]
    return shlex.join([*words, "--out", "NEW_FOLDER"])
