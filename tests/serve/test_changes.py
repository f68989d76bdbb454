"""Items are added and removed by those who have the token; feedback becomes a review list."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from mohs.index.index import Index
from mohs.training.false_negatives import read_review_list, read_review_rows

from .conftest import TOKEN

PNG = {"content-type": "image/png"}
BEARER = {"authorization": f"Bearer {TOKEN}"}


def test_without_the_token_nothing_changes(client_of, shop, products):
    client = client_of(shop, token=TOKEN)
    data = (products / "00-0.png").read_bytes()
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
        for answer in (
            client.post("/items?id=new&class=new", content=data, headers={**PNG, **headers}),
            client.delete("/items/00-0.png", headers=headers),
        ):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
    assert len(Index.open(shop)) == 60


def test_an_item_of_a_new_class_is_found_at_once_and_can_be_removed(client_of, shop, products):
    client = client_of(shop, token=TOKEN)
    noise = np.random.default_rng(3).integers(0, 255, (30, 30, 3)).astype(np.uint8)
    Image.fromarray(noise).save(shop.parent / "new.png")
    data = (shop.parent / "new.png").read_bytes()
    params = {"id": "new/1", "class": "brooch", "cells": '{"price": 3}'}
    before = client.get("/health").json()["version"]
    added = client.post("/items", params=params, content=data, headers={**PNG, **BEARER})
    assert (added.status_code, added.json()["num_items"]) == (201, 61)
    assert added.json()["version"] != before
    answer = client.post("/search", content=data, headers=PNG).json()
    assert (answer["class"], answer["matches"][0]["id"], answer["version"]) == (
        "brooch",
        "new/1",
        added.json()["version"],
    )
    assert answer["matches"][0]["columns"]["price"] == 3
    assert client.get("/items/new%2F1/image").status_code == 200
    again = client.post("/items", params=params, content=data, headers={**PNG, **BEARER})
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "id: there is an item of this id; remove it, or give another",
    )
    removed = client.delete("/items/new%2F1", headers=BEARER)
    assert (removed.status_code, removed.json()["num_items"]) == (200, 60)
    assert client.delete("/items/new%2F1", headers=BEARER).status_code == 404


@pytest.mark.parametrize(
    ("cells", "detail"),
    [
        ("[]", "cells: not a JSON object"),
        ("{", "cells: not a JSON object"),
        ('{"prize": 3}', "items[0]: columns 'prize' are not in the index; its other columns are 'price', 'note'"),
        ('{"price": "dear"}', "items: column 'price': "),
    ],
)
def test_cells_that_do_not_fit_add_nothing(client_of, shop, products, cells, detail):
    client = client_of(shop, token=TOKEN)
    data = (products / "00-0.png").read_bytes()
    params = {"id": "a", "class": "b", "cells": cells}
    answer = client.post("/items", params=params, content=data, headers={**PNG, **BEARER})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)
    assert len(Index.open(shop)) == 60


def test_feedback_is_a_review_list_that_training_reads(client, tmp_path):
    def tell(query, item, verdict):
        said = {"query": query, "item": item, "verdict": verdict, "distance": 0.25}
        answer = client.post("/feedback", json=said)
        assert answer.status_code == 201
        return answer.json()["num_rows"]

    upload = hashlib.sha256(b"a photo").hexdigest()
    assert tell("00-0.png", "01-0.png", "same") == 1
    assert tell("00-0.png", "02-0.png", "different") == 1
    assert tell(upload, "03-0.png", "same") == 1
    # What an upload is the same as is the same: a pair of items follows, and one that differs.
    assert tell(upload, "04-0.png", "same") == 2
    assert tell(upload, "05-0.png", "different") == 3
    path = tmp_path / "review.csv"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {
        "file": "00-0.png",
        "other": "01-0.png",
        "class": "ring 0",
        "other_class": "ring 1",
        "distance": "0.25",
        "verdict": "same",
    }
    assert ("00-0.png", "01-0.png") in read_review_rows(path)
    files = [f"{c:02d}-0.png" for c in range(6)]
    assert read_review_list(path, files).tolist() == [[0, 1], [3, 4], [1, 0], [4, 3]]
    # Who takes a verdict back is believed.
    tell("01-0.png", "00-0.png", "different")
    assert read_review_list(path, files).tolist() == [[3, 4], [4, 3]]


def test_feedback_has_an_end(client_of, built, tmp_path):
    client = client_of(built, max_review_bytes=100)
    said = {"query": "00-0.png", "item": "01-0.png", "verdict": "same", "distance": 0.25}
    codes = [client.post("/feedback", json=said).status_code for _ in range(4)]
    assert codes == [201, 201, 503, 503]
    assert (tmp_path / "review.csv").stat().st_size < 200
