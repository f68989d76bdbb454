import json

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.evaluation.pair_scores import pair_scores, score_histogram


def test_shares_of_each_kind_by_weight():
    scores = pair_scores([True, True, False, False], distance_P=[0.0, 1.9, 2.0, 1.0], weight_P=[1.0, 3.0, 1.0, 1.0])
    found = score_histogram(scores, num_bins=2)
    assert found.edges.tolist() == [0.0, 1.0, 2.0]
    assert found.positive.tolist() == [0.25, 0.75]
    assert found.negative.tolist() == [0.0, 1.0]
    assert json.loads(json.dumps(found.as_record()))["kind"] == "distance"


def test_many_scores_and_one_score():
    random = np.random.default_rng(0)
    same = random.random(1000) < 0.3
    found = score_histogram(pair_scores(same, similarity_P=random.random(1000)))
    assert len(found.positive) == len(found.negative) == 60
    assert (found.positive.sum(), found.negative.sum()) == pytest.approx((1, 1))
    tied = score_histogram(pair_scores([True, False], similarity_P=[1, 1]), num_bins=3)
    assert (tied.edges[0], tied.edges[-1], tied.positive.tolist()) == (0.5, 1.5, [0, 1, 0])
    with pytest.raises(InputError, match="num_bins: 0 is not a whole number of at least 1; use for example 60"):
        score_histogram(pair_scores([True, False], similarity_P=[1, 2]), num_bins=0)
