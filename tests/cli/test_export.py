"""`mohs export` and `mohs index export`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mohs
from mohs.data.images import ImagePolicy
from mohs.settings.config import ModelConfig


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved embedder and a table of eight pictures, in the working directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(random.integers(0, 255, (20, 14, 3), dtype=np.uint8)).save(f"{i}.png")
    Path("shop.csv").write_text("\n".join(["file,class", *(f"{i}.png,ring {i % 4}" for i in range(8))]) + "\n")
    mohs.Embedder.create(ModelConfig(widths=(4,), hidden_dim=0, embedding_dim=4), ImagePolicy(size=16)).save_pretrained(
        "network"
    )
    return tmp_path


def test_a_program_of_torch_and_a_folder_for_the_hub(shop, run_cli):
    made = run_cli("export", "network", "--torch-export", "shop.pt2", "--hub-folder", "hub", "--data", "shop.csv")
    assert made.code == 0
    assert made.err[0].startswith("written: shop.pt2 and shop.pt2.json (checked on 8 pictures: vectors differ by at mo")
    assert made.err[1:] == ["written: hub"]
    assert json.loads(Path("shop.pt2.json").read_text())["preparation"]["size"] == 16
    assert sorted(path.name for path in Path("hub").iterdir()) == ["README.md", "embedder.json", "model.safetensors"]
    found = mohs.Embedder.from_pretrained("hub").embed(["0.png"])
    np.testing.assert_array_equal(found, mohs.Embedder.from_pretrained("network").embed(["0.png"]))


def test_the_card_of_a_run_tells_what_was_measured(own_picture_set, tmp_path, run_cli):
    config = mohs.RunConfig(
        out=str(tmp_path / "run"),
        data=mohs.DataConfig(source=str(own_picture_set / "images.csv"), size=16),
        model=ModelConfig(widths=(4,), hidden_dim=0, embedding_dim=4),
        training=mohs.TrainingConfig(num_triplets=20, batch_triplets=4, num_segments=1),
    )
    mohs.evaluate(mohs.train(config), baselines=False)
    hub = ("--hub-folder", tmp_path / "hub", "--name", "shop/rings", "--license", "apache-2.0")
    assert run_cli("export", tmp_path / "run", *hub).code == 0
    card = (tmp_path / "hub/README.md").read_text()
    assert card.startswith("---\nlibrary_name: mohs\nlicense: apache-2.0\n")
    assert "# rings" in card
    assert 'from_pretrained("hf-hub:shop/rings")' in card
    assert "Trained on 30 pictures of 10 classes, loss `infonce`, seed 0" in card
    assert "| recall@1 | " in card
    assert "unseen classes: 6 queries among 6 pictures." in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "--onnx, --torch-export, --hub-folder, --push-to-hub: give at least one"),
        (
            ("--onnx", "a.onnx"),
            "--data: missing; a saved embedder has no pictures of its own to check the file on",
        ),
        (("--hub-folder", "network"), "--hub-folder: network exists already; give another, or remove it"),
        (("--onnx", "network"), "--onnx: network is a folder; name a file in it"),
        (
            ("--torch-export", "a.pt2", "--data", "bad.csv"),
            "bad.csv: row 3: '7.png': empty file; replace the picture, or give others by --data",
        ),
    ],
)
def test_bad_input_is_one_line(shop, run_cli, arguments, line):
    Path("7.png").write_bytes(b"")
    Path("bad.csv").write_text("file,class\n0.png,a\n7.png,b\n")
    found = run_cli("export", "network", *arguments)
    assert (found.code, found.err) == (2, [f"mohs: {line}"])
    assert not list(shop.glob("a.*"))


def test_an_index_for_another_store(shop, run_cli):
    pytest.importorskip("lancedb", reason="needs mohs[search]")
    assert run_cli("index", "build", "i", "shop.csv", "--embedder", "network").code == 0
    made = run_cli("index", "export", "i", "--to", "pgvector", "--out", "shop.sql", "--name", "shop")
    assert (made.code, made.err) == (0, ["written: 8 items to shop.sql, table shop"])
    assert Path("shop.sql").read_text().count("ring 3") == 2
    for arguments, line in (
        (("faiss",), "--to: 'faiss' is not one of 'qdrant', 'pgvector'"),
        (("pgvector",), "--out: pgvector is a file of SQL, for psql; give --out FILE.sql, and no --url"),
        (("qdrant",), "--url, --out: give one of them, a server or a folder of the local mode"),
        (("pgvector", "--out", "x.sql", "--name", ""), "--name: '' is no name of 1 to 63 bytes; use a shorter one"),
    ):
        found = run_cli("index", "export", "i", "--to", *arguments)
        assert (found.code, found.err) == (2, [f"mohs: {line}"])
    assert not Path("x.sql").exists()
    pytest.importorskip("qdrant_client", reason="needs mohs[qdrant]")
    made = run_cli("index", "export", "i", "--to", "qdrant", "--out", "q")
    assert (made.code, made.err) == (0, ["written: 8 items to q, collection items"])
    again = run_cli("index", "export", "i", "--to", "qdrant", "--out", "q")
    assert (again.code, again.err) == (2, ["mohs: --name: 'items' exists in q; give another, or delete it"])


def test_embed_writes_the_same_vectors_into_shards_and_goes_on_where_it_was(shop: Path, run_cli) -> None:
    assert run_cli("embed", "network", "shop.csv", "--out", "all.npy").code == 0
    asked = ("embed", "network", "shop.csv", "--out", "bank", "--shards", "--shard-rows", "3")
    done = run_cli(*asked)
    assert done.code == 0
    assert done.err[-1] == "8 vectors of 4 dimensions, float32: bank"
    np.testing.assert_allclose(mohs.open_shards("bank")[0:8], np.load("all.npy"), atol=1e-6)
    written = Path("bank/shard-000000.npy").stat().st_mtime_ns
    Path("bank/shard-000001.npy").unlink()
    done = run_cli(*asked)
    assert done.err[-2] == "2 of 3 shards were there already"
    assert Path("bank/shard-000000.npy").stat().st_mtime_ns == written
    done = run_cli(*asked, "--half")
    assert done.code == 2
    assert done.err[-1] == "mohs: bank: holds shards of another layout; name another folder"
    assert run_cli("embed", "network", "shop.csv", "--out", "half", "--shards", "--half").code == 0
    assert mohs.open_shards("half").dtype == np.float16
    for more in (("--half",), ("--shard-rows", "5")):
        done = run_cli("embed", "network", "shop.csv", "--out", "x.npy", *more)
        assert done.err == [f"mohs: {more[0]}: is for a bank in shards; add --shards"]
