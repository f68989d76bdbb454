"""A whitened head: what it gives is the whitened embedding, and pictures of a class come nearer than others."""

from typing import Any

import numpy as np
import pytest
import torch

from mohs.data.dataset import Dataset
from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.settings.config import FinetuneConfig, LossConfig, MemoryConfig, ModelConfig, RunConfig, TrainingConfig
from mohs.training import whitening
from mohs.training.loop import fit
from mohs.training.processes import Processes
from mohs.training.whitening import whiten_head, within_class_whitening

POLICY = ImagePolicy(16, 1)
MODEL = ModelConfig(widths=(8, 16), hidden_dim=0, embedding_dim=16)


def by_hand(x_ND: np.ndarray, class_N: np.ndarray) -> np.ndarray:
    """W^(-1/2), written out from its definition."""
    scatter_DD = np.zeros((x_ND.shape[1], x_ND.shape[1]))
    for label in np.unique(class_N):
        rows = x_ND[class_N == label].astype(np.float64)
        for row in rows:
            away_D = row - rows.mean(0)
            scatter_DD += np.outer(away_D, away_D)
    value_D, vector_DD = np.linalg.eigh(scatter_DD / np.linalg.eigvalsh(scatter_DD).mean() + np.eye(len(scatter_DD)))
    return vector_DD @ np.diag(value_D**-0.5) @ vector_DD.T


def unit(x_ND: np.ndarray) -> np.ndarray:
    return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)


@pytest.mark.parametrize("hidden_dim", [0, 8])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_new_head_gives_the_whitened_embedding(hidden_dim: int, dropout: float, glyphs: Dataset) -> None:
    model = MODEL.model_copy(update={"hidden_dim": hidden_dim, "dropout": dropout})
    embedder = Embedder.create(model, POLICY, seed=0).train()
    with torch.no_grad():
        embedder.head[-1].bias += 0.1  # type: ignore[operator]
    before_ND = embedder.embed(glyphs.pictures)
    whiten_head(embedder, glyphs, Processes(), seed=0)
    assert embedder.training
    wanted_ND = unit(before_ND @ by_hand(before_ND, glyphs.labels_id))
    assert np.abs(wanted_ND - before_ND).max() > 0.01
    np.testing.assert_allclose(embedder.embed(glyphs.pictures), wanted_ND, atol=2e-5)


def errors(x_ND: np.ndarray) -> int:
    """How many first pictures are not nearest to the second one of their class."""
    similarity_CC = unit(x_ND[::2]) @ unit(x_ND[1::2]).T
    return int((similarity_CC.argmax(1) != np.arange(len(similarity_CC))).sum())


def test_directions_in_which_a_class_varies_count_less() -> None:
    random = np.random.default_rng(0)
    class_N = np.repeat(np.arange(200), 2)
    varies_D = np.where(np.arange(16) < 4, 1.0, 0.05)
    x_ND = random.standard_normal((200, 16))[class_N] * 0.5 + random.standard_normal((400, 16)) * varies_D
    whitening_DD = within_class_whitening(x_ND, class_N)
    whitened, plain, reversed_ = (errors(x_ND @ by) for by in (whitening_DD, np.eye(16), np.linalg.inv(whitening_DD)))
    assert whitened < plain / 2
    assert 60 < plain < reversed_


def test_a_head_stays_where_no_class_has_two_pictures(glyphs: Dataset) -> None:
    first_N = np.unique(glyphs.labels_id, return_index=True)[1]
    embedder = Embedder.create(MODEL, POLICY, seed=0)
    before_ND = embedder.embed(glyphs.pictures)
    whiten_head(embedder, glyphs.take(first_N), Processes(), seed=0)
    np.testing.assert_array_equal(embedder.embed(glyphs.pictures), before_ND)


