"""Inputs made up by a seeded generator: an answer, or one line that says why not; nothing else, and soon.

`MOHS_FUZZ_S` says for how many seconds each of the five main targets is tried (60 with `make test` and in CI,
300 with `make fuzz`, 1 without it); the others have a tenth of that. A find is named by its target and number, which
make it again. Its input is kept in `build/finds`, and is copied to `finds/` to be tried for ever.
"""

import json
import os
import random
import resource
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_oracle_agreement import KINDS, assert_agrees, random_bank, random_labels

import mohs
from mohs.classify.classifier import Classifier
from mohs.data.images import ImagePolicy, decode_bytes, decode_untrusted
from mohs.data.reading import read_table
from mohs.doctor.log.training_log import read_training_log
from mohs.errors import DataWarning, InputError
from mohs.evaluation.embedding_files import read_npy
from mohs.hardness.scales import SCALES
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.runs import Run
from mohs.sums import file_sums, read_summed, write_summed
from mohs.training.checkpoint import load_checkpoint
from mohs.training.events import read_run_events

from .mutations import BYTES, VALUES, changed_json, changed_value
from .picture_kinds import encoded

BUDGET_S = float(os.environ.get("MOHS_FUZZ_S", "1"))
HERE = Path(__file__).parent
RELEASE = HERE.parent / "formats" / "0.1"
FINDS = HERE / "finds"
KEPT = HERE.parents[1] / "build" / "finds"
SLOWEST_S = 10.0  # of CPU, also where numba compiles
POLICY = ImagePolicy(size=16)


@final
@dataclass(frozen=True)
class Target:
    """`make` draws an input as the bytes of a file, whose name ends as `suffix` says; `hold` reads it.

    `most` inputs are tried in 60 s: as many as held when they were tried last. A faster machine would try others, and a
    landing must not fail by chance; `make fuzz` tries five times as many.
    """

    suffix: str
    make: Callable[[random.Random], bytes]
    hold: Callable[[Path], object]
    most: int
    is_main: bool = False


def made_worse(data: bytes, rng: random.Random, times: tuple[int, ...] = (1, 1, 2, 4)) -> bytes:
    for _ in range(rng.choice(times)):
        data = rng.choice(BYTES)(data, rng) if data else rng.randbytes(9)
    return data


PICTURES = [
    encoded(mode, kind)
    for kind, modes in (
        ("PNG", "P LA I;16 RGBA"), ("JPEG", "L RGB CMYK"), ("TIFF", "1 I;16 RGB F"), ("GIF", "P"), ("BMP", "1 RGB"),
        ("WEBP", "RGB RGBA"), ("PPM", "L RGB"), ("TGA", "P RGBA"), ("PCX", "P RGB"), ("JPEG2000", "L RGB"),
        ("AVIF", "RGB"), ("ICO", "RGBA"), ("SGI", "RGB"), ("DDS", "RGBA"), ("QOI", "RGB"),
    )
    for mode in modes.split()
]  # fmt: skip


def make_picture(rng: random.Random) -> bytes:
    return made_worse(rng.choice(PICTURES), rng, (1, 2, 8, 30))


def hold_picture(path: Path) -> None:
    data = path.read_bytes()
    sent = decode_untrusted(data, POLICY, 10**7)
    assert (sent.pixels_HWC is None) == bool(sent.problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        found = decode_bytes(data, POLICY)
    assert (found.dtype, found.shape) == (np.uint8, (16, 16, 3))


CELLS = (
    "a.png", "b/c.jpg", "cup", "", " ", '"', '"x,y"', "=1+1", "'=1", "ключ", "\0", "\r", "\n", "1e9", "nan", "é" * 130,
    "..", "/etc", "sample", "catalog", "test", "x" * 300, "\ufeff", "\u202e", "\x1b[2J", "#", "1.5", "007",
)  # fmt: skip
NAMES = ("file", "class", "role", "split", "group", "path", "label", "price", "", "File", " class")


def make_csv(rng: random.Random) -> bytes:
    width = rng.randrange(1, 6)
    between, end = rng.choice((",", ",", ";", "\t", "|")), rng.choice(("\n", "\n", "\r\n", "\r"))
    header = ["file", "class", *rng.sample(NAMES, max(0, width - 2))][: max(2, width)]
    if rng.random() < 0.2:
        rng.shuffle(header)
    rows = [[f"{i}.png", rng.choice("ab"), *(rng.choice(CELLS) for _ in header[2:])] for i in range(rng.randrange(9))]
    for row in rows:
        if rng.random() < 0.2:
            row[rng.randrange(len(row))] = rng.choice(CELLS)
        if rng.random() < 0.05:
            row.append(rng.choice(CELLS))
    text = end.join(between.join(row) for row in [header, *rows]) + end
    data = text.encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), errors="replace")
    return made_worse(data, rng) if rng.random() < 0.3 else data


