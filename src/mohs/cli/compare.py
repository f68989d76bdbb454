"""`mohs compare`: strategies × seeds on the same budget, in a terminal, as CSV, JSON and a page."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from mohs.artefacts import read_json, write_json
from mohs.cli.console import decoding_progress, print_json, print_table, require_folder_place, say
from mohs.compare.budget import common_segments, trial_budget, whole_budget
from mohs.compare.cells import Cell, Comparison, Results, read_cells, run_cells
from mohs.compare.equal_cpu import cpu_budgets
from mohs.compare.notes import budget_notes, comparison_notes
from mohs.compare.protocols import PerClass, fewest_classes, open_comparison
from mohs.compare.strategies import PAPER, STRATEGIES, Strategy, all_strategies, find_strategies
from mohs.compare.summary import summarise
from mohs.compare.table import SHORT, comparison_markdown, short_rows
from mohs.compare.training import check_strategies
from mohs.compare.tuning import MOST_TRIALS, Trial, best_trial, is_at_edge, tune
from mohs.errors import InputError
from mohs.report.of_comparison import Measured, write_comparison_report
from mohs.runs import versions
from mohs.settings.config import RunConfig
from mohs.settings.toml import flat_settings, toml_value

__all__ = ["DEFAULT_PICTURES", "EQUAL", "Request", "compare_command"]

DEFAULT_PICTURES = 60_000
"""Pictures that each run shows, as in the demo."""

EQUAL: Mapping[str, tuple[str, ...]] = {"pictures": ("pictures",), "cpu": ("cpu",), "both": ("pictures", "cpu")}
"""What every run may have alike: pictures, CPU seconds, or once the one and once the other."""

_PAPER_EPOCHS, _PAPER_TRIPLETS = 10, 1000
_PAPER_TOP_50 = {"easiest": 0.11, "hardest": 0.17, "sigmoid": 0.47, "cyclic sigmoid": 0.44}

_MARK = "comparison.json"
_LEAST_PICTURES = 12
_PER_CLASS = 2
# A trial is to rank settings, not to be good.
_TRIAL_SHARE = 0.25


@final
@dataclass(frozen=True)
class Request:
    """What was asked for; `strategies` none: all of them, or those of the publication; `equal` is one of `EQUAL`."""

    strategies: Sequence[str] | None
    num_seeds: int
    num_pictures: int | None
    num_trials: int
    paper: bool
    out: Path
    per_class: int | None = None
    rotations: bool = False
    budget: str | None = None
    equal: str = "pictures"


def compare_command(
    config: RunConfig, request: Request, *, notes: Sequence[str] = (), quiet: bool, as_json: bool
) -> None:
    """Run what is not there yet of a comparison, print its table and write its files."""
    if request.strategies == ["list"]:
        for strategy in STRATEGIES.values():
            print(f"{strategy.name}: {strategy.description}")
        return
    strategies = _checked(request, config)
    require_folder_place(request.out, "--out")
    _require_own(request.out)
    paper_segments = _PAPER_EPOCHS if request.paper else None
    for note in comparison_notes(notes, config, strategies, budget=request.budget, paper_segments=paper_segments):
        say(note)
    if request.paper:
        config = _paper_config(config)
    settings = flat_settings(config.model_dump(mode="json", exclude={"out", "seed"}))
    segments = common_segments(strategies, settings)
    batch = 2 * config.training.batch_triplets
    wanted = whole_budget(_num_pictures(request), batch, segments, num_classes=batch)
    check_strategies(strategies, settings, wanted, num_trials=request.num_trials)  # before pictures are read
    with decoding_progress(quiet=quiet):
        data = open_comparison(
            config.data, name=_name(config.data.source), per_class=PerClass(train=_per_class(request, config)),
            rotations=request.rotations,
        )  # fmt: skip
    num_classes = fewest_classes(data, tuned=request.num_trials > 0)
    budget = whole_budget(_num_pictures(request), batch, segments, num_classes=num_classes)
    for note in budget_notes(budget, batch, segments):
        say(note)
    comparison = Comparison(data, settings, budget, tuple(strategies), request.num_seeds, look=request.paper)
    results = Results(request.out)
    results.folder.mkdir(parents=True, exist_ok=True)
    read_cells(results.table)  # a table of something else is told before anything trains
    write_json(request.out / _MARK, {"finished": False})  # an older one's figures may not be these
    facts = data.facts()
    if not quiet:
        say(
            f"{data.name}: train on {facts['training_pictures']:,} pictures of {facts['training_classes']:,} classes; "
            f"{facts['test_queries']:,} queries of {facts['test_classes']:,} unseen classes, "
            f"{facts['catalog_queries']:,} of the catalog; every run shows {budget.num_pictures:,} pictures in "
            f"{budget.num_steps:,} steps of {budget.batch_pictures}"
        )
    trials: dict[str, list[Trial]] = {}
    if request.num_trials:
        trials = tune(
            comparison, results.folder / "tuning.csv", num_trials=request.num_trials,
            budget=trial_budget(budget, _TRIAL_SHARE, segments), started=_saying("trial", quiet=quiet),
        )  # fmt: skip
    choices = {name: best_trial(own).choice for name, own in trials.items()}
    at_edge = [name for name, own in trials.items() if is_at_edge(own)]
    measured = []
    for equal in EQUAL[request.equal]:
        compared = comparison
        if equal == "cpu":
            probes, say_probe = results.folder / "probes.csv", _saying("probe of steps", quiet=quiet)
            compared = replace(
                comparison, own_budgets=cpu_budgets(comparison, probes, segments, choices, started=say_probe)
            )
        cells = []
        for cell in run_cells(compared, results, choices, started=_saying("seed", quiet=quiet)):
            cells.append(cell)
            if not quiet:
                say(_line(cell))
        measured.append(Measured(equal, compared, cells, summarise(data, cells, results, at_edge=at_edge)))
    text = "\n".join(comparison_markdown(each.comparison, each.cells, results, each.rows) for each in measured)
    (results.folder / "table.md").write_text(text, encoding="utf-8")
    report = results.folder / "report.html"
    write_comparison_report(report, measured, results, paper=request.paper, command=_command(request, config))
    first = measured[0]
    record = {
        "finished": True,
        "data": facts,
        "equal": first.equal,
        "num_pictures": budget.num_pictures,
        "batch_pictures": budget.batch_pictures,
        "num_seeds": request.num_seeds,
        "settings": settings,
        "tuned": {name: _trial_record(own) for name, own in trials.items()},
        "strategies": [row.as_record() for row in first.rows],
        "versions": versions(),
        "report": str(report),
    }
    if len(measured) > 1:
        record["strategies_at_equal_cpu"] = [row.as_record() for row in measured[1].rows]
    if request.paper:
        record["published_top_50"] = _PAPER_TOP_50
    write_json(request.out / _MARK, record)
    if as_json:
        print_json(record)
        return
    for each in measured:
        names = [row.strategy for row in each.rows]
        strong = names.index("default") if "default" in names else None
        print_table(_title(each, request), SHORT, short_rows(each.rows), strong=strong)
    rows = first.rows
    if request.paper:
        header = ("strategy", "published Top-50", "Top-50", "random training triplets", "mined triplets")
        print_table("the published protocol", header, [_paper_row(row.strategy, row.means) for row in rows])
    print(f"all figures: {results.folder / 'table.md'}, {results.table}")
    print(f"report: {report}")


def _title(measured: Measured, request: Request) -> str:
    seeds = f"{request.num_seeds} {'seed' if request.num_seeds == 1 else 'seeds'}"
    if measured.equal == "cpu":
        return f"equal CPU seconds, {seeds}"
    return f"{measured.comparison.budget.num_pictures:,} pictures a run, {seeds}"


def _checked(request: Request, config: RunConfig) -> list[Strategy]:
    """Return the strategies that were asked for; raise `InputError` for all that is wrong with the request."""
    problems: list[str] = []
    strategies: list[Strategy] = []
    names = request.strategies
    if names is None:
        settings = flat_settings(config.model_dump(mode="json"))
        names = PAPER if request.paper else [strategy.name for strategy in all_strategies(settings)]
    try:
        strategies = find_strategies(names)
    except InputError as error:
        problems += error.problems
    if request.num_seeds < 1:
        problems.append(f"--seeds: {request.num_seeds} is below 1; use for example --seeds 5")
    if request.num_pictures is not None and request.num_pictures < _LEAST_PICTURES:
        problems.append(
            f"--pictures: {request.num_pictures} is below {_LEAST_PICTURES}; use for example {DEFAULT_PICTURES}"
        )
    if not 0 <= request.num_trials <= MOST_TRIALS:
        problems.append(f"--tune: {request.num_trials} is not in [0, {MOST_TRIALS}]; 0 leaves it out")
    if request.equal not in EQUAL:
        problems.append(f"--equal: {request.equal!r} is unknown; use one of {', '.join(EQUAL)}")
    if request.per_class is not None and request.per_class < 1:
        problems.append(f"--per-class: {request.per_class} is below 1; use for example 2")
    if problems:
        raise InputError(*problems)
    return strategies


def _require_own(out: Path) -> None:
    """Raise `InputError` if the folder holds anything but a comparison."""
    if out.is_dir() and not any(out.iterdir()):
        return
    own = False
    if (out / _MARK).is_file():
        try:
            own = "finished" in read_json(out / _MARK)
        except InputError:
            own = False
    if out.exists() and not own:
        raise InputError(f"--out: {out} exists and is not a comparison; give another folder, or remove it")


def _paper_config(config: RunConfig) -> RunConfig:
    """Return the settings with ten segments: an epoch each."""
    return config.model_copy(update={"training": config.training.model_copy(update={"num_segments": _PAPER_EPOCHS})})


def _num_pictures(request: Request) -> int:
    if request.num_pictures is not None:
        return request.num_pictures
    return _PAPER_EPOCHS * _PAPER_TRIPLETS * 3 if request.paper else DEFAULT_PICTURES


def _per_class(request: Request, config: RunConfig) -> int:
    if request.per_class is not None:
        return request.per_class
    return _PER_CLASS if config.data.per_class is None else config.data.per_class


def _saying(what: str, *, quiet: bool) -> Callable[[str, int], None]:
    def started(name: str, number: int) -> None:
        if not quiet:
            say(f"{name}, {what} {number} …")

    return started


def _line(cell: Cell) -> str:
    how = f"; trained in {cell.train_s:.1f} s" if cell.num_pictures else ""
    return (
        f"{cell.strategy}, seed {cell.seed}: R@1 {cell.unseen_recall_1:.3f} on unseen classes, "
        f"{cell.seen_recall_1:.3f} in the catalog{how}{', COLLAPSED' if cell.collapsed else ''}"
    )


def _trial_record(trials: list[Trial]) -> dict[str, Any]:
    best = best_trial(trials)
    return {
        "learning_rate": best.learning_rate,
        "value": best.value,
        "validation_mrr": best.validation_mrr,
        "rate_at_edge": is_at_edge(trials),
        "num_trials": len(trials),
    }


def _paper_row(name: str, means: Any) -> list[str]:
    published = f"{_PAPER_TOP_50[name]:.2f}" if name in _PAPER_TOP_50 else "-"
    mined = "-" if means["mined_triplets"] != means["mined_triplets"] else f"{means['mined_triplets']:.3f}"
    return [name, published, f"{means['unseen_top_50']:.3f}", f"{means['train_triplets']:.3f}", mined]


def _name(source: str) -> str:
    path = Path(source)
    return (path.parent.name if path.stem == "images" and path.parent.name else path.stem) or "data"


def _command(request: Request, config: RunConfig) -> str:
    """Return the command line that does the same again: every setting that is not at its default is in it."""
    usual = flat_settings(RunConfig().model_dump(mode="json"))
    own = flat_settings(config.model_dump(mode="json", exclude={"out", "seed"}))
    elsewhere = {"data.source", "data.per_class", "data.split_by", "training.num_triplets"}
    words = [
        "mohs",
        "compare",
        config.data.source,
        "--seeds",
        str(request.num_seeds),
        "--tune",
        str(request.num_trials),
    ]
    words += ["--pictures", str(_num_pictures(request)), "--per-class", str(_per_class(request, config))]
    if request.strategies is not None:
        words += ["--strategies", ",".join(request.strategies)]
    words += ["--equal", request.equal] if request.equal != "pictures" else []
    words += [flag for flag, on in (("--paper", request.paper), ("--rotations", request.rotations)) if on]
    if config.model.weights is not None:
        words += ["--preset", "small"]  # else weights alone would choose one; its settings follow
    for name, value in own.items():
        if value != usual[name] and name not in elsewhere:
            words += ["--set", f"{name}={toml_value(value)}"]
    return shlex.join([*words, "--out", "NEW_FOLDER"])
