"""The worked examples of CONTRIBUTING.md, applied to a copy of the package and used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIFF = re.compile(r"^## (?P<name>[^\n]*)\n\n(?:[^\n]+\n)+\n```diff\n(?P<diff>.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_FILES = 2

USED = """
import numpy as np
import torch

import mohs
from mohs.cli.train import flags
from mohs.doctor.log.stuck_values import LOSS_NAMES, LossFacts, stuck_values
from mohs.evaluation.retrieval import evaluate_all_against_all
from mohs.hardness.scales import achieved_by_rank, rank_of
from mohs.settings.config import HardnessConfig, LossConfig, override_config
from mohs.settings.effects import without_effect
from mohs.settings.reference import settings_page
from mohs.training.losses.build import build_loss

# A curve, by its name in the settings.
assert HardnessConfig(curve="square", cap=1.0).build()(np.array([0.5])).tolist() == [0.25]

# A loss, by its name.
loss = build_loss(LossConfig(name="square-triplet", margin=0.5))
near, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
assert float(loss(near, near, far, torch.tensor([0])).loss) == 0
assert abs(float(loss(near, far, near, torch.tensor([0])).loss) - (2**0.5 + 0.5) ** 2) < 1e-6
assert not LossConfig(name="square-triplet").in_batch
settings = ["loss.name=square-triplet", "loss.margin=0.5"]
assert without_effect(override_config(None, settings, {}), ["loss.margin"]) == []
# The doctor, the page of all settings and messages know it, and what it costs where nothing was learnt.
assert "square-triplet" in LOSS_NAMES
assert [stuck.value for stuck in stuck_values(LossFacts("square-triplet", margin=0.5))] == [0.25]
assert loss.collapsed_loss(8) == 0.25
assert "triplet, soft-triplet, square-triplet, selective-triplet" in settings_page(flags())
try:
    LossConfig(name="nonsense")
except ValueError as error:
    assert "square-triplet" in str(error)
else:
    raise AssertionError("a loss that there is not")

# A scale, by its name (that mining asks nothing but the record is a test of mining).
assert HardnessConfig(scale="square-rank").scale == "square-rank"
rank = rank_of("square-rank", np.array([0.0, 0.5, 1.0]), np.array([101, 101, 101]))
assert rank.tolist() == [100, 25, 0]
assert achieved_by_rank("square-rank", rank, np.array([101] * 3), np.zeros(3)).tolist() == [0.0, 0.5, 1.0]

# A metric, with its interval and what a guess has.
random = np.random.default_rng(0)
labels = np.repeat(np.arange(120), 3)
x = random.normal(size=(360, 3))
found = evaluate_all_against_all(x, labels)
assert 0 < found.chance["recall@R"] < 0.05
assert found.metrics["recall@1"] <= found.metrics["recall@R"]
assert "recall@R" in found.intervals and "recall@R" in found.macro.metrics

# A finding.
told = mohs.diagnose(embeddings=x + 5 * random.normal(size=(120, 3))[labels], labels=labels)
assert "few-dimensions" in [finding.cause for finding in told.findings], told
"""


def apply(diff: str, root: Path) -> list[str]:
    """Make the changes of a diff, each found by its lines alone, which must be there once; return the files."""
    files = []
    for part in re.split(r"^--- .*\n", diff, flags=re.MULTILINE)[1:]:
        name, *hunks = re.split(r"^@@\n", part, flags=re.MULTILINE)
        file = root / name.strip().removeprefix("+++ b/")
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        for hunk in hunks:
            lines = [line or " " for line in hunk.splitlines()]
            before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
            after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
            if file.exists():
                assert text.count(before) == 1, f"{name}: {before!r} is there {text.count(before)} times"
                text = text.replace(before, after)
            else:
                text = after
        file.write_text(text, encoding="utf-8")
        files.append(name)
    return files


def test_the_examples_work_and_touch_few_files(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    found = list(DIFF.finditer((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert len(found) == 7
    for example in found:
        files = apply(example["diff"], tmp_path)
        assert 1 <= len(files) <= MOST_FILES, (example["name"], files)
    places = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    work = tmp_path / "work"
    work.mkdir()
    used = subprocess.run(
        (sys.executable, "-c", USED), cwd=work, env=places, capture_output=True, text=True, check=False
    )
    assert used.returncode == 0, used.stderr
    # A flag, and its errors by its name.
    words = (sys.executable, "-m", "mohs", "train", "glyphs", "--temperature", "-1")
    bad = subprocess.run(words, cwd=work, env=places, capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert bad.stderr.startswith("mohs: --temperature: -1.0 is wrong"), bad.stderr
    # A command.
    (work / "table.csv").write_text("file,class\na.png,x\nb.png,y\n", encoding="utf-8")
    words = (sys.executable, "-m", "mohs", "count", "table.csv")
    done = subprocess.run(words, cwd=work, env=places, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "2 classes\n")
