import numpy as np
import pytest

from mohs.doctor.findings import Diagnosis, Finding
from mohs.evaluation.pair_calibration import ReliabilityBin
from mohs.evaluation.pair_scores import ScoreHistogram
from mohs.report.parts import (
    Band,
    Confusion,
    DrawnRun,
    EmbeddingMap,
    Example,
    Hit,
    Judgement,
    MinedTriplet,
    Pairs,
    Report,
    TextTable,
)


def picture(seed, size=40, channels=3):
    """A blurred blot, so that PNG sizes are those of pictures and not of noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    grey = np.full((size, size), 255.0)
    for _ in range(3):
        cy, cx = random.uniform(8, size - 8, size=2)
        grey -= 230 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / random.uniform(10, 60))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], channels, axis=2)


def events(seed, cycles=1, cap=0.85):
    random = np.random.default_rng(seed)
    num_triplets, num_segments = 24_000, 20
    found = []
    for segment in range(num_segments):
        first = segment * num_triplets // num_segments
        index = np.linspace(first, first + num_triplets // num_segments - 1, 200).astype(int)
        progress = (index / num_triplets * cycles) % 1
        asked = cap / (1 + np.exp(-3 * (4 * progress - 2)))
        achieved = np.clip(asked + random.normal(scale=0.02, size=200), 0, 1)
        found.append(
            {
                "event": "segment",
                "segment": segment,
                "triplets": first,
                "triplet_index": index.tolist(),
                "hardness_asked": asked.tolist(),
                "hardness_achieved": achieved.tolist(),
                "spread": 0.8,
                "effective_rank": 40.0,
                "embed_s": 1.5,
                "mine_s": 0.4,
                "train_s": 6.0,
            }
        )
        for step in range(40):
            done = (segment * 40 + step) / (num_segments * 40)
            found.append(
                {
                    "event": "step",
                    "step": segment * 40 + step,
                    "triplets": first + step * 30,
                    "loss": float(0.7 * np.exp(-2 * done) + random.normal(scale=0.02)),
                    "active_fraction": float(np.clip(0.9 - 0.5 * done + random.normal(scale=0.03), 0, 1)),
                    "hardness": None,
                    "spread": float(0.95 - 0.1 * cycles * done),
                    "learning_rate": 1e-3,
                    "pictures_per_s": float(900 + 30 * random.normal()),
                }
            )
    return found


def example(seed, matches):
    hits = [
        Hit(picture(seed + (0 if match else 10 * i)), f"class {seed + i}", 0.1 * (i + 1), match)
        for i, match in enumerate(matches)
    ]
    return Example(picture(seed), f"class {seed}", hits)


def pairs():
    recall = np.linspace(0, 1, 1000)
    rate = np.logspace(-5, 0, 900)
    precision = 1 - 0.5 * recall**2
    bins = np.linspace(0.05, 0.95, 10)
    return Pairs(
        note="All 2,000 pairs of one class and 100,000 of two, drawn evenly.",
        facts=TextTable(["measure", "value", "95% interval"], [["AP", "0.912", "0.900 to 0.924"]], "On pairs"),
        thresholds=TextTable(
            ["threshold", "similarity", "precision"], [["best accuracy", "0.61", "0.93"], ["EER", "0.52", "0.88"]], "By"
        ),
        precision_recall=[Band("run", recall, precision, precision - 0.03, np.minimum(precision + 0.03, 1))],
        roc=[Band("run", rate, rate**0.2, rate**0.25, rate**0.15)],
        histogram=ScoreHistogram(
            "distance", np.linspace(-1, 1, 41), np.full(40, 1 / 40), np.r_[np.full(20, 1 / 20), np.zeros(20)]
        ),
        reliability=[ReliabilityBin(p - 0.05, p + 0.05, 100, 0.1, p, p**1.1, (p**1.2, p)) for p in bins],
    )


def diagnosis():
    return Diagnosis(
        (
            Finding(
                "collapsed",
                "error",
                "The loss is 0.2, the margin, at a spread of 0.003.",
                "Every embedding is the same.",
                "Lower the rate.",
                {"training.learning_rate": 0.001},
                {"spread": 0.0031},
                1.0,
            ),
            Finding("hubs", "note", "One picture is near to 40 others.", "It is blank.", "Leave it out."),
        ),
        ("collapsed", "hubs", "leak"),
        {"calibration": "no pairs were given"},
    )


@pytest.fixture
def report():
    names = ("one sigmoid", "ten sigmoids", "in-batch InfoNCE")
    strategies = [DrawnRun(name, events(i, cycles=(1, 10, 3)[i])) for i, name in enumerate(names)]
    return Report(
        title="Glyphs: scheduled hardness against in-batch losses",
        summary=[
            ("data set", "glyphs"),
            ("classes", "5,200"),
            ("pictures", "38,800"),
            ("seed", "0"),
            ("time", "4 min 12 s"),
        ],
        verdicts=[
            Judgement("good", "No run collapsed: the spread stays above 0.8."),
            Judgement("note", "Recall@1 of the first two runs differs by less than its interval."),
            Judgement("bad", "ten sigmoids: 61% of the triplets were inactive at the end; ask for more hardness."),
        ],
        results=TextTable(
            ["run", "recall@1", "95% interval", "mAP", "triplet accuracy", "note"],
            [
                ["pixels", "0.112", "0.101 – 0.124", "0.081", "0.71", "baseline without a model"],
                ["one sigmoid", "0.351", "0.333 – 0.370", "0.290", "0.93", "as published"],
                ["ten sigmoids", "0.402", "0.384 – 0.421", "0.331", "0.94", "as published"],
                ["in-batch InfoNCE", "0.548", "0.529 – 0.566", "0.470", "0.97", "same number of pictures"],
            ],
            "Results on held-out data",
        ),
        highlight=3,
        strategies=strategies,
        examples_best=[example(1, [True] * 6), example(2, [True, True, False, True, False, False])],
        examples_worst=[example(3, [False] * 6)],
        mined=[
            MinedTriplet(picture(i), picture(i), picture(i + 9), "ɐ", "ɑ", 0.1 * i, 2400 * i, names[i % 2])
            for i in range(8)
        ],
        diagnosis=diagnosis(),
        pairs=pairs(),
        gallery=[Band("run", np.array([10.0, 100, 1000]), np.array([0.9, 0.7, 0.5]))],
        confusions=[Confusion("ɐ", "a", 2, 2, picture(50), picture(51))],
        embedding_map=EmbeddingMap(
            "t-SNE of 30 pictures.",
            np.random.default_rng(0).normal(size=(30, 2)),
            [f"class {i // 2}" for i in range(30)],
            [picture(i) for i in range(30)],
            [i % 3 > 0 for i in range(30)],
        ),
        command="mohs demo --seed 0 --output runs/demo",
        versions={"mohs": "0.1.0", "torch": "2.9.0", "python": "3.11.9"},
    )
