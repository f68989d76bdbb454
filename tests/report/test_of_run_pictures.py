import numpy as np

from mohs.data.dataset import Dataset
from mohs.data.table import Table
from mohs.evaluation.summary import measure
from mohs.report.of_run_pictures import confusions, embedding_map, find
from mohs.runs import Evaluation


def evaluated(x, labels, test=None):
    """An evaluation of 4 × 4 pictures whose grey value is their number."""
    labels = np.array(labels, dtype=str)
    num_items = len(labels)
    x_ND = np.asarray(x, dtype=np.float32).reshape(num_items, -1)
    test_N = np.ones(num_items, dtype=bool) if test is None else np.array(test)
    table = Table(
        tuple(f"{i}.png" for i in range(num_items)), labels, np.full(num_items, "sample"), np.full(num_items, "")
    )
    pictures = (np.arange(num_items) % 256).astype(np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    measured = measure(x_ND, labels, table.roles, test_N=None if test is None else test_N)
    return Evaluation({"trained": measured}, Dataset(table, pictures), test_N, x_ND, 0.0, 0.0, 0)


def test_confusions_are_counted_by_share_and_shown_once():
    # a and b lie among each other; one c is near a, the other near d; d is fine.
    x = [0.0, 1.0, 0.1, 0.9, 1.2, 15.0, 20.0, 20.1]
    found = confusions(evaluation := evaluated(x, list("aabbccdd")), find(evaluation))
    pairs = [(one.label, one.other_label, one.num_wrong, one.num_queries) for one in found]
    assert pairs == [("a", "b", 2, 2), ("c", "a", 1, 2), ("c", "d", 1, 2)]
    # The pair to see is the nearest one.
    assert (found[0].picture[0, 0, 0], found[0].other_picture[0, 0, 0]) == (0, 2)


def test_nothing_is_confused_in_a_perfect_result():
    evaluation = evaluated([0.0, 0.1, 5.0, 5.1], list("aabb"))
    assert confusions(evaluation, find(evaluation)) == []


def test_against_a_gallery_the_nearest_is_of_the_gallery():
    # Queries 0 and 1 are nearest to each other, but only 2 and 3 can be found.
    evaluation = evaluated([0.0, 0.1, 0.2, 5.0], list("abba"), [True, True, False, False])
    found = find(evaluation)
    assert found.items_Qk[:, 0].tolist() == [2, 2]
    assert [(one.label, one.other_label) for one in confusions(evaluation, found)] == [("a", "b")]


def test_the_map_keeps_classes_together_and_near_things_near():
    random = np.random.default_rng(0)
    centre_CD = random.normal(size=(20, 8))
    labels = np.repeat([f"c{i:02d}" for i in range(20)], 3)
    x = np.repeat(centre_CD, 3, axis=0) + 0.01 * random.normal(size=(60, 8))
    shown = embedding_map(evaluated(x, labels), seed=0)
    assert len(shown.labels) == len(shown.pictures) == len(shown.is_hit) == 60
    assert all(shown.is_hit)
    distance = np.linalg.norm(shown.xy_P2[:, None] - shown.xy_P2[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert np.mean(np.array(shown.labels)[distance.argmin(1)] == shown.labels) > 0.9
    again = embedding_map(evaluated(x, labels), seed=0)
    np.testing.assert_array_equal(shown.xy_P2, again.xy_P2)


def test_a_large_test_is_shown_by_whole_classes():
    random = np.random.default_rng(0)
    labels = np.repeat([f"c{i:03d}" for i in range(200)], 3)
    shown = embedding_map(evaluated(random.normal(size=(600, 4)), labels), seed=1)
    assert len(shown.labels) == 300
    assert set(np.unique(shown.labels, return_counts=True)[1]) == {3}


def test_too_few_pictures_make_no_map():
    assert embedding_map(evaluated([0.0, 0.1, 5.0, 5.1], list("aabb")), seed=0) is None
