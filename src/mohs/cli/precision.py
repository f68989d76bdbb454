"""`mohs doctor --precision`: wrong confident matches, with their evidence; imported where it is asked for."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast, final

import numpy as np

from mohs.artefacts import atomic_path, write_json
from mohs.cli.console import print_json, print_table, require_folder_place, say
from mohs.cli.pictures_read import QUARANTINE, tell_pictures
from mohs.cli.progress import decoding_progress
from mohs.data.dataset import Dataset, open_dataset
from mohs.data.fixes import LabelFix, write_fixes
from mohs.data.images import ImagePolicy, open_picture
from mohs.data.quarantine import Reading
from mohs.data.reading import read_table
from mohs.data.rows import write_rows
from mohs.data.table import BUILT_IN, Table, require_classes
from mohs.doctor.precision.attribution import CAUSES
from mohs.doctor.precision.evidence import TripletMargin
from mohs.doctor.precision.precision import AS_IT_IS, WITHOUT_ALL, PrecisionDiagnosis, diagnose_precision
from mohs.doctor.precision.sheet import SheetPair, contact_sheet, spread_pairs
from mohs.doctor.precision.suggestions import ItemFix
from mohs.doctor.precision.top_curve import plot_curves
from mohs.errors import InputError
from mohs.evaluation.embedded import Embedded
from mohs.evaluation.embedding_files import read_embedded
from mohs.lock import only_writer
from mohs.runs import Run
from mohs.settings.config import DataConfig
from mohs.shown import csv_cell
from mohs.training.processes import choose_device
from mohs.training.run_inputs import open_split_data

__all__ = ["explain_precision"]

_SHEET_PAIRS = 48
# Pictures that come with embeddings are prepared like this; a run has its own policy.
_POLICY = ImagePolicy(size=64, channels=3)


@final
@dataclass(frozen=True, eq=False)
class _Material:
    """Items with their embeddings; pictures, queries and the margin of the loss where they are known."""

    table: Table
    embeddings_ND: np.ndarray
    pictures_NHWC: np.ndarray | None
    query_N: np.ndarray | None
    margin: TripletMargin | None
    reading: Reading | None = None


def explain_precision(
    run: Path | None,
    data: str | None,
    embeddings: Path | None,
    labels: Path | None,
    *,
    max_bad: int,
    out: Path | None,
    recall: float,
    threshold: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Find out why the most similar pairs of different classes are there; write the evidence and the corrections.

    Looked at are the test items of `run`, or all items of `data` by its embedder, or `embeddings` with `labels`.
    """
    if (run is None) == (embeddings is None):
        raise InputError("RUN, --embeddings: give one of them")
    if embeddings is not None and labels is None:
        raise InputError("--labels: missing; give the table of the rows of --embeddings")
    if data is not None and run is None:
        raise InputError("--data: needs RUN; with --embeddings the pictures are those of --labels")
    out = out or (Path("precision") if run is None else run / "precision")
    require_folder_place(out, "--out")
    if out.is_file():
        raise InputError(f"--out: {out} is a file; name a folder")
    if run is not None:
        material = _of_run(run, data, max_bad, quiet=quiet)
    else:
        material = _of_embeddings(cast(Path, embeddings), cast(Path, labels))
    table = material.table
    result = diagnose_precision(
        material.embeddings_ND,
        table.labels,
        pictures_NHWC=material.pictures_NHWC,
        longer_side=None if table.source == BUILT_IN or material.pictures_NHWC is None else _side_of(table),
        query_N=material.query_N,
        recall=recall,
        threshold=threshold,
        margin=material.margin,
    )
    with only_writer(out, "explaining precision"):
        pictures = None
        if material.reading is not None:
            tell_pictures(material.reading, out / QUARANTINE, quiet=quiet or as_json)
            pictures = material.reading.as_record()
        record = {**result.as_record(), "pictures_read": pictures, "files": _write(result, material, out)}
        write_json(out / "precision.json", record)
    if as_json:
        print_json(record)
    else:
        _tell(result, out)


def _of_run(folder: Path, source: str | None, max_bad: int, *, quiet: bool) -> _Material:
    run = Run.open(folder)
    config = run.config.data
    if source is not None:
        update = {
            "source": source, "catalog": None, "per_class": None, "max_classes": None, "max_bad_images": max_bad,
        }  # fmt: skip
        config = DataConfig.model_validate(config.model_dump() | update)
    with decoding_progress(quiet=quiet) as progress:
        data = open_split_data(config, seed=run.config.seed, all_test=source is not None, progress=progress)
    items = np.flatnonzero(data.test_N if data.unseen_classes else data.test_N | data.train_N)
    dataset = data.dataset.take(items)
    embedder = run.embedder().to(choose_device(run.config.training.device))
    loss = run.config.loss
    return _Material(
        table=dataset.table,
        embeddings_ND=embedder.embed(dataset.pictures),
        pictures_NHWC=np.asarray(dataset.pictures),
        query_N=None if data.unseen_classes else data.test_N[items],
        margin=TripletMargin(loss.margin, loss.squared) if loss.record.margin == "gap" else None,
        reading=data.reading,
    )


def _of_embeddings(path: Path, labels: Path) -> _Material:
    items = read_embedded(path, labels, flag="--labels")
    table = _bare_table(items, labels) if items.files is None else read_table(str(labels))
    require_classes(table)
    pictures = None
    if all(table.path(i).is_file() for i in range(len(table))):
        dataset: Dataset = open_dataset(str(labels), policy=_POLICY)
        pictures = np.asarray(dataset.pictures)
    return _Material(table, items.x_ND, pictures, None, None)


