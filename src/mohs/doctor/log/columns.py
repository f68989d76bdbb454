"""What a column of a training log means, by its name, as libraries and people write it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from mohs.settings.loss_records import LOSSES, OF_PAIRS

__all__ = ["Meaning", "Reduction", "is_bound", "meaning", "position_rank"]

Reduction: TypeAlias = Literal["", "epoch", "step"]

_TRAIN: Final = ("train", "training", "tr", "fit")
# The likeliest to steer a training first: with "val" and "test" in one log, "val" is meant.
_HELD_OUT: Final = ("val", "valid", "validation", "eval", "evaluation", "dev", "metrics", "heldout", "holdout", "test")
_REDUCTIONS: Final[Mapping[str, Reduction]] = {"epoch": "epoch", "step": "step", "batch": "step", "iter": "step"}
_MEANS: Final = ("mean", "avg", "average", "running", "smooth", "smoothed", "at", "of", "per", "and")
_NOT_THE_NUMBER: Final = re.compile(
    r"best|min|max|std|var|scale|scaler|weight|weights|num|count|time|delta|ratio|grad|norm|coef|lambda"
)
_OTHER_LOSSES: Final = (
    "cosface", "cos", "sphereface", "proxynca", "nca", "circle", "siglip", "metric", "embedding", "embeddings", "emb",
    "classification", "cls",
)  # fmt: skip
_LOSSES: Final = {word for loss in (*LOSSES, *OF_PAIRS) for word in loss.words} | set(_OTHER_LOSSES)
_ACCURACIES: Final = re.compile(
    r"binary|categorical|sparse|triplet|triplets|pair|pairs|verification|classification|cls|top|k|cosine|"
    r"dot|euclidean|manhattan"
)
_RATE_PARTS: Final = re.compile(
    r"adam|w|sgd|rmsprop|lion|muon|lars|lamb|pg|group|groups|param|params|head|backbone|encoder|model|"
    r"optimizer|opt|base|current"
)
_NAMED: Final[Mapping[str, re.Pattern[str]]] = {
    "active_fraction": re.compile(
        r"active(_fraction|_share|_frac)?|fraction_(active|nonzero)|nonzero_fraction|frac_active|share_active"
    ),
    "spread": re.compile(r"(embedding_)?spread"),
    "auc": re.compile(r"auc|auroc|(roc|pair|verification)_auc"),
    "equal_error_rate": re.compile(r"(pair_|verification_)?eer|equal_error(_rate)?"),
    "clustering": re.compile(r"ami|nmi|ari|(adjusted|normalized)_mutual_info(rmation)?|adjusted_rand(_index|_score)?"),
}
_SIDES: Final[Mapping[str, frozenset[str]]] = {
    "positive": frozenset({"ap", "pos", "positive", "positives"}),
    "negative": frozenset({"an", "neg", "negative", "negatives"}),
}
_SIMILARITIES: Final = frozenset({"s", "sim", "sims", "similarity", "similarities", "cos", "cossim"})
_DISTANCES: Final = frozenset({"d", "dist", "dists", "distance", "distances"})
_OF_DISTANCES: Final = {"a", "anchor", "to", "pair", "pairs", "hard", "hardest", "euclidean", "cosine", "l2", "squared"}
_POSITIONS: Final = ("epoch", "epochs", "step", "steps", "global_step", "iteration", "iterations", "iter", "batch")


@final
@dataclass(frozen=True)
class Meaning:
    """What a column holds.

    Attributes:
        field: of `TrainingLog`.
        rank: how near the name is to what is wanted, 0 nearest; of several columns the nearest is read.
        reduction: over what it is a mean, if the name says so: "epoch" or "step".
        named_split: whether the name says of which pictures it is.
    """

    field: str
    rank: float
    reduction: Reduction = ""
    named_split: bool = False


def meaning(name: str) -> Meaning | None:
    """Return what a column of this name holds; None if it is none of a log's.

    Upper case, blanks and signs do not matter, nor does "run name - " in front (wandb). A word says whether it is of
    training or held-out pictures ("train", "val", "eval", "test", ultralytics' "metrics", …), another over what it is
    a mean ("epoch", "step"). Without the first, losses and accuracies are of the training, as Keras has it.

    >>> meaning("train_loss_epoch")
    Meaning(field='loss', rank=0.0, reduction='epoch', named_split=True)
    >>> meaning("bright-sun-7 - eval/recall@1").field
    'retrieval'
    >>> meaning("loss_scale") is None
    True
    """
    words = _words(name)
    if not words or any(map(_NOT_THE_NUMBER.fullmatch, words)):
        return None
    held_out = [word for word in words if word in _HELD_OUT]
    train = [word for word in words if word in _TRAIN]
    if held_out and train:
        return None
    rank = 0.0 if not held_out else 0.01 * _HELD_OUT.index(held_out[0])
    split_named = bool(held_out or train)
    bare = [word for word in words if word not in held_out and word not in train]
    reduction: Reduction = next((_REDUCTIONS[word] for word in bare if word in _REDUCTIONS), "")
    if "dataloader" in bare:
        at = bare.index("dataloader")
        rank += 0.001 * int(bare[at + 2]) if len(bare) > at + 2 and bare[at + 2].isdigit() else 0.0
        bare = bare[:at]
    place = _retrieval_rank(bare, spelled_out="@" in name or "at" in words)
    rest = [word for word in bare if word not in _REDUCTIONS and word not in _MEANS]
    joined = re.sub(r"_level_\d+$", "", "_".join(rest))
    for field, names in _NAMED.items():
        if names.fullmatch(joined):
            return Meaning(field, rank + bool(held_out), reduction, split_named)
    if (distance := _field_of_triplet(rest)) is not None:
        return Meaning(distance, rank + bool(held_out), reduction, split_named)
    if place is not None:
        return Meaning("retrieval", place + 5.0 * bool(train) + rank, reduction, split_named)
    if "loss" in rest or joined in ("objective", "cost"):
        others = [word for word in rest if word not in ("loss", "objective", "cost")]
        rank += _loss_rank(others)
        return Meaning("val_loss" if held_out else "loss", rank, reduction, split_named)
    if {"acc", "accuracy"} & set(rest):
        others = [word for word in rest if word not in ("acc", "accuracy")]
        digits = [word for word in others if word.isdigit()]
        if not all(word in digits or _ACCURACIES.fullmatch(word) for word in others):
            return None
        rank += (1.0 if others else 0.0) + (2.0 if digits and digits[0] != "1" else 0.0)
        return Meaning("val_accuracy" if held_out else "accuracy", rank, reduction, split_named)
    if (rest[:1] == ["lr"] or rest[:2] == ["learning", "rate"] or rest == ["rate"]) and not held_out:
        parts = rest[1:] if rest[0] == "lr" else rest[2:]
        if all(word.isdigit() or _RATE_PARTS.fullmatch(word) for word in parts):
            return Meaning("learning_rate", 0.0, reduction, split_named)
    return None


def position_rank(name: str) -> int | None:
    """Return how early a name is tried as the number of a row: epochs first; None if it is none.

    >>> position_rank("Epoch"), position_rank("trainer/global_step"), position_rank("loss")
    (0, 4, None)
    """
    words = [word for word in _words(name) if word not in (*_TRAIN, "trainer")]
    joined = "_".join(words)
    return _POSITIONS.index(joined) if joined in _POSITIONS else None


def is_bound(name: str) -> bool:
    """Return whether a column is the smallest or largest of a group, which wandb writes beside the mean.

    >>> is_bound("run - train/loss__MAX")
    True
    """
    return name.strip().upper().endswith(("__MIN", "__MAX"))


def _words(name: str) -> list[str]:
    # wandb puts the name of the run in front.
    _, _, last = f" - {name.strip()}".rpartition(" - ")
    spaced = re.sub(r"(?<=[a-z]{2})(?=[A-Z])", " ", last)
    return re.findall(r"[a-z]+|\d+", spaced.lower())


def _field_of_triplet(rest: Sequence[str]) -> str | None:
    """Return which distance or similarity of a triplet words name, in any order: "pos_dist", "d(a,p)", "mean s_ap"."""
    words = set(rest)
    if {"a", "p"} <= words or {"a", "n"} <= words:
        words = words - {"a", "p", "n"} | ({"ap"} if "p" in words else {"an"})
    for kind, names, letter in (("distance", _DISTANCES, "d"), ("similarity", _SIMILARITIES, "s")):
        for side, signs in _SIDES.items():
            short = f"{letter}a{side[0]}"
            if (
                words & (signs | {short})
                and words <= signs | {short} | names | _OF_DISTANCES
                and (words & names or short in words)
            ):
                return f"{side}_{kind}"
    return None


def _retrieval_rank(words: Sequence[str], *, spelled_out: bool) -> float | None:
    """Return the rank of a retrieval metric: the first place, then average precision, then other depths."""
    text = " ".join(word for word in words if word not in ("at", "epoch", "mean", "rate"))
    text = re.sub(r" level \d+$", "", text.replace("average precision", "map"))
    if re.fullmatch(r"(?:[a-z]+ )*?map(?: r| \d+)*(?: b)?", text):
        return 1.0
    if re.fullmatch(r"(?:[a-z]+ )*?knn acc(?:uracy)?", text):
        return 0.0
    if re.fullmatch(r"(?:[a-z]+ )*?(?:mrr|ndcg)(?: \d+)?|(?:[a-z]+ )*?[tg]ar far.*", text):
        return 3.0
    found = re.fullmatch(r"(?:[a-z]+ )*?(recall|precision|hits?|hr|top|rank|cmc|r|p)(?: rank)?(?: (\d+))?", text)
    if found is None or {"acc", "accuracy"} & set(words):
        return None
    kind, depth = found.groups()
    if text.endswith("r precision"):
        return 2.0
    # "rank" may be of a process, "r2" a share of variance, and "precision" alone a classifier's.
    if kind in ("r", "p") and (depth is None or not (spelled_out or depth in ("1", "5", "10"))):
        return None
    if kind in ("top", "rank", "precision") and depth in (None, "0"):
        return None
    return 0.0 if depth == "1" else 3.0


def _loss_rank(others: Sequence[str]) -> float:
    if not others:
        return 0.0
    if set(others) <= {"total", "overall", "sum"}:
        return 0.5
    # A word that is no name of a loss: perhaps a part of it only.
    return 1.0 if _LOSSES.issuperset(others) else 2.0
