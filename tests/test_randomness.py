"""Random numbers come from (seed, purpose, step) and from nothing else."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mohs.errors import InputError
from mohs.randomness import check_seed, derived_seed, generator, torch_seeded

SEEDS = st.integers(0, 2**63 - 1)
KEYS = st.tuples(SEEDS, st.sampled_from(["anchors", "positives", "split"]), st.integers(0, 10**6))


@given(SEEDS, st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**40))
def test_derived_seed_is_the_rule_of_its_docstring(seed: int, purpose: str, step: int) -> None:
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()[:8]
    expected = sum(byte << 8 * place for place, byte in enumerate(digest)) % 2**63
    assert derived_seed(seed, purpose, step) == expected
    assert check_seed(derived_seed(seed, purpose, step)) == expected


def test_derived_seeds_never_change_between_releases() -> None:
    """A run of last year is repeated by the same seed: these numbers are for ever."""
    assert derived_seed(0, "anchors") == 1544099198628825721
    assert generator(0, "anchors").integers(1000, size=4).tolist() == [545, 444, 200, 86]


@given(KEYS, KEYS)
def test_other_keys_give_other_streams(one: tuple[int, str, int], other: tuple[int, str, int]) -> None:
    same = np.array_equal(generator(*one).random(4), generator(*other).random(4))
    assert same == (one == other)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, "1", None, np.float64(1), np.int64(-1)])
def test_wrong_seeds(seed: object) -> None:
    with pytest.raises(InputError) as caught:
        check_seed(seed)  # type: ignore[arg-type]
    assert str(caught.value) == f"seed: {seed!r} is not an integer in [0, 2**63); use for example seed=0"


@pytest.mark.parametrize("seed", [0, 2**63 - 1, np.int64(5), np.uint8(7)])
def test_right_seeds(seed: int) -> None:
    assert type(check_seed(seed)) is int
    assert check_seed(seed) == seed


def test_global_state_of_numpy_is_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    generator(0, "anchors").random(100)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_torch_seeded_neither_reads_nor_changes_global_state() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with torch_seeded(1, "dropout", 2):
        one = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    with torch_seeded(1, "dropout", 2):
        assert torch.equal(torch.rand(3), one)
    with torch_seeded(1, "dropout", 3):
        assert not torch.equal(torch.rand(3), one)


def test_torch_seeded_gives_the_state_back_after_an_error() -> None:
    before = torch.get_rng_state()

    def draw_and_stop() -> None:
        with torch_seeded(1, "dropout"):
            torch.rand(3)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        draw_and_stop()
    assert torch.equal(torch.get_rng_state(), before)