def test_a_head_stays_where_embeddings_are_not_finite(glyphs: Dataset) -> None:
    embedder = Embedder.create(MODEL, POLICY, seed=0)
    with torch.no_grad():
        embedder.head[-1].weight[0] = 3e38  # type: ignore[index] # finite, and what it gives is not
    assert np.isnan(embedder.embed(glyphs.pictures)).any()
    before = [value.clone() for value in embedder.head.state_dict().values()]
    whiten_head(embedder, glyphs, Processes(), seed=0)
    for one, other in zip(before, embedder.head.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_of_many_pictures_whole_classes_are_taken(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whitening, "MAX_PICTURES", 40)
    seen: list[np.ndarray] = []
    whole = whitening.within_class_whitening

    def noted(x_ND: np.ndarray, class_N: np.ndarray) -> np.ndarray:
        seen.append(class_N)
        return whole(x_ND, class_N)

    monkeypatch.setattr(whitening, "within_class_whitening", noted)
    for seed in (0, 0, 1):
        whiten_head(Embedder.create(MODEL, POLICY, seed=0), glyphs, Processes(), seed=seed)
    assert [len(class_N) for class_N in seen] == [40, 40, 40]
    assert (np.unique(seen[0], return_counts=True)[1] > 1).sum() >= 40 // np.bincount(glyphs.labels_id).max()
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


@pytest.mark.parametrize(
    ("loss", "memory", "from_progress", "whiten", "wanted"),
    [
        ("infonce", 4, 0.0, None, True),
        ("infonce", 4, 0.0, False, False),
        ("infonce", 0, 0.0, None, False),
        ("infonce", 4, 1.0, None, False),  # a bank that no step uses
        ("infonce", 0, 0.0, True, True),
        ("triplet", 0, 0.0, None, False),
        ("triplet", 0, 0.0, True, True),
    ],
)
def test_a_run_ends_with_it_where_there_is_a_bank_or_it_is_asked_for(
    loss: Any, memory: int, from_progress: float, whiten: bool | None, wanted: bool, glyphs: Dataset
) -> None:
    ends = {}
    for given in (whiten, False):
        config = RunConfig(
            loss=LossConfig(name=loss),
            memory=MemoryConfig(num_negatives=memory, size=64, from_progress=from_progress),
            training=TrainingConfig(num_triplets=64, batch_triplets=16, num_segments=2, whiten=given),
        )
        embedder = Embedder.create(MODEL, POLICY, seed=0)
        fit(embedder, glyphs, config)
        ends[given] = embedder.embed(glyphs.pictures)
    if not wanted:
        np.testing.assert_array_equal(ends[whiten], ends[False])
        return
    np.testing.assert_allclose(ends[whiten], unit(ends[False] @ by_hand(ends[False], glyphs.labels_id)), atol=2e-5)
    assert not np.allclose(ends[whiten], ends[False], atol=1e-2)


def test_it_comes_after_the_blend_of_weights(glyphs: Dataset) -> None:
    ends = {}
    for whiten in (True, False):
        config = RunConfig(
            finetune=FinetuneConfig(head="pca", trained_share=0.5),
            training=TrainingConfig(num_triplets=64, batch_triplets=16, num_segments=2, whiten=whiten),
        )
        embedder = Embedder.create(MODEL, POLICY, seed=0)
        fit(embedder, glyphs, config)
        ends[whiten] = embedder.embed(glyphs.pictures)
    np.testing.assert_allclose(ends[True], unit(ends[False] @ by_hand(ends[False], glyphs.labels_id)), atol=2e-5)


def test_all_get_the_head_that_the_first_process_computes(glyphs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    first = Embedder.create(MODEL, POLICY, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(Processes, "from_first", lambda _, value: sent.append(value) or value)
        whiten_head(first, glyphs, Processes(), seed=0)
    other = Embedder.create(MODEL, POLICY, seed=0)
    monkeypatch.setattr(Processes, "is_first", property(lambda _: False))
    monkeypatch.setattr(Processes, "from_first", lambda _, value: sent[0] if value is None else value)
    whiten_head(other, glyphs, Processes(), seed=0)
    np.testing.assert_array_equal(other.embed(glyphs.pictures), first.embed(glyphs.pictures))
