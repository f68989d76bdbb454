"""The strategies that are compared, by name: which negative, when, and which loss.

All train the same network on the same number of pictures, in batches of the same number of pictures, with a learning
rate that rises and then follows half a cosine. Its head is that of their optimiser: with Muon a new network has no
hidden layer (`RunConfig.network`), unless `model.hidden_dim` says how many units it has. Those of Mohs differ from
`mohs train` in the settings below and in nothing else. The online ones are the loop that a user of pytorch-metric-
learning would write (`mohs.compare.online`), with the start of the head and the end that the comparison's settings
give to all strategies. The plain ones are the same loops with a new head and the weights that training ends with,
whatever the settings say of these.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, final

from mohs.errors import InputError
from mohs.settings.config import override_config

__all__ = [
    "PAPER",
    "STRATEGIES",
    "OnlineLoss",
    "OnlineOptimizer",
    "Parameter",
    "Strategy",
    "all_strategies",
    "find_strategies",
]

OnlineLoss: TypeAlias = Literal[
    "triplet semi-hard",
    "triplet batch-hard",
    "multi-similarity",
    "nt-xent",
    "supcon",
    "arcface",
    "proxy-anchor",
    "cross-batch memory",
]

OnlineOptimizer: TypeAlias = Literal["adam", "muon"]


@final
@dataclass(frozen=True)
class Parameter:
    """The one parameter of a loss that tuning may change: a setting or a library's parameter, its default first."""

    name: str
    values: tuple[float, ...]


# What a user's own loop has: a new head, and the weights that training ends with.
_PLAIN: Mapping[str, Any] = {"finetune.head": "random", "finetune.trained_share": 1.0, "training.whiten": False}


@final
@dataclass(frozen=True)
class Strategy:
    """One way to train.

    Attributes:
        name: in tables and on the command line.
        description: one sentence.
        parameter: what tuning may change besides the learning rate.
        settings: of a run, "section.name" to value, on top of those of the comparison.
        online: the loss of a library loop, instead of a run of Mohs.
        online_optimizer: what lowers it: torch's Adam, or the Muon of runs of Mohs (`mohs.training.optimizers`).
        online_cliques: whether its batches are cliques of near classes, as of Mohs, instead of random classes.
        random_negatives: negatives are drawn evenly, instead of mined.
    """

    name: str
    description: str
    parameter: Parameter
    settings: Mapping[str, Any] = field(default_factory=dict)
    online: OnlineLoss | None = None
    online_optimizer: OnlineOptimizer = "adam"
    online_cliques: bool = False
    random_negatives: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is a loop of the library that changes nothing before the first step or after the last."""
        return self.online is not None and self.settings == _PLAIN

    @property
    def is_baseline(self) -> bool:
        """Whether it is a loop of the library with the library's batches, and the start and end of the others."""
        return self.online is not None and not self.is_plain and not self.online_cliques


_MARGIN = Parameter("loss.margin", (0.2, 0.1, 0.5))
_TEMPERATURE = Parameter("loss.temperature", (0.1, 0.05, 0.2))

# The guard would correct what these are to show, so it only watches.
_PUBLISHED = {"loss.name": "triplet", "guard.action": "warn"}


# A row has as many negatives as its bank holds, if that is fewer.
_ALL_OF_A_BANK = 10**9


def _plan(name: str, description: str, settings: Mapping[str, Any]) -> Strategy:
    values = {f"hardness.{key}": value for key, value in settings.items()}
    return Strategy(name, description, _MARGIN, {**_PUBLISHED, **values})


def _online(name: OnlineLoss, description: str, parameter: str, *values: float) -> Strategy:
    return Strategy(f"online {name}", description, Parameter(parameter, values), online=name)


def _with_muon(strategy: Strategy) -> Strategy:
    return replace(
        strategy,
        name=f"{strategy.name} with Muon",
        description=f"{strategy.name} with the optimiser of the default: what the loss adds to that.",
        online_optimizer="muon",
    )


def _on_cliques(strategy: Strategy) -> Strategy:
    return replace(
        strategy,
        name=f"{strategy.name} on cliques",
        description=f"{strategy.name} on the batches of NeighbourhoodSampler: what hardness adds to that loss.",
        online_cliques=True,
    )


def _plain(strategy: Strategy) -> Strategy:
    return replace(
        strategy,
        name=f"plain {strategy.online}",
        description=f"{strategy.name} with a new head, no blend of weights and no whitening, where the settings have "
        "them.",
        settings=_PLAIN,
    )


_ADAMW = Strategy(
    "default with AdamW",
    "The default with AdamW, where it has Muon: what the optimiser adds.",
    _TEMPERATURE,
    {"training.optimizer": "adamw"},
)
_MUON = Strategy(
    "default with Muon",
    "The default with Muon, where it has AdamW (pretrained networks).",
    _TEMPERATURE,
    {"training.optimizer": "muon"},
)

