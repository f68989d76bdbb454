"""Training on the hardest negatives collapses: every picture ends at one point, and the loss sits at the margin.

    python examples/hardest_collapse.py

Each anchor gets the nearest negative of the whole training set, from the first step on; the network has no batch norm.
At the start nearly every such negative is nearer than the positive, and the fastest way to a lower loss is to shrink
all distances: at one point the loss is the margin, and no gradient leads away. `mohs.diagnose` looks at the run folder.
For comparison: the same network with the guard and the closed loop of Mohs, which raises hardness only as far as half
of the triplets have a loss.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import mohs
from mohs.runs import train_on
from mohs.settings.config import GuardConfig
from mohs.training.run_inputs import SplitData, open_split_data

MARGIN = 0.2
NUM_CLASSES = 400


@final
@dataclass(frozen=True)
class Result:
    """R@1 of unseen characters, before and after; the spread (0: one point) and loss at the end; the diagnosis."""

    untrained: float
    recall_at_1: float
    spread: float
    loss: float
    diagnosis: mohs.Diagnosis


def run(
    folder: Path,
    *,
    negatives: Literal["hardest", "closed loop"],
    num_classes: int = NUM_CLASSES,
    num_triplets: int = 2400,
    learning_rate: float = 8e-3,
    seed: int = 0,
    data: SplitData | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Train on four fifths of `num_classes` characters, test on the others, diagnose; `data`, if they are drawn."""
    hardest = negatives == "hardest"
    config = mohs.RunConfig(
        seed=seed,
        out=str(folder),
        data=glyphs(num_classes),
        model=mohs.ModelConfig(widths=(16, 32, 64), batch_norm=False),
        hardness=mohs.HardnessConfig(curve="constant" if hardest else "closed-loop", cap=1.0),
        loss=mohs.LossConfig(name="triplet", margin=MARGIN),
        training=mohs.TrainingConfig(num_triplets=num_triplets, learning_rate=learning_rate, device="cpu"),
        guard=GuardConfig(enabled=not hardest),
    )
    data = data or open_split_data(config.data, seed=seed)
    trained = train_on(data, config)
    measured = mohs.evaluate(trained, data=data).measured
    untrained, recall = (measured[name].retrieval.recall[1] for name in ("untrained", "trained"))
    steps = [event for event in trained.events() if event["event"] == "step"]
    loss = sum(step["loss"] for step in steps[-10:]) / 10
    spread = measured["trained"].spread.std_sqrt_dim
    say(f"{negatives}: R@1 {untrained:.3f} untrained, {recall:.3f} trained; spread {spread:.4f}, loss {loss:.4f}")
    diagnosis = mohs.diagnose(trained, seed=seed)
    for finding in diagnosis.findings:
        say(f"   {finding.severity}: {finding.cause}\n      {finding.what}\n      Fix: {finding.fix}")
    return Result(untrained, recall, spread, loss, diagnosis)


def glyphs(num_classes: int) -> mohs.DataConfig:
    """Return where the pictures come from: two drawings of each character."""
    return mohs.DataConfig(source="glyphs", size=32, channels=1, per_class=2, max_classes=num_classes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pictures = open_split_data(glyphs(NUM_CLASSES), seed=arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        run(Path(place) / "hardest", negatives="hardest", seed=arguments.seed, data=pictures)
        run(Path(place) / "closed-loop", negatives="closed loop", seed=arguments.seed, data=pictures)
