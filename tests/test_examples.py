"""The programs in examples/ run, small, and do what they say."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("torch_as_it_was")


def test_plan_in_another_loop_learns_on_just_the_triplets_of_its_plans(monkeypatch, load_example):
    example = load_example("plan_in_another_loop")
    read: list[int] = []
    seen: list[np.ndarray] = []
    read_item, compute = example.Drawings.__getitem__, example.TripletMarginLoss.compute_loss

    def note_item(self, index):
        read.append(index)
        return read_item(self, index)

    def note_triplets(self, embeddings, labels, indices_tuple, *others):
        items = np.array(read[-len(embeddings) :])
        seen.append(np.stack([items[part.numpy()] for part in indices_tuple], axis=1))
        return compute(self, embeddings, labels, indices_tuple, *others)

    monkeypatch.setattr(example.Drawings, "__getitem__", note_item)
    monkeypatch.setattr(example.TripletMarginLoss, "compute_loss", note_triplets)
    lines: list[str] = []
    result = example.run(num_classes=100, num_segments=2, triplets_per_segment=480, say=lines.append)

    planned = [np.stack([plan.anchor, plan.positive, plan.negative], axis=1) for plan in result.plans]
    assert [len(plan) for plan in planned] == [480, 480]
    assert np.array_equal(np.concatenate(seen), np.concatenate(planned))
    assert result.recall_after > result.recall_before + 0.03
    assert lines[0] == f"R@1 of 100 unseen classes before training: {result.recall_before:.3f}"
    assert lines[-1] == f"R@1 of 100 unseen classes after 960 triplets: {result.recall_after:.3f}"
