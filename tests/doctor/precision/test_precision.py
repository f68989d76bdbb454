import numpy as np
import pytest

from mohs.doctor.precision.attribution import CAUSES
from mohs.doctor.precision.evidence import TripletMargin
from mohs.doctor.precision.precision import AS_IT_IS, WITHOUT_ALL, diagnose_precision
from mohs.errors import InputError

NUM_CLASSES, PER_CLASS, DIM, SIZE = 60, 4, 32, 16


@pytest.fixture
def sound():
    """Embeddings of 60 classes of 4 that are well apart, their labels, and a different picture each."""
    random = np.random.default_rng(0)
    centre_CD = random.normal(size=(NUM_CLASSES, DIM))
    x_ND = np.repeat(centre_CD, PER_CLASS, axis=0) + 0.25 * random.normal(size=(NUM_CLASSES * PER_CLASS, DIM))
    x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
    labels_N = np.repeat(np.arange(NUM_CLASSES), PER_CLASS)
    blots = random.integers(0, 256, (len(labels_N), 4, 4, 1)).astype(np.uint8)
    return x_ND, labels_N, blots.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


def finding(result, cause):
    return next((each for each in result.diagnosis.findings if each.cause == cause), None)


def acted(result):
    return {fix.item: fix for fix in result.fixes if fix.suggestion != "look"}


def test_nothing_is_said_of_sound_embeddings(sound):
    x_ND, labels_N, pictures = sound
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=pictures, margin=TripletMargin(0.2), recall=0.5)
    assert result.diagnosis.findings == ()
    assert result.fixes == ()
    assert not result.curves[AS_IT_IS].dips
    assert set(result.diagnosis.checked) == {*CAUSES, "too-few-pairs", "unnormalised", "margin-too-large"}


def test_what_needs_pictures_is_not_checked_without_them(sound):
    x_ND, labels_N, _ = sound
    result = diagnose_precision(x_ND, labels_N)
    assert set(result.diagnosis.not_checked) == {
        "same-picture",
        "low-information",
        "duplicate-pictures",
        "near-duplicates",
        "margin-too-large",
    }


def test_a_copy_under_another_label_is_left_out_and_the_original_stays(sound):
    x_ND, labels_N, pictures = sound
    copies = np.arange(0, 40, 4)
    x_ND = np.concatenate([x_ND, x_ND[copies]])
    labels_N = np.concatenate([labels_N, labels_N[copies] + 20])
    pictures = np.concatenate([pictures, pictures[copies]])
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=pictures, recall=0.2)
    assert result.diagnosis.first.cause == "duplicate-pictures"
    assert result.diagnosis.first.severity == "error"
    fixes = acted(result)
    assert sorted(fixes) == list(range(240, 250))
    assert {fix.suggestion for fix in fixes.values()} == {"drop"}
    assert [fixes[240 + i].other for i in range(10)] == copies.tolist()
    assert result.curves[AS_IT_IS].dips
    assert result.curves[WITHOUT_ALL].precision_U.min() == 1.0


def test_classes_with_the_same_pictures_are_one(sound):
    x_ND, labels_N, pictures = sound
    labels_N = np.concatenate([labels_N, np.full(3, 99)])
    x_ND, pictures = np.concatenate([x_ND, x_ND[20:23]]), np.concatenate([pictures, pictures[20:23]])
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=pictures)
    (fix,) = result.fixes
    assert (fix.suggestion, fix.cause, result.classes_C[fix.to]) == ("merge classes", "duplicate-pictures", 5)
    assert labels_N[fix.item] == 99
    assert fix.num_pairs == finding(result, "duplicate-pictures").numbers["pairs"]


def test_a_changed_copy_is_looked_at(sound):
    x_ND, labels_N, pictures = sound
    x_ND, labels_N = np.concatenate([x_ND, x_ND[8:16] + 0.01]), np.concatenate([labels_N, np.arange(30, 38)])
    moved = np.roll(pictures[8:16], 1, axis=2)
    moved[:, :, 0] = moved[:, :, 1]  # a picture that moves to the right shows no new stripe of its other side
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=np.concatenate([pictures, moved]))
    assert result.diagnosis.first.cause == "near-duplicates"
    assert acted(result) == {}  # two products may differ in as little
    fixes = {fix.item: fix for fix in result.fixes}
    assert set(range(240, 248)) <= set(fixes)
    assert [(fixes[i].suggestion, fixes[i].to, fixes[i].other) for i in (240, 247)] == [("look", 2, 8), ("look", 3, 15)]