def _bare_table(items: Embedded, path: Path) -> Table:
    """Return a table of classes alone; its files are the numbers of the rows, from 0."""
    samples, no_split = np.full(len(items), "sample"), np.full(len(items), "")
    return Table(tuple(f"row {row}" for row in range(len(items))), items.labels, samples, no_split, source=str(path))


def _side_of(table: Table) -> Callable[[int], int]:
    def side(item: int) -> int:
        try:
            with open_picture(table.path(item)) as image:
                return max(image.size)
        except (OSError, InputError):
            return 0

    return side


def _write(result: PrecisionDiagnosis, material: _Material, out: Path) -> dict[str, str]:
    """Write pairs, corrections, curves and contact sheets; return the files by name."""
    table, pairs = material.table, result.pairs
    files = {"pairs": "pairs.csv", "fixes": "fixes.csv", "curves": "curves.png"}
    _write_pairs(result, table, out / "pairs.csv")
    write_fixes([_label_fix(fix, result, table) for fix in result.fixes], out / "fixes.csv")
    with atomic_path(out / "curves.png") as temporary:
        plot_curves(result.curves, temporary, recall=result.recall)
    if material.pictures_NHWC is None:
        return files
    class_2P = np.unique(table.labels, return_inverse=True)[1][np.stack([pairs.first_P, pairs.second_P])]
    for cause in CAUSES:
        rows = result.false_pairs(cause)
        if not len(rows):
            continue
        chosen = spread_pairs(class_2P, rows, _SHEET_PAIRS)
        shown = [
            SheetPair(
                material.pictures_NHWC[pairs.first_P[row]],
                material.pictures_NHWC[pairs.second_P[row]],
                str(table.labels[pairs.first_P[row]]),
                str(table.labels[pairs.second_P[row]]),
                f"similarity {pairs.similarity_P[row]:.4f}",
            )
            for row in chosen.tolist()
        ]
        title = f"{cause}: {len(rows):,} false matches before recall {result.recall:.3g}"
        with atomic_path(out / f"{cause}.png") as temporary:
            contact_sheet(title, shown).save(temporary)
        files[cause] = f"{cause}.png"
    return files


def _write_pairs(result: PrecisionDiagnosis, table: Table, path: Path) -> None:
    pairs, rows = result.pairs, []
    for row in np.flatnonzero(~pairs.same_P[: result.num_top]).tolist():
        one, other = int(pairs.first_P[row]), int(pairs.second_P[row])
        names = (table.files[one], table.labels[one], table.files[other], table.labels[other])
        rows.append([*map(csv_cell, names), f"{pairs.similarity_P[row]:.6f}", CAUSES[result.attribution.cause_P[row]]])
    write_rows(path, ["file", "class", "other", "other_class", "similarity", "cause"], rows)


def _label_fix(fix: ItemFix, result: PrecisionDiagnosis, table: Table) -> LabelFix:
    def number(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.4f}"

    return LabelFix(
        file=table.files[fix.item],
        label=str(table.labels[fix.item]),
        suggestion=fix.suggestion,
        to="" if fix.to is None else str(result.classes_C[fix.to]),
        cause=fix.cause,
        other="" if fix.other is None else table.files[fix.other],
        other_label="" if fix.other is None else str(table.labels[fix.other]),
        pairs=str(fix.num_pairs),
        similarity=number(fix.similarity),
        difference=number(fix.difference),
        own_fit=number(fix.own_fit),
        other_fit=number(fix.other_fit),
    )


def _tell(result: PrecisionDiagnosis, out: Path) -> None:
    curve, without = result.curves[AS_IT_IS], result.curves[WITHOUT_ALL]
    rows = []
    for point in curve.points():
        after = without.at(point.recall)
        low, high = point.interval
        rows.append(
            [
                f"{point.recall:.3f}",
                f"{point.num_pairs:,}",
                f"{point.precision:.3f}",
                f"{low:.3f} to {high:.3f}",
                "-" if after is None else f"{after.precision:.3f}",
            ]
        )
    print_table(
        f"precision of the most similar of {result.pairs.num_pairs:,} pairs",
        ["recall", "pairs", "precision", "95% interval", WITHOUT_ALL],
        rows,
    )
    if curve.dips:
        dip = curve.dip
        say(
            f"precision dips: {dip.precision:.3f} among the {dip.rank:,} most similar pairs, {dip.later_precision:.3f} "
            f"among {dip.later_rank:,}"
        )
    for finding in result.diagnosis.findings:
        say(f"{finding.severity}: {finding.cause}: {finding.what}")
        say(f"  why: {finding.why}")
        say(f"  do:  {finding.fix}")
    for cause, why in result.diagnosis.not_checked.items():
        say(f"not checked: {cause}: {why}")
    num_fixes = sum(fix.suggestion != "look" for fix in result.fixes)
    num_looks = len(result.fixes) - num_fixes
    say(
        f"written to {out}: pairs.csv, fixes.csv ({num_fixes:,} corrections, {num_looks:,} to look at), curves.png, "
        "contact sheets"
    )
    if result.fixes:
        say(f"next: look at {out / 'fixes.csv'}, then mohs fix TABLE {out / 'fixes.csv'} --out NEW.csv")
