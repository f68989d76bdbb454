"""How training pictures change at random: the settings as a policy."""

from dataclasses import replace

from mohs.config import TrainingConfig
from mohs.data.augment import AugmentPolicy

__all__ = ["training_policy"]

_FULL_COLOUR = 0.4


def training_policy(training: TrainingConfig, *, num_draws: int = AugmentPolicy.num_draws) -> AugmentPolicy:
    """Return the random changes of training pictures that the settings ask for.

    `augment` scales rotation, shift, size and shear; `mirror` is the probability of a mirrored picture; brightness and
    contrast change by at most ±40% times `colour`.

    >>> training_policy(TrainingConfig(augment=0.0, mirror=0.5, colour=0.5)).brightness
    0.2
    """
    colour = _FULL_COLOUR * training.colour
    return replace(
        AugmentPolicy.of_strength(training.augment),
        horizontal_flip=training.mirror,
        brightness=colour,
        contrast=colour,
        num_draws=num_draws,
    )
