"""The published size in the open: 35,000 classes of two pictures, 70,000 triplets, 70 cycles, and what else one may do.

    make bench-35k
    python benchmarks/bench_35k.py --han build/han --out build/bench-35k.jsonl
    python benchmarks/bench_35k.py --out build/bench-35k.jsonl --table

Han characters in three typefaces (`han.py`; drawn first, if the folder has none): two faces of 35,000 characters are
trained on. The third face of each asks in a catalog of the first face of all 35,000, and that of 5,000 characters never
seen in a catalog of these. Every row but the untrained network shows 210,000 pictures in batches of 192, which are
70,000 triplets or 105,000 pairs. A row that is in the file is not run again, so what was cut short goes on.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_han import read_rows, training_set
from han import draw_han
from numpy.typing import NDArray

from mohs.compare.budget import Budget
from mohs.compare.strategies import STRATEGIES, Strategy
from mohs.compare.training import Choice, made_by, new_embedder, strategy_config, train_strategy
from mohs.evaluation.retrieval import evaluate_retrieval
from mohs.model.embedder import Embedder

NUM_CYCLES = 70
UNTRAINED = "untrained"
ROWS: Mapping[str, Strategy | None] = {
    "default": STRATEGIES["default"],
    "default without hardness": STRATEGIES["default without scheduled hardness"],
    "SupCon as users write it": STRATEGIES["online supcon"],
    UNTRAINED: None,
    "sigmoid": STRATEGIES["sigmoid"],
    "cyclic sigmoid": replace(
        STRATEGIES["cyclic sigmoid"],
        settings={**STRATEGIES["cyclic sigmoid"].settings, "hardness.cycles": NUM_CYCLES},
    ),
    "hardest": STRATEGIES["hardest"],
    "easiest": STRATEGIES["easiest"],
    "closed loop": STRATEGIES["closed loop"],
}
SETTINGS = {"data.size": 32, "data.channels": 1}
KS = (1, 50)


def measure(embedder: Embedder, pictures_3C: NDArray[np.uint8]) -> dict[str, list[float]]:
    """Return R@1 and Top-50 of the third face in a catalog of the first, each with its 95% interval over classes."""
    catalog_CD, query_CD = (embedder.embed(np.ascontiguousarray(pictures_3C[face][..., None])) for face in (0, 2))
    character_C = np.arange(len(query_CD))
    found = evaluate_retrieval(query_CD, character_C, catalog_CD, character_C, ks=KS)
    return {f"recall@{k}": [found.recall[k], *found.intervals[f"recall@{k}"]] for k in KS}


def load(folder: Path, fonts: Path, num_characters: int) -> NDArray[np.uint8]:
    """Return the pictures, uint8 [3, C, 32, 32]; draw them if they are not there."""
    if not (folder / "pictures.npy").exists():
        pictures, codes = draw_han(num_characters, fonts)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "characters.txt").write_text("".join(f"U+{code:05X}\n" for code in codes))
        np.save(folder / "pictures.npy", pictures)
    pictures = np.load(folder / "pictures.npy")
    if pictures.shape[1] < num_characters:
        raise SystemExit(f"bench_35k: {folder} holds {pictures.shape[1]:,} characters, not {num_characters:,}")
    return pictures[:, :num_characters]


def run(arguments: argparse.Namespace) -> None:
    """Train and measure the rows that are not in the file yet."""
    pictures = load(arguments.han, arguments.fonts, arguments.classes + arguments.unseen)
    seen, unseen = pictures[:, : arguments.classes], pictures[:, arguments.classes :]
    dataset = training_set(seen[:2])
    budget = Budget(3 * arguments.triplets, 192)
    done = {row_key(row) for row in read_rows(arguments.out)}
    for name, strategy in ROWS.items():
        row: dict[str, Any] = {
            "name": name,
            "classes": arguments.classes,
            "triplets": arguments.triplets,
            "seed": arguments.seed,
        }
        config = strategy_config(
            strategy or STRATEGIES["default"],
            SETTINGS,
            budget,
            Choice(),
            num_classes=arguments.classes,
            seed=arguments.seed,
        )
        # A row of other defaults or packages is another row.
        row["made_by"] = made_by(config, "han", name)
        if row_key(row) in done:
            continue
        if strategy is None:
            embedder, took = new_embedder(config).eval(), {"cpu_s": 0.0, "embed_s": 0.0, "mine_s": 0.0}
        else:
            trained = train_strategy(strategy, dataset, config, budget, Choice())
            took = {"cpu_s": trained.cpu_s, "embed_s": trained.embed_s, "mine_s": trained.mine_s}
            row |= {"pictures": trained.num_pictures, "stopped": trained.stopped}
            embedder = trained.embedder
        began = time.process_time()
        row |= {"seen": measure(embedder, seen), "unseen": measure(embedder, unseen)}
        row |= {place: round(seconds, 1) for place, seconds in took.items()}
        row |= {"measure_s": round(time.process_time() - began, 1), "threads": os.environ.get("OMP_NUM_THREADS", "")}
        line = json.dumps(row)
        print(line, flush=True)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("a") as file:
            file.write(line + "\n")


def row_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells a run from others."""
    return (*(row[name] for name in ("name", "classes", "triplets", "seed")), row.get("made_by", ""))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table, in the order of `ROWS` from the worst to what is the default."""
    lines = ["| | Top-50 | R@1 | R@1, unseen classes | CPU, s |", "|---|---|---|---|---|"]
    order = [UNTRAINED, "easiest", "hardest", "sigmoid", "cyclic sigmoid", "closed loop"]
    order += [name for name in ROWS if name not in order][::-1]
    for row in sorted(rows, key=lambda row: (order.index(row["name"]), row["seed"])):
        cells = [_cell(row[place][metric]) for place, metric in _SHOWN]
        cells.append("" if row["name"] == UNTRAINED else f"{row['cpu_s']:,.0f}")
        stopped = " (stopped)" if row.get("stopped") else ""
        lines.append("| " + " | ".join([row["name"] + stopped, *cells]) + " |")
    return lines


_SHOWN = (("seen", "recall@50"), ("seen", "recall@1"), ("unseen", "recall@1"))


def _cell(found: list[float]) -> str:
    value, low, high = found
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Run, or print what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--han", type=Path, default=Path("build/han"), help="the folder of the pictures")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts/truetype"))
    parser.add_argument("--classes", type=int, default=35_000)
    parser.add_argument("--unseen", type=int, default=5_000)
    parser.add_argument("--triplets", type=int, default=70_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/bench-35k.jsonl"))
    parser.add_argument("--table", action="store_true", help="train nothing; print what is in --out")
    arguments = parser.parse_args()
    if not arguments.table:
        run(arguments)
    print("\n".join(table(read_rows(arguments.out))))


if __name__ == "__main__":
    main()
