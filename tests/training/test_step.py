"""One training step: down the gradient at a rate; numbers that are none stop it, with the weights as they were."""

import pytest
import torch

from mohs.data.images import ImagePolicy
from mohs.errors import InputError, TrainingError
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig, RunConfig, TrainingConfig
from mohs.training.step import Descent

CONFIG = RunConfig(
    model=ModelConfig(widths=(4, 8), hidden_dim=8, embedding_dim=4, batch_norm=False),
    training=TrainingConfig(optimizer="sgd", momentum=0.0, weight_decay=0.0, max_gradient_norm=0.5, device="cpu"),
)


def begun(loss: torch.nn.Module | None = None, loss_rate: float = 1.0) -> tuple[Embedder, Descent]:
    embedder = Embedder.create(CONFIG.model, ImagePolicy(16, 1), seed=0)
    descent = Descent(embedder, CONFIG, torch.device("cpu"), loss=loss, loss_rate=loss_rate)
    descent.begin(0.0)
    return embedder, descent


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


def test_a_step_goes_down_the_gradient_as_far_as_rate_and_bound_say() -> None:
    proxy = torch.nn.Linear(4, 1, bias=False)
    embedder, descent = begun(proxy, loss_rate=10.0)
    before, proxy_before = flat(embedder), flat(proxy)
    x = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    value = 100 * proxy(descent.embed(x)).sum()
    norm = descent.step(value, rate=0.01, num_rows=6, broken=TrainingError)
    assert norm > 0.5
    moved, proxy_moved = flat(embedder) - before, flat(proxy) - proxy_before
    # The gradient of both together is shortened to 0.5, and the loss's own part of it goes ten times as far.
    together = (moved / 0.01).square().sum() + (proxy_moved / 0.1).square().sum()
    assert float(together.sqrt()) == pytest.approx(0.5, rel=1e-3)
    assert float(100 * proxy(descent.embed(x)).sum().detach()) < float(value.detach())


@pytest.mark.parametrize(("factor", "said"), [(float("nan"), "loss is nan"), (float("inf"), "loss is -?inf")])
def test_a_loss_that_is_no_number_changes_nothing(factor: float, said: str) -> None:
    embedder, descent = begun()
    before = flat(embedder)
    value = factor * descent.embed(torch.rand(2, 1, 16, 16)).sum()
    with pytest.raises(TrainingError, match=said):
        descent.step(value, rate=0.01, num_rows=2, broken=TrainingError)
    assert torch.equal(flat(embedder), before)


@pytest.mark.parametrize("at_once", [4, 7, 20])
def test_a_batch_in_pieces_has_the_gradient_of_the_whole_batch(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(23, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    shown: list[int] = []
    usual = Embedder.forward
    monkeypatch.setattr(Embedder, "forward", lambda self, x: shown.append(len(x)) or usual(self, x))

    def learned(pictures_at_once: int | None) -> torch.Tensor:
        config = CONFIG.model_copy(
            update={"training": CONFIG.training.model_copy(update={"pictures_at_once": pictures_at_once})}
        )
        embedder = Embedder.create(config.model, ImagePolicy(16, 1), seed=0)
        descent = Descent(embedder, config, torch.device("cpu"))
        descent.begin(0.0)
        shown.clear()
        embedding = descent.embed(x)
        # Each picture meets all others, as in an in-batch loss.
        loss = (embedding @ embedding.T / 0.1).logsumexp(dim=1).mean()
        descent.step(loss, rate=1.0, num_rows=len(x), broken=TrainingError)
        return flat(embedder)

    whole = learned(None)
    assert shown == [23]
    torch.testing.assert_close(learned(at_once), whole, rtol=1e-5, atol=1e-6)
    assert sum(shown) == 2 * 23  # once for the loss, and once for the gradient
    assert max(shown) == at_once


def test_pieces_are_refused_where_batch_norm_needs_the_whole_batch() -> None:
    training = CONFIG.training.model_copy(update={"pictures_at_once": 8})
    model = CONFIG.model.model_copy(update={"batch_norm": True})
    config = CONFIG.model_copy(update={"training": training, "model": model})
    embedder = Embedder.create(config.model, ImagePolicy(16, 1), seed=0)
    with pytest.raises(InputError, match="pictures_at_once: 8 pictures at a time, but its batch norm"):
        Descent(embedder, config, torch.device("cpu"))
    # Where it keeps its statistics, and the head has none, pieces are right.
    kept = config.model_copy(update={"finetune": config.finetune.model_copy(update={"batch_norm": "eval"})})
    no_hidden = kept.model_copy(update={"model": model.model_copy(update={"hidden_dim": 0})})
    Descent(Embedder.create(no_hidden.model, ImagePolicy(16, 1), seed=0), no_hidden, torch.device("cpu"))


def test_a_gradient_that_is_no_number_changes_nothing() -> None:
    embedder, descent = begun()
    before = flat(embedder)
    shown = descent.embed(torch.rand(2, 1, 16, 16))
    value = (shown - shown.detach()).sum().abs().sqrt()  # 0, with an endless slope
    with pytest.raises(TrainingError, match="gradient is nan"):
        descent.step(value, rate=0.01, num_rows=2, broken=TrainingError)
    assert torch.equal(flat(embedder), before)
    assert descent.weights_are_finite()
