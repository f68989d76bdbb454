"""Healthy trainings, as logs of many kinds: no error, and at most one warning in all of them."""

import numpy as np
import pytest

import mohs
from mohs.doctor.log.training_log import TrainingLog

SEEDS = (0, 1)


class Healthy:
    """Draws the columns of one healthy training: `num` rows with noise, a share of the value."""

    def __init__(self, seed, num=60, noise=0.02):
        self.random, self.num, self.noise = np.random.default_rng(seed), num, noise
        self.t = np.arange(num) / num

    def noisy(self, values, noise=None):
        noise = self.noise if noise is None else noise
        return np.abs(values * (1 + noise * self.random.normal(size=len(values))))

    def falls(self, first, last, speed=5.0, noise=None):
        return self.noisy(last + (first - last) * np.exp(-speed * self.t), noise)

    def rises(self, first, last, speed=5.0, noise=0.01):
        return np.minimum(1.0, self.noisy(last - (last - first) * np.exp(-speed * self.t), noise))

    def cosine(self, peak, warmup=0.1):
        rise = np.minimum(1.0, (self.t + 1 / self.num) / warmup)
        return peak * rise * 0.5 * (1 + np.cos(np.pi * np.clip((self.t - warmup) / (1 - warmup), 0, 1)))

    def steps_of_rate(self, peak):
        return peak * 0.1 ** np.floor(3 * self.t)


def triplet(h):
    """Distances beside the loss, a rate that ends at 0."""
    columns = {"loss": h.falls(0.21, 0.06), "positive_distance": h.falls(1.2, 0.6)}
    columns["negative_distance"] = h.noisy(1.3 + 0.1 * h.t)
    return columns | {"learning_rate": h.cosine(1e-3)}, {"loss_name": "triplet", "margin": 0.2}


def mean_over_active(h):
    """A triplet loss of active triplets alone: it stays about the margin while the search gets better."""
    loss = h.noisy(np.full(h.num, 0.2), 0.004)
    return {"loss": loss, "retrieval": h.rises(0.2, 0.8)}, {"loss_name": "triplet", "margin": 0.2}


def mean_over_active_with_distances(h):
    columns = {"loss": h.noisy(np.full(h.num, 0.3), 0.003), "positive_distance": h.falls(1.1, 0.6)}
    columns["negative_distance"] = h.noisy(np.full(h.num, 1.2))
    return columns, {"loss_name": "triplet", "margin": 0.3}


def all_solved(h):
    """Every triplet is solved at the end, and search is good."""
    columns = {"loss": np.maximum(0, h.falls(0.2, -0.01, noise=0)), "active_fraction": np.maximum(0, 0.5 - h.t)}
    return columns | {"retrieval": h.rises(0.3, 0.95)}, {"loss_name": "triplet", "margin": 0.2}


def curriculum(h):
    """Ever harder negatives: the loss rises as the network gets better."""
    columns = {"loss": h.noisy(0.08 + 0.2 * h.t), "retrieval": h.rises(0.1, 0.7), "active_fraction": h.noisy(h.t)}
    return columns, {"loss_name": "triplet", "margin": 0.2}


def curriculum_alone(h):
    """The same without a measure and without a name."""
    return {"loss": h.noisy(0.1 + 0.25 * h.t, 0.05)}, {}


def soft_triplet(h):
    return {"loss": h.falls(0.75, 0.3), "spread": h.rises(0.7, 0.95)}, {"loss_name": "soft-triplet"}


def infonce_by_steps(h):
    columns = {"loss": h.falls(4.2, 0.9, noise=0.08), "learning_rate": h.cosine(3e-4)}
    return columns, {"loss_name": "infonce", "batch": 32}


def infonce_that_starts_slowly(h):
    loss = h.noisy(4.14 - 2.5 / (1 + np.exp(-12 * (h.t - 0.5))), 0.01)
    return {"loss": loss}, {"loss_name": "infonce", "batch": 32}


def contrastive(h):
    columns = {"loss": h.falls(0.3, 0.05), "val_loss": h.falls(0.31, 0.09), "val_accuracy": h.rises(0.6, 0.93)}
    return columns, {"loss_name": "contrastive", "margin": 1.0}


def contrastive_plateau(h):
    """It converges at a value of its own and stays there, with the noise of its batches."""
    columns = {"loss": h.falls(0.5, 0.137, speed=12), "val_accuracy": h.rises(0.55, 0.85, speed=12)}
    return columns, {"loss_name": "contrastive", "margin": 1.0}


