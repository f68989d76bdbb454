"""`mohs index`, `mohs search` and `mohs embed`."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import mohs
from mohs.data.images import ImagePolicy
from mohs.settings.config import ModelConfig

pytest.importorskip("lancedb", reason="needs mohs[search]")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An embedder and a table of 24 products, two pictures each, in the working directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    rows = []
    for c in range(24):
        pattern = np.kron(random.integers(0, 255, (4, 4, 3)), np.ones((5, 5, 1)))
        for i in range(2):
            pixels = np.clip(pattern + random.normal(0, 8, pattern.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(f"{c:02d}-{i}.png")
            rows.append(f"{c:02d}-{i}.png,ring {c},{c}")
    Path("shop.csv").write_text("\n".join(["file,class,price", *rows]) + "\n")
    Path("held.csv").write_text("\n".join(["file,class,price", *rows[24:]]) + "\n")
    Path("some.csv").write_text("\n".join(["file,class,price", *rows[:24]]) + "\n")
    config = ModelConfig(widths=(8,), hidden_dim=0, embedding_dim=8)
    mohs.Embedder.create(config, ImagePolicy(size=16), seed=0).save_pretrained("network")
    return tmp_path


def test_from_a_table_to_a_match(shop, run_cli):
    made = run_cli("index", "build", "shop.index", "shop.csv", "--embedder", "network")
    assert made.code == 0
    assert made.err[0] == "pictures: 48 read = 48 used + 0 set aside"
    assert made.err[1:] == ["index: shop.index (48 items of 24 classes)", "next: mohs search shop.index PICTURE"]
    found = run_cli("search", "shop.index", "07-0.png", "--top", "2")
    assert found.code == 0
    assert found.out.splitlines()[0].strip() == "07-0.png: ring 7"
    assert "0.000" in found.out
    as_json = json.loads(run_cli("search", "shop.index", "07-0.png", "--where", "price = 3", "--json").out)
    assert [match["class"] for match in as_json[0]["matches"]] == ["ring 3", "ring 3"]
    assert as_json[0]["matches"][0]["price"] == 3
    page = run_cli("search", "shop.index", "07-0.png", "07-1.png", "--as-one", "--html", "page.html")
    assert page.code == 0
    text = Path("page.html").read_text()
    assert "07-0.png + 07-1.png: ring 7" in text
    assert text.count("<img") == 12
    assert "http" not in text


def test_changes_and_calibration(shop, run_cli):
    assert run_cli("index", "build", "i", "some.csv", "--embedder", "network").code == 0
    added = run_cli("index", "add", "i", "held.csv")
    assert added.err[1:] == ["added 24; 48 items are in the index"]
    assert run_cli("index", "remove", "i", "23-0.png", "23-1.png").err == ["removed 2; 46 items are left"]
    assert run_cli("index", "replace", "i", "held.csv").err[1:] == ["replaced or added 24; 48 items are in the index"]
    assert run_cli("index", "compact", "i").err[0].startswith("i: compacted; ")
    assert run_cli("index", "check", "i").err == ["i: sound"]
    learned = run_cli("index", "calibrate", "i", "held.csv", "--false-acceptance", "0.1")
    assert learned.code == 0
    assert "24 pictures of 12 classes" in learned.out
    assert "of 24 pictures of classes in the index" in learned.out
    info = json.loads(run_cli("index", "info", "i", "--json").out)
    assert info["num_items"] == 48
    assert info["calibration"]["max_false_acceptance"] == 0.1
    assert "probability" in run_cli("search", "i", "03-0.png").out
    chosen = run_cli("index", "calibrate", "i", "held.csv", "--threshold", "0.001").out
    assert '"unknown" from a distance of 0.001 on, as you chose' in chosen
    assert "24 pictures of 12 classes" in chosen
    assert run_cli("index", "info", "i").out.endswith(chosen)


def test_bad_pictures_are_set_aside_as_many_as_allowed(shop, run_cli):
    for name in ("=1+1.png", "00-1.png"):
        Path(name).write_bytes(b"no picture")
    Path("shop.csv").write_text(Path("shop.csv").read_text() + "'=1+1.png,ring 0,7\n")
    command = ("index", "build", "i", "shop.csv", "--embedder", "network")
    assert run_cli(*command).code == 2
    refused = run_cli(*command, "--max-bad", 1)
    assert (refused.code, refused.err[0]) == (3, "mohs: 2 of 49 pictures cannot be read; allowed are 1")
    assert not Path("i").exists()
    facts = json.loads(run_cli(*command, "--max-bad", 2, "--json").out)
    assert facts["pictures_read"] == {"read": 49, "used": 47, "set_aside": 2, "not_chosen": 0}
    index = mohs.Index.open("i")
    prices = dict(zip(index.snapshot().id_N, index.snapshot().rows.column("price").to_pylist(), strict=True))
    assert prices["01-0.png"] == 1
    assert prices["23-1.png"] == 23
    with Path("i/quarantine.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["shop.csv: row 3", "shop.csv: row 50"]
    assert rows[1]["path"] == "'=1+1.png"  # no formula, where a spreadsheet opens it
    bad = run_cli("index", "add", "i", "shop.csv")
    assert bad.code == 2
    changed = run_cli("index", "replace", "i", "shop.csv", "--max-bad", 2)
    assert changed.err[0] == "pictures: 49 read = 47 used + 2 set aside"
    assert changed.err[-1] == "replaced or added 47; 47 items are in the index"
    learned = run_cli("index", "calibrate", "i", "shop.csv", "--max-bad", 2)
    assert learned.err[0] == "pictures: 49 read = 47 used + 2 set aside"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search", "none", "00-0.png"), "none: not an index (no index.json); make one with 'mohs index build'"),
        (("search", "i", "none.png"), "'none.png': no such file; replace the file"),
        (("search", "i", "00-0.png", "--top", "0"), "--top: 0 is not a whole number of at least 1; use for example 10"),
        (("search", "i", "00-0.png", "--where", "price < 0"), "--where: no item of the index is left; widen it"),
        (("index", "remove", "i", "x"), "'x': no item of this id; see the ids in the index"),
        (("index", "calibrate", "i"), "TABLE, --run: give one of them, the pictures to learn from"),
        (
            ("index", "calibrate", "i", "held.csv", "--false-acceptance", "2"),
            "--false-acceptance: 2.0 is not a number in (0, 1); use for example 0.05",
        ),
        (
            ("index", "calibrate", "i", "held.csv", "--threshold", "0.5", "--false-acceptance", "0.1"),
            "--threshold: --false-acceptance is given, too, which chooses a threshold; give one of them",
        ),
        (
            ("index", "build", "i", "shop.csv", "--embedder", "network"),
            "INDEX: i exists already; give another, or remove it",
        ),
        (("index", "build", "j", "shop.csv", "--embedder", "none"), "none/embedder.json: no such file; check the path"),
        (
            ("index", "build", "gs://shop/i", "shop.csv", "--embedder", "network"),
            "gs://shop/i: no such address: an index can be in a folder or under s3://bucket/name, of letters, digits, "
            "'-', '_' and '.'; for example s3://shop/rings.index",
        ),
        (
            ("index", "build", "j", "shop.csv"),
            "--embedder, --backbone: give one of them: it makes the vectors",
        ),
        (
            ("index", "build", "j", "shop.csv", "--backbone", "resnet18"),
            "--backbone: needs weights; give --pretrained, or --weights FILE, one of them",
        ),
        (
            ("index", "build", "j", "shop.csv", "--embedder", "network", "--pretrained"),
            "--weights, --pretrained: need --backbone; name it, or leave them out",
        ),
        (
            ("index", "build", "j", "shop.csv", "--backbone", "small", "--pretrained"),
            "--pretrained: 'small' has no pretrained weights; name a timm model",
        ),
        (
            ("index", "build", "j", "shop.csv", "--embedder", "network", "--size", "32"),
            "--size: needs --backbone; leave it out, an embedder has a size of its own",
        ),
        (
            ("embed", "network", "shop.csv", "--out", "x.txt"),
            "--out: x.txt: not one of .npy, .parquet, .csv, .tsv; name it so, or add --shards for a folder",
        ),
    ],
)
def test_bad_input_is_one_line(shop, run_cli, words, message):
    assert run_cli("index", "build", "i", "some.csv", "--embedder", "network").code == 0
    bad = run_cli(*words)
    assert (bad.code, bad.out, bad.err) == (2, "", [f"mohs: {message}"])


def test_a_filter_names_its_flag(shop, run_cli):
    run_cli("index", "build", "i", "some.csv", "--embedder", "network")
    bad = run_cli("search", "i", "00-0.png", "--where", "prize < 3")
    assert bad.code == 2
    assert bad.err[0].startswith("mohs: --where: 'prize < 3' cannot be read (")
    assert bad.err[0].endswith("; the columns are 'id', 'file', 'path', 'class', 'role', 'price'")


def test_a_pretrained_backbone_without_training(shop, run_cli):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, "weights.safetensors")
    words = ("--backbone", "resnet10t", "--weights", "weights.safetensors", "--size", "32")
    made = run_cli("index", "build", "i", "shop.csv", *words)
    assert made.code == 0, made.err
    index = mohs.Index.open("i")
    vectors = index.vectors()
    assert np.allclose(np.linalg.norm(vectors.x_ND, axis=1), 1, atol=1e-5)
    answers = index.search(sorted(str(file) for file in shop.glob("*.png")), num_matches=2)
    # The nearest besides itself is the other picture of the product: the head has seen these classes.
    assert np.mean([answer.matches[1].label == answer.matches[0].label for answer in answers]) > 0.9


def test_vectors_in_a_file(shop, run_cli):
    assert run_cli("embed", "network", "shop.csv", "--out", "x.npy").err == [
        "pictures: 48 read = 48 used + 0 set aside",
        "48 vectors of 8 dimensions: x.npy",
    ]
    x_ND = np.load("x.npy")
    assert np.allclose(np.linalg.norm(x_ND, axis=1), 1, atol=1e-5)
    assert run_cli("embed", "network", "shop.csv", "--out", "x.parquet").code == 0
    table = pq.read_table("x.parquet")
    assert table.column_names == ["file", "class", "role", "vector"]
    assert np.array_equal(np.array(table.column("vector").to_pylist(), dtype=np.float32), x_ND)
