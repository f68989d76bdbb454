from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mohs.errors import InputError
from mohs.export.qdrant import export_to_qdrant, point_id
from mohs.index.index import Index

qdrant_client = pytest.importorskip("qdrant_client", reason="needs mohs[qdrant]")


def test_a_search_there_finds_what_one_here_finds(index: Index, tmp_path: Path) -> None:
    assert export_to_qdrant(index, "shop", folder=tmp_path / "q") == 12
    vectors = index.vectors()
    client = qdrant_client.QdrantClient(path=str(tmp_path / "q"))
    try:
        for i, x_D in enumerate(vectors.x_ND):
            found = client.query_points("shop", query=x_D.tolist(), limit=3).points
            wanted = index.search(x_D[None], num_matches=3)[0].matches
            assert [point.payload["id"] for point in found] == [match.id for match in wanted]
            np.testing.assert_allclose([point.score for point in found], [each.distance for each in wanted], atol=1e-3)
            assert found[0].id == point_id(vectors.id_N[i])
        payload = client.retrieve("shop", [point_id("A03")])[0].payload
        assert payload["class"] == "ring 3"
        assert payload["price"] is None
        assert payload["note"] == "back\\slash; DROP TABLE items;--"
        assert "thumbnail" not in payload
    finally:
        client.close()


def test_a_collection_that_exists_stays_and_one_that_fails_goes(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_to_qdrant(index, "shop", folder=tmp_path / "q")
    with pytest.raises(InputError, match=r"collection: 'shop' exists in .*q; give another, or delete it"):
        export_to_qdrant(index, "shop", folder=tmp_path / "q")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no space\nat all")

    monkeypatch.setattr(qdrant_client.QdrantClient, "upsert", fail)
    with pytest.raises(InputError, match=r"q: Qdrant does not take the items \(no space\); check the address"):
        export_to_qdrant(index, "other", folder=tmp_path / "q")
    client = qdrant_client.QdrantClient(path=str(tmp_path / "q"))
    assert [each.name for each in client.get_collections().collections] == ["shop"]
    client.close()


def test_bad_places(index: Index) -> None:
    with pytest.raises(InputError, match="url, folder: give one of them"):
        export_to_qdrant(index, "shop")
    with pytest.raises(InputError, match=r"http://127.0.0.1:9: Qdrant does not take the items \(.*refused\)"):
        export_to_qdrant(index, "shop", url="http://127.0.0.1:9")
