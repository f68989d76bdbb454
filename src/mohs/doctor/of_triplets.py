"""What distances a sphere has room for, whatever the network."""

import math

import numpy as np

from mohs.doctor.findings import Finding, Severity
from mohs.doctor.log.rest import finite_tail
from mohs.doctor.log.stuck_values import LossFacts
from mohs.doctor.log.training_log import TrainingLog
from mohs.errors import InputError
from mohs.evaluation.checked import Bools, Float64
from mohs.evaluation.embedded import Embedded
from mohs.evaluation.intervals import wilson_interval
from mohs.evaluation.triplets import sample_triplets

__all__ = [
    "find_dead_triplets", "find_easy_selection", "find_false_negatives", "find_forgetting", "find_hardest_negatives",
    "find_large_margin", "reachable_distance",
]  # fmt: skip


def reachable_distance(quantile: float, *, dim: int, num_classes: int, squared: bool = True) -> float:
    """Return how far a negative can be from its anchor on the unit sphere, if all classes are spread out well.

    Each class is one point (its pictures coincide). With C ≤ D + 1 classes in D dimensions all can be equally far from
    each other, d² = 2C/(C − 1), and with C ≤ 2D no nearer than d² = 2 (Rankin 1955). For more classes the points are
    taken to lie at random: the similarity s of two has (1 + s)/2 ~ Beta((D − 1)/2, (D − 1)/2), and `quantile` is the
    share of classes that are nearer than the negative: 0 is the nearest, 0.5 about a random one.

    Args:
        quantile: in [0, 1]; taken as 1/C at least.
        dim: D, 2 or more.
        num_classes: C, 2 or more.
        squared: d², else d.

    >>> round(reachable_distance(0.5, dim=128, num_classes=1000), 3)
    2.0
    >>> round(reachable_distance(0.0, dim=64, num_classes=1000), 2)  # the nearest of a thousand
    1.25
    """
    if not 0.0 <= quantile <= 1.0 or dim < 2 or num_classes < 2:
        raise InputError(
            f"quantile, dim, num_classes: {quantile}, {dim}, {num_classes}; need a share, and 2 or more of both others"
        )
    if num_classes <= dim + 1:
        square = 2 * num_classes / (num_classes - 1)
    elif num_classes <= 2 * dim:
        square = 2.0
    else:
        from scipy.special import betaincinv

        share = min(1.0, max(quantile, 1.0 / num_classes))
        # The distribution is symmetric: the share above s is that below −s.
        similarity = 1 - 2 * float(betaincinv((dim - 1) / 2, (dim - 1) / 2, share))
        square = 2 - 2 * similarity
    return square if squared else math.sqrt(square)


_NUM_TRIPLETS = 10_000
_SATURATED = 0.95


def find_easy_selection(log: TrainingLog, loss: LossFacts, train: Embedded, *, seed: int = 0) -> Finding | None:
    """Find a training that saw only triplets it could solve.

    The mean loss at the end of the log is under a quarter of what *random* triplets of the same training pictures cost
    by the trained embeddings, although at least a tenth of these have the negative nearer than the positive (lower end
    of the 95% Wilson interval). Drawn at random, the trained ones would cost as much; mined, more. The random ones are
    measured with squared and plain distances, and the smaller loss counts, since a log does not say which it is.
    """
    if loss.margin is None or log.loss is None or not train.has_pairs:
        return None
    tail = finite_tail(log.loss, 0.1)
    if not len(tail):
        return None
    a, p, n = sample_triplets(train.labels, _NUM_TRIPLETS, seed=seed)
    positive = np.linalg.norm(train.x_ND[a] - train.x_ND[p], axis=1)
    negative = np.linalg.norm(train.x_ND[a] - train.x_ND[n], axis=1)
    costs = [float(np.maximum(0.0, positive**k - negative**k + loss.margin).mean()) for k in (1, 2)]
    at_random, trained = min(costs), float(np.median(tail))
    wrong = int((negative <= positive).sum())
    low, high = wilson_interval(wrong, _NUM_TRIPLETS)
    if trained >= 0.25 * at_random or low < 0.1:
        return None
    numbers = {
        "trained_loss": trained, "random_loss": at_random, "wrong_share": wrong / _NUM_TRIPLETS, "low": low,
        "high": high,
    }  # fmt: skip
    return Finding(
        cause="only-easy-triplets",
        severity="error",
        what=f"The loss that was trained on ended at {trained:.3g}, but random triplets of the same pictures cost "
        f"{at_random:.3g}, and in {wrong / _NUM_TRIPLETS:.1%} of them ({low:.1%} to {high:.1%}) the negative is nearer",
        why="Triplets were chosen that are in order already (a filter like d_ap < d_an, or d_ap + margin < d_an): what "
        "the network gets wrong never reaches the loss.",
        fix="Keep the triplets with d_an < d_ap + margin: those have a gradient. Let hardness rise as more is learned.",
        settings={"loss.name": "triplet", "hardness.curve": "closed-loop"},
        numbers=numbers,
        share=1.0 - trained / at_random,
    )


