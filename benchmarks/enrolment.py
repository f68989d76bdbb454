"""How far an index can be trusted on classes that no training has seen, over 20 seeds, and whether its intervals hold.

    python benchmarks/enrolment.py               # 20 networks, a quarter of an hour on two cores
    python benchmarks/enrolment.py --seeds 2

For each seed a small network trains on 1,050 classes of the built-in set. Of the classes that it has not seen, 100 are
added to an index with one picture each, 100 calibrate it at a false acceptance of 5%, and 200 unknown ones are asked
for. What the intervals claim to hold is measured on the rest, some 3,700 classes: the share of all their pictures that
this index gives a class, and R@1 as the mean of 200 other draws of 100 classes.
"""

import argparse
import tempfile
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

import mohs
from mohs.evaluation.intervals import class_interval
from mohs.index.calibration import Calibration, calibrate
from mohs.index.exact_search import Vectors, nearest_items
from mohs.settings.config import override_config
from mohs.training.run_inputs import open_split_data

ADDED, HELD_OUT, UNKNOWN, DRAWS = 100, 100, 200, 200


@final
@dataclass(frozen=True)
class Share:
    """A share that was measured, its 95% interval, and the share of the population."""

    measured: float
    low: float
    high: float
    true: float

    @property
    def holds(self) -> bool:
        """Whether the interval has the population's share in it."""
        return self.low <= self.true <= self.high

    def __str__(self) -> str:
        miss = "" if self.holds else " MISSED"
        return f"{self.measured:.3f} ({self.low:.3f} to {self.high:.3f}; population {self.true:.3f}{miss})"


@final
@dataclass(frozen=True, eq=False)
class Unseen:
    """Vectors and classes of pictures that no training has seen, and which are the first of their class."""

    x_ND: NDArray[np.float32]
    class_N: NDArray[np.object_]
    first_N: NDArray[np.bool_]

    def index_of(self, classes: NDArray[np.object_]) -> Vectors:
        """Return an index of the first picture of each of some classes."""
        at = np.flatnonzero(np.isin(self.class_N, classes) & self.first_N)
        return Vectors(at.astype(str).astype(object), self.class_N[at], self.x_ND[at])

    def right(self, vectors: Vectors) -> tuple[NDArray[np.bool_], NDArray[np.object_]]:
        """Return of each other picture of the index's classes whether the nearest is of its class, and its class."""
        asked = np.isin(self.class_N, vectors.class_N) & ~self.first_N
        nearest = [vectors.class_N[items[0]] for items, _ in nearest_items(vectors, self.x_ND[asked], 1)]
        return np.array(nearest, dtype=object) == self.class_N[asked], self.class_N[asked]

    def refused(
        self, vectors: Vectors, classes: NDArray[np.object_], found: Calibration
    ) -> tuple[NDArray[np.bool_], NDArray[np.object_]]:
        """Return of each picture of some classes whether the index says "unknown", and its class."""
        asked = np.isin(self.class_N, classes)
        distance = np.array([d[0] for _, d in nearest_items(vectors, self.x_ND[asked], 1)])
        return distance >= found.threshold_distance, self.class_N[asked]


def train_and_embed(seed: int, triplets: int) -> Unseen:
    """Train on some classes and return the embedded pictures of all others."""
    data = {"data.size": 32, "data.channels": 1, "data.max_classes": 1500, "data.test_fraction": 0.3}
    with tempfile.TemporaryDirectory() as place:
        settings = {**data, "out": f"{place}/run", "training.num_triplets": triplets, "seed": seed}
        run = mohs.train(override_config(None, [], settings))
        split = open_split_data(run.config.data, seed=run.config.seed)
        trained = np.unique(split.dataset.take(np.flatnonzero(~split.test_N)).labels)
        whole = mohs.open_dataset("glyphs", policy=run.embedder().policy)
        new = whole.take(np.flatnonzero(~np.isin(whole.labels, trained)))
        first_N = np.zeros(len(new), dtype=bool)
        first_N[np.unique(new.labels, return_index=True)[1]] = True
        return Unseen(run.embedder().embed(new.pictures), new.labels.astype(object), first_N)


def simulate(unseen: Unseen, seed: int) -> dict[str, Share]:
    """Add, calibrate and ask once; return what was measured beside the population's shares."""
    random = np.random.default_rng(seed)
    names = random.permutation(np.unique(unseen.class_N))
    added, held_out, unknown, rest = np.split(names, np.cumsum([ADDED, HELD_OUT, UNKNOWN]))
    vectors = unseen.index_of(added)
    learn = np.isin(unseen.class_N, held_out)
    found = calibrate(vectors, unseen.x_ND[learn], unseen.class_N[learn], [[]] * int(learn.sum()), seed=seed)
    right, right_class = unseen.right(vectors)
    refused, refused_class = unseen.refused(vectors, unknown, found)
    draws = [unseen.right(unseen.index_of(random.choice(names, ADDED, replace=False)))[0].mean() for _ in range(DRAWS)]
    true_refused = float(unseen.refused(vectors, rest, found)[0].mean())
    accepted_low, accepted_high = found.false_acceptance_interval
    return {
        "R@1 of 100 added classes": Share(
            float(right.mean()), *class_interval(right, right_class), float(np.mean(draws))
        ),
        "200 unknown classes told unknown": Share(
            float(refused.mean()), *class_interval(refused, refused_class), true_refused
        ),
        "what calibration expects": Share(
            1 - found.false_acceptance, 1 - accepted_high, 1 - accepted_low, true_refused
        ),
    }


def main() -> None:
    """Print a line for each seed, then means and how many intervals hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--triplets", type=int, default=4800)
    arguments = parser.parse_args()
    every: dict[str, list[Share]] = {}
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        shares = simulate(train_and_embed(seed, arguments.triplets), seed)
        for name, share in shares.items():
            every.setdefault(name, []).append(share)
        print(f"seed {seed}: " + "; ".join(f"{name} {share}" for name, share in shares.items()), flush=True)
    for name, found in every.items():
        measured, true = (np.array([getattr(share, key) for share in found]) for key in ("measured", "true"))
        print(
            f"{name}: mean {measured.mean():.3f} (of seeds {measured.min():.3f} to {measured.max():.3f}), population "
            f"{true.mean():.3f} ({true.min():.3f} to {true.max():.3f}); "
            f"{sum(share.holds for share in found)} of {len(found)} intervals hold"
        )


if __name__ == "__main__":
    main()
