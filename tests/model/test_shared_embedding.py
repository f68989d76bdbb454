"""Processes embed each item once, in the batches of one process, and all have all embeddings."""

from collections import Counter
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder, embed_items
from mohs.peers import ALONE, Peers
from mohs.settings.config import ModelConfig

PICTURES = np.random.default_rng(0).integers(0, 256, (1000, 8, 8, 1), dtype=np.uint8)


def test_the_embeddings_of_several_are_those_of_one(together, torch_as_it_was: None) -> None:
    model = ModelConfig(widths=(4, 8), hidden_dim=16, embedding_dim=8)
    network = Embedder.create(model, ImagePolicy(8, 1), seed=0)

    def embed(peers: Peers, items: Any = None) -> Any:
        torch.set_num_threads(1)  # each thread has a number of its own
        return embed_items(deepcopy(network), PICTURES, items, peers=peers)

    alone, some = network.embed(PICTURES), np.arange(999, 0, -3)
    assert np.array_equal(embed(ALONE), alone)
    for num_ranks in (2, 3):
        assert all(np.array_equal(found, alone) for found in together(num_ranks, embed))
        found = together(num_ranks, lambda peers: embed(peers, some))
        assert all(np.array_equal(each, network.embed(PICTURES[some])) for each in found)


class Numbers:
    """Embeds a picture as its number, and notes it."""

    embedding_dim = 1

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()

    def embed(self, pictures: np.ndarray, *, batch_size: int) -> np.ndarray:  # noqa: ARG002
        self.seen.update(pictures.ravel().tolist())
        return pictures.reshape(-1, 1).astype(np.float32)


@pytest.mark.parametrize("num_items", [1, 255, 256, 257, 9001])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
def test_no_item_is_left_out_or_comes_twice(together, num_ranks: int, num_items: int) -> None:
    pictures, networks = np.arange(num_items).reshape(-1, 1, 1, 1), [Numbers() for _ in range(num_ranks)]

    def embed(peers: Peers) -> Any:
        return embed_items(networks[peers.rank], pictures, peers=peers)  # type: ignore[arg-type]

    for found in together(num_ranks, embed):
        assert found.ravel().tolist() == list(range(num_items))
    seen = sum((network.seen for network in networks), Counter())
    assert seen == Counter(range(num_items))
