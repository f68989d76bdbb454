"""What a golden run consists of: small inputs, and the commands that are run on them one after the other.

Nothing here is imported from Mohs: the commands are those that a person types, so that a golden run survives any move
of modules. Every path is relative to the folder in which the commands run, so that two recordings say the same.

Left out, since they cannot give the same twice or would take minutes: `demo` (three minutes), `compare --equal cpu`
(a budget in measured seconds), runs that are killed (`kill_and_resume.py` has those), several processes and GPUs.
"""

import csv
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

__all__ = ["Step", "copy_part", "steps", "write_inputs"]

NUM_CLASSES, PER_CLASS = 40, 4
DRAWN = "characters"  # a folder; "glyphs" is the built-in set, all 5,197 classes of it
SCALES = ("range", "rank", "log-rank", "margin")
METHODS = ("linear", "nearest-neighbours", "nearest-catalog")
_GREY = ("--size", "32", "--channels", "1")
_SAMPLED = ("--num-sampled", "256")  # the smallest that is taken
_SHORT = ("--triplets", "160", "--batch", "40", "--seed", "3", "--device", "cpu", "--set", "training.num_segments=3")


@final
@dataclass(frozen=True)
class Step:
    """One command: its name in the recording, and the arguments after `mohs`."""

    name: str
    arguments: tuple[str, ...]


def copy_part(source: Path, target: Path, num_classes: int = NUM_CLASSES, per_class: int = PER_CLASS) -> None:
    """Copy the first pictures of the first classes of `source`/images.csv, and its catalog's where it has one."""
    kept: dict[str, int] = {}
    for name in ("catalog.csv", "images.csv"):  # the catalog first: its classes are the ones kept
        if not (source / name).is_file():
            continue
        with (source / name).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        counts: dict[str, int] = {}
        part = []
        for row in rows:
            label = row["class"]
            if (label in kept or len(kept) < num_classes) and counts.get(label, 0) < per_class:
                kept[label] = counts[label] = counts.get(label, 0) + 1
                part.append({"file": row["file"], "class": label})
                (target / row["file"]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / row["file"], target / row["file"])
        _write_table(target / name, ("file", "class"), [tuple(row.values()) for row in part])


