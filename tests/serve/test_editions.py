"""A new version of the index, or of its embedder, is taken up whole."""

import asyncio
import shutil

import pytest

from mohs.data.images import ImagePolicy
from mohs.index.index import Index
from mohs.model.embedder import Embedder
from mohs.serve.editions import Editions
from mohs.serve.metrics import Metrics
from mohs.settings.config import ModelConfig


def test_what_others_change_is_seen_and_an_old_edition_stays_what_it_was(shop):
    editions = Editions(shop, Metrics())
    old = editions.current
    Index.open(shop).remove(["00-0.png", "00-1.png"])
    assert asyncio.run(editions.refresh()) is editions.current
    assert (len(old.snapshot.vectors), len(editions.current.snapshot.vectors)) == (60, 58)
    assert old.version != editions.current.version
    assert asyncio.run(editions.refresh()) is editions.current
    editions.close()


def test_a_calibration_is_taken_up(shop, products):
    editions = Editions(shop, Metrics())
    assert editions.current.snapshot.calibration is None
    Index.open(shop).calibrate([products / f"{c:02d}-0.png" for c in range(30)], [f"ring {c}" for c in range(30)])
    assert asyncio.run(editions.refresh()).snapshot.calibration is not None
    editions.close()


def test_another_embedder_comes_with_its_own_vectors(client_of, shop, products):
    client = client_of(shop)
    first = client.get("/search", params={"id": "07-1.png"}).json()
    other = Embedder.create(ModelConfig(widths=(8,), hidden_dim=0, embedding_dim=8), ImagePolicy(size=8), seed=2).eval()
    built = Index.build(shop.parent / "other.index", products / "shop.csv", other)
    old = client.app.state.editions.current
    shutil.rmtree(shop)
    # Nothing is there: the old edition answers, from memory.
    asyncio.run(client.app.state.editions.refresh())
    assert client.get("/health").json()["problem"].startswith(f"{shop}: not an index")
    data = (products / "07-1.png").read_bytes()
    answer = client.post("/search", content=data, headers={"content-type": "image/png"}).json()
    assert [match["id"] for match in answer["matches"]] == [match["id"] for match in first["matches"]]
    assert answer["version"] == first["version"]
    built.folder.rename(shop)
    # A filter needs the files, which are gone: the answer is of the new edition, all of it.
    answer = client.get("/search", params={"id": "07-1.png", "where": "price > 7"}).json()
    assert answer["version"] == client.app.state.editions.current.version != old.version
    assert client.get("/health").json()["problem"] is None
    again = client.post("/search", content=data, headers={"content-type": "image/png"}).json()
    assert again["matches"][0]["distance"] < 1e-3


@pytest.mark.parametrize("name", ["index.json", "embedder/model.safetensors"])
def test_a_folder_that_changes_while_it_is_read_is_not_taken_up(shop, monkeypatch, name):
    editions = Editions(shop, Metrics())
    old, read = editions.current, Index.snapshot

    def changing(index):
        file = shop / name
        file.write_bytes(file.read_bytes())
        return read(index)

    Index.open(shop).remove(["00-0.png"])
    monkeypatch.setattr(Index, "snapshot", changing)
    assert asyncio.run(editions.refresh()) is old
    monkeypatch.undo()
    assert len(asyncio.run(editions.refresh()).snapshot.vectors) == 59
    editions.close()
