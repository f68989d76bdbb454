"""Banks of half precision and memory maps give the plan of the same numbers as a float32 array."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import oracle_negatives

from mohs.artefacts import fingerprint
from mohs.distances import exact_distance
from mohs.errors import InputError
from mohs.hardness.scales import SCALES
from mohs.mining import kernels, mine
from mohs.mining.stored import stored_bank

FORMATS = ("numpy float16", "torch float16", "torch bfloat16")
KINDS = ("plain", "grid", "duplicates", "one point", "collapsed", "subnormal", "outlier")


def halves(bank, kind):
    """The bank in half precision, and what that is as float32."""
    if kind == "numpy float16":
        stored = bank.astype(np.float16)
        return stored, stored.astype(np.float32)
    stored = torch.from_numpy(bank).to(torch.float16 if kind == "torch float16" else torch.bfloat16)
    return stored, stored.float().numpy()


def mapped(array, folder, name="bank.npy"):
    np.save(folder / name, array)
    return np.load(folder / name, mmap_mode="r")


def assert_same(plan, other, same_bank=False):
    if not same_bank:
        assert plan.header["bank_fingerprint"] != other.header["bank_fingerprint"]
        plan, other = (p.with_header({"bank_fingerprint": ""}) for p in (plan, other))
    assert plan.to_arrow().equals(other.to_arrow(), check_metadata=True)


def random_bank(rng, num_items, dim, kind):
    bank = rng.normal(size=(num_items, dim))
    if kind == "grid":
        bank = np.rint(bank)
    elif kind == "duplicates":
        bank = bank[rng.integers(0, max(1, num_items // 4), num_items)]
    elif kind == "one point":
        bank[:] = bank[0]
    elif kind == "collapsed":  # a few units in the last place of either format
        bank = 1.0 + bank * 4e-3
    elif kind == "subnormal":  # of float16
        bank *= 1e-6
    elif kind == "outlier":
        bank[rng.integers(num_items)] *= 1e4
    return bank.astype(np.float32)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_items = draw(st.integers(3, 200))
    bank = random_bank(rng, num_items, draw(st.integers(1, 12)), draw(st.sampled_from(KINDS)))
    labels = rng.integers(0, draw(st.sampled_from([3, max(3, num_items // 2)])), num_items)
    labels[:2] = (0, 1)
    # All items as anchors are swept; few go through blocks.
    anchors = rng.permutation(num_items) if draw(st.booleans()) else rng.integers(0, num_items, draw(st.integers(1, 9)))
    hardness = rng.random(len(anchors))
    hardness = np.where(rng.random(len(anchors)) < 0.3, np.rint(hardness), hardness)
    candidates = None
    if draw(st.integers(0, 3)) == 0:
        candidates = rng.random(num_items) < 0.5
        candidates[:2] = True
    return bank, labels, anchors, hardness, candidates


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.sampled_from(SCALES), st.sampled_from(FORMATS))
def test_a_half_bank_is_mined_like_its_numbers(case, scale, kind):
    bank, labels, anchors, hardness, candidates = case
    stored, numbers = halves(bank, kind)
    margin = float(np.median(np.abs(numbers))) + 1e-6
    options = {"margin": margin, "squared": len(anchors) % 2 == 0} if scale == "margin" else {}
    plan, expected = (
        mine(b, labels, anchors_T=anchors, hardness_T=hardness, scale=scale, candidates=candidates, **options)
        for b in (stored, numbers)
    )
    assert_same(plan, expected)
    negatives, _ = oracle_negatives(
        numbers, labels, anchors_T=anchors, positives_T=plan.positive, hardness_T=hardness, scale=scale,
        candidates_N=candidates, **options,
    )  # fmt: skip
    np.testing.assert_array_equal(plan.negative, negatives)


@pytest.mark.parametrize("source", [*FORMATS, "map of float32", "map of float16"])
@pytest.mark.parametrize("num_anchors", [1500, 300])
@pytest.mark.parametrize("scale", SCALES)
def test_so_is_one_of_several_tiles_whatever_the_threads(scale, num_anchors, source, monkeypatch, tmp_path):
    rng = np.random.default_rng(3)
    bank = np.rint(rng.normal(size=(1500, 6)) * 4).astype(np.float32) / 4  # many ties
    bank[100:150] = bank[1200:1250]
    if source in FORMATS:
        stored, numbers = halves(bank, source)
    else:
        numbers, stored = bank, mapped(bank.astype(source.removeprefix("map of ")), tmp_path)
    options = {"labels_N": np.arange(1500) // 2, "anchors_T": rng.permutation(1500)[:num_anchors], "scale": scale}
    options |= {"hardness_T": rng.random(num_anchors), "margin": 0.5 if scale == "margin" else None}
    expected = mine(numbers, **options)
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert_same(mine(stored, **options), expected, same_bank=source == "map of float32")


@pytest.mark.parametrize("source", [*FORMATS, "map of float32"])
@pytest.mark.parametrize("scale", ["rank", "log-rank"])
def test_sampling_gathers_the_same_numbers(scale, source, tmp_path):
    rng = np.random.default_rng(4)
    bank = rng.normal(size=(6000, 12)).astype(np.float32)
    stored, numbers = halves(bank, source) if source in FORMATS else (mapped(bank, tmp_path), bank)
    options = {"labels_N": np.arange(6000) // 2, "anchors_T": rng.permutation(6000)[:1500], "scale": scale}
    options |= {"hardness_T": rng.random(1500), "method": "sampled", "num_sampled": 512}
    plan = mine(stored, **options)
    assert plan.header["method"] == "sampled"
    assert 0 < plan.header["num_anchors_exact"] < 1500
    assert_same(plan, mine(numbers, **options), same_bank=source == "map of float32")


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("scale", SCALES)
def test_harder_is_closer(scale, kind):
    rng = np.random.default_rng(0)
    bank = rng.normal(size=(1200, 8)).astype(np.float32)
    stored, numbers = halves(bank / np.linalg.norm(bank, axis=1, keepdims=True), kind)
    anchors = np.arange(0, 1200, 4)
    options = {"margin": 1.0, "positives_T": anchors} if scale == "margin" else {}
    easy, middle, hard = (
        mine(stored, np.arange(1200) // 2, anchors_T=anchors, hardness_T=h, scale=scale, **options)
        for h in (0.0, 0.5, 1.0)
    )
    assert (easy.anchor_negative_distance >= middle.anchor_negative_distance).all()
    assert (middle.anchor_negative_distance >= hard.anchor_negative_distance).all()
    assert easy.anchor_negative_distance.mean() > hard.anchor_negative_distance.mean() + 0.3
    true = exact_distance(numbers[hard.anchor], numbers[hard.negative])
    np.testing.assert_array_equal(hard.anchor_negative_distance, true)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_every_number_is_read_as_it_is(kind):
    bits = np.arange(2**16, dtype=np.uint16).view(np.int16)
    tensor = torch.from_numpy(bits).view(getattr(torch, kind))
    tensor = tensor[tensor.float().abs() <= 1e18][:, None]  # all that a bank may hold
    expected = tensor.float().numpy()
    bank = stored_bank(tensor)
    np.testing.assert_array_equal(bank[:].view(np.uint32), expected.view(np.uint32))  # −0 too
    rows = np.empty((len(bank), 1), dtype=np.float32)
    kernels.centred_rows(bank.readable, np.arange(len(bank)), np.zeros(1, np.float32), np.float32(1), rows)
    np.testing.assert_array_equal(rows.view(np.uint32), expected.view(np.uint32))
    if kind == "float16":
        assert stored_bank(tensor.numpy())[[5]] == expected[[5]]
        assert fingerprint(stored_bank(tensor).values_ND) == fingerprint(tensor.numpy())


def test_what_can_be_read_in_place_is_not_copied(tmp_path):
    half = np.ones((4, 3), dtype=np.float16)
    brain = torch.ones((4, 3), dtype=torch.bfloat16)
    single = np.ones((4, 3), dtype=np.float32)
    assert stored_bank(half).values_ND is half
    assert stored_bank(brain).values_ND.__array_interface__["data"][0] == brain.data_ptr()
    assert stored_bank(single).values_ND is single
    memory_map = mapped(single, tmp_path)
    for given_map in (memory_map, memory_map[1:], np.asarray(memory_map), np.frombuffer(memory_map.data, np.float32)):
        rows = given_map.reshape(-1, 3)
        bank = stored_bank(rows)
        assert bank.is_mapped
        assert np.shares_memory(bank.values_ND, memory_map)
        assert bank.readable.flags.writeable
        assert bank.readable.__array_interface__["data"][0] == rows.__array_interface__["data"][0]
    assert not stored_bank(np.array(memory_map)).is_mapped
    assert not stored_bank(memory_map + np.float32(1)).is_mapped
    strided = stored_bank(half[:, ::2])
    assert strided.values_ND.dtype == np.float16
    assert strided.shape == (4, 2)


def test_read_only_arrays_are_mined_without_compiling_again():
    bank = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    options = {"labels_N": np.arange(50), "anchors_T": [0, 1], "hardness_T": 0.5}
    expected = mine(bank, **options)
    known = len(kernels.select_range.signatures)
    bank.flags.writeable = False
    assert_same(mine(bank, **options), expected, same_bank=True)
    assert len(kernels.select_range.signatures) == known


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_rows_are_named(kind, value):
    array = np.zeros((9, 2), dtype=np.float32)
    array[6, 1] = value
    with pytest.raises(InputError) as caught:
        mine(halves(array, kind)[0], np.arange(9), anchors_T=[0], hardness_T=0.5)
    assert str(caught.value) == ("embeddings_ND: row 6 has NaN or Inf (1 row in all); leave it out or embed it again")


@pytest.mark.parametrize("bank", [np.float16([1.0]), np.zeros((0, 2), np.float16), torch.ones(()).bfloat16()])
def test_shapes_are_checked(bank):
    with pytest.raises(InputError) as caught:
        stored_bank(bank, name="x")
    shape = tuple(bank.shape)
    assert str(caught.value) == f"x: shape {shape} is not [N, D] with N >= 1 and D >= 1; give one row per item"


def test_bad_rows_of_a_memory_map_are_named(tmp_path):
    array = np.zeros((3000, 2), dtype=np.float32)
    array[[6, 2999]] = np.nan
    for number, dtype in enumerate((np.float32, np.float16)):
        with pytest.raises(InputError, match=r"rows 6, 2999 have NaN or Inf \(2 rows in all\)"):
            stored_bank(mapped(array.astype(dtype), tmp_path, f"{number}.npy"))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda m: m, "float64[6, 4] in C order"),
        (lambda m: m.astype(np.float32), None),
        (lambda m: m.view(np.float32)[:, ::2], "float32[6, 4] out of C order"),
        (lambda m: m.T, "float64[4, 6] out of C order"),
        (lambda m: m.view(">f4"), ">f4[6, 8] in C order"),
    ],
)
def test_a_memory_map_that_must_be_copied_is_refused(make, what, tmp_path):
    array = make(mapped(np.ones((6, 4)), tmp_path))
    if what is None:
        assert not stored_bank(array).is_mapped
        return
    with pytest.raises(InputError) as caught:
        mine(array, np.arange(len(array)), anchors_T=[0], hardness_T=0.5)
    assert str(caught.value) == (
        f"embeddings_ND: memory map of {what} cannot be read in place; write it block by block to "
        "numpy.lib.format.open_memmap(path, 'w+', 'float32', shape), or load it into memory"
    )