def make_parquet(rng: random.Random) -> bytes:
    num = rng.randrange(5)
    columns: dict[str, pa.Array] = {}
    for name in ("file", "class", *rng.sample(NAMES[2:], 2)):
        values = [f"{name}{i}" for i in range(num)]
        kinds: tuple[Callable[[], pa.Array], ...] = (
            lambda values=values: pa.array(values),
            lambda values=values: pa.array(values).dictionary_encode(),
            lambda: pa.array(rng.choices(range(9), k=num), pa.uint64()),
            lambda: pa.array(rng.choices((0.5, float("nan"), 3.0), k=num)),
            lambda values=values: pa.array([rng.choice((value, None, "a\0", "")) for value in values], pa.string()),
            lambda values=values: pa.array([value.encode() for value in values]),
            lambda values=values: pa.array([[value] for value in values], pa.list_(pa.string())),
            lambda: pa.nulls(num),
        )  # fmt: skip
        columns[name] = kinds[0]() if rng.random() < 0.6 else rng.choice(kinds)()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    data = sink.getvalue().to_pybytes()
    return made_worse(data, rng) if rng.random() < 0.5 else data


def hold_table(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("ignore", UserWarning)
        table = read_table(path)
    assert len(table.files) == len(table.labels) == len(table.roles) == len(table) > 0
    assert not any("\0" in text for text in (*table.files, *table.labels.tolist()))
    assert all(table.files)
    assert all(table.labels.tolist())


DTYPES: tuple[Any, ...] = (
    "<f4", "<f4", "<f8", "<f2", "|O", "<U9", "<c8", "|V4", "<f4,<i4", "x" * 99, "<M8[s]", [("a", "<f4")],
)  # fmt: skip
SHAPES: tuple[Any, ...] = (
    (2, 3), (6,), (), (0, 3), (2, -3), (2**62, 2**62), (10**30,), (2, 3.5), "x", [2, 3], (1, 2, 3),
)  # fmt: skip


def make_npy(rng: random.Random) -> bytes:
    header = {
        "descr": rng.choice(DTYPES),
        "fortran_order": rng.choice((False, False, True, None, "no")),
        "shape": rng.choice(SHAPES),
    }
    if rng.random() < 0.2:
        del header[rng.choice(sorted(header))]
    text = repr(header).encode() + b"\n"
    data = b"\x93NUMPY" + rng.choice((b"\1\0", b"\2\0", b"\3\0", b"\xff\0"))
    data += len(text).to_bytes(2 if data[6] == 1 else 4, "little") + text + rng.randbytes(24)
    return made_worse(data, rng) if rng.random() < 0.5 else data


def hold_npy(path: Path) -> None:
    for mapped in (False, True):
        read_npy(path, "embeddings", mapped=mapped)


HEADS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "embedder": ("embedder.json", Embedder.from_pretrained),
    "classifier": ("classifier.json", Classifier.load),
    "checkpoint": ("step-00000012.json", load_checkpoint),
    "run": ("run.json", lambda folder: [Run.open(folder).events(), Run.open(folder).trained_classes()]),
    "run/config.json": ("config.json", lambda folder: Run.open(folder).config),
    "run/inputs.json": ("inputs.json", Run.open),
    "index": ("index.json", lambda folder: mohs.Index.open(folder).calibration),
    "index/calibration.json": ("calibration.json", lambda folder: mohs.Index.open(folder).calibration),
}  # fmt: skip


def make_head(rng: random.Random) -> bytes:
    """Return a changed head of an artefact, with its name; its sum is right, so that more than sums is tried."""
    name = rng.choice(sorted(HEADS))
    values = read_summed(RELEASE / name.partition("/")[0] / HEADS[name][0])
    for _ in range(rng.choice((1, 1, 2))):
        changed_value(values, rng)
    return json.dumps({"head": name, "values": values}).encode()


