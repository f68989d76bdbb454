"""One small artefact of each kind that Mohs saves: how it is made, and what is read from it, as numbers and text."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from mohs.classify.classifier import Classifier
from mohs.data.images import ImagePolicy
from mohs.evaluation.embedding_files import read_npy
from mohs.export.vector_files import write_vectors
from mohs.index.index import Index
from mohs.model.embedder import Embedder
from mohs.plan import TripletPlan
from mohs.runs import Run, evaluate, train
from mohs.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.sums import read_summed
from mohs.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

__all__ = ["ARTEFACTS", "Artefact"]

POLICY = ImagePolicy(size=16, channels=1)
MODEL = ModelConfig(widths=(2, 4), embedding_dim=4, hidden_dim=0)


@final
@dataclass(frozen=True)
class Artefact:
    """A kind of artefact: `make` writes one into a folder, `read` opens it there and returns JSON values of it."""

    make: Callable[[Path], object]
    read: Callable[[Path], Any]


def some_pictures(num: int) -> np.ndarray:
    """Return pictures uint8[num, 16, 16, 1] that are the same on every machine."""
    return (np.arange(num * 256, dtype=np.int64) ** 2 % 251).astype(np.uint8).reshape(num, 16, 16, 1)


def some_vectors(num: int) -> np.ndarray:
    """Return float32[num, 4], each row near one of three axes."""
    noise = some_pictures(num).reshape(num, -1)[:, :4] / 1000
    return (np.eye(4)[np.arange(num) % 3] + noise).astype(np.float32)


def rounded(values: Any) -> Any:
    """Return numbers with five digits: the last ones depend on the machine."""
    return np.round(np.asarray(values, dtype=np.float64), 5).tolist()


def embedder() -> Embedder:
    """Return a small embedder whose weights are the same on every machine."""
    network = Embedder.create(MODEL, POLICY, seed=3)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(((torch.arange(value.numel()) * 7 % 23 + 1) / 23).reshape(value.shape))
    return network.eval()


def read_embedder(folder: Path) -> Any:
    """Return what the embedder makes of three pictures."""
    found = Embedder.from_pretrained(folder)
    return [found.policy.size, found.policy.fit, rounded(found.embed(some_pictures(3)))]


def make_plan(folder: Path) -> None:
    """Write a plan of 40 triplets."""
    folder.mkdir()
    t = np.arange(40)
    plan = TripletPlan.of(t, t + 100, t + 200, hardness=t / 40, anchor_negative_distance=t / 20, header={"seed": 5})
    plan.save(folder / "plan.parquet")


def read_plan(folder: Path) -> Any:
    """Return all columns and the header."""
    plan = TripletPlan.load(folder / "plan.parquet")
    names = ("anchor", "positive", "negative", "hardness", "anchor_negative_distance", "positive_origin")
    return [dict(plan.header), *(rounded(getattr(plan, name)) for name in names)]


def make_checkpoint(folder: Path) -> None:
    """Write a checkpoint of an embedder."""
    folder.mkdir()
    tensors = {"embedder": embedder().state_dict(), "optimizer": {"step": torch.tensor(7)}}
    save_checkpoint(folder, Checkpoint(12, tensors, {"triplets": 48, "guard": {"level": 0.25}}))


def read_checkpoint(folder: Path) -> Any:
    """Return step, values, and sums of the tensors."""
    found = load_checkpoint(folder)
    assert found is not None
    assert not found.skipped
    sums = {name: rounded(value.double().sum()) for name, value in found.tensors["embedder"].items()}
    return [found.step, dict(found.values), sums, int(found.tensors["optimizer"]["step"])]


def make_classifier(folder: Path) -> None:
    """Write a classifier of three classes, with its embedder."""
    model = Classifier(embedder(), method="nearest-neighbours", num_neighbours=2)
    model.fit(some_vectors(18), np.array(["cup", "lamp", "ring"])[np.arange(18) % 3]).save(folder)


def read_classifier(folder: Path) -> Any:
    """Return classes and probabilities."""
    found = Classifier.load(folder)
    return [found.classes_.tolist(), rounded(found.predict_proba(some_vectors(3)))]


def make_index(folder: Path) -> None:
    """Write a calibrated index of a few glyphs."""
    from mohs.data.glyphs import draw_glyphs

    dataset = draw_glyphs(16, channels=1)
    index = Index.build(folder, dataset.table.take(np.arange(0, 9000, 750)), embedder())
    held_out = np.arange(10, 9000, 375)
    index.calibrate(dataset.pictures[held_out], dataset.labels[held_out].tolist(), max_false_acceptance=0.2)


def read_index(folder: Path) -> Any:
    """Return ids, what a search finds, and the threshold of the calibration."""
    index = Index.open(folder)
    learned, vectors = index.calibration, index.vectors()
    assert learned is not None
    answers = index.search(some_vectors(2), num_matches=3)
    return [
        index.embedder.policy.size,
        rounded(index.embedder.embed(some_pictures(2))),
        vectors.id_N.tolist(),
        [rounded([match.distance for match in answer.matches]) for answer in answers],
        rounded([learned.threshold_distance, learned.false_acceptance]),
    ]


def make_run(folder: Path) -> None:
    """Train 16 triplets on glyphs, and measure them."""
    config = RunConfig(
        data=DataConfig(source="glyphs", size=16, channels=1, max_classes=12, split_by="item"),
        model=MODEL,
        training=TrainingConfig(num_triplets=16, batch_triplets=8, num_segments=1, held_out_curve=False),
        out=str(folder),
    )
    evaluate(train(config), baselines=False)


def read_run(folder: Path) -> Any:
    """Return settings, counts, events, plans, numbers and vectors of a run."""
    run = Run.open(folder)
    plans = [TripletPlan.load(file) for file in sorted((folder / "plans").glob("*.parquet"))]
    metrics = read_summed(folder / "metrics.json")["trained"]["retrieval"]
    return [
        [run.config.seed, run.config.data.max_classes, run.config.loss.name],
        [run.facts()[name] for name in ("num_items", "num_training_items", "num_triplets", "data_fingerprint")],
        [event["event"] for event in run.events()],
        run.trained_classes().tolist(),
        [plan.anchor.tolist() + plan.positive.tolist() for plan in plans],
        [metrics["num_queries"], rounded(metrics["recall@1"])],
        rounded(run.embedder().embed(some_pictures(2))),
        hashlib.sha256((folder / "items.csv").read_bytes()).hexdigest(),
    ]


def make_bank(folder: Path) -> None:
    """Write vectors as .npy."""
    from mohs.data.table import Table

    folder.mkdir()
    names = tuple(f"{number}.png" for number in range(9))
    table = Table(names, np.array(names), np.full(9, "sample"), np.full(9, ""))
    write_vectors(folder / "bank.npy", table, some_vectors(9))


def read_bank(folder: Path) -> Any:
    """Return the vectors."""
    return rounded(read_npy(folder / "bank.npy", "numbers"))


ARTEFACTS: dict[str, Artefact] = {
    "embedder": Artefact(lambda folder: embedder().save_pretrained(folder), read_embedder),
    "plan": Artefact(make_plan, read_plan),
    "checkpoint": Artefact(make_checkpoint, read_checkpoint),
    "classifier": Artefact(make_classifier, read_classifier),
    "bank": Artefact(make_bank, read_bank),
    "index": Artefact(make_index, read_index),
    "run": Artefact(make_run, read_run),
}
