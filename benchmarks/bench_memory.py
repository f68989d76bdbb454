"""Whether a bank of the whole training set as extra negatives pays (`[memory]`).

The built-in set, two pictures of each class, 1,200 classes to train on and 2,079 that are never seen; the default
settings with and without the bank, the same number of pictures shown. R@1 on unseen and on seen classes.

    python benchmarks/bench_memory.py                          every variant, seeds 0 and 1
    python benchmarks/bench_memory.py --seeds 0 --only off bank
"""

import argparse
import time
from collections.abc import Mapping

import numpy as np

from mohs.data.images import ImagePolicy
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.model.embedder import Embedder
from mohs.settings.config import DataConfig, MemoryConfig, RunConfig, TrainingConfig
from mohs.training.loop import fit
from mohs.training.run_inputs import open_split_data

NUM_CLASSES, ALL = 1200, 10**9
VARIANTS: Mapping[str, MemoryConfig] = {
    "off": MemoryConfig(),
    "bank": MemoryConfig(num_negatives=256),
    "bank from 0.3": MemoryConfig(num_negatives=256, from_progress=0.3),
    "bank, all items": MemoryConfig(num_negatives=ALL),
    "all items, no warm-up, no momentum": MemoryConfig(num_negatives=ALL, from_progress=0.0, momentum=0.0),
}


def main() -> None:
    """Run the variants and print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--rates", type=float, nargs="+", default=[4e-3])
    parser.add_argument("--pictures", type=int, default=30_000)
    options = parser.parse_args()
    policy = ImagePolicy(32, 1)
    for seed in options.seeds:
        data = DataConfig(size=32, channels=1, per_class=2, test_fraction=0.4)
        split = open_split_data(data, seed=seed)
        seen = split.dataset.take(np.flatnonzero(split.train_N))
        seen = seen.take(np.flatnonzero(seen.labels_id < NUM_CLASSES))
        unseen = split.dataset.take(np.flatnonzero(split.test_N))
        for rate in options.rates:
            for name in options.only:
                config = RunConfig(
                    seed=seed,
                    data=data,
                    training=TrainingConfig(
                        num_triplets=options.pictures // 2, learning_rate=rate, optimizer="adamw", device="cpu"
                    ),
                    memory=VARIANTS[name],
                )
                embedder = Embedder.create(config.network, policy, seed=seed)
                began = time.process_time()
                fit(embedder, seen, config)
                took_s = time.process_time() - began
                recalls = [
                    evaluate_all_against_all(embedder.embed(part.pictures), part.labels).recall[1]
                    for part in (unseen, seen)
                ]
                print(
                    f"seed {seed}  rate {rate:g}  {name:35s}  R@1 unseen {recalls[0]:.4f}  seen {recalls[1]:.4f}  "
                    f"CPU {took_s:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
