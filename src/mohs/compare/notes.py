"""What is said before a comparison: settings without effect in it, and budgets too small for what is compared."""

from collections.abc import Iterator, Sequence

from mohs.compare.budget import Budget
from mohs.compare.strategies import Strategy
from mohs.errors import Problem
from mohs.settings.config import RunConfig, override_config
from mohs.settings.effects import without_effect
from mohs.settings.presets import budget_settings
from mohs.settings.toml import flat_settings

__all__ = ["budget_notes", "comparison_notes"]

# What a library loop reads, besides the pictures and the network.
_READ_ONLINE = (
    "data.", "model.", "finetune.", "training.learning_rate", "training.warmup", "training.augment", "training.mirror",
    "training.colour", "training.device", "training.precision", "training.max_gradient_norm", "training.batch_triplets",
    "training.whiten",
)  # fmt: skip


def comparison_notes(
    idle: Sequence[Problem],
    config: RunConfig,
    strategies: Sequence[Strategy],
    *,
    budget: str | None,
    paper_segments: int | None,
) -> list[str]:
    """Return the lines that are to be said about the settings of a comparison.

    `idle` are settings that have no effect on what `mohs train` would do; one with an effect on a strategy is not told.
    Added are settings that a comparison decides itself, and with nothing but library loops all that these do not read,
    if they are not at their default (or at that of `budget`).
    """
    usual, own = (flat_settings(each.model_dump()) for each in (RunConfig(), config))
    usual |= {name: value for name, value in budget_settings(budget or "small").items() if own[name] == value}
    changed = {name: value for name, value in own.items() if value != usual[name]}
    reasons = {
        "seed": "the seeds are 0, 1 and so on (--seeds)",
        "out": "--out is the folder of a comparison",
        "data.split_by": "test classes are unseen",
        "training.num_triplets": "--pictures says how long a run is",
        "training.tensorboard": "report.html has the curves",
        "training.prefer_positive": "every strategy sees pictures without roles",
        "training.anchors": "every strategy sees pictures without roles",
    }
    if paper_segments is not None:
        reasons["training.num_segments"] = f"--paper has {paper_segments}, an epoch each"
    if all(strategy.online is not None for strategy in strategies):
        reasons |= {
            name: "the strategies are library loops, which do not read it"
            for name in changed
            if name not in reasons and not name.startswith(_READ_ONLINE)
        }
    reasons |= {
        name: "the plain strategies change nothing before the first step or after the last"
        for name in changed
        if all(strategy.is_plain and name in strategy.settings for strategy in strategies)
    }
    lines = [
        f"warning: {name}: {changed[name]!r} has no effect here; {reason}"
        for name, reason in reasons.items()
        if name in changed
    ]
    settings = {name: value for name, value in own.items() if name not in ("seed", "out")}
    configs = [
        override_config(None, (), {**settings, **strategy.settings}) for strategy in strategies if not strategy.online
    ]
    still_idle = [
        problem
        for problem in idle
        if not (problem.place in reasons and problem.place in changed)
        and all(without_effect(config, [problem.place]) for config in configs)
    ]
    return [f"warning: {problem}" for problem in still_idle] + lines


def budget_notes(budget: Budget, batch_pictures: int, num_segments: int) -> Iterator[str]:
    """Yield what is to be said of a budget that leaves less than was asked for."""
    if budget.batch_pictures < batch_pictures // 6 * 6:
        yield (
            f"warning: a step shows {budget.batch_pictures} pictures and not {batch_pictures}: there are few pictures "
            "(--pictures) or few classes"
        )
    if num_segments > 1 and budget.num_steps < 2 * num_segments:
        yield (
            f"warning: each of {num_segments} segments is one step, in which no schedule can show and few pictures are "
            f"there for the guard; give --pictures {2 * num_segments * budget.batch_pictures} or more, or lower "
            "training.num_segments"
        )
