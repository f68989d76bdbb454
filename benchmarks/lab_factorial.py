"""What is the optimiser's, what the batch's and what hardness's: a grid, each cell with a learning rate of its own.

    python benchmarks/han.py han
    python benchmarks/lab_factorial.py --han han --out rows.jsonl
    python benchmarks/lab_factorial.py --out rows.jsonl --table

The loop is that of lab_neighbours.py, on 8,000 Han characters. A cell is an optimiser, a number of pairs in a batch,
and how its classes meet: random batches, cliques of a class and its nearest ones, or random batches with the eight
nearest of a bank that a momentum encoder writes. Its rate is the best of three by R@1 in the catalog with seed 9; it is
measured with the seeds. All cells show equally many pictures. `--table` prints R@1 in the catalog / on unseen ones.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

CLASSES, PICTURES = 8_000, 48_000
BATCHES, OPTIMIZERS = (12, 24, 48, 96, 384), ("adamw", "muon")
FORMS = {
    "random": "",
    "cliques of 4": "clique=4",
    "cliques of 8": "clique=8",
    "cliques of 16": "clique=16",
    "whole batch": "clique={pairs}",
    "cliques of 8, of a segment": "clique=8 piece=3200",
    "bank, 8 nearest": "key={key} queue=16384 near=8 key_mode=eval temperature=0.05",
}
RATES = {"adamw": (0.002, 0.004, 0.008), "muon": (0.015, 0.03, 0.06)}
TUNING_SEED = 9


def switches(form: str, optimizer: str, pairs: int, rate: float) -> str:
    """Return what lab_neighbours.py is to be told."""
    num_steps = PICTURES // (2 * pairs)
    how = FORMS[form].format(pairs=pairs, key=round(max(0.0, 1 - 10 / num_steps), 4))
    return f"pictures={PICTURES} hidden=0 optimizer={optimizer} pairs={pairs} rate={rate:g} {how}".strip()


def read(file: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the rows of a file by switches and seed."""
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {(row["switches"], row["seed"]): row for row in rows if row["classes"] == CLASSES}


def best_rate(rows: dict[tuple[str, int], dict[str, Any]], form: str, optimizer: str, pairs: int) -> float | None:
    """Return the rate that was best with the tuning seed, the first of equals; None if one was not tried yet."""
    tried = [rows.get((switches(form, optimizer, pairs, rate), TUNING_SEED)) for rate in RATES[optimizer]]
    if None in tried:
        return None
    return RATES[optimizer][int(np.argmax([row["seen"] for row in tried if row is not None]))]


def run(arguments: argparse.Namespace) -> None:
    """Run what is not in the file yet."""

    def lab(text: str, seeds: list[int]) -> None:
        where = ["--han", str(arguments.han), "--out", str(arguments.out), "--classes", str(CLASSES)]
        lab_file = Path(__file__).with_name("lab_neighbours.py")
        subprocess.run([sys.executable, str(lab_file), *where, text, "--seeds", *map(str, seeds)], check=True)

    for form, pairs, optimizer in itertools.product(arguments.forms, arguments.batches, OPTIMIZERS):
        for rate in RATES[optimizer]:
            lab(switches(form, optimizer, pairs, rate), [TUNING_SEED])
        chosen = best_rate(read(arguments.out), form, optimizer, pairs)
        assert chosen is not None
        lab(switches(form, optimizer, pairs, chosen), arguments.seeds)


def print_table(file: Path, seeds: list[int]) -> None:
    """Print a row for each optimiser and batch, a column for each form, with the chosen rate."""
    rows = read(file)
    print("| optimiser, pairs | " + " | ".join(FORMS) + " |")
    print("|---" * (len(FORMS) + 1) + "|")
    for optimizer, pairs in itertools.product(OPTIMIZERS, BATCHES):
        cells = []
        for form in FORMS:
            rate = best_rate(rows, form, optimizer, pairs)
            found = [] if rate is None else [rows.get((switches(form, optimizer, pairs, rate), seed)) for seed in seeds]
            there = [row for row in found if row is not None]
            if not there:
                cells.append("")
                continue
            seen, unseen = (np.mean([row[name] for row in there]) for name in ("seen", "unseen"))
            edge = " (edge)" if rate in (RATES[optimizer][0], RATES[optimizer][-1]) else ""
            cells.append(f"{seen:.3f} / {unseen:.3f} ({rate:g}{edge})")
        print(f"| {optimizer}, {pairs} | " + " | ".join(cells) + " |")


def main() -> None:
    """Run, or print what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--han", type=Path, help="the folder that han.py wrote")
    parser.add_argument(
        "--out", type=Path, required=True, help="append the lines to this file, leave out what is there"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--table", action="store_true", help="train nothing; print what is in --out")
    arguments = parser.parse_args()
    if arguments.table:
        print_table(arguments.out, arguments.seeds)
    elif arguments.han is None:
        parser.error("give --han, the folder that han.py wrote")
    else:
        run(arguments)


if __name__ == "__main__":
    main()
