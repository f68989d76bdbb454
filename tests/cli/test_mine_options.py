"""What each option of `mohs mine` does to the plan."""

import csv
import importlib
import json

import numpy as np
import pytest

import mohs
from mohs import mining
from mohs.artefacts import fingerprint
from mohs.cli import console as memory
from mohs.distances import unit_rows
from mohs.mining import estimate_peak_bytes
from mohs.plan import POSITIVE_ORIGINS, TripletPlan
from mohs.shards import ShardLayout, write_shards

NUM_ITEMS, DIM = 900, 6
mine_module = importlib.import_module("mohs.cli.mine")  # mohs.cli has a command of this name, too


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A table of 300 classes: two samples and one catalog picture each, names only; and vectors."""
    folder = tmp_path_factory.mktemp("shop")
    roles = np.array(["sample", "sample", "catalog"])
    with (folder / "shop.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "class", "role"))
        writer.writerows((f"{i}.png", f"c{i // 3}", roles[i % 3]) for i in range(NUM_ITEMS))
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(NUM_ITEMS, DIM)).astype(np.float32))
    return folder


@pytest.fixture
def mined(run_cli, shop, tmp_path):
    """Run `mohs mine` with flags; return the plan, the facts and what was said without --json."""

    def run(*flags, vectors="x.npy", said=False):
        out = tmp_path / "plan.parquet"
        command = ["mine", shop / "shop.csv", "--embeddings", shop / vectors, "--triplets", 400, "--out", out, *flags]
        answer = run_cli(*command, *([] if said else ["--json"]))
        assert answer.code == 0, answer.err
        assert said or answer.err == []
        return TripletPlan.load(out), answer.err if said else json.loads(answer.out)

    return run


def again(plan, shop, **options):
    """What `mohs.mine` gives for the anchors, positives and hardness of a plan of one negative each."""
    table = mohs.read_table(shop / "shop.csv")
    given = {"anchors_T": plan.anchor, "hardness_T": plan.hardness, "positives_T": plan.positive, **options}
    return mohs.mine(np.load(shop / "x.npy"), table.labels, **given)


def test_several_negatives_each(mined, shop):
    plan, facts = mined("--scale", "rank", "--negatives", 4)
    assert (facts["num_anchors"], facts["num_triplets"], facts["positives"]) == (400, 1600, {"class": 400})
    first = plan.take(np.arange(0, 1600, 4))
    options = {"scale": "rank", "num_negatives": 4}
    np.testing.assert_array_equal(plan.negative, again(first, shop, **options).negative)
    said = mined("--scale", "rank", "--negatives", 4, said=True)[1]
    assert "900 items of 300 classes, 1,600 triplets, 4 for each anchor" in said


def test_pairs_of_a_review_list_never_meet(mined, shop, tmp_path):
    hardest = ["--curve", "constant", "--cap", 1]
    plan, _ = mined(*hardest)
    met = {(a, n) for a, n in zip(plan.anchor.tolist(), plan.negative.tolist(), strict=True)}
    review = tmp_path / "review.csv"
    rows = [f"{a}.png,{n}.png" for a, n in met]
    review.write_text("file,other\n" + "\n".join(rows) + "\n")
    other, facts = mined(*hardest, "--review-list", review)
    assert not {(a, n) for a, n in zip(other.anchor.tolist(), other.negative.tolist(), strict=True)} & met
    assert facts["num_excluded_pairs"] == other.header["num_excluded_pairs"] > len(met)  # both ways
    review.write_text(f"{review.read_text()}0.png,elsewhere.png\n")
    line = (
        f"warning: {review}: 1 of {len(met) + 1} pairs passed over, since the table does not have their files "
        "('elsewhere.png')"
    )
    assert line in mined(*hardest, "--review-list", review, "--quiet", said=True)[1]
    said = mined(*hardest, "--review-list", review, said=True)[1]
    assert said[0] == line
    assert f"pairs kept apart by the review list: {facts['num_excluded_pairs']:,}, counted both ways" in said


def test_equal_files_under_two_classes_never_meet_though_only_vectors_are_read(run_cli, tmp_path):
    for name, content in (("a", b"same"), ("b", b"some"), ("c", b"same"), ("d", b"more!")):
        (tmp_path / f"{name}.png").write_bytes(content)  # never decoded
    files = ("a", "b", "c", "d", "gone", "gone-too")
    rows = [f"{name}.png,{label}" for name, label in zip(files, "001122", strict=True)]
    (tmp_path / "shop.csv").write_text("file,class\n" + "\n".join(rows) + "\n")
    np.save(tmp_path / "x.npy", np.float32([[1, 0], [0, 1], [1, 0], [0, 1.1], [2, 0], [0, 2]]))
    command = ["mine", tmp_path / "shop.csv", "--embeddings", tmp_path / "x.npy", "--triplets", 60, "--json"]
    command += ["--curve", "constant", "--cap", 1, "--out", tmp_path / "plan.parquet"]
    for options, num in (((), 2), (("--equal-pictures",), 0)):
        facts = json.loads(run_cli(*command, *options).out)
        plan = TripletPlan.load(tmp_path / "plan.parquet")
        assert facts["num_equal_picture_pairs"] == plan.header["num_equal_picture_pairs"] == num
        met = set(zip(plan.anchor.tolist(), plan.negative.tolist(), strict=True))
        assert ((0, 2) in met) == ((2, 0) in met) == (num == 0)


def test_a_review_list_that_cannot_be_read(run_cli, shop, tmp_path):
    path = tmp_path / "review.csv"
    command = [
        "mine",
        shop / "shop.csv",
        "--embeddings",
        shop / "x.npy",
        "--review-list",
        path,
        "--out",
        tmp_path / "p",
    ]
    assert run_cli(*command).err == [f"mohs: --review-list: {path}: no such file; check the path"]
    path.write_text("file,picture\na,b\n")
    answer = run_cli(*command)
    assert (answer.code, answer.err) == (
        2,
        [f"mohs: --review-list: {path}: no column 'other'; use the review.csv of a run"],
    )


def test_positives_by_distance(mined, shop):
    easy, facts = mined("--positive-rule", "easy")
    hard, _ = mined("--positive-rule", "hard")
    assert facts["positives"] == {"class": 400}
    assert (easy.header["positive_rule"], hard.header["positive_rule"]) == ("easy", "hard")
    np.testing.assert_array_equal(easy.anchor, hard.anchor)
    assert (easy.anchor_positive_distance < hard.anchor_positive_distance).all()  # each has two to choose from
    np.testing.assert_array_equal(hard.positive, again(hard, shop, positives_T=None, positive_rule="hard").positive)
    random, _ = mined("--prefer", "catalog")
    assert random.header["positive_rule"] == "random"
    assert {POSITIVE_ORIGINS[i] for i in random.positive_origin} == {"catalog"}


def test_cosine(mined, shop):
    plan, _ = mined("--metric", "cosine", "--scale", "rank")
    np.testing.assert_array_equal(plan.negative, again(plan, shop, scale="rank", metric="cosine").negative)
    rows = unit_rows(np.load(shop / "x.npy"))
    between = np.linalg.norm(rows[plan.anchor] - rows[plan.negative], axis=1)
    np.testing.assert_allclose(plan.anchor_negative_distance, between, rtol=1e-5)


@pytest.mark.parametrize("role", ["sample", "catalog"])
def test_negatives_of_one_role(role, mined, shop):
    plan, _ = mined("--candidates", role)
    roles = mohs.read_table(shop / "shop.csv").roles
    assert set(roles[plan.negative]) == {role}
    assert plan.header["num_candidates"] == (600 if role == "sample" else 300)
    np.testing.assert_array_equal(plan.negative, again(plan, shop, candidates=roles == role).negative)


def test_anchors_of_one_role(mined, shop):
    roles = mohs.read_table(shop / "shop.csv").roles
    plain, facts = mined()
    same, _ = mined("--anchors", "any")
    for name in ("anchor", "positive", "negative"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(same, name))
    assert plain.header == same.header
    assert (facts["anchors"], facts["num_classes_without_catalog"]) == ("any", None)

    plan, facts = mined("--anchors", "catalog", "--scale", "rank", "--curve", "linear")
    assert {name: set(roles[getattr(plan, name)]) for name in ("anchor", "positive", "negative")} == {
        "anchor": {"catalog"},
        "positive": {"sample"},
        "negative": {"sample"},
    }
    np.testing.assert_array_equal(plan.negative, again(plan, shop, scale="rank", candidates=roles == "sample").negative)
    assert plan.header["anchors"] == facts["anchors"] == "catalog"
    assert facts["num_classes_without_catalog"] == 0

    plan, facts = mined("--anchors", "sample")
    assert (set(roles[plan.anchor]), set(roles[plan.positive])) == ({"sample"}, {"catalog"})
    assert set(roles[plan.negative]) == {"sample", "catalog"}
    assert facts["positives"] == {"catalog": 400}


def test_classes_without_a_catalog_picture_take_samples_for_anchors_and_are_counted(run_cli, shop, tmp_path):
    table = mohs.read_table(shop / "shop.csv")
    rows = [
        (name, label, "sample" if i // 3 % 4 == 1 else role)
        for i, (name, label, role) in enumerate(
            zip(table.files, table.labels.tolist(), table.roles.tolist(), strict=True)
        )
    ]
    rows = [row for i, row in enumerate(rows) if i not in (0, 1)]  # class 0 has nothing but a catalog picture
    (tmp_path / "t.csv").write_text("file,class,role\n" + "".join(",".join(row) + "\n" for row in rows))
    np.save(tmp_path / "x.npy", np.load(shop / "x.npy")[2:])
    out = tmp_path / "p.parquet"
    command = ["mine", tmp_path / "t.csv", "--embeddings", tmp_path / "x.npy", "--anchors", "catalog"]
    answer = run_cli(*command, "--triplets", 900, "--out", out)
    assert answer.code == 0, answer.err
    assert "classes without a catalog picture: 75 of 300; a sample is their anchor" in answer.err
    plan, roles = TripletPlan.load(out), np.array([role for *_, role in rows])
    labels = np.array([label for _, label, _ in rows])
    bare = ~np.isin(labels, labels[roles == "catalog"])
    np.testing.assert_array_equal(roles[plan.anchor] == "sample", bare[plan.anchor])
    assert len(set(plan.anchor[bare[plan.anchor]].tolist())) == 225  # three samples of each, in turns
    assert set(roles[plan.negative]) == {"sample"}
    alone = labels[plan.anchor] == "c0"
    assert (plan.positive[alone] == plan.anchor[alone]).all()
    assert (roles[plan.positive[~alone]] == "sample").all()
    assert (plan.anchor[~alone] != plan.positive[~alone]).all()


def test_a_catalog_of_other_classes_has_no_anchors(run_cli, tmp_path):
    rows = [(f"{i}.png", f"{'c' if i % 3 else 'x'}{i // 3}", "sample" if i % 3 else "catalog") for i in range(9)]
    (tmp_path / "t.csv").write_text("file,class,role\n" + "".join(f"{','.join(row)}\n" for row in rows))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32))
    command = ["mine", tmp_path / "t.csv", "--embeddings", tmp_path / "x.npy", "--anchors", "catalog"]
    answer = run_cli(*command, "--out", tmp_path / "p")
    assert answer.code == 2
    assert answer.err[-1] == (
        "mohs: --anchors: 'catalog' takes samples for positives, and no class of the catalog has one; write the "
        "classes alike in catalog and table, or use 'any'"
    )


@pytest.mark.parametrize(
    ("role", "anchors", "message"),
    [
        (
            "sample",
            "catalog",
            "'catalog', but none of the 9 pictures is a catalog picture; give a catalog, or use 'any'",
        ),
        ("catalog", "sample", "'sample', but all 9 pictures are catalog pictures; use 'any'"),
    ],
)
def test_anchors_that_are_not_there(run_cli, tmp_path, role, anchors, message):
    rows = "".join(f"{i}.png,{i // 3},{role}\n" for i in range(9))
    (tmp_path / "t.csv").write_text(f"file,class,role\n{rows}")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32))
    command = ["mine", tmp_path / "t.csv", "--embeddings", tmp_path / "x.npy", "--anchors", anchors]
    answer = run_cli(*command, "--out", tmp_path / "p")
    assert (answer.code, answer.err) == (2, [f"mohs: --anchors: {message}"])


def test_no_pictures_of_a_role(run_cli, shop, tmp_path):
    (tmp_path / "t.csv").write_text("file,class\n" + "".join(f"{i}.png,{i // 3}\n" for i in range(NUM_ITEMS)))
    command = ["mine", tmp_path / "t.csv", "--embeddings", shop / "x.npy", "--candidates", "catalog"]
    assert run_cli(*command, "--out", tmp_path / "p").err == [
        f"mohs: --candidates: {tmp_path / 't.csv'} has no catalog pictures; give --catalog, or leave it out"
    ]


def test_sampled_ranks(mined):
    flags = ["--scale", "rank", "--curve", "linear", "--cap", 1, "--method", "sampled", "--num-sampled", 300]
    plan, facts = mined(*flags)
    assert (plan.header["method"], plan.header["num_sampled"]) == ("sampled", 300)
    assert facts["rank_error_sd_max"] == pytest.approx(0.5 / 300**0.5, rel=0.01)
    assert 30 < facts["num_anchors_exact"] < 60  # of 400: where (1 − h)·300 < 32
    said = mined(*flags, said=True)[1]
    assert (
        f"ranks sampled: standard deviation of their fraction at most {facts['rank_error_sd_max']:.4f}; "
        f"{facts['num_anchors_exact']} anchors mined exactly"
    ) in said
    assert mined("--scale", "rank", "--method", "auto")[1]["method"] == "exact"  # so few pairs are not worth a sample


def test_the_device_that_is_the_cpu(mined):
    plan, _ = mined("--device", "cpu")
    other, _ = mined()
    assert plan.header["device"] == "cpu"
    np.testing.assert_array_equal(plan.negative, other.negative)


def test_half_precision_is_mined_from_its_file(mined, shop, monkeypatch):
    half = np.load(shop / "x.npy").astype(np.float16)
    np.save(shop / "half.npy", half)
    np.save(shop / "same.npy", half.astype(np.float32))
    np.save(shop / "fortran.npy", np.asfortranarray(half))
    banks = []
    complete = mining.mine

    def note(bank, *arguments, **options):
        banks.append(bank)
        return complete(bank, *arguments, **options)

    monkeypatch.setattr(mining, "mine", note)
    plan, facts = mined(vectors="half.npy")
    np.testing.assert_array_equal(plan.negative, mined(vectors="same.npy")[0].negative)
    np.testing.assert_array_equal(plan.negative, mined(vectors="fortran.npy")[0].negative)
    assert [type(bank) for bank in banks] == [np.memmap, np.memmap, np.ndarray]
    assert [bank.dtype for bank in banks] == [np.float16, np.float32, np.float32]
    estimate = estimate_peak_bytes(NUM_ITEMS, DIM, 400, bank_dtype="float16", in_memory=False)
    assert facts["estimated_peak_bytes"] == estimate + 20 * NUM_ITEMS * 4  # text of four characters


def test_what_does_not_fit_is_refused_before_the_work(run_cli, shop, tmp_path, monkeypatch):
    command = ["mine", shop / "shop.csv", "--embeddings", shop / "x.npy", "--scale", "rank", "--out", tmp_path / "p"]
    need = estimate_peak_bytes(NUM_ITEMS, DIM, 10_000, scale="rank", in_memory=False) + 20 * NUM_ITEMS * 4
    monkeypatch.setattr(mining, "compile_kernels", lambda *_, **__: pytest.fail("work began"))
    monkeypatch.setattr(memory, "free_bytes", lambda: need - 1)
    answer = run_cli(*command)
    assert (answer.code, answer.err) == (
        4,
        [
            "length: 10,000 triplets: 33.33 passes over 300 classes",
            f"mohs: memory: mining takes about {need / 1e6:.0f} MB, and {need / 1e6:.0f} MB are free; mine fewer "
            "--triplets or --negatives, give float16 vectors (--embeddings), or use a larger machine",
        ],
    )
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(memory, "free_bytes", lambda: need)
    monkeypatch.setattr(mine_module, "free_bytes", lambda: need)
    answer = run_cli(*command)
    assert answer.err[1] == f"memory: mining takes about {need / 1e6:.0f} MB, {need / 1e6:.0f} MB are free"
    monkeypatch.setattr(memory, "free_bytes", lambda: None)
    monkeypatch.setattr(mine_module, "free_bytes", lambda: None)
    assert run_cli(*command).err[1] == f"memory: mining takes about {need / 1e6:.0f} MB"


def test_the_embeddings_to_be_made_count_too(run_cli, picture_set, tmp_path):
    command = ["mine", picture_set, "--size", 16, "--triplets", 30, "--out", tmp_path / "p", "--json"]
    facts = json.loads(run_cli(*command).out)
    assert facts["estimated_peak_bytes"] == estimate_peak_bytes(48, 128, 30) + 4 * 48 * 128 + 20 * 48 * 3


@pytest.fixture
def bank_of_shop(shop, tmp_path):
    """Vectors of the shop in shards, which say of which files they are."""
    table = mohs.read_table(shop / "shop.csv")
    about = {"files_fingerprint": fingerprint(np.array(table.files))}
    rows = np.load(shop / "x.npy")
    layout = ShardLayout(NUM_ITEMS, (DIM,), "float32", 500)
    write_shards(tmp_path / "bank", layout, about, lambda start, stop: rows[start:stop])
    return tmp_path / "bank"


def test_shards_of_other_files_are_refused(run_cli, shop, tmp_path, bank_of_shop):
    """Classes may be others than when pictures were embedded; files and their order may not."""
    header, *lines = (shop / "shop.csv").read_text().splitlines()
    same = [line.replace(".png,c", ".png,d") for line in lines]
    for name, rows in (("same", same), ("turned", lines[::-1]), ("fewer", lines[:-3])):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    wanted = "--embeddings", bank_of_shop, "--triplets", 20, "--out", tmp_path / "plan.parquet"
    assert run_cli("mine", tmp_path / "same.csv", *wanted).code == 0
    answer = run_cli("mine", tmp_path / "turned.csv", *wanted)
    assert answer.code == 2
    what = "has vectors of other files than"
    assert answer.err[-1] == (
        f"mohs: {bank_of_shop}: {what} {tmp_path}/turned.csv, or in another order; embed this table"
    )
    answer = run_cli("mine", tmp_path / "fewer.csv", *wanted)
    assert answer.err[-1] == f"mohs: {bank_of_shop}: 900 rows for 897 items in the table; embed this table"


def test_what_actors_do_not_do_is_refused_before_the_work(run_cli, shop, tmp_path):
    answer = run_cli(
        "mine", shop / "shop.csv", "--engine", "ray", "--device", "cuda", "--max-bad", 3, "--multi-label", "first",
        "--group-column", "session", "--out", tmp_path / "plan.parquet",
    )  # fmt: skip
    assert answer.code == 2
    told = [line.removeprefix("mohs: ").partition(" with --engine ray")[0] for line in answer.err]
    assert told == ["--device: 'cuda'", "--max-bad: 3", "--multi-label: 'first'", "--group-column: 'session'"]


def test_a_shard_has_a_row_or_more(run_cli, tmp_path):
    answer = run_cli("embed", tmp_path, "t.csv", "--shards", "--shard-rows", 0, "--out", tmp_path / "bank")
    assert answer.code == 2
    assert answer.err[-1].startswith("mohs: --shard-rows: 0 is not")
