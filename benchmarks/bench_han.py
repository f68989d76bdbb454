r"""What hardness is worth on tens of thousands of classes: strategies on Han characters, as mohs trains them.

    python benchmarks/han.py han
    python benchmarks/bench_han.py --han han
    python benchmarks/bench_han.py --han han --pictures 1200000 --seeds 0 1 2 --out rows.jsonl
    python benchmarks/bench_han.py --han han --pictures 100000 --classes 1000 4000 --batch 48 96 --out rows.jsonl \
        --strategies "momentum pairs" "default without scheduled hardness"
    python benchmarks/bench_han.py --out rows.jsonl --table
    python benchmarks/bench_han.py --out rows.jsonl --figure gain.svg

Two faces of each training character are trained on. Printed is one line of JSON a run: R@1 of the third face in a
catalog of the first face of all training characters ("seen"), and of 8,000 unseen characters among those ("unseen"),
CPU seconds of the run, and of them those of embedding and mining for plans. `--table` prints means over seeds, and
differences to the first strategy with their standard error over seeds. `--figure` draws what momentum pairs gain
over random batches, by number of classes and batch.
"""

import argparse
import json
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from mohs.compare.budget import Budget
from mohs.compare.strategies import find_strategies
from mohs.compare.training import Choice, made_by, strategy_config, train_strategy
from mohs.data.dataset import Dataset
from mohs.data.table import Table
from mohs.model.embedder import Embedder
from mohs.neighbour_search import nearest_rows
from mohs.settings.config import parse_settings

NUM_UNSEEN = 8_000
USUAL = ("default", "default without scheduled hardness")
TUNED = {"rate": 1.0, "parameter": 0}
DRAWN = ("momentum pairs", "default without scheduled hardness")


def training_set(pictures_2C: NDArray[np.uint8]) -> Dataset:
    """Return two faces of each character as a dataset; the first is the catalog's."""
    num = pictures_2C.shape[1]
    labels = np.array([f"{c:05d}" for c in range(num)])
    table = Table(
        files=tuple(f"{face}/{c:05d}.png" for c in range(num) for face in ("first", "second")),
        labels=np.repeat(labels, 2),
        roles=np.full(2 * num, "sample"),
        splits=np.full(2 * num, "", dtype="<U10"),
        root=Path(),
        source="han",
    )
    return Dataset(table, np.ascontiguousarray(pictures_2C.swapaxes(0, 1)).reshape(2 * num, 32, 32, 1))


