"""A margin of 1.6 against one of 0.2: there is no room for the large one; right triplets pull as hard as wrong ones.

    python examples/margin.py

Triplet loss on squared distances of unit vectors in 64 dimensions, negatives among the nearest 2% of the classes.
However well 480 classes are spread out, negatives that near cannot be 1.6 away: every triplet stays active to the end,
also those that are in order long since, and the loss cannot tell them apart. Both margins train the same network on the
same characters, two pictures each, and are tested on unseen ones; `mohs.diagnose` looks at the run folders.

What the margin costs is another question. With so few classes the doctor's warning is about room, not about a loss that
can be measured: R@1 with 1.6 and 0.2 was 0.329 and 0.258 for seed 0, 0.292 and 0.338 for seed 1, and the intervals of
precision among the most similar pairs overlap.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import mohs
from mohs.doctor.precision.top_curve import top_curve
from mohs.doctor.precision.top_pairs import find_top_pairs
from mohs.runs import train_on
from mohs.training.run_inputs import SplitData, open_split_data

RECALL = 0.1
NUM_CLASSES = 600


@final
@dataclass(frozen=True)
class Result:
    """R@1, precision of the most similar pairs (those that find a tenth of the matches), and what the doctor says."""

    recall_at_1: float
    precision: float
    active_share: float
    diagnosis: mohs.Diagnosis


def run(
    folder: Path,
    *,
    margin: float,
    num_classes: int = NUM_CLASSES,
    num_triplets: int = 2500,
    seed: int = 0,
    data: SplitData | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Train on four fifths of `num_classes` characters, test on the others, diagnose; `data` if they are drawn."""
    config = mohs.RunConfig(
        seed=seed,
        out=str(folder),
        data=glyphs(num_classes),
        model=mohs.ModelConfig(widths=(16, 32, 64), embedding_dim=64, batch_norm=False),
        hardness=mohs.HardnessConfig(curve="constant", cap=0.98, scale="rank"),
        loss=mohs.LossConfig(name="triplet", margin=margin),
        training=mohs.TrainingConfig(num_triplets=num_triplets, learning_rate=1e-3, device="cpu"),
    )
    data = data or open_split_data(config.data, seed=seed)
    trained = train_on(data, config)
    evaluation = mohs.evaluate(trained, data=data)
    recall = evaluation.measured["trained"].retrieval.recall[1]
    test_N = evaluation.test_N
    pairs = find_top_pairs(evaluation.embeddings_ND[test_N], evaluation.dataset.labels[test_N], recall=RECALL)
    point = top_curve(pairs).at(RECALL)
    assert point is not None
    steps = [event for event in trained.events() if event["event"] == "step"]
    last = [step["active_fraction"] for step in steps[-len(steps) // 4 :]]
    active = sum(last) / len(last)
    say(
        f"margin {margin:g}: R@1 {recall:.3f}, precision {point.precision:.3f} ({point.interval[0]:.3f} to "
        f"{point.interval[1]:.3f}) at recall {point.recall:.3f}, {active:.0%} of the triplets active at the end"
    )
    diagnosis = mohs.diagnose(trained, seed=seed)
    for finding in diagnosis.findings:
        say(f"   {finding.severity}: {finding.cause}\n      {finding.what}\n      Fix: {finding.fix}")
    return Result(recall, point.precision, active, diagnosis)


def glyphs(num_classes: int) -> mohs.DataConfig:
    """Return where the pictures come from: two drawings of each character."""
    return mohs.DataConfig(source="glyphs", size=32, channels=1, per_class=2, max_classes=num_classes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pictures = open_split_data(glyphs(NUM_CLASSES), seed=arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        for margin in (1.6, 0.2):
            run(Path(place) / f"margin-{margin:g}", margin=margin, seed=arguments.seed, data=pictures)
