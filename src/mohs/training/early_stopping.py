"""Early stopping: a run ends when held-out classes are found no better any more, with the weights of its best moment.

The measurements are those of the held-out curve, after each segment (`mohs.training.held_out`). They may decide since
their classes are neither trained on nor tested.
"""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from mohs.errors import InputError, Problem
from mohs.model.embedder import Embedder
from mohs.settings.config import RunConfig
from mohs.training.held_out import HeldOut

__all__ = ["Best", "check_early_stopping", "copied_weights"]


@final
@dataclass
class Best:
    """The best measurement so far: R@1, triplets before it, measurements since, whether the run was stopped for them.

    It is saved under these names.

    >>> best = Best()
    >>> [best.take(recall, triplets) for recall, triplets in ((0.2, 0), (0.4, 100), (0.4, 200), (0.3, 300))]
    [True, True, False, False]
    >>> best
    Best(recall=0.4, triplets=100, num_since=2, stopped=False)
    """

    recall: float | None = None
    triplets: int = 0
    num_since: int = 0
    stopped: bool = False

    def take(self, recall: float, triplets: int, *, counts: bool = True) -> bool:
        """Take note of a measurement, and return whether it is better than all before; an equal one is not.

        One that is no better and `counts` brings the end nearer.
        """
        if self.recall is not None and not recall > self.recall:
            self.num_since += counts
            return False
        self.recall, self.triplets, self.num_since = recall, triplets, 0
        return True


def copied_weights(embedder: Embedder) -> dict[str, Tensor]:
    """Return the weights and statistics of a network as they are now, on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in embedder.state_dict().items()}


def check_early_stopping(config: RunConfig, held_out: HeldOut | None) -> None:
    """Raise `InputError` if a run is to be stopped by classes that it has not, or that its test is measured on."""
    stop_after = config.training.stop_after
    if stop_after is None or (held_out is not None and held_out.of == "validation"):
        return
    raise InputError(
        Problem(
            "training.stop_after",
            f"{stop_after}, and no classes are held out to measure on; the test must not decide when to stop",
            "give data.validation_fraction, for example 0.1, or leave it out",
        )
    )