def measure(embedder: Embedder, pictures_3C: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return for each character whether the third face finds it in a catalog of the first face, bool [C]."""
    catalog_CD, query_CD = (embedder.embed(np.ascontiguousarray(pictures_3C[face][..., None])) for face in (0, 2))
    return nearest_rows(query_CD, catalog_CD, 1)[:, 0] == np.arange(len(query_CD))


def run(arguments: argparse.Namespace) -> None:
    """Train and measure what is not in the file yet."""
    pictures = np.load(arguments.han / "pictures.npy")
    if max(arguments.classes) + NUM_UNSEEN > pictures.shape[1]:
        raise SystemExit(f"bench_han: {pictures.shape[1]} characters are too few; draw more with han.py")
    strategies, choice = find_strategies(arguments.strategies), Choice(arguments.rate, arguments.parameter)
    settings: dict[str, Any] = {"data.size": 32, "data.channels": 1} | parse_settings(arguments.set)
    tuned = [f"{name}={getattr(arguments, name)}" for name in TUNED if getattr(arguments, name) != TUNED[name]]
    done = {row_key(row) for row in read_rows(arguments.out)}
    for classes in arguments.classes:
        # Unseen characters are the last ones, so that they are the same for any number of classes.
        trained, unseen = pictures[:, :classes], pictures[:, -NUM_UNSEEN:]
        dataset = training_set(trained[:2])
        for batch, seed, strategy in product(arguments.batch, arguments.seeds, strategies):
            budget = Budget(arguments.pictures, 2 * batch)
            row: dict[str, Any] = {
                "classes": classes,
                "pictures": arguments.pictures,
                "batch": batch,
                "strategy": strategy.name,
                "set": [*arguments.set, *tuned],
                "seed": seed,
            }
            config = strategy_config(strategy, settings, budget, choice, num_classes=classes, seed=seed)
            # A row of other defaults or packages is another row.
            row["made_by"] = made_by(config, "han", strategy.name, choice.parameter)
            if row_key(row) in done:
                continue
            result = train_strategy(strategy, dataset, config, budget, choice)
            seen_C, unseen_C = measure(result.embedder, trained), measure(result.embedder, unseen)
            row |= {
                "seen": round(float(seen_C.mean()), 4),
                "unseen": round(float(unseen_C.mean()), 4),
                "cpu_s": round(result.cpu_s, 1),
                "embed_s": round(result.embed_s, 1),
                "mine_s": round(result.mine_s, 1),
                "stopped": result.stopped,
            }
            line = json.dumps(row)
            print(line, flush=True)
            if arguments.out is not None:
                with arguments.out.open("a") as file:
                    file.write(line + "\n")


def row_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells a run from others."""
    names = ("classes", "pictures", "batch", "strategy", "seed")
    return (*(row[name] for name in names), row.get("made_by", ""), *row["set"])


def read_rows(file: Path | None) -> list[dict[str, Any]]:
    """Return the runs in a file."""
    return [] if file is None or not file.exists() else [json.loads(line) for line in file.read_text().splitlines()]


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print means over seeds, and differences to the first strategy, of the same seeds, with their standard error."""
    groups: dict[tuple[Any, ...], dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        group = (row["classes"], row["pictures"], row["batch"])
        groups[group][" ".join([row["strategy"], *row["set"]])][row["seed"]] = row
    print("| classes | pictures | batch | strategy | seeds | seen | to the first | unseen | to the first | CPU, s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for group, by_name in sorted(groups.items()):
        first = next(iter(by_name.values()))
        for by_seed in by_name.values():
            row = next(iter(by_seed.values()))
            cells = [f"{value:,}" for value in group] + [" ".join([row["strategy"], *row["set"]]), str(len(by_seed))]
            for figure in ("seen", "unseen"):
                values = [by_seed[seed][figure] for seed in sorted(by_seed)]
                both = sorted(by_seed.keys() & first.keys())
                differences = np.array([by_seed[seed][figure] - first[seed][figure] for seed in both])
                error = f" ± {differences.std(ddof=1) / len(both) ** 0.5:.3f}" if len(both) > 1 else ""
                cells += [f"{np.mean(values):.3f}", "" if by_seed is first else f"{differences.mean():+.3f}{error}"]
            cells.append(f"{np.mean([found['cpu_s'] for found in by_seed.values()]):.0f}")
            print("| " + " | ".join(cells) + " |")


def gains(rows: list[dict[str, Any]], figure: str) -> dict[int, list[tuple[int, float, float, int]]]:
    """Return by batch, for each number of classes: the gain, half of its 95% interval, and the number of seeds.

    The standard deviation of one seed's gain is pooled over all points, since a point has few seeds: s² is the sum of
    squares around the means of points, over the number of runs less that of points, and the interval is Student's. The
    half is NaN where no point has two seeds.
    """
    by_point: dict[tuple[int, int], dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["strategy"] in DRAWN and not row["set"]:
            by_point[row["batch"], row["classes"]][row["seed"]][row["strategy"]] = row[figure]
    pairs, without = DRAWN
    found = {
        point: np.array([two[pairs] - two[without] for two in by_seed.values() if len(two) == 2])
        for point, by_seed in sorted(by_point.items())
    }
    found = {point: gain for point, gain in found.items() if len(gain)}
    free = sum(len(gain) - 1 for gain in found.values())
    squares = sum(float(((gain - gain.mean()) ** 2).sum()) for gain in found.values())
    half_of_one = float(student.ppf(0.975, free)) * (squares / free) ** 0.5 if free else float("nan")
    lines: dict[int, list[tuple[int, float, float, int]]] = defaultdict(list)
    for (batch, classes), gain in found.items():
        lines[batch].append((classes, float(gain.mean()), half_of_one / len(gain) ** 0.5, len(gain)))
    return dict(lines)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw the gain in the catalog and on unseen classes against the number of classes, a line for each batch."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "mohs", "font.size": 10, "svg.fonttype": "none"}):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        for axes, name, title in zip(
            figure.subplots(1, 2, sharey=True),
            ("seen", "unseen"),
            ("catalog of all classes", "unseen classes"),
            strict=True,
        ):
            for shift, (batch, points) in enumerate(gains(rows, name).items()):
                classes, gain, half, _ = (np.array(column) for column in zip(*points, strict=True))
                axes.errorbar(
                    classes * 1.04 ** (shift - 1),
                    100 * gain,
                    100 * half,
                    marker="o",
                    capsize=3,
                    label=f"{batch} pairs a batch",
                )
            axes.axhline(0.0, color="0.6", linewidth=0.8)
            axes.set(title=title, xlabel="training classes", xscale="log")
            ticks = sorted({row["classes"] for row in rows})
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            axes.minorticks_off()
        figure.axes[0].set_ylabel("gain of R@1, in points")
        figure.axes[0].legend(frameon=False)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    """Run, or print or draw what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--han", type=Path, help="the folder that han.py wrote")
    parser.add_argument("--classes", type=int, nargs="+", default=[32_000])
    parser.add_argument("--pictures", type=int, default=400_000)
    parser.add_argument("--batch", type=int, nargs="+", default=[96], help="pairs in a batch")
    parser.add_argument(
        "--rate", type=float, default=TUNED["rate"], help="of the learning rate, as a share of the usual one"
    )
    parser.add_argument(
        "--parameter",
        type=int,
        default=TUNED["parameter"],
        help="of the values that the strategy's parameter may have, 0 being the usual one (mohs.compare.strategies)",
    )
    parser.add_argument("--strategies", nargs="+", default=USUAL)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], help="settings of all strategies, as in 'mohs train --set'")
    parser.add_argument("--out", type=Path, help="append the lines to this file, and leave out what stands there")
    parser.add_argument("--table", action="store_true", help="train nothing; print what is in --out")
    parser.add_argument("--figure", type=Path, help="train nothing; draw what is in --out, SVG or PNG")
    arguments = parser.parse_args()
    if arguments.figure is not None:
        draw(read_rows(arguments.out), arguments.figure)
    elif not arguments.table:
        if arguments.han is None:
            parser.error("give --han, the folder that han.py wrote")
        run(arguments)
    else:
        print_table(read_rows(arguments.out))


if __name__ == "__main__":
    main()