def hold_head(path: Path) -> None:
    given = json.loads(path.read_text())
    folder, head = path.parent / "head", HEADS[given["head"]]
    shutil.copytree(RELEASE / given["head"].partition("/")[0], folder)
    try:
        if head[0] == "config.json" or not _finite(given["values"]):
            (folder / head[0]).write_text(json.dumps(given["values"]))
        else:
            write_summed(folder / head[0], given["values"])
        if head[0] in ("config.json", "inputs.json"):
            facts = read_summed(folder / "run.json")
            write_summed(folder / "run.json", facts | {"files": file_sums(folder, facts["files"])})
        head[1](folder)
    finally:
        shutil.rmtree(folder)


def _finite(values: Any) -> bool:
    try:
        return bool(json.dumps(values, allow_nan=False))
    except (ValueError, RecursionError):
        return False


PLAN = pq.read_table(RELEASE / "plan" / "plan.parquet")


def make_plan(rng: random.Random) -> bytes:
    """Return a plan whose columns, types, numbers or header are others, as an older version wrote it: without a sum."""
    about = {b"mohs": PLAN.schema.metadata[b"mohs"]}
    table = PLAN.replace_schema_metadata(about)
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(table.column_names)
        place = table.column_names.index(name)
        numbers = [rng.choice((0, 1, -1, 2**31, 2**63 - 1)) for _ in range(len(table))]
        match rng.randrange(6):
            case 0:
                table = table.drop_columns([name])
            case 1:
                table = table.append_column(name, table.column(name))
            case 2:
                table = table.set_column(place, name, pa.array(numbers))
            case 3:
                table = table.set_column(
                    place, name, pa.array([rng.choice(("", "x", None)) for _ in numbers], pa.string())
                )
            case 4:
                bad = [rng.choice((float("nan"), float("inf"), -1.0, 1e300, None)) for _ in numbers]
                table = table.set_column(place, name, pa.array(bad, pa.float64()))
            case _:
                key = rng.choice(sorted(about))
                worse = changed_json(about[key], rng) if about[key][:1] == b"{" else made_worse(about[key], rng)
                table = table.replace_schema_metadata({**(table.schema.metadata or {}), key: worse[:10_000]})
        if len(set(table.column_names)) < max(1, len(table.column_names)):
            break
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def make_miner(rng: random.Random) -> bytes:
    return str(rng.randrange(2**60)).encode()


def hold_miner(path: Path) -> None:
    """Mine a bank that the number in the file decides, and hold it against the definition."""
    rng = np.random.default_rng(int(path.read_text()))
    num, dim, k = int(rng.integers(12, 60)), int(rng.integers(1, 9)), int(rng.integers(1, 3))
    bank = random_bank(rng, num, dim, str(rng.choice(KINDS)))
    labels = random_labels(rng, num, str(rng.choice(["pairs", "few", "single"])))
    if np.bincount(labels).max() > num - k:
        return
    anchors = rng.integers(0, num, 20)
    hardness = rng.choice([0.0, 1.0, 0.5, float(rng.random())], 20)
    scale = str(rng.choice(SCALES))
    margin = float(10.0 ** rng.integers(-3, 3))
    rule = str(rng.choice(["random", "easy", "hard"]))
    excluded = rng.integers(0, num, (5, 2)) if rng.random() < 0.5 and k == 1 and len(np.unique(labels)) > 12 else None
    assert_agrees(
        bank, labels, anchors, hardness, scale, None, margin, bool(rng.integers(2)), k=k, excluded=excluded, rule=rule
    )


LOG_NAMES = (
    "epoch", "step", "loss", "val_loss", "acc", "val_accuracy", "lr", "recall@1", "EER", "NMI", "d_ap", "d_an", "s_ap",
    "spread", "active_fraction", "Wall time", "Value", "train_loss_epoch", "mAP", "auc", "note", "",
)  # fmt: skip
LOG_CELLS = (
    "nan", "inf", "-inf", "-nan(ind)", "", "12%", "1e308", "-1e308", "1e-320", "0", "-1", "1,5", "x", "1_0", "٣",
    "1e999", "0x1p3", "True", "null", "--", "1.#QNAN", "9" * 400,
)  # fmt: skip


