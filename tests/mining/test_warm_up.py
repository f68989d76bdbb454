"""After the warm-up nothing of exact mining is left to compile."""

import json
from pathlib import Path
from typing import Any

import pytest

from mohs.hardness.scales import SCALES

CODE = """
import sys, json, numpy as np
from mohs.mining import compile_kernels, mine, kernels, sweep_kernels
scale, half = sys.argv[1], sys.argv[2] == "half"
def compiled():
    values = [value for module in (kernels, sweep_kernels) for value in vars(module).values()]
    return sum(len(value.signatures) for value in values if hasattr(value, "signatures"))
at_first = compiled()
compile_kernels(scale, half=half)
before = compiled()
bank = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float16 if half else np.float32)
for anchors in (np.arange(3000), np.arange(50)):
    mine(bank, np.arange(3000) // 2, anchors_T=anchors, hardness_T=0.7, scale=scale,
         margin=0.5 if scale == "margin" else None)
print(json.dumps([at_first, before, compiled()]))
"""


@pytest.mark.parametrize("kind", ["float32", "half"])
@pytest.mark.parametrize("scale", SCALES)
def test_a_warm_scale_compiles_nothing_more(scale: str, kind: str, tmp_path: Path, fork_server: Any) -> None:
    (tmp_path / "script.py").write_text(CODE)
    process = fork_server.begin(["script.py", scale, kind], tmp_path, {})
    told, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    at_first, before, after = json.loads(told)
    assert at_first == 0 < before == after