def find_large_margin(
    *,
    margin: float,
    squared: bool,
    dim: int,
    num_classes: int,
    quantile: float,
    active_T: Float64,
    loss_T: Float64,
    collapsed: bool = False,
) -> Finding | None:
    """Find a margin for which there is no room between the classes.

    Two things must hold: unit vectors of `num_classes` classes, spread out well, have their negatives at the hardness
    asked for at less than the margin (`reachable_distance`), so that triplets stay active even if all pictures of a
    class coincide; and in the last quarter of the run at least 95% of the triplets were active. It is an error if the
    run collapsed, else a warning. The margin to try leaves as much room for positives: half of what can be reached.

    Args:
        margin: of the triplet loss, in its own distance.
        squared: whether that is d².
        dim: of the embeddings.
        num_classes: classes among which negatives were chosen.
        quantile: share of classes nearer than the negatives asked for, see `reachable_distance`.
        active_T: share of active triplets by step.
        loss_T: loss by step.
        collapsed: whether the run did.
    """
    if dim < 2:
        return None  # unit vectors are two points there, and the margin is not what is wrong
    room = reachable_distance(quantile, dim=dim, num_classes=num_classes, squared=squared)
    active = finite_tail(active_T, 0.25)
    if margin <= room or not len(active) or float(active.mean()) < _SATURATED:
        return None
    unit = "squared distances" if squared else "distances"
    last = float(np.median(finite_tail(loss_T, 0.25)))
    tried = float(f"{room / 2:.1g}")
    severity: Severity = "error" if collapsed else "warning"
    return Finding(
        cause="margin-too-large",
        severity=severity,
        what=f"The margin is {margin:g}, but {num_classes:,} classes in {dim} dimensions leave {unit} of {room:.2f} to "
        f"negatives this hard; {active.mean():.0%} of the triplets were active to the end, with a loss of {last:.3g}",
        why="Even classes spread over the whole sphere, each at one point, are nearer than that: right triplets pull "
        "as hard as wrong ones, and positives lose their weight.",
        fix=f"Lower the margin to {tried:g} or below, or ask for easier negatives.",
        settings={"loss.margin": tried},
        numbers={"margin": margin, "reachable": room, "active_share": float(active.mean()), "last_loss": last},
        share=min(1.0, 1.0 - room / (2 * margin)),
    )


def find_hardest_negatives(*, positive_T: Float64, negative_T: Float64, achieved_T: Float64, at: str) -> Finding | None:
    """Find the reason of a collapse in the triplets trained on when it began: most were harder than the network can do.

    In half of them or more the negative was nearer than the positive. `at` names the moment. To be called for runs that
    did collapse, with losses on the plan's own negatives.
    """
    if not len(positive_T):
        return None
    wrong = float((negative_T < positive_T).mean())
    if wrong < 0.5:
        return None
    return Finding(
        cause="hardest-negatives",
        severity="error",
        what=f"{at}, {wrong:.0%} of the triplets had their negative nearer than the positive (distances "
        f"{np.median(negative_T):.3g} and {np.median(positive_T):.3g} in the middle, hardness {achieved_T.mean():.2f})",
        why="Pushed from a negative that is nearer than the positive, an anchor drags its positive's neighbours along; "
        "with most triplets so, shrinking everything to one point lowers the loss fastest.",
        fix="Let the closed loop find the hardness, or lower hardness.cap, or use InfoNCE, which weighs all negatives.",
        settings={"hardness.curve": "closed-loop", "model.batch_norm": True},
        numbers={
            "wrong_share": wrong,
            "hardness": float(achieved_T.mean()),
            "positive_distance": float(np.median(positive_T)),
            "negative_distance": float(np.median(negative_T)),
        },
        share=min(1.0, wrong),
    )


