"""The benchmark of fine-tuning, on real photographs and weights where they are: a rate of 1e-2 does not pass unseen."""

import importlib.util
from pathlib import Path

import pytest

from mohs.training.run_inputs import open_split_data

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
spec = importlib.util.spec_from_file_location("bench_finetune", ROOT / "benchmarks" / "bench_finetune.py")
assert spec is not None
assert spec.loader is not None
bench_finetune = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench_finetune)


def test_the_guard_sees_what_a_rate_of_1e_2_does_to_pretrained_weights(tmp_path, capsys):
    archive, weights = (
        SHARED / "data" / "caltech30.zip",
        SHARED / "weights" / "tf_efficientnet_lite0_imagenet.safetensors",
    )
    for file in (archive, weights):
        if not file.is_file():
            pytest.skip(f"the real {file.name} is not in ../shared beside the project")
    halves = bench_finetune.write_halves(archive, tmp_path / "pictures")
    lines = halves.read_text().splitlines()
    halves.write_text("\n".join([lines[0], *lines[1::5]]) + "\n")  # every fifth: reading takes longer than training
    few = ["training.batch_triplets=16", "training.num_segments=2", "data.cache=" + str(tmp_path)]

    def caught(name: str) -> bool:
        config = bench_finetune.settings(name, halves, weights, size=64, triplets=240, seed=0, more=few)
        data = open_split_data(config.data, seed=0)
        return bool(bench_finetune.train_and_measure(name, data, config, tmp_path / name).caught)

    assert caught("1e-2")
    assert "guard at triplet" in capsys.readouterr().out
    assert not caught("photos")
