"""After the warm-up nothing of exact mining is left to compile."""

import json
import subprocess
import sys

import pytest

from mohs.hardness.scales import SCALES

CODE = """
import sys, json, numpy as np
from mohs.mining import compile_kernels, mine, kernels, sweep_kernels
scale, half = sys.argv[1], sys.argv[2] == "half"
compile_kernels(scale, half=half)
def compiled():
    values = [value for module in (kernels, sweep_kernels) for value in vars(module).values()]
    return sum(len(value.signatures) for value in values if hasattr(value, "signatures"))
before = compiled()
bank = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float16 if half else np.float32)
for anchors in (np.arange(3000), np.arange(50)):
    mine(bank, np.arange(3000) // 2, anchors_T=anchors, hardness_T=0.7, scale=scale,
         margin=0.5 if scale == "margin" else None)
print(json.dumps([before, compiled()]))
"""


@pytest.mark.parametrize("kind", ["float32", "half"])
@pytest.mark.parametrize("scale", SCALES)
def test_a_warm_scale_compiles_nothing_more(scale, kind):
    done = subprocess.run([sys.executable, "-c", CODE, scale, kind], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert before == after > 0