def find_dead_triplets(positive_T: Float64, negative_T: Float64) -> Finding | None:
    """Find triplets whose positive is a copy of the anchor: d_ap = 0 where d_an is not, in 5% of them or more.

    From a half on it is an error. Positives that are augmented anchors must be left out by the caller.
    """
    if not len(positive_T):
        return None
    dead_T = (positive_T <= 1e-6 * max(float(np.median(negative_T)), 1e-300)) & (negative_T > positive_T)
    dead = float(dead_T.mean())
    if dead < 0.05:
        return None
    return Finding(
        cause="dead-positives",
        severity="error" if dead >= 0.5 else "warning",
        what=f"{dead:.1%} of {len(dead_T):,} triplets have a positive at distance 0 from their anchor",
        why="It is the anchor itself, or a copy of the same picture: nothing is pulled together.",
        fix="Keep one of each set of equal pictures; where a class has one picture, let it be augmented.",
        settings={"training.augment": 1.0},
        numbers={"dead_share": dead, "num_triplets": float(len(dead_T))},
        share=dead,
    )


def find_false_negatives(positive_T: Float64, negative_T: Float64) -> Finding | None:
    """Find mined negatives that training could not push away: pictures of the same thing under another class.

    Measured by the *trained* network on pairs that were trained on: a negative counts as false if it is nearer to its
    anchor than 19 of 20 positives are (below the 5% quantile of d_ap). By chance it would be about 1 in 20 or fewer; a
    warning from 1 in 5 on, of the triplets, and an error from 1 in 2.
    """
    if len(positive_T) < 40:
        return None
    limit = float(np.quantile(positive_T, 0.05))
    if limit <= 0:
        return None
    share = float((negative_T < limit).mean())
    low, high = wilson_interval(round(share * len(negative_T)), len(negative_T))
    if low < 0.2:
        return None
    return Finding(
        cause="false-negatives",
        severity="error" if low >= 0.5 else "warning",
        what=f"{share:.1%} ({low:.1%} to {high:.1%}) of the mined negatives are still nearer to their anchors than 95% "
        f"of the positives (below {limit:.3g}), although they were trained on",
        why="Negatives that cannot be pushed away look like the same thing: copies under two labels, or classes that a "
        "picture does not tell apart.",
        fix="Drop suspiciously near negatives and look at the review list of the run.",
        settings={"negatives.min_distance_ratio": 0.5},
        numbers={"share": share, "low": low, "high": high, "limit": limit},
        share=share,
    )


def find_forgetting(hit_N: Bools, age_N: Float64) -> Finding | None:
    """Find classes that decay once they are no longer trained on.

    Queries of one age are of one class and share their luck, so that classes are counted, each with the mean of its
    hits. The quarter of them that were anchors longest ago (`age_N`, in triplets) is compared with the quarter of the
    most recent ones: R@1 lower by 0.1 or more, and by 3 standard errors of the difference. Fewer than 40 classes or 80
    queries are too few.
    """
    age_C, class_N = np.unique(age_N, return_inverse=True)
    if len(age_C) < 40 or len(age_N) < 80:
        return None
    hit_C = np.bincount(class_N, weights=hit_N) / np.bincount(class_N)
    k = len(age_C) // 4
    recent, old = float(hit_C[:k].mean()), float(hit_C[-k:].mean())
    error = math.sqrt((hit_C[:k].var() + hit_C[-k:].var()) / k)
    if recent - old < max(0.1, 3 * error):
        return None
    return Finding(
        cause="forgetting",
        severity="warning",
        what=f"R@1 is {recent:.3f} for the classes trained on last and {old:.3f} for those trained on longest ago "
        f"(difference {recent - old:.3f} ± {1.96 * error:.3f})",
        why="The network's last steps were about other classes and moved what it knew of these.",
        fix="Show every class in each pass, in a new order, and end with a low learning rate.",
        settings={},
        numbers={"recent": recent, "old": old, "standard_error": error},
        share=recent - old,
    )
