import pytest
import torch
from torch import nn

from mohs.classify.folder import weights_sha256
from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig


@pytest.fixture
def embedder() -> Embedder:
    return Embedder.create(ModelConfig(widths=(4,), hidden_dim=4, embedding_dim=4), ImagePolicy(size=8), seed=0)


def test_it_is_the_weights_and_not_how_they_lie_in_memory(embedder, tmp_path):
    before = weights_sha256(embedder)
    assert weights_sha256(embedder.to(memory_format=torch.contiguous_format)) == before
    embedder.save_pretrained(tmp_path)
    assert weights_sha256(Embedder.from_pretrained(tmp_path)) == before
    other = Embedder.create(embedder.config, embedder.policy, seed=1)
    assert weights_sha256(other) != before


def test_every_tensor_counts(embedder):
    seen = {weights_sha256(embedder)}
    for value in embedder.state_dict().values():
        value[(0,) * value.ndim] += 1
        seen.add(weights_sha256(embedder))
    # Batch norm's statistics and the input's mean are among them.
    assert len(seen) == 1 + len(embedder.state_dict())
    assert any("running_mean" in name for name in embedder.state_dict())


def test_names_and_dtypes_count():
    network = nn.Linear(2, 2)
    assert weights_sha256(network) != weights_sha256(nn.Sequential(network))
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()
    before = weights_sha256(network)
    assert weights_sha256(network.bfloat16()) != before


def test_one_bit_is_enough():
    network = nn.Linear(3, 1)
    before = weights_sha256(network)
    with torch.no_grad():
        network.bias.copy_(torch.nextafter(network.bias, torch.tensor(torch.inf)))
    assert weights_sha256(network) != before
