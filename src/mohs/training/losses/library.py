"""Losses and miners of pytorch-metric-learning by the name of their class, with settings checked before training.

A class is found by name, given the options of the settings and the numbers that the data decide (classes, embedding
dimension), and tried on a small batch. Classes that cannot work on embeddings and labels are refused with the reason.
"""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias, final

import pytorch_metric_learning.losses
import pytorch_metric_learning.miners
from torch import nn

from mohs.errors import InputError, Problem
from mohs.settings.loss_records import LOSSES, find_record

__all__ = [
    "NAMED_MINERS",
    "REFUSED_LOSSES",
    "REFUSED_MINERS",
    "LibraryClass",
    "Option",
    "close_matches",
    "find_loss",
    "find_miner",
    "library_losses",
    "library_miners",
]

Option: TypeAlias = str | int | float | bool

_ABSTRACT = "it is the base of other classes"
_NEEDS_OBJECT = "it is built around another loss; build it in Python and pass InBatchLoss(...) to fit"
_NO_LABELS = "it takes no labels, only two views of each picture"

REFUSED_LOSSES: Mapping[str, str] = MappingProxyType(
    {
        "BaseLossWrapper": _ABSTRACT,
        "BaseMetricLossFunction": _ABSTRACT,
        "CrossBatchMemory": _NEEDS_OBJECT,
        "DynamicSoftMarginLoss": "it fails where a positive is 1.6 farther than a negative, and no checkpoint holds "
        "its histogram",
        "GenericPairLoss": _ABSTRACT,
        "HistogramLoss": "it fails where two embeddings coincide",
        "InstanceLoss": "it takes the number of a class for a place in the batch",
        "IntraPairVarianceLoss": "it is an addition to another loss; alone it does not bring a class together",
        "ManifoldLoss": _NO_LABELS,
        "MultipleLosses": _NEEDS_OBJECT,
        "SelfSupervisedLoss": _NEEDS_OBJECT,
        "SmoothAPLoss": "it needs batches sorted by class with as many pictures of each",
        "TupletMarginLoss": "its gradient is NaN where an anchor and its positive coincide",
        "VICRegLoss": _NO_LABELS,
    }
)
"""Loss classes that the settings cannot name, and why. Whoever knows better passes an `InBatchLoss` to `fit`."""

REFUSED_MINERS: Mapping[str, str] = MappingProxyType(
    {
        "BaseMiner": _ABSTRACT,
        "EmbeddingsAlreadyPackagedAsTriplets": "it expects anchor, positive, negative in turn; a batch is all anchors, "
        "then all positives",
    }
)
"""Miner classes that the settings cannot name, and why."""

NAMED_MINERS: Mapping[str, tuple[str, Mapping[str, Option]]] = MappingProxyType(
    {
        "semi-hard": ("TripletMarginMiner", {"type_of_triplets": "semihard"}),
        "batch-hard": ("BatchHardMiner", {}),
        "multi-similarity": ("MultiSimilarityMiner", {}),
        "distance-weighted": ("DistanceWeightedMiner", {}),
    }
)
"""Mohs's names for miners of the library, and what each sets."""

# Parameters that take objects or ranges, which settings cannot hold, or that every class gives to its base itself.
_NO_SETTINGS = frozenset(
    {
        "allowed_neg_range",
        "allowed_pos_range",
        "collect_stats",
        "distance",
        "embedding_reg_weight",
        "embedding_regularizer",
        "mat_based_loss",
        "reducer",
        "weight_init_func",
        "weight_reg_weight",
        "weight_regularizer",
    }
)
_GIVEN_BY_CLASS = {"BatchHardMiner": frozenset({"pos_strategy", "neg_strategy"})}
_NUM_CLASSES = ("num_classes",)
_EMBEDDING_DIM = ("embedding_size", "descriptors_dim")


