"""The held-out curve looks at test pictures alone, and changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mohs.model.embedder import Embedder
from mohs.runs import train
from mohs.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training.held_out import choose_held_out
from mohs.training.run_inputs import open_split_data


def settings(out: Path, *, split_by: str = "class", **training: object) -> RunConfig:
    return RunConfig(
        out=str(out),
        data=DataConfig(size=8, channels=1, max_classes=60, split_by=split_by, test_fraction=0.4),
        model=ModelConfig(widths=(4, 8), hidden_dim=0, embedding_dim=8),
        training=TrainingConfig(**{"num_triplets": 120, "batch_triplets": 24, "num_segments": 4, **training}),
    )


@pytest.mark.parametrize("overlap", [False, True])
def test_weights_and_plans_are_those_of_a_run_without_it(tmp_path: Path, overlap: bool) -> None:
    torch.set_num_threads(1)
    runs = {
        curve: train(settings(tmp_path / str(curve), held_out_curve=curve, overlap=overlap)) for curve in (True, False)
    }
    for name in ("embedder/model.safetensors", "plans/segment-003.parquet"):
        assert (runs[True].folder / name).read_bytes() == (runs[False].folder / name).read_bytes()
    points = [event for event in runs[True].events() if event["event"] == "held-out"]
    assert [point["triplets"] for point in points] == [0, 30, 60, 90, 120]
    assert {point["num_queries"] for point in points} == {24}
    assert all(point["recall"] == pytest.approx(point["hits"].count("1") / 24) for point in points)
    assert not any(event["event"] == "held-out" for event in runs[False].events())


@pytest.mark.parametrize("split_by", ["class", "item"])
def test_queries_are_test_pictures_and_hits_are_those_of_the_definition(tmp_path: Path, split_by: str) -> None:
    config = settings(tmp_path / "run", split_by=split_by)
    data = open_split_data(config.data, seed=0)
    held_out = choose_held_out(data, config)
    assert held_out is not None
    pictures = np.asarray(data.dataset.pictures)

    def items(chosen: np.ndarray) -> list[set[int]]:
        return [set(np.flatnonzero((pictures == picture).all(axis=(1, 2, 3))).tolist()) for picture in chosen]

    test, train_items = (set(np.flatnonzero(part).tolist()) for part in (data.test_N, data.train_N))
    queries, matches = items(held_out.query_CHWC), items(held_out.match_CHWC)
    labels = data.dataset.labels
    for query, match in zip(queries, matches, strict=True):
        assert query & test
        assert match & (train_items if split_by == "item" else test)
        assert {labels[i] for i in query} & {labels[i] for i in match}
    embedder = Embedder.create(config.model, open_policy(config), seed=0).eval()
    q, m = embedder.embed(held_out.query_CHWC), embedder.embed(held_out.match_CHWC)
    expected = []
    for i in range(len(q)):
        others = np.delete(m, i, axis=0)
        if split_by == "class":
            others = np.concatenate([others, np.delete(q, i, axis=0)])
        expected.append(float(q[i] @ m[i]) > float((others @ q[i]).max()) + 1e-6)
    assert held_out.hits(embedder).tolist() == expected


def open_policy(config: RunConfig):  # type: ignore[no-untyped-def]
    from mohs.data.images import ImagePolicy

    return ImagePolicy(size=config.data.size, channels=config.data.channels)


def test_too_few_test_classes_have_no_curve(tmp_path: Path) -> None:
    config = settings(tmp_path / "run")
    data = open_split_data(config.data.model_copy(update={"max_classes": 20}), seed=0)
    assert choose_held_out(data, config) is None