def cross_entropy(h):
    """1,000 classes, a rate by steps, a validation that grows too sure while its accuracy rises."""
    columns = {"loss": h.falls(6.9, 0.2), "accuracy": h.rises(0.01, 0.98), "val_accuracy": h.rises(0.01, 0.75)}
    turns = 6.9 * np.exp(-6 * h.t) + 1.2 + 0.9 * h.t
    return columns | {"val_loss": h.noisy(turns, 0.01), "learning_rate": h.steps_of_rate(0.1)}, {}


def binary_cross_entropy(h):
    return {"loss": h.falls(0.69, 0.2), "val_accuracy": h.rises(0.5, 0.9)}, {"loss_name": "cross-entropy"}


def arcface(h):
    columns = {"loss": h.falls(28.0, 6.0), "val_accuracy": h.rises(0.0, 0.6), "learning_rate": h.cosine(0.05)}
    return columns, {}


def unnamed(h):
    return {"loss": h.falls(1.7, 0.45)}, {}


def unnamed_plateau(h):
    """It converges above 0, and a third of the training is noise about that value."""
    return {"loss": h.falls(1.4, 0.52, speed=9, noise=0.015), "val_loss": h.falls(1.4, 0.56, speed=9, noise=0.01)}, {}


def step_decay_plateaus(h):
    """The loss stands, falls at each step of the rate, and stands again."""
    loss = 0.4 + 0.5 * np.exp(-25 * h.t) - 0.12 * np.floor(3 * h.t)
    return {"loss": h.noisy(loss, 0.015), "learning_rate": h.steps_of_rate(1e-2)}, {}


def stopped_early(h):
    """The validation turned a little and the training was stopped."""
    turns = 0.3 + 0.4 * np.exp(-8 * h.t) + 0.03 * h.t**2
    return {"loss": h.falls(0.7, 0.1), "val_loss": h.noisy(turns, 0.01), "retrieval": h.rises(0.2, 0.6)}, {}


def resumed(h):
    """Only its second half is in the log: it learns slowly, where it does well already."""
    columns = {"loss": h.falls(0.16, 0.12, speed=2), "retrieval": h.rises(0.71, 0.74, speed=2)}
    return columns | {"learning_rate": h.cosine(1e-3, warmup=0.01)}, {"loss_name": "triplet", "margin": 0.2}


def leapt_and_recovered(h):
    """One bad step early on, and then it learns."""
    loss = h.falls(0.9, 0.2)
    loss[h.num // 10] *= 15
    return {"loss": loss}, {}


def noisy_steps(h):
    """Small batches: the loss of one step says little."""
    return {"loss": h.falls(0.25, 0.1, noise=0.35)}, {"loss_name": "triplet", "margin": 0.2}


def negative_loss(h):
    return {"loss": -h.rises(0.1, 0.9)}, {}


def fine_tuned(h):
    """Good before the first step, and a little better at the end."""
    columns = {"loss": h.falls(0.11, 0.07, speed=3), "retrieval": h.rises(0.86, 0.9, speed=3)}
    return columns | {"val_accuracy": h.rises(0.95, 0.97)}, {"loss_name": "triplet", "margin": 0.2}


KINDS = [
    triplet,
    mean_over_active,
    mean_over_active_with_distances,
    all_solved,
    curriculum,
    curriculum_alone,
    soft_triplet,
    infonce_by_steps,
    infonce_that_starts_slowly,
    contrastive,
    contrastive_plateau,
    cross_entropy,
    binary_cross_entropy,
    arcface,
    unnamed,
    unnamed_plateau,
    step_decay_plateaus,
    stopped_early,
    resumed,
    leapt_and_recovered,
    noisy_steps,
    negative_loss,
    fine_tuned,
]
LENGTHS = {12: "epoch", 60: "epoch", 1500: "step"}


def findings(kind, seed, num):
    columns, facts = kind(Healthy(seed, num))
    log = TrainingLog("log.csv", np.arange(1.0, num + 1), LENGTHS[num], **columns)
    return mohs.diagnose(log=log, **facts).findings


@pytest.mark.parametrize("num", LENGTHS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_healthy_training_has_no_error(kind, num):
    for seed in SEEDS:
        assert [f"{each.cause}: {each.what}" for each in findings(kind, seed, num) if each.severity == "error"] == []


@pytest.mark.parametrize("num", LENGTHS)
def test_healthy_trainings_have_one_warning_in_all_at_most(num):
    warnings = [
        f"{kind.__name__}: {each.cause}: {each.what}"
        for kind in KINDS
        for each in findings(kind, 0, num)
        if each.severity != "note"
    ]
    assert len(warnings) <= 1, "\n".join(warnings)
