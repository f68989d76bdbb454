"""Pictures of a run: what is shown is there, whatever the guard cut short."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from mohs.data.dataset import Dataset
from mohs.data.table import Table
from mohs.plan import TripletPlan
from mohs.report.of_run_pictures import mined_triplets


def test_plans_that_the_guard_emptied_are_passed_over(tmp_path: Path) -> None:
    plan = TripletPlan.of([0, 2], [1, 3], [2, 0], achieved_hardness=[0.5, 1.0], header={"first_triplet": 10})
    (tmp_path / "plans").mkdir()
    for number, rows in enumerate((2, 0, 2, 0)):
        plan.take(slice(0, rows)).save(tmp_path / "plans" / f"segment-{number:03d}.parquet")
    labels = np.array(["a", "a", "b", "b"])
    table = Table(
        files=("1", "2", "3", "4"), labels=labels, roles=np.full(4, "sample"), splits=np.full(4, ""), root=Path(),
        source="four",
    )  # fmt: skip
    dataset = Dataset(table, np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1))
    shown = mined_triplets("default", cast(Any, SimpleNamespace(folder=tmp_path)), dataset)
    assert len(shown) >= 3
    assert {(each.label, each.negative_label) for each in shown} <= {("a", "b"), ("b", "a")}
    assert {each.triplet_index for each in shown} <= {10, 11}
