"""A run: from settings to a folder with a trained, measured embedder."""

import contextlib
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np

from mohs.artefacts import EventLog, require_disk
from mohs.checks import path_of, require, wrong_kind
from mohs.data.dataset import Dataset
from mohs.data.table import require_classes
from mohs.errors import DataWarning, InputError, ResourceError
from mohs.evaluation.pixels import pixel_embeddings
from mohs.evaluation.summary import EmbeddingReport, SearchProtocol, SearchSet, measure
from mohs.model.embedder import Embedder, embed_items
from mohs.peers import ALONE, Peers
from mohs.settings.config import RunConfig, load_run_config
from mohs.shown import html_table
from mohs.sums import write_summed
from mohs.training.checkpoint import load_checkpoint
from mohs.training.events import Listener, TensorBoard, read_run_events, require_tensorboard
from mohs.training.false_negatives import passed_over, read_review_rows
from mohs.training.head_start import check_finetuning
from mohs.training.held_out import check_early_stopping, choose_held_out
from mohs.training.loop import FitResult, Folder, fit
from mohs.training.losses.build import check_kept_apart, check_loss
from mohs.training.negative_bank import check_negative_bank
from mohs.training.processes import Processes, choose_device, processes
from mohs.training.run_folder import (
    begin_folder,
    check_run_files,
    check_same_run,
    disk_bytes,
    held_run_folder,
    is_plan,
    read_facts,
    with_run_folder,
    write_facts,
)
from mohs.training.run_inputs import SplitData, changed_pictures, forewarnings, open_split_data, trained_classes

__all__ = ["BASELINES", "Evaluation", "Run", "evaluate", "train", "train_on", "versions"]


BASELINES: Mapping[str, str] = {
    "untrained": "the untrained network",
    "pixels": "comparing pixels",
    "pooled features": "the pretrained network without a head",
}
"""What a run is measured beside, and what a reader is told that it is; the last is of pretrained networks only."""