_OURS = (
    Strategy("default", "What mohs train does: InfoNCE on cliques, or with many classes momentum pairs.", _TEMPERATURE),
    Strategy(
        "default without scheduled hardness",
        "The same loss, steps and pictures, but all negatives are of random batches, and the temperature is theirs.",
        _TEMPERATURE,
        {"training.neighbourhood": 1, "memory.num_negatives": 0},
    ),
    Strategy(
        "cliques",
        "The same loss without a bank: a class enters a batch with its nearest ones.",
        _TEMPERATURE,
        {"memory.num_negatives": 0},
    ),
    Strategy(
        "momentum pairs",
        "The same loss with the nearest of what was shown lately, on random batches, whatever the number of classes.",
        _TEMPERATURE,
        {"memory.num_negatives": 8},
    ),
    Strategy(
        "semi-siamese",
        "Semi-Siamese training: as momentum pairs, but all that was shown lately are negatives, not the nearest of it.",
        _TEMPERATURE,
        {"memory.num_negatives": _ALL_OF_A_BANK},
    ),
    _ADAMW,
    _MUON,
    # h = 0 of `range` and of `rank` is the same negative, the farthest; `range` is the scale it was published with.
    _plan("easiest", "Triplets with the farthest negative.", {"curve": "constant", "cap": 0.0, "scale": "range"}),
    _plan("hardest", "Triplets with the nearest negative.", {"curve": "constant", "cap": 1.0, "scale": "range"}),
    Strategy(
        "random",
        # Evenly drawn negatives have evenly drawn ranks. No curve can say so: it maps progress to one hardness, and
        # neighbouring triplets would get neighbouring ranks. So they are drawn, and shown by the same optimiser.
        "Triplets with a negative drawn evenly from all items of other classes (every rank is as likely).",
        _MARGIN,
        _PUBLISHED,
        random_negatives=True,
    ),
    _plan(
        "semi-hard",
        "Triplets with the nearest negative of all that is farther than the positive.",
        {"curve": "constant", "cap": 1.0, "scale": "margin"},
    ),
    _plan(
        "sigmoid",
        "Triplets on the sigmoid curve up to 0.85 and the range scale, as published.",
        {"curve": "sigmoid", "cap": 0.85, "scale": "range"},
    ),
    _plan(
        "cyclic sigmoid",
        "Ten cycles of the same, as published.",
        {"curve": "sigmoid", "cap": 0.85, "scale": "range", "cycles": 10},
    ),
    _plan(
        "linear",
        "Triplets whose hardness grows evenly to 0.85 on the range scale.",
        {"curve": "linear", "cap": 0.85, "scale": "range"},
    ),
    _plan(
        "constant",
        # The mean of the sigmoid and of the line to 0.85: what they gain over this, they gain by their order.
        "Triplets at hardness 0.425 all along, the mean of sigmoid and linear: the control for their order.",
        {"curve": "constant", "cap": 0.425, "scale": "range"},
    ),
    Strategy(
        "closed loop",
        "Triplets whose hardness a controller sets, on the log-rank scale, so that half of them teach.",
        _MARGIN,
        {
            "loss.name": "triplet",
            "hardness.curve": "closed-loop",
            "hardness.cap": 1.0,
            "hardness.scale": "log-rank",
        },
    ),
)

_LOOPS = (
    _online(
        "triplet semi-hard",
        "TripletMarginLoss with TripletMarginMiner(type_of_triplets='semihard').",
        "margin", 0.05, 0.2, 0.5,
    ),
    _online("triplet batch-hard", "TripletMarginLoss with BatchHardMiner.", "margin", 0.05, 0.2, 0.5),
    _online(
        "multi-similarity", "MultiSimilarityLoss with MultiSimilarityMiner.", "base", 0.5, 0.3, 0.7
    ),
    _online("nt-xent", "NTXentLoss.", "temperature", 0.07, 0.05, 0.1),
    _online("supcon", "SupConLoss.", "temperature", 0.1, 0.05, 0.2),
    _online("arcface", "ArcFaceLoss; class weights learn at ten times the rate.", "scale", 64, 30, 16),
    _online("proxy-anchor", "ProxyAnchorLoss; proxies learn at ten times the rate.", "alpha", 32, 16, 64),
    _online(
        "cross-batch memory",
        "CrossBatchMemory(SupConLoss) of as many embeddings as `memory.size` says.",
        "temperature", 0.1, 0.05, 0.2,
    ),
)  # fmt: skip

_MUON_LOOPS = tuple(map(_with_muon, _LOOPS))

_ALL = (*_OURS, *_LOOPS, *_MUON_LOOPS, *map(_on_cliques, _MUON_LOOPS), *map(_plain, _LOOPS))

STRATEGIES: Mapping[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
"""All strategies by name."""

PAPER = ("easiest", "hardest", "sigmoid", "cyclic sigmoid")
"""Those of the publication of sigmoid sequencing."""


def all_strategies(settings: Mapping[str, Any]) -> list[Strategy]:
    """Return every strategy that `settings`, "section.name" to value, make different from the others.

    Left out are the plain ones where they would be the online ones again (no head of ours, no blend, no whitening),
    and the default with the optimiser that it has there anyway.

    >>> len(all_strategies({})), len(all_strategies({"finetune.trained_share": 0.6}))
    (39, 47)
    """
    same = {"adamw": _ADAMW, "muon": _MUON}.get(override_config(None, (), settings).optimizer)
    # None is what is usual, and for a loop of the library that is what the plain ones have.
    plain = all(settings.get(name) in (None, value) for name, value in _PLAIN.items())
    return [strategy for strategy in _ALL if strategy is not same and not (plain and strategy.is_plain)]


def find_strategies(names: Sequence[str]) -> list[Strategy]:
    """Return the strategies of these names, in this order; raise `InputError` for one that is unknown or given twice.

    >>> [strategy.name for strategy in find_strategies(["hardest", "default"])]
    ['hardest', 'default']
    """
    problems = []
    for index, name in enumerate(names):
        if name not in STRATEGIES:
            close = difflib.get_close_matches(name, STRATEGIES, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            problems.append(f"--strategies: {name!r} is unknown{hint}; use some of {', '.join(STRATEGIES)}")
        elif name in names[:index]:
            problems.append(f"--strategies: {name!r} is given twice; leave one out")
    if not names:
        problems.append(f"--strategies: none; use some of {', '.join(STRATEGIES)}")
    if problems:
        raise InputError(*problems)
    return [STRATEGIES[name] for name in names]