def write_inputs(folder: Path) -> None:
    """Write what other libraries leave, made up: embeddings with classes, logs of a training, pairs; and bad tables."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(NUM_CLASSES), PER_CLASS)  # as many as pictures of `DRAWN`
    num_rows, centres = len(labels), random.normal(size=(NUM_CLASSES, 16))
    sets = {
        "healthy": centres[labels] + random.normal(0, 0.4, (num_rows, 16)),
        "collapsed": 1.0 + random.normal(0, 1e-5, (num_rows, 16)),
        "line": np.outer(random.normal(size=num_rows), centres[0]) + 1e-6 * random.normal(size=(num_rows, 16)),
        "wrong-order": centres[labels][random.permutation(num_rows)],
        "one-large-column": np.column_stack((centres[labels], 500 * random.normal(size=num_rows))),
    }
    for name, embeddings in sets.items():
        np.save(folder / f"{name}.npy", embeddings.astype(np.float32))
    _write_table(folder / "labels.csv", ("class",), [(f"c{label:02}",) for label in labels])
    epochs = range(1, 21)
    falling = [1.0 / epoch for epoch in epochs]
    logs = {
        "margin": [(epoch, 0.2, 0.5) for epoch in epochs],
        "falls": [(epoch, loss, 1 - loss / 2) for epoch, loss in zip(epochs, falling, strict=True)],
        "rises": [(epoch, 0.1 * 1.9**epoch, 0.5) for epoch in epochs],
        "not-finite": [(epoch, 0.5 if epoch < 9 else float("nan"), 0.6) for epoch in epochs],
    }
    for name, rows in logs.items():
        _write_table(folder / f"log-{name}.csv", ("epoch", "loss", "val_accuracy"), rows)
    same = np.arange(200) % 2
    distance = np.where(same == 1, 0, 1.5) + random.uniform(0, 1, 200)
    scores = {"score": 1 / (1 + np.exp(-distance)), "distance": distance, "similarity": distance}
    for name, values in scores.items():
        rows = [(int(one), f"{value:.6f}") for one, value in zip(same, values, strict=True)]
        _write_table(folder / f"pairs-{name}.csv", ("same", name), rows)
    (folder / "broken").mkdir()
    (folder / "broken" / "text.png").write_text("no picture", encoding="utf-8")
    _write_table(folder / "broken.csv", ("file", "class"), [("broken/text.png", "a"), ("broken/gone.png", "b")])
    _write_table(folder / "columns.csv", ("path", "label"), [("a.png", "a")])


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def steps(folder: Path, sets: Sequence[str], weights: str | None) -> Iterator[Step]:
    """Yield the commands in order; each is yielded when the ones before have been run, so files of theirs are there.

    Args:
        folder: where the commands run.
        sets: names of the folders in it with more pictures; `DRAWN` is written by the first command.
        weights: safetensors of mobilenetv2_100 beside them; None fine-tunes a tiny network from random weights.
    """
    yield Step("glyphs", ("glyphs", "drawn", "--size", "32", "--classes", str(NUM_CLASSES)))
    if (folder / "drawn").is_dir():
        copy_part(folder / "drawn", folder / DRAWN)
    yield from _of_the_command_line()
    for name in (DRAWN, *sets):
        yield from _of_a_set(name, weights)
    yield from _of_other_trainings()
    yield from _of_one_set(DRAWN)
    yield from _of_errors(DRAWN)


def _of_the_command_line() -> Iterator[Step]:
    for command in ("check", "fix", "glyphs", "mine", "train", "evaluate", "report", "compare", "doctor", "demo"):
        yield Step(f"help/{command}", (command, "--help"))
    for command in ("fit", "predict", "evaluate"):
        yield Step(f"help/classify {command}", ("classify", command, "--help"))
    yield Step("help/strategies", ("compare", DRAWN, "--strategies", "list"))
    yield Step("help/none", ())
    for preset in ("small", "frozen", "fine-tune", "fine-tune-sgd", "photos"):
        yield Step(f"config/{preset}", ("train", "glyphs", "--preset", preset, "--print-config"))
    for budget in ("small", "medium", "large"):
        yield Step(f"config/budget {budget}", ("train", "glyphs", "--budget", budget, "--print-config"))


def _of_a_set(name: str, weights: str | None) -> Iterator[Step]:
    """Yield the grid of one set: what is mined, trained, measured, explained, classified and corrected."""
    yield Step(f"{name}/check", ("check", name))
    yield Step(f"{name}/check json", ("check", name, "--json", "--fixes", f"{name}-fixes.csv"))
    for scale in SCALES:
        for method in ("exact", "sampled"):
            out = f"{name}-{scale}-{method}"
            more = _SAMPLED if method == "sampled" else ("--margin", "0.2") if scale == "margin" else ()
            flags = ("--scale", scale, "--method", method, *more, "--triplets", "100", "--seed", "3")
            files = ("--out", f"{out}.parquet", "--csv", f"{out}.csv")
            yield Step(f"{name}/mine {scale} {method}", ("mine", name, *_GREY, *flags, *files))
    backbone = ("mobilenetv2_100", "--weights", weights) if weights else ("test_resnet",)
    trained = {
        "infonce": (*_GREY, *_SHORT),
        "triplet": (*_GREY, *_SHORT, "--loss", "triplet", "--curve", "sigmoid", "--scale", "range"),
        "closed-loop": (*_GREY, *_SHORT, "--loss", "triplet", "--curve", "closed-loop", "--cap", "1"),
        "fine-tuned": ("--size", "32", "--channels", "3", *_SHORT[2:], "--triplets", "24", "--backbone", *backbone),
    }
    for kind, flags in trained.items():
        run = f"{name}-{kind}"
        yield Step(f"{name}/train {kind}", ("train", name, *flags, "--out", run))
        yield Step(f"{name}/evaluate {kind}", ("evaluate", run, "--json"))
        yield Step(f"{name}/doctor {kind}", ("doctor", run, "--json"))
    run = f"{name}-infonce"
    yield Step(f"{name}/doctor text", ("doctor", run))
    yield Step(f"{name}/precision", ("doctor", run, "--precision", "--out", f"{name}-why"))
    everything = ("--data", name, "--recall", "0.3", "--json", "--out", f"{name}-why-all")
    yield Step(f"{name}/precision all", ("doctor", run, "--precision", *everything))
    yield Step(f"{name}/fix", ("fix", name, f"{name}-why-all/fixes.csv", "--out", f"{name}-fixed.csv"))
    for method in METHODS:
        fitted = f"{name}-by-{method}"
        fit = ("classify", "fit", run, "--out", fitted, "--method", method, "--max-false-acceptance", "0.2")
        epochs = ("--epochs", "5") if method == "linear" else ()
        yield Step(f"{name}/classify fit {method}", (*fit, *epochs, "--seed", "3"))
        yield Step(f"{name}/classify evaluate {method}", ("classify", "evaluate", fitted, name, "--json"))
    runs = (run, f"{name}-triplet", f"{name}-closed-loop")
    yield Step(f"{name}/report", ("report", *runs, "--out", f"{name}-report.html"))


def _of_other_trainings() -> Iterator[Step]:
    for name in ("healthy", "collapsed", "line", "wrong-order", "one-large-column"):
        given = ("--embeddings", f"{name}.npy", "--labels", "labels.csv")
        yield Step(f"embeddings/doctor {name}", ("doctor", *given, "--json"))
        yield Step(f"embeddings/evaluate {name}", ("evaluate", *given, "--no-pairs", "--json"))
    given = ("--embeddings", "healthy.npy", "--labels", "labels.csv")
    queries = ("--query-embeddings", "one-large-column.npy", "--query-labels", "labels.csv")
    yield Step("embeddings/evaluate text", ("evaluate", *given, "--per-class", "classes.csv", "--out", "healthy.json"))
    yield Step("embeddings/evaluate other width", ("evaluate", *given, *queries))
    pictures = ("--embeddings", "healthy.npy", "--labels", f"{DRAWN}/images.csv")
    yield Step("embeddings/precision", ("doctor", "--precision", *pictures, "--recall", "0.5", "--out", "healthy-why"))
    yield Step("embeddings/precision without files", ("doctor", "--precision", *given, "--out", "bare-why"))
    for name in ("margin", "falls", "rises", "not-finite"):
        log = ("--log", f"log-{name}.csv", "--loss-name", "triplet", "--margin", "0.2")
        yield Step(f"log/{name}", ("doctor", *log, "--json"))
        yield Step(f"log/{name} alone", ("doctor", "--log", f"log-{name}.csv"))
    for name in ("score", "distance", "similarity"):
        pairs = ("--pairs", f"pairs-{name}.csv", "--threshold", "0.5")
        yield Step(f"pairs/{name}", ("doctor", *pairs, "--json", "--fail-on", "error"))
    together = ("--log", "log-margin.csv", *given, "--pairs", "pairs-score.csv", "--margin", "0.2")
    yield Step("log/with all", ("doctor", *together, "--loss-name", "contrastive"))


def _of_one_set(name: str) -> Iterator[Step]:
    """Yield what need not be repeated on every set: rules of mining, presets, other losses, a comparison."""
    few = ("--triplets", "80")
    mine = ("mine", name, *_GREY, *few)
    rules = {
        "hard positives": ("--positive-rule", "hard", "--negatives", "3"),
        "easy positives": ("--positive-rule", "easy", "--metric", "cosine"),
        "catalog": ("--anchors", "catalog", "--candidates", "sample", "--cycles", "4", "--json"),
        "catalog candidates": ("--candidates", "catalog", "--prefer", "catalog", "--curve", "linear"),
    }
    for rule, flags in rules.items():
        yield Step(f"mine/{rule}", (*mine, *flags, "--out", f"{rule.replace(' ', '-')}.parquet"))
    by_run = ("--embedder", f"{name}-infonce", "--curve", "constant", "--cap", "1")
    yield Step("mine/by a run", ("mine", name, *few, *by_run, "--out", "by-a-run.parquet"))
    for scale in ("rank", "log-rank"):  # of more pictures than a sample has
        flags = ("--scale", scale, "--method", "sampled", *_SAMPLED, *few, "--out", f"sampled-{scale}.parquet")
        yield Step(f"mine/sampled {scale}", ("mine", "drawn", *_GREY, *flags))
    short = (*_GREY, *_SHORT)
    more = {
        "by item": ("--split-by", "item", "--loss", "arcface"),
        "semi-hard": ("--loss", "semi-hard", "--per-class", "2"),
        "contrastive": ("--loss", "contrastive", "--set", "training.optimizer=adamw"),
        "bank": ("--set", "memory.num_negatives=64", "--set", "memory.from_progress=0.2"),
        "warm-up": ("--set", "classification.num_pictures=80"),
        "collapses": ("--loss", "triplet", "--learning-rate", "0.5", "--set", "model.batch_norm=false"),
    }
    for kind, flags in more.items():
        run = f"more-{kind.replace(' ', '-')}"
        yield Step(f"more/train {kind}", ("train", name, *short, *flags, "--out", run, "--json"))
        yield Step(f"more/doctor {kind}", ("doctor", run))
    part = ("--per-class", "3", "--set", "data.max_classes=20")
    yield Step("more/evaluate by item", ("evaluate", "more-by-item"))
    yield Step("more/built in", ("train", "glyphs", *short, *part, "--out", "more-few"))
    strategies = ("--strategies", "default,cyclic sigmoid,closed loop,online supcon", "--pictures", "240")
    compared = ("compare", name, *_GREY, *strategies, "--seeds", "2", "--out", "compared")
    yield Step("compare/first", compared)
    yield Step("compare/again", (*compared, "--json"))


def _of_errors(name: str) -> Iterator[Step]:
    """Yield commands that a user gets wrong: what they are told is part of the behaviour."""
    run = f"{name}-infonce"
    wrong = {
        "no such table": ("check", "nowhere.csv"),
        "broken pictures": ("check", "broken.csv"),
        "broken pictures trained on": ("train", "broken.csv", "--out", "broken-run"),
        "columns": ("mine", "columns.csv"),
        "scale": ("mine", name, "--scale", "steep"),
        "curve": ("mine", name, "--curve", "steep"),
        "cap": ("mine", name, "--cap", "1.5"),
        "out is there": ("train", name, "--out", run),
        "resume of a finished run": ("train", "--resume", run),
        "loss": ("train", name, "--loss", "hinge", "--out", "never"),
        "setting": ("train", name, "--set", "training.colours=1", "--out", "never"),
        "section": ("train", name, "--set", "colours=1", "--out", "never"),
        "backbone": ("train", name, "--backbone", "resnet", "--out", "never"),
        "weights": ("train", name, "--backbone", "test_resnet", "--weights", "none.safetensors", "--out", "never"),
        "preset": ("train", name, "--preset", "best", "--out", "never"),
        "no run": ("evaluate", "nowhere"),
        "no run for the doctor": ("doctor", "nowhere"),
        "nothing for the doctor": ("doctor",),
        "labels missing": ("doctor", "--embeddings", "healthy.npy"),
        "labels too few": ("evaluate", "--embeddings", "healthy.npy", "--labels", "log-falls.csv"),
        "not embeddings": ("evaluate", "--embeddings", "labels.csv", "--labels", "labels.csv"),
        "strategy": ("compare", name, "--strategies", "best"),
        "no classifier": ("classify", "evaluate", "nowhere"),
        "method": ("classify", "fit", run, "--method", "trees", "--out", "never"),
        "flag": ("train", "--colours"),
        "command": ("paint",),
    }
    for what, arguments in wrong.items():
        yield Step(f"errors/{what}", arguments)
