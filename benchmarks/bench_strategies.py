r"""Which way to choose negatives is worth its time: all strategies on four sets, several seeds, at an equal budget.

    python benchmarks/bench_strategies.py --omniglot omniglot/images.csv --emoji emoji --caltech30 caltech30 \
        --weights mobilenetv2_100.safetensors

Sets: glyphs (built in); omniglot, its four rotations as classes of their own; emoji, with its catalog; caltech30 with a
pretrained mobilenetv2_100. Two pictures of a class train. Every strategy is tuned by the same search on a part of
the training classes, and then trained with every seed: on the same number of pictures, and once more on as many as
take the same CPU seconds (--equal). Cells, probes and trials that are there already are not run again, so a run that
was cut short goes on. Written are SET/cells.csv, SET/tuning.csv, SET/probes.csv, SET/table.md, SET/summary.json,
SET/summary-cpu.json and strategies.md, under --out.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from against_itself import against_itself, itself_markdown

from mohs.artefacts import atomic_path, write_json
from mohs.compare.budget import Budget, common_segments, trial_budget, whole_budget
from mohs.compare.cells import Comparison, Results, run_cells
from mohs.compare.equal_cpu import cpu_budgets
from mohs.compare.protocols import ComparisonData, PerClass, fewest_classes, open_comparison
from mohs.compare.strategies import all_strategies, find_strategies
from mohs.compare.summary import summarise
from mohs.compare.table import comparison_markdown
from mohs.compare.training import check_strategies
from mohs.compare.tuning import best_trial, is_at_edge, tune
from mohs.settings.config import DataConfig, parse_settings
from mohs.settings.presets import preset_settings


@final
@dataclass(frozen=True)
class Set:
    """A data set: what it is, how much of it is used, what is trained on it for how long."""

    data: DataConfig
    budget: Budget
    settings: Mapping[str, Any]
    per_class: PerClass | None = None
    rotations: bool = False


SMALL = DataConfig(size=32, channels=1)
SETS: Mapping[str, Set] = {
    "glyphs": Set(SMALL, Budget(24_960), {"data.size": 32, "data.channels": 1}),
    "omniglot": Set(SMALL, Budget(36_480), {"data.size": 32, "data.channels": 1}, rotations=True),
    "emoji": Set(DataConfig(size=32, channels=3), Budget(21_120), {"data.size": 32, "data.channels": 3}),
    "caltech30": Set(
        DataConfig(size=96, channels=3, fit="crop", test_fraction=0.5),
        # A hundred pictures train: after ten passes every triplet of them is in order.
        Budget(960, batch_pictures=48),
        {
            **preset_settings("photos"),
            "data.size": 96,
            "data.channels": 3,
            "data.fit": "crop",
            "model.backbone": "mobilenetv2_100",
            "model.backbone_options": {"pad_type": "same"},
            "model.mean": (0.5, 0.5, 0.5),
            "model.std": (0.5, 0.5, 0.5),
            "training.num_segments": 5,
        },
        # Fifty classes on each side are few: more pictures of each are asked for, while two of each train.
        PerClass(train=2, held_out=5, test=10),
    ),
}


def open_set(name: str, place: Path | None, *, max_classes: int | None) -> ComparisonData:
    """Return the pictures of a set; `place` is its table or its folder (with images.csv, catalog.csv)."""
    chosen = SETS[name]
    config = chosen.data.model_copy(update={"max_classes": max_classes})
    if place is not None:
        folder = place if place.is_dir() else place.parent
        table = place / "images.csv" if (place / "images.csv").is_file() else place
        catalog = folder / "catalog.csv"
        config = config.model_copy(
            update={"source": str(table), "catalog": str(catalog) if catalog.is_file() else None}
        )
    return open_comparison(config, name=name, per_class=chosen.per_class, rotations=chosen.rotations)


def main() -> int:
    """Run what is not there yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--omniglot", type=Path, help="folder with images.csv, folder of class folders, or table")
    parser.add_argument("--emoji", type=Path, help="the same, with its catalog.csv beside it")
    parser.add_argument("--caltech30", type=Path)
    parser.add_argument("--weights", type=Path, help="mobilenetv2_100, for caltech30")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--strategies", help="names with commas between; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--equal", nargs="+", default=["pictures", "cpu"], choices=["pictures", "cpu"])
    parser.add_argument(
        "--against-itself",
        action="store_true",
        help="also: how often seeds of one strategy, in two groups, seem to be two strategies (six seeds or more)",
    )
    parser.add_argument("--pictures", type=int, help="budget of a cell; default: each set's own")
    parser.add_argument("--classes", type=int, help="only so many classes of each set, for a quick look")
    parser.add_argument("--tune", type=int, default=8, help="trials of each strategy, at most; 0: defaults")
    parser.add_argument("--tune-share", type=float, default=0.25, help="pictures of a trial, as a share of a cell's")
    parser.add_argument("--set", nargs="*", default=[], help="settings of all strategies, as in 'mohs train --set'")
    parser.add_argument("--out", type=Path, default=Path("build/strategies"))
    arguments = parser.parse_args()
    named = None
    if arguments.strategies is not None:
        named = tuple(find_strategies([name.strip() for name in arguments.strategies.split(",")]))
    texts, left_out = [], []
    for name in arguments.sets:
        place = getattr(arguments, name, None)
        needed = {} if name == "glyphs" else {f"--{name}": place}
        if name == "caltech30":
            needed["--weights"] = arguments.weights
        if missing := [flag for flag, given in needed.items() if given is None]:
            left_out.append(
                f"NO {name.upper()}: left out; give its files with {' and '.join(missing)} (see the Makefile)"
            )
            print(left_out[-1], file=sys.stderr, flush=True)
            continue
        chosen = SETS[name]
        budget = chosen.budget
        if arguments.pictures is not None:
            budget = replace(budget, num_pictures=arguments.pictures)
        settings = {**chosen.settings, **parse_settings(arguments.set)}
        if name == "caltech30":
            settings["model.weights"] = str(arguments.weights)
        strategies = named or tuple(all_strategies(settings))
        data = open_set(name, place, max_classes=arguments.classes)
        segments = common_segments(strategies, settings)
        num_classes = fewest_classes(data, tuned=arguments.tune > 0)
        budget = whole_budget(budget.num_pictures, budget.batch_pictures, segments, num_classes=num_classes)
        check_strategies(strategies, settings, budget, num_trials=arguments.tune)
        comparison = Comparison(data, settings, budget, strategies, arguments.seeds)
        print(f"{name}: {data.facts()}", file=sys.stderr, flush=True)
        trial = trial_budget(budget, arguments.tune_share, segments)
        texts.append(run_set(comparison, Results(arguments.out / name), trial, segments, arguments))
    # Of all sets that are there, so that sets may be run one at a time, or at once.
    tables = [table for name in SETS if (table := arguments.out / name / "table.md").is_file()]
    with atomic_path(arguments.out / "strategies.md") as temporary:
        temporary.write_text("\n".join([*(t.read_text(encoding="utf-8") for t in tables), *left_out]), encoding="utf-8")
    print("\n".join(texts))
    print(f"written: {arguments.out / 'strategies.md'}", file=sys.stderr)
    return 0


