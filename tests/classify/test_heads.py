import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from mohs.classify.heads import LinearHead, LinearTraining, ReferenceHead, fit_linear
from mohs.errors import InputError, TrainingError

TRAINING = LinearTraining(dropout=0.5, num_epochs=30, learning_rate=0.05, weight_decay=0.01, balanced=False)


def blobs(num_classes=4, per_class=10, dim=6, *, seed=0, spread=0.3):
    random = np.random.default_rng(seed)
    class_N = np.repeat(np.arange(num_classes), per_class)
    centres = np.random.default_rng(99).normal(size=(num_classes, dim))
    return centres[class_N] + spread * random.normal(size=(len(class_N), dim)), class_N


def oracle_scores(x_ND, references_MD, class_M, k):
    """Scores and similarity of the best class, one pair of vectors after another."""
    num_classes = class_M.max() + 1
    scores = np.empty((len(x_ND), num_classes))
    best_similarity = np.empty(len(x_ND))
    for n, x in enumerate(x_ND):
        s = [float(x @ r / np.linalg.norm(x) / np.linalg.norm(r)) for r in references_MD]
        nearest = sorted(range(len(s)), key=lambda m: (-s[m], m))[:k] if k else []
        for c in range(num_classes):
            votes = sum(np.exp(s[m] / 0.07) for m in nearest if class_M[m] == c)
            largest = max(s[m] for m in range(len(s)) if class_M[m] == c)
            scores[n, c] = 0.07 * np.log(votes) if votes else largest
        best = int(scores[n].argmax())
        best_similarity[n] = max(s[m] for m in range(len(s)) if class_M[m] == best)
    return scores, best_similarity


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([None, 1, 3, 7, 50]), num_classes=st.integers(2, 6))
def test_references_score_as_the_oracle_says(seed, k, num_classes):
    random = np.random.default_rng(seed)
    class_M = np.concatenate([np.arange(num_classes), random.integers(num_classes, size=9)])
    references, x = random.normal(size=(len(class_M), 5)), random.normal(size=(8, 5))
    found = ReferenceHead.fit(references, class_M, k).score(x)
    order = np.argsort(class_M, kind="stable")
    scores, similarity = oracle_scores(x, references[order], class_M[order], k)
    assert found.scores_NC == pytest.approx(scores, abs=1e-5)
    assert found.similarity_N == pytest.approx(similarity, abs=1e-6)


def test_a_class_with_a_vote_is_above_every_class_without():
    x, class_N = blobs(spread=2.0)
    voted = ReferenceHead.fit(x, class_N, 3).score(x[:, ::-1])
    nearest = ReferenceHead.fit(x, class_N).score(x[:, ::-1])
    # A vote never lowers a score, and the nearest reference always votes.
    assert (voted.scores_NC >= nearest.scores_NC - 1e-6).all()
    assert (voted.scores_NC.max(1) >= nearest.scores_NC.max(1) - 1e-6).all()
    assert (voted.scores_NC.argmax(1) != nearest.scores_NC.argmax(1)).any()


def test_several_neighbours_outvote_one_that_is_little_nearer():
    angle = np.deg2rad([0, 8, 9, 10])
    references, class_M = np.stack([np.cos(angle), np.sin(angle)], 1), np.array([0, 1, 1, 1])
    x = np.array([[np.cos(np.deg2rad(3.9)), np.sin(np.deg2rad(3.9))]])
    assert ReferenceHead.fit(references, class_M, 1).score(x).scores_NC.argmax() == 0
    assert ReferenceHead.fit(references, class_M, 4).score(x).scores_NC.argmax() == 1


def test_equal_references_vote_in_their_order():
    references = np.array([[1.0, 0.0]] * 4)
    scores = ReferenceHead.fit(references, np.array([1, 0, 1, 0]), 1).score(np.array([[1.0, 0.0]])).scores_NC
    assert scores[0].tolist() == [1.0, 1.0]  # class 0 by its vote, class 1 by its similarity
    with pytest.raises(InputError, match="row 0 has norm 0"):
        ReferenceHead.fit(references, np.array([1, 0, 1, 0])).score(np.zeros((1, 2)))


def test_linear_head_learns_and_shuffled_labels_teach_nothing():
    x, class_N = blobs()
    test, test_class = blobs(seed=1)
    head = fit_linear(x, class_N, 4, TRAINING, seed=0)
    right = (head.score(test).scores_NC.argmax(1) == test_class).mean()
    shuffled = fit_linear(x, np.random.default_rng(0).permutation(class_N), 4, TRAINING, seed=0)
    assert right > 0.95 > 0.7 > (shuffled.score(test).scores_NC.argmax(1) == test_class).mean()
    assert head.score(x).similarity_N is None


def test_linear_head_is_decided_by_its_seed():
    x, class_N = blobs()
    state = torch.random.get_rng_state()
    first, again, other = (fit_linear(x, class_N, 4, TRAINING, seed=seed) for seed in (0, 0, 1))
    assert (first.weight_CD == again.weight_CD).all()
    assert (first.bias_C == again.bias_C).all()
    assert (first.weight_CD != other.weight_CD).any()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("factor", "shift"), [(100.0, 0.0), (0.01, 3.0)])
def test_linear_head_does_not_depend_on_scale_and_place_of_the_embeddings(factor, shift):
    x, class_N = blobs()
    expected = fit_linear(x, class_N, 4, TRAINING, seed=0).score(x).scores_NC
    moved = fit_linear(factor * x + shift, class_N, 4, TRAINING, seed=0).score(factor * x + shift).scores_NC
    assert moved == pytest.approx(expected, abs=2e-2)


def test_dropout_keeps_the_weights_small():
    x, class_N = blobs(spread=1.0)
    few, many = (
        fit_linear(x, class_N, 4, LinearTraining(dropout, 100, 0.05, 0.0, False), seed=0) for dropout in (0.0, 0.8)
    )
    assert np.square(many.weight_CD).sum() < np.square(few.weight_CD).sum()


def test_balanced_classes_give_the_rare_one_a_chance():
    random = np.random.default_rng(0)
    class_N = np.repeat([0, 1], [300, 6])
    x = random.normal(size=(306, 3)) + class_N[:, None]
    plain, balanced = (
        fit_linear(x, class_N, 2, LinearTraining(0.0, 60, 0.05, 0.01, balanced), seed=0).score(x).scores_NC.argmax(1)
        for balanced in (False, True)
    )
    assert (plain == 1).sum() < 10 < (balanced == 1).sum()
    assert (balanced[class_N == 1] == 1).mean() > 0.6


def test_equal_embeddings_and_a_rate_that_is_too_high():
    same = np.ones((6, 3))
    assert np.isfinite(fit_linear(same, np.arange(6) % 2, 2, TRAINING, seed=0).score(same).scores_NC).all()
    x, class_N = blobs()
    with pytest.raises(
        TrainingError, match=r"^classifier: the loss is .* in epoch \d+ of 30; the learning rate 1e\+30 "
    ):
        fit_linear(x, class_N, 4, LinearTraining(0.5, 30, 1e30, 0.01, False), seed=0)


def test_linear_head_is_w_x_plus_b():
    head = LinearHead(np.float32([[1, 2], [3, 4], [5, 6]]), np.float32([0.5, 0.0, -1.0]))
    assert head.score(np.array([[1.0, -1.0]])).scores_NC.tolist() == [[-0.5, -1.0, -2.0]]