def test_a_wrong_label_is_found_without_pictures_and_the_right_one_is_named(sound):
    x_ND, labels_N, _ = sound
    wrong = np.arange(3, 123, 12)
    given_N = labels_N.copy()
    given_N[wrong] = (labels_N[wrong] + 31) % NUM_CLASSES
    result = diagnose_precision(x_ND, given_N, recall=0.5)
    assert result.diagnosis.first.cause == "label-errors"
    assert acted(result) == {}  # similarities alone change no label
    fixes = {fix.item: fix for fix in result.fixes}
    assert sorted(fixes) == wrong.tolist()
    assert [fixes[i].to for i in wrong.tolist()] == labels_N[wrong].tolist()
    assert result.attribution.doubt.false_share <= 0.2


@pytest.mark.parametrize("per_class", [2, 3, 5, 12])
@pytest.mark.parametrize("noise", [0.6, 1.0, 1.5])
def test_right_labels_stay_whatever_is_called_wrong(per_class, noise):
    """Classes that overlap, with some pictures far from their own: every call is mistaken, and none is acted on."""
    calls = 0
    for seed in range(4):
        random = np.random.default_rng(seed)
        labels_N = np.repeat(np.arange(80), per_class)
        x_ND = np.repeat(random.normal(size=(80, 24)), per_class, axis=0)
        x_ND += noise * random.standard_t(3, size=x_ND.shape)
        result = diagnose_precision(x_ND, labels_N, recall=0.5)
        assert acted(result) == {}
        calls += int(result.attribution.wrong_N.sum())
    if noise == 1.0 and per_class == 5:
        assert calls > 0  # else this shows nothing


def test_a_class_is_not_emptied(sound):
    x_ND, labels_N, pictures = sound
    # Two classes of copies of pictures of others: one has a picture of its own, too.
    copies = np.array([0, 4, 8])
    x_ND = np.concatenate([x_ND, x_ND[copies], -x_ND[[0]]])
    pictures = np.concatenate([pictures, pictures[copies], 255 - pictures[[0]]])
    labels_N = np.concatenate([labels_N, [70, 71, 71, 71]])
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=pictures, recall=0.5)
    kept = np.ones(len(labels_N), dtype=bool)
    for fix in result.fixes:
        if fix.suggestion in ("drop", "relabel"):
            kept[fix.item] = False
    joined = {int(labels_N[fix.item]) for fix in result.fixes if fix.suggestion == "merge classes"}
    assert set(labels_N.tolist()) - joined == set(labels_N[kept].tolist()) - joined


def test_a_class_of_one_blank_picture_is_looked_at(sound):
    x_ND, labels_N, pictures = sound
    x_ND, pictures, labels_N = x_ND.copy(), pictures.copy(), labels_N.copy()
    blank = np.arange(0, 80, 8)
    x_ND[blank] = x_ND[0]
    pictures[blank] = 255
    labels_N[0] = 88  # a class of its own
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=pictures)
    said = {fix.item: fix.suggestion for fix in result.fixes if fix.cause == "low-information"}
    assert said == {item: "drop" if item else "look" for item in blank.tolist()}


def test_of_two_pictures_that_speak_against_each_other_none_is_called_wrong(sound):
    x_ND, labels_N, _ = sound
    two = np.flatnonzero(np.arange(len(labels_N)) % PER_CLASS < 2)
    x_ND, labels_N = x_ND[two], labels_N[two]
    # A class of two whose pictures both fit elsewhere: one is of class 0, the other of class 1.
    x_ND = np.concatenate([x_ND, x_ND[[0]], x_ND[[2]]])
    labels_N = np.concatenate([labels_N, [77, 77]])
    result = diagnose_precision(x_ND, labels_N, recall=0.5)
    assert not {120, 121} & set(acted(result))


def test_blank_pictures_are_no_duplicates(sound):
    x_ND, labels_N, pictures = sound
    x_ND, pictures = x_ND.copy(), pictures.copy()
    blank = np.arange(0, 80, 8)
    x_ND[blank] = x_ND[0]
    pictures[blank] = 255
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=pictures)
    assert result.diagnosis.first.cause == "low-information"
    assert finding(result, "duplicate-pictures") is None
    assert {fix.suggestion for fix in result.fixes if fix.cause == "low-information"} == {"drop"}


def test_a_small_file_is_tiny(sound):
    x_ND, labels_N, pictures = sound
    x_ND = x_ND.copy()
    x_ND[8] = x_ND[0]
    sides = {8: 3}
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=pictures, longer_side=lambda item: sides.get(item, 200))
    assert [(fix.item, fix.suggestion) for fix in result.fixes if fix.cause == "low-information"] == [(8, "look")]