def run_set(
    comparison: Comparison, results: Results, trial: Budget, segments: int, arguments: argparse.Namespace
) -> str:
    """Tune, run the cells and write the tables of one set; return its tables."""

    def said(what: str) -> Callable[[str, int], None]:
        def say(name: str, number: int) -> None:
            now = time.strftime("%H:%M:%S")
            print(f"{now} {comparison.data.name}: {name}, {what} {number}", file=sys.stderr, flush=True)

        return say

    trials = {}
    if arguments.tune:
        trials = tune(
            comparison,
            results.folder / "tuning.csv",
            num_trials=arguments.tune,
            budget=trial,
            started=said("trial"),
        )
    choices = {name: best_trial(own).choice for name, own in trials.items()}
    at_edge = [name for name, own in trials.items() if is_at_edge(own)]
    facts = comparison.data.facts()
    text = (
        f"## {comparison.data.name}\n\n{facts['training_classes']:,} training classes, {facts['training_pictures']:,} "
        f"pictures; {facts['test_classes']:,} unseen classes, {facts['test_queries']:,} queries; "
        f"{facts['catalog_queries']:,} catalog queries; at most {arguments.tune} trials of {trial.num_steps:,} steps a "
        "strategy, at equal pictures.\n"
    )
    for equal in arguments.equal:
        compared = comparison
        if equal == "cpu":
            own = cpu_budgets(comparison, results.folder / "probes.csv", segments, choices, started=said("probe"))
            compared = replace(comparison, own_budgets=own)
        cells = []
        for cell in run_cells(compared, results, choices, started=said("seed")):
            cells.append(cell)
            told = cell.metrics
            print(
                f"{cell.data} {cell.strategy} seed {cell.seed}: R@1 {told.unseen_recall_1:.3f} unseen, "
                f"{told.seen_recall_1:.3f} catalog, spread {told.spread:.2f}{', COLLAPSED' if cell.collapsed else ''}; "
                f"{cell.num_pictures:,} pictures, {cell.train_s:.1f} s, CPU {cell.cpu_s:.1f} s, measured in "
                f"{cell.evaluate_s:.1f} s",
                file=sys.stderr,
                flush=True,
            )
        rows = summarise(comparison.data, cells, results, at_edge=at_edge)
        name = "summary.json" if equal == "pictures" else "summary-cpu.json"
        write_json(results.folder / name, {"data": facts, "rows": [row.as_record() for row in rows]})
        text += f"\n{comparison_markdown(compared, cells, results, rows)}"
        if arguments.against_itself:
            text += f"\n{itself_markdown(against_itself(compared, cells, results))}"
    (results.folder / "table.md").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    sys.exit(main())