@final
@dataclass(frozen=True)
class LibraryClass:
    """A loss or miner class of the library, and the parameters that its name in the settings decides.

    `name` is that name: the class's own, or Mohs's, such as "batch-hard".
    """

    name: str
    cls: type[nn.Module]
    preset: Mapping[str, Option] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The parameters that settings may give, by name."""
        fixed = {*_NO_SETTINGS, *_NUM_CLASSES, *_EMBEDDING_DIM, *self.preset}
        fixed |= _GIVEN_BY_CLASS.get(self.cls.__name__, frozenset())
        return {name: parameter for name, parameter in _parameters(self.cls).items() if name not in fixed}

    def problems(self, setting: str, options: Mapping[str, Option]) -> list[str]:
        """Return a line for each option that is unknown and one for those that are missing."""
        known = self.options
        listed = f"its parameters: {', '.join(map(_shown, known.values()))}" if known else "it has none"
        found = [
            f"{setting}: {name!r} is not a parameter of {self.name}{_did_you_mean(name, known)}; {listed}"
            for name in options
            if name not in known
        ]
        missing = [name for name, parameter in known.items() if _required(parameter) and name not in options]
        if missing:
            found.append(f"{setting}: {self.name} needs {', '.join(missing)}; {listed}")
        return found

    @property
    def needs_data(self) -> bool:
        """Whether the class needs the number of classes or the embedding dimension."""
        return bool(self._from_data(0, 0))

    def build(self, options: Mapping[str, Option], *, num_classes: int, embedding_dim: int) -> nn.Module:
        """Return an object of the class; raises what the class raises."""
        return self.cls(**self.preset, **options, **self._from_data(num_classes, embedding_dim))

    def _from_data(self, num_classes: int, embedding_dim: int) -> dict[str, int]:
        values = dict.fromkeys(_NUM_CLASSES, num_classes) | dict.fromkeys(_EMBEDDING_DIM, embedding_dim)
        parameters = _parameters(self.cls)
        return {name: value for name, value in values.items() if name in parameters and _required(parameters[name])}


def library_losses() -> dict[str, type[nn.Module]]:
    """Return the loss classes of the installed library by name, refused ones too."""
    return _modules(pytorch_metric_learning.losses)


def library_miners() -> dict[str, type[nn.Module]]:
    """Return the miner classes of the installed library by name, refused ones too."""
    return _modules(pytorch_metric_learning.miners)


def find_loss(name: str) -> LibraryClass:
    """Return the loss class that `loss.name` names; raise `InputError` with one line if there is none or it is refused.

    >>> find_loss("arcface").cls.__name__
    'ArcFaceLoss'
    """
    classes = library_losses()
    if (known := find_record(name).library_class) is not None:
        return LibraryClass(name, classes[known])
    own = tuple(record.name for record in LOSSES)
    return LibraryClass(name, _find("loss.name", name, own, classes, REFUSED_LOSSES, "losses"))


def find_miner(name: str) -> LibraryClass:
    """Return the miner class that `loss.miner` names; raise `InputError` as `find_loss` does.

    >>> find_miner("semi-hard").preset
    {'type_of_triplets': 'semihard'}
    """
    classes = library_miners()
    if name in NAMED_MINERS:
        class_name, preset = NAMED_MINERS[name]
        return LibraryClass(name, classes[class_name], preset)
    return LibraryClass(name, _find("loss.miner", name, tuple(NAMED_MINERS), classes, REFUSED_MINERS, "miners"))


def _find(
    setting: str,
    name: str,
    own: tuple[str, ...],
    classes: Mapping[str, type[nn.Module]],
    refused: Mapping[str, str],
    library: str,
) -> type[nn.Module]:
    if name in refused:
        raise InputError(Problem(setting, f"{name} cannot be used: {refused[name]}"))
    if name in classes:
        return classes[name]
    usable = [*own, *(known for known in classes if known not in refused)]
    what = f"{name!r} is unknown{_did_you_mean(name, usable)}"
    raise InputError(Problem(setting, what, f"use {', '.join(own)} or a class of pytorch_metric_learning.{library}"))


def close_matches(name: str, known: Iterable[str]) -> list[str]:
    """Return the name that differs from `name` in case only, or else up to two that are like it, the nearest first.

    >>> close_matches("supconlos", ["SupConLoss", "supcon", "CircleLoss"])
    ['SupConLoss', 'supcon']
    """
    folded = {other.lower(): other for other in known}
    if name.lower() in folded:
        return [folded[name.lower()]]
    return [folded[match] for match in difflib.get_close_matches(name.lower(), folded, n=2, cutoff=0.6)]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    matches = close_matches(name, known)
    return f" (did you mean {' or '.join(map(repr, matches))}?)" if matches else ""


def _modules(library: Any) -> dict[str, type[nn.Module]]:
    found = ((name, value) for name, value in sorted(vars(library).items()) if inspect.isclass(value))
    return {name: value for name, value in found if issubclass(value, nn.Module)}


def _parameters(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return what a class's constructor takes by name: its own parameters and, through **kwargs, those of its bases."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        for parameter in parameters:
            if parameter.kind in named:
                found.setdefault(parameter.name, parameter)
        if all(parameter.kind != inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _shown(parameter: inspect.Parameter) -> str:
    has_default = not _required(parameter) and parameter.default is not None
    return f"{parameter.name} = {parameter.default!r}" if has_default else parameter.name