@final
@dataclass(frozen=True)
class Run:
    """A finished run, as its folder holds it.

    `config.json` settings · `items.csv` every item with its split · `inputs.json` fingerprints of pictures and files ·
    `events.jsonl` steps and segments · `plans/segment-000.parquet` …, whose indices count the training items of
    `items.csv` in their order · `embedder/` weights and settings · `run.json` seconds, counts, versions, SHA-256 ·
    `tensorboard/` and `trained_before.json` if need be · and after `evaluate`: `metrics.json` and `report.html`.
    """

    folder: Path
    config: RunConfig

    def __repr__(self) -> str:
        config = self.config
        return f"Run({str(self.folder)!r}: {config.loss.name} on {config.data.source!r}, seed {config.seed})"

    def _repr_html_(self) -> str:
        """Return what the run was and took as a table, for a notebook."""
        facts = self.facts()
        names = ("num_training_classes", "num_training_items", "num_triplets", "num_pictures")
        rows = [[name.removeprefix("num_").replace("_", " "), f"{facts[name]:,}"] for name in names]
        rows += [[f"{part}, s", f"{facts[f'{part}_s']:.1f}"] for part in ("embed", "mine", "train")]
        return html_table(repr(self), ["", ""], rows)

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Return the run in a folder; raise `InputError` if there is none, it did not finish, or a file changed since.

        Files are held against their SHA-256 in `run.json`, which those of older versions do not have. Plans may be
        deleted: what reads them then says so.
        """
        folder = path_of("folder", folder)
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: not a run folder (no config.json); give one made by 'mohs train'")
        if not (folder / "run.json").is_file():
            problem = "this run did not finish (no run.json)"
            raise InputError(f"{folder}: {problem}; go on with 'mohs train --resume {folder}'")
        config = load_run_config(folder)
        check_run_files(folder, may_lack=is_plan)
        return cls(folder, config)

    def embedder(self) -> Embedder:
        """Return the trained embedder, in evaluation mode."""
        return Embedder.from_pretrained(self.folder / "embedder")

    def events(self) -> list[dict[str, Any]]:
        """Return the steps and segments of the run, oldest first."""
        return read_run_events(self.folder / "events.jsonl")

    def trained_classes(self) -> np.ndarray:
        """Return the classes that the run was trained on, or one that it started from, str, sorted."""
        return trained_classes(self.folder)

    def facts(self) -> Mapping[str, Any]:
        """Return what run.json says: counts, seconds, versions."""
        return read_facts(self.folder)


@final
@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of a run's test items by the trained embedder, the untrained one and the pixels, by name.

    `embeddings_ND` are the trained ones, of the items in `dataset` (the test items, and the training items too if the
    test is on seen classes; `test_N` marks the queries). `num_trained_classes` counts the test classes that the run was
    trained on; `embed_s` and `evaluate_s` are the seconds for the trained network alone.
    """

    measured: Mapping[str, EmbeddingReport]
    dataset: Dataset
    test_N: np.ndarray
    embeddings_ND: np.ndarray
    embed_s: float
    evaluate_s: float
    num_trained_classes: int

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {found.retrieval.recall[1]:.3f}" for name, found in self.measured.items())
        return f"Evaluation(R@1: {shares})"

    def _repr_html_(self) -> str:
        """Return the measures as a table, for a notebook."""
        rows = []
        for name, found in self.measured.items():
            retrieval = found.retrieval
            interval = retrieval.intervals.get("recall@1")  # none with one class
            sure = "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
            rows.append([name, *(f"{retrieval.recall[k]:.3f}" for k in (1, 5, 50)), sure])
        title = self.measured["trained"].told_protocol
        return html_table(f"R@k on {title}", ["", "R@1", "R@5", "Top-50", "95% interval of R@1"], rows)

    def query_and_gallery(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the items of `dataset` that were queries, and those that were the gallery, int64 each."""
        queries = np.flatnonzero(self.test_N)
        return queries, queries if self.test_N.all() else np.flatnonzero(~self.test_N)


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Train an embedder as `config` says and return the finished run.

    The run folder is `config.out`, or the next free `runs/NAME-001` … after the data. Nothing is written before
    settings and data are known to be good. With `resume` the folder may hold the beginning of this very run, from where
    it is then taken up: weights and plans at the end are those of a run that was never stopped, bit for bit, on the
    same machine and number of threads. Warns (`UserWarning`) of what makes a run worse than it need be. Raises
    `InputError` for bad settings or data, for a test in which no picture has another to find, and if the run folder
    exists; `TrainingError` if training fails.
    """
    require(wrong_kind("config", config, RunConfig, "give mohs.RunConfig(...), or mohs.load_config(file)"))
    with processes(choose_device(config.training.device)) as peers:
        if peers.is_first:
            with_run_folder(config, resume=resume)  # before pictures are read
        data = peers.first_here_first(lambda: open_split_data(config.data, seed=config.seed, progress=progress))
        for line in forewarnings(config, data.num_training_classes):
            warnings.warn(line, stacklevel=2)
        if note := data.anchors_note(config):
            warnings.warn(note, stacklevel=2)
        return train_on(data, config, resume=resume, listeners=listeners, peers=peers)


def train_on(
    data: SplitData,
    config: RunConfig,
    *,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
    peers: Processes | None = None,
) -> Run:
    """Train on data that is open already, as one of processes that may have met already; otherwise like `train`."""
    began = time.perf_counter()
    config = config.for_classes(data.num_training_classes)
    training_set = _checked(data, config)
    with (
        processes(choose_device(config.training.device)) if peers is None else contextlib.nullcontext(peers) as peers,
        # Only the first process looks for a free folder: the others would find it taken.
        held_run_folder(config, resume=resume) if peers.is_first else contextlib.nullcontext(config) as held,
    ):
        config = peers.from_first(held)
        folder = Path(str(config.out))
        embedder = Embedder.create(config.network, config.data.policy, seed=config.seed)
        check_finetuning(embedder, config)
        if peers.is_first:
            require_disk(folder, disk_bytes(embedder, config), "a training")
        if config.negatives.review_list is not None:
            rows = read_review_rows(Path(config.negatives.review_list))
            if peers.is_first and (line := passed_over(rows, data.dataset.table.files)):
                warnings.warn(f"{config.negatives.review_list}: {line}", DataWarning, stacklevel=2)
        if peers.is_first and resume:
            check_same_run(folder, data, config)
        if peers.from_first((folder / "run.json").is_file()):
            return Run(folder, config)
        held_out = None
        if config.training.stop_after is not None or (config.training.held_out_curve and peers.is_first):
            held_out = choose_held_out(data, config)
            check_early_stopping(config, held_out)
        begun = load_checkpoint(folder / "checkpoints") if resume else None
        peers.from_first(None)  # nobody writes before everybody has read
        if peers.is_first and begun is None:
            begin_folder(folder, data, config)
        with_board, done = peers.is_first and config.training.tensorboard, begun and begun.values["triplets"]
        with (
            EventLog(folder / "events.jsonl") if peers.is_first else contextlib.nullcontext() as log,
            TensorBoard(folder / "tensorboard", done) if with_board else contextlib.nullcontext() as board,
            _way_on(folder),
        ):
            result = fit(
                embedder,
                training_set,
                config,
                listeners=[listen for listen in (*listeners, board) if listen is not None and peers.is_first],
                folder=Folder(folder, log, begun),
                peers=peers,
                held_out=held_out,
            )
            if board is not None:
                board.add_embeddings(embedder, data.dataset, data.test_N, seed=config.seed)
        if peers.is_first:
            embedder.save_pretrained(folder / "embedder")
            facts = _facts(data, result, total_s=time.perf_counter() - began)
            write_facts(folder, facts)  # last: its presence says that the run finished
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        peers.from_first(None)  # no process leaves before the files are there
    return Run(folder, config)


@contextlib.contextmanager
def _way_on(folder: Path) -> Iterator[None]:
    """Have an interruption say how the run in a folder is taken up again."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        stop.add_note(f"{folder} has what was trained; go on with: mohs train --resume {folder}")
        raise


def _checked(data: SplitData, config: RunConfig) -> Dataset:
    """Return the items to train on; raise `InputError` for settings and data that do not go together."""
    check_loss(config.loss, margin_is_mined=config.margin_is_mined)
    check_negative_bank(config)
    if config.training.tensorboard:
        require_tensorboard()
    data.count_queries()  # a run that cannot be measured is not begun
    training_set = data.dataset.take(np.flatnonzero(data.train_N))
    require_classes(training_set.table)
    data.anchors_note(config)
    check_kept_apart(training_set, config)
    return training_set


def evaluate(
    run: Run,
    *,
    data: SplitData | None = None,
    baselines: bool = True,
    exclude_same_group: bool = False,
    verification: bool = False,
    write: bool | None = None,
    peers: Peers = ALONE,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a run on its own test items, or on `data`; with `baselines`, the untrained network and the pixels too.

    Of a pretrained network the pooled features are a baseline, too: what it knew, without a head.

    With `exclude_same_group` a query does not find items of its own group (`data.group_column`): pictures of one
    session find each other too easily. With `verification` pairs of test items are verified by the trained network,
    which takes some seconds. With `write` the numbers go to `metrics.json` in the run's folder; by default they do
    unless `data` is given. Data are then the run's own, and must be those it was trained on: with another split,
    pictures it knows would be in the test. Raises `InputError` if they are not, or have no groups to exclude. `peers`
    are processes that call this together: they share pictures and queries, and the first one writes.
    `progress(done, total)` counts pictures as the trained network embeds them.
    """
    require(wrong_kind("run", run, Run, "open it: mohs.Run.open(folder)"))
    if data is not None:
        require(wrong_kind("data", data, SplitData, "give what mohs.runs.open_split_data returns, or leave it out"))
    write = data is None if write is None else write
    is_own = write or data is None
    if data is None:
        data = open_split_data(run.config.data, seed=run.config.seed)
    if is_own and (changed := _changed_since(run, data)):
        warnings.warn(f"{changed}; numbers are of what is there now", stacklevel=2)
    items = np.flatnonzero(data.test_N if data.unseen_classes else data.test_N | data.train_N)
    dataset = data.dataset.take(items)
    test_N = data.test_N[items]
    groups_N = dataset.table.groups
    if exclude_same_group and groups_N is None:
        raise InputError(
            f"exclude_same_group: {dataset.table.source} has no column {run.config.data.group_column or 'group'!r}; "
            "add one that says what each picture was taken with, such as its session"
        )
    num_trained = int(np.isin(np.unique(dataset.labels[test_N]), run.trained_classes()).sum())
    protocol: SearchProtocol = "seen classes"
    if data.unseen_classes:
        protocol = "unseen classes" if num_trained == 0 else "classes seen and unseen"

    searched = SearchSet(
        dataset.labels,
        dataset.roles,
        test_N=None if data.unseen_classes else test_N,
        groups_N=groups_N if exclude_same_group else None,
    )

    def measured_by(x_ND: np.ndarray, *, verification: bool = False) -> EmbeddingReport:
        return measure(
            x_ND,
            searched,
            protocol=protocol,
            verification=verification,
            seed=run.config.seed,
            peers=peers,
        )

    device = choose_device(run.config.training.device)
    embedder = run.embedder().to(device)
    began = time.perf_counter()
    trained_ND = embed_items(embedder, dataset.pictures, peers=peers, progress=progress)
    embedded = time.perf_counter()
    trained = measured_by(trained_ND, verification=verification)
    finished = time.perf_counter()
    measured: dict[str, EmbeddingReport] = {}
    if baselines:
        policy = run.config.data.policy
        untrained = Embedder.create(run.config.network, policy, seed=run.config.seed).to(device)
        pixels_ND = pixel_embeddings(dataset.pictures, size=min(16, policy.size))
        untrained_ND = embed_items(untrained, dataset.pictures, peers=peers)
        measured = {"pixels": measured_by(pixels_ND), "untrained": measured_by(untrained_ND)}
        if run.config.model.is_pretrained:
            measured["pooled features"] = measured_by(untrained.embed_features(dataset.pictures))
    measured["trained"] = trained
    evaluation = Evaluation(measured, dataset, test_N, trained_ND, embedded - began, finished - embedded, num_trained)
    if write and peers.rank == 0:
        record = {name: found.as_record() for name, found in measured.items()}
        try:
            write_summed(run.folder / "metrics.json", {**record, "pictures_read": data.reading.as_record()})
        except (OSError, ResourceError) as error:  # what was measured is not lost for that
            warnings.warn(f"{run.folder}: metrics.json is not written ({error})", DataWarning, stacklevel=2)
    return evaluation


def _changed_since(run: Run, data: SplitData) -> str | None:
    """Return a line on pictures that changed since the run; raise `InputError` if the items are others."""
    if data.fingerprint != run.facts()["data_fingerprint"]:
        raise InputError(
            f"{data.dataset.table.source}: not the items that {run.folder} was trained and split on "
            "(see its items.csv); restore them, or measure the run on other pictures with --data"
        )
    return changed_pictures(run.folder, data.dataset)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    packages = ("mohs", "torch", "torchvision", "timm", "numpy", "numba", "pytorch-metric-learning", "pillow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def _facts(data: SplitData, result: FitResult, *, total_s: float) -> dict[str, Any]:
    labels = data.dataset.labels
    return {
        "num_items": len(labels),
        "num_classes": len(np.unique(labels)),
        "num_training_items": int(data.train_N.sum()),
        "num_training_classes": data.num_training_classes,
        "num_test_items": int(data.test_N.sum()),
        "num_test_classes": len(np.unique(labels[data.test_N])),
        "data_fingerprint": data.fingerprint,
        "pictures_read": data.reading.as_record(),
        "left_out": list(data.dataset.left_out),
        "num_counted_queries": data.count_queries(),
        **{one.name: getattr(result, one.name) for one in fields(result) if one.name != "plans"},
        "total_s": total_s,
        "versions": versions(),
    }