def test_a_hub_is_looked_at(sound):
    x_ND, labels_N, _ = sound
    common = np.ones(DIM) / DIM**0.5
    x_ND = x_ND + 0.9 * common
    hub = np.concatenate([x_ND, [common]])
    labels = np.append(labels_N, 99)
    result = diagnose_precision(hub, labels, threshold=0.6)
    assert finding(result, "hubs") is not None
    assert [fix.item for fix in result.fixes if fix.cause == "hubs"] == [240]
    assert finding(diagnose_precision(sound[0], labels_N, threshold=0.3), "hubs") is None


def test_saturated_scores(sound):
    x_ND, labels_N, _ = sound
    pressed = diagnose_precision(x_ND * 0.05 + 1.0, labels_N, recall=0.5)
    assert finding(pressed, "saturated") is None  # pressed together, but still in order: nothing false in the top
    random = np.random.default_rng(1).normal(size=x_ND.shape)
    result = diagnose_precision(random * 0.05 + 1.0, labels_N, recall=0.5)
    assert result.diagnosis.first.cause == "saturated"
    assert finding(diagnose_precision(random, labels_N, recall=0.5), "saturated") is None


def test_a_query_that_is_in_the_gallery(sound):
    x_ND, labels_N, pictures = sound
    query_N = np.arange(len(labels_N)) % PER_CLASS == 0
    x_ND, pictures = x_ND.copy(), pictures.copy()
    queries = np.flatnonzero(query_N)[:6]
    x_ND[queries], pictures[queries] = x_ND[queries + 1], pictures[queries + 1]
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=pictures, query_N=query_N)
    found = result.diagnosis.first
    assert (found.cause, found.severity, found.numbers["true_pairs"]) == ("same-picture", "error", 6)
    assert sorted(acted(result)) == queries.tolist()
    # Without a gallery the same pictures are worth a note, and nothing is left out.
    result = diagnose_precision(x_ND, labels_N, pictures_NHWC=pictures)
    assert (finding(result, "same-picture").severity, result.fixes) == ("note", ())


def test_long_vectors(sound):
    x_ND, labels_N, _ = sound
    long_ND = x_ND.copy()
    long_ND[::8] *= 10
    result = diagnose_precision(long_ND, labels_N, recall=0.5)
    found = result.diagnosis.first
    assert (found.cause, found.severity) == ("unnormalised", "error")
    assert found.numbers["precision_by_product"] < 0.9 < found.numbers["precision"]


def test_a_margin_that_the_sphere_does_not_have(sound):
    x_ND, labels_N, _ = sound
    severity = {}
    for margin, squared in ((4.5, True), (2.5, True), (2.5, False), (0.2, True), (0.2, False)):
        found = finding(diagnose_precision(x_ND, labels_N, margin=TripletMargin(margin, squared)), "margin-too-large")
        severity[margin, squared] = None if found is None else found.severity
    assert severity == {
        (4.5, True): "error",
        (2.5, True): "error",
        (2.5, False): "error",
        (0.2, True): None,
        (0.2, False): None,
    }


def test_too_few_pairs_to_tell(sound):
    x_ND, labels_N, _ = sound
    x_ND = x_ND.copy()
    x_ND[0] = x_ND[8]  # one pair of different classes on top of 360 true ones
    found = finding(diagnose_precision(x_ND, labels_N, recall=0.5), "too-few-pairs")
    assert found.severity == "note"
    assert 20 <= found.numbers["pairs"] <= 24


def test_a_recall_out_of_range(sound):
    x_ND, labels_N, _ = sound
    with pytest.raises(InputError, match=r"^recall: 0.7 is not in \(0, 0.5\]; use for example 0.1$"):
        diagnose_precision(x_ND, labels_N, recall=0.7)


def test_products_with_two_ids_are_to_be_looked_at():
    # Ten of 150 products have two ids, two pictures each, drawn from one cluster.
    random = np.random.default_rng(0)
    centre_CD = random.normal(size=(150, 64))
    labels_N = np.repeat(np.arange(160), 2)
    x_ND = np.concatenate([centre_CD, centre_CD[:10]])[labels_N] + 0.5 * random.normal(size=(320, 64))
    result = diagnose_precision(x_ND, labels_N, recall=0.5)
    found = finding(result, "perhaps-one-class")
    assert found.severity == "warning"
    assert found.fix == "Look at both classes (fixes.csv), and join them if they are one."
    assert finding(result, "look-alikes") is None or found.share > 0.7
    looked = {(fix.to, labels_N[fix.item]) for fix in result.fixes if fix.cause == "perhaps-one-class"}
    assert len(looked & {(code, code + 150) for code in range(10)}) >= 7
    assert {fix.suggestion for fix in result.fixes if fix.cause == "perhaps-one-class"} == {"look"}