def make_log(rng: random.Random) -> bytes:
    names = rng.sample(LOG_NAMES, rng.randrange(1, 9))
    slope, size = rng.choice((-1, 0, 1, 0.01)), rng.choice((1, 100, 1e6, 1e-6))
    rows = []
    for step in range(rng.choice((1, 2, 3, 12, 60))):
        row = [
            f"{step if i == 0 else (1 + slope * step / 50 + rng.gauss(0, 0.05)) * size:.6g}" for i in range(len(names))
        ]
        if rng.random() < 0.2:
            row[rng.randrange(len(row))] = rng.choice(LOG_CELLS)
        rows.append(row)
    data = "\n".join(rng.choice((",", ",", ";")).join(row) for row in [names]) + "\n"
    data += "\n".join(",".join(row) for row in rows) + "\n"
    return made_worse(data.encode(), rng) if rng.random() < 0.2 else data.encode()


def hold_log(path: Path) -> None:
    log = read_training_log(path)
    assert (np.diff(log.position) >= 0).all()
    found = mohs.diagnose(log=path, loss_name="triplet", margin=0.2, batch=16)
    assert all(each.what.isprintable() and each.fix for each in found.findings)


EVENTS = (RELEASE / "run" / "events.jsonl").read_bytes()


def make_events(rng: random.Random) -> bytes:
    lines = EVENTS.split(b"\n")[:-1]
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.randrange(len(lines))
        try:
            lines[place] = changed_json(lines[place], rng)
        except (ValueError, LookupError, RecursionError):
            lines[place] = json.dumps(rng.choice(VALUES)).encode()
    data = b"\n".join(lines) + b"\n"
    return made_worse(data, rng) if rng.random() < 0.2 else data


def hold_events(path: Path) -> None:
    read_run_events(path)


TARGETS = {
    "pictures": Target(".jpg", make_picture, hold_picture, 90_000, is_main=True),
    "tables": Target(".csv", make_csv, hold_table, 130_000, is_main=True),
    "parquet tables": Target(".parquet", make_parquet, hold_table, 7_500),
    "arrays": Target(".npy", make_npy, hold_npy, 20_000),
    "heads": Target(".json", make_head, hold_head, 4_500, is_main=True),
    "plans": Target(".parquet", make_plan, lambda path: TripletPlan.load(path), 3_500),
    "mining": Target(".txt", make_miner, hold_miner, 20_000, is_main=True),
    "logs": Target(".csv", make_log, hold_log, 77_000, is_main=True),
    "events": Target(".jsonl", make_events, hold_events, 20_000),
}  # fmt: skip


def hold(target: Target, path: Path) -> bool:
    """Read an input; return whether it was refused, as it should be."""
    began = time.process_time()
    problems: tuple[str, ...] = ()
    try:
        target.hold(path)
    except InputError as error:
        problems = error.problems
    assert len(problems) <= 21
    for line in problems:
        assert line.isprintable(), line
        assert len(line) < 2000, line
    assert time.process_time() - began < SLOWEST_S
    return bool(problems)


@pytest.mark.timeout(3600)  # `make fuzz`
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_made_up_is_read_or_refused_in_a_line(
    tmp_path: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    target = TARGETS[name]
    path = tmp_path / f"made-up{target.suffix}"
    number = refused = 0
    budget_s = BUDGET_S if target.is_main else BUDGET_S / 10
    most = target.most * BUDGET_S / 60
    began = time.monotonic()
    while number < 20 or (number < most and time.monotonic() - began < budget_s):
        data = target.make(random.Random(f"{name} {number}"))
        path.write_bytes(data)
        try:
            refused += hold(target, path)
        except Exception as error:
            KEPT.mkdir(parents=True, exist_ok=True)
            kept = KEPT / f"{name.replace(' ', '-')}-{number}{target.suffix}"
            kept.write_bytes(data)
            raise AssertionError(f"{name} {number}, kept as {kept}") from error
        number += 1
    record_property("inputs", number)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{name}: {number:,} inputs, {refused:,} refused, {time.monotonic() - began:.0f} s, peak {peak} MiB")
    assert refused or name == "mining"


@pytest.mark.parametrize("find", sorted(FINDS.iterdir()), ids=lambda find: find.name)
def test_what_was_found_is_read_or_refused_in_a_line(tmp_path: Path, find: Path) -> None:
    name = find.stem.rstrip("0123456789").rstrip("-").replace("-", " ")
    shutil.copy(find, tmp_path)
    hold(TARGETS[name], tmp_path / find.name)
