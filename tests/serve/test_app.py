"""What the service answers, and what it says of what it cannot answer."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from mohs.errors import InputError
from mohs.index.index import Index
from mohs.serve.editions import Editions
from mohs.serve.metrics import Metrics
from mohs.serve.queries import Queries, SearchOptions
from mohs.serve.settings import read_settings

PNG = {"content-type": "image/png"}


def png(size=(20, 20), colour=(9, 8, 7), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format=kind)
    return buffer.getvalue()


def said(query, item):
    return {"query": query, "item": item, "verdict": "same", "distance": 1}


def test_a_picture_finds_itself_by_form_by_bytes_and_by_id(client, products):
    data = (products / "07-1.png").read_bytes()
    by_form = client.post("/search", params={"top": 3}, files={"picture": ("x.png", data, "image/png")})
    by_bytes = client.post("/search", params={"top": 3}, content=data, headers=PNG)
    by_id = client.get("/search", params={"top": 3, "id": "07-1.png"})
    assert [answer.status_code for answer in (by_form, by_bytes, by_id)] == [200, 200, 200]
    assert by_form.json() == by_bytes.json()
    answer = by_form.json()
    assert (answer["class"], answer["unknown"]) == ("ring 7", False)
    first = answer["matches"][0]
    assert (first["id"], first["class"], first["columns"]["price"]) == ("07-1.png", "ring 7", 7.5)
    assert first["distance"] < 1e-3
    assert 0.5 < first["probability"] <= 1
    assert "path" not in first["columns"]
    assert "thumbnail" not in first["columns"]
    assert [match["id"] for match in by_id.json()["matches"]] == [match["id"] for match in answer["matches"]]
    assert answer["version"] == client.get("/health").json()["version"]


def test_answers_are_those_of_the_index(client, built, products):
    index = Index.open(built)
    for where, one in ((None, False), ("price < 10", False), (None, True)):
        [expected] = index.search([products / "11-0.png"], num_matches=7, where=where, one_of_a_class=one)
        params = {"top": 7, "one_of_a_class": one, **({"where": where} if where else {})}
        data = (products / "11-0.png").read_bytes()
        found = client.post("/search", params=params, content=data, headers=PNG).json()
        assert [match["id"] for match in found["matches"]] == [match.id for match in expected.matches]
        assert [match["distance"] for match in found["matches"]] == pytest.approx(
            [match.distance for match in expected.matches], abs=1e-6
        )
        assert found["class"] == expected.label


def test_queries_of_many_kinds_at_once_are_answered_each_as_asked(built, products):
    metrics = Metrics()
    editions = Editions(built, metrics)
    queries = Queries(editions, read_settings({}), metrics)
    asked = [
        (f"{c:02d}-0.png", SearchOptions(num, where, one))
        for c, (num, where, one) in enumerate(
            [(3, None, False), (5, None, False), (3, "price < 10", False), (4, None, True), (5, None, False)] * 3
        )
    ]

    async def ask():
        data = {file: (products / file).read_bytes() for file, _ in asked}
        return await asyncio.gather(*(queries.by_picture(data[file], options) for file, options in asked))

    found = asyncio.run(ask())
    assert "mohs_batch_pictures_sum 15.0" in metrics.as_text().decode()
    assert "mohs_batch_pictures_count 15.0" not in metrics.as_text().decode()
    for (file, options), answer in zip(asked, found, strict=True):
        [expected] = editions.current.index.search(
            [products / file],
            num_matches=options.num_matches,
            where=options.where,
            one_of_a_class=options.one_of_a_class,
        )
        assert [match.id for match in answer.matches] == [match.id for match in expected.matches]
        assert answer.label == expected.label
    queries.close()
    editions.close()


def test_unknown_is_said(client):
    noise = np.random.default_rng(5).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="PNG")
    answer = client.post("/search", content=buffer.getvalue(), headers=PNG).json()
    assert answer["class"] is None
    assert answer["unknown"] is True
    assert answer["matches"]
    assert "mohs_unknown_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("request_of", "status", "detail"),
    [
        (lambda c: c.post("/search", content=b"", headers=PNG), 422, "picture: empty file"),
        (
            lambda c: c.post("/search", content=b"x", headers=PNG),
            422,
            "picture: not a picture",
        ),
        (lambda c: c.post("/search", content=png()[:60], headers=PNG), 422, "picture: "),
        (lambda c: c.post("/search", content=b"{}", headers={"content-type": "application/json"}), 415, "content-type"),
        (lambda c: c.post("/search", files={"other": ("a", png())}), 422, "picture: not in the form"),
        (
            lambda c: c.post("/search", files=[("picture", ("a", png())), ("picture", ("b", png()))]),
            400,
            "Too many files",
        ),
        (lambda c: c.post("/search", data={"a": "b"}, files={"picture": ("a", png())}), 400, "Too many fields"),
        (lambda c: c.post("/search?top=0", content=png(), headers=PNG), 422, "top: "),
        (lambda c: c.post("/search?top=201", content=png(), headers=PNG), 422, "top: "),
        (lambda c: c.get("/search", params={"id": "none"}), 404, "id: no item"),
        (lambda c: c.get("/search"), 422, "id: field required"),
        (
            lambda c: c.get("/search", params={"id": "07-1.png", "where": "prize < 3"}),
            422,
            "where: 'prize' is no column",
        ),
        (lambda c: c.get("/search", params={"id": "07-1.png", "where": "price <"}), 422, "where: 'price <' cannot"),
        (lambda c: c.get("/items/none/image"), 404, "id: no item"),
        (lambda c: c.post("/items?id=a&class=b", content=png()), 403, "token: changes are off"),
        (lambda c: c.delete("/items/07-1.png"), 403, "token: changes are off"),
        (
            lambda c: c.post("/feedback", json=said("x", "07-1.png")),
            404,
            "query: neither",
        ),
        (
            lambda c: c.post("/feedback", json=said("07-1.png", "x")),
            404,
            "id",
        ),
        (
            lambda c: c.post("/feedback", json=said("07-1.png", "07-0.png") | {"distance": True}),
            422,
            "distance: input should be a valid number",
        ),
        (
            lambda c: c.post("/feedback", content=b'{"query": "07-1.png"}', headers={"content-type": "text/plain"}),
            422,
            "body: ",
        ),
        (lambda c: c.get("/nothing"), 404, "Not Found"),
    ],
)
def test_what_cannot_be_answered_is_one_line(client, request_of, status, detail):
    answer = request_of(client)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert answer.json()["detail"].startswith(detail)
    assert "\n" not in answer.json()["detail"]


def test_pictures_of_items(client, products):
    small = client.get("/items/07-1.png/image")
    assert small.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(small.content)).size == (96, 96)
    large = client.get("/items/07-1.png/image", params={"large": True})
    assert Image.open(io.BytesIO(large.content)).size == (512, 512)


@pytest.mark.parametrize(
    "path", ["/page/..%2Fapp.py", "/page/%2e%2e/app.py", "/page/../app.py", "/items/..%2F..%2Fetc%2Fpasswd/image"]
)
def test_no_address_leads_out(client, path):
    assert client.get(path).status_code == 404


def test_too_many_pixels_are_refused_before_they_are_decoded(client_of, built):
    client = client_of(built, max_pixels=400)
    assert client.post("/search", content=png((20, 20)), headers=PNG).status_code == 200
    answer = client.post("/search", content=png((20, 21)), headers=PNG)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "picture: too large (20 x 21; at most 400 pixels); send another picture"


def test_why_two_are_alike(client, products, client_of, built):
    data = (products / "07-1.png").read_bytes()
    by_picture = client.post("/alike", params={"item": "07-0.png"}, content=data, headers=PNG).json()
    by_id = client.get("/alike", params={"query": "07-1.png", "item": "07-0.png"}).json()
    assert by_picture == by_id
    assert len(by_id["query"]["cost"]) == len(by_id["query"]["cost"][0]) == 8
    assert by_id["query"]["picture"].startswith("data:image/png;base64,")
    distance = client.get("/search", params={"id": "07-1.png"}).json()["matches"][1]["distance"]
    assert by_id["similarity"] == pytest.approx(1 - distance**2 / 2, abs=1e-4)
    # A random tenth of what is alike costs less than the tenth that costs most.
    assert by_id["item"]["marked_cost"] > by_id["item"]["random_cost"]
    assert client.get("/alike", params={"query": "07-1.png", "item": "none"}).status_code == 404
    assert client_of(built, inference_s=1e-6).get("/alike?query=07-1.png&item=07-0.png").status_code == 504


def test_a_filter_does_not_tell_where_files_lie(client):
    answer = client.get("/search", params={"id": "07-1.png", "where": "path LIKE '/tmp/%'"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("where: 'path' is no column; the columns are 'id', 'file', 'class'")


def test_what_an_address_takes_is_said(client):
    for path, methods in (("/search", {"GET", "POST"}), ("/items/a/image", {"GET"}), ("/items/a", {"DELETE"})):
        answer = client.request("OPTIONS", path)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == methods


def test_state(client):
    health = client.get("/health").json()
    assert health == {"status": "ok", "version": health["version"], "num_items": 60, "problem": None}
    about = client.get("/about").json()
    assert (about["num_items"], about["num_classes"], about["changes"]) == (60, 30, False)
    assert {"name": "price", "kind": "number"} in about["columns"]
    assert "path" not in [column["name"] for column in about["columns"]]
    assert len(about["calibration"]["curve"]["recall"]) > 10
    text = client.get("/metrics").text
    assert 'mohs_requests_total{route="/health",status="200"} 1.0' in text
    assert "mohs_items 60.0" in text
    paths = client.get("/openapi.json").json()["paths"]
    # uvicorn itself answers what is no HTTP, and the document says so.
    assert set(paths["/search"]["get"]["responses"]["400"]["content"]) == {"application/json", "text/plain"}
    assert set(paths) == {
        "/search", "/alike", "/items", "/items/{id}", "/items/{id}/image", "/feedback", "/about", "/health", "/metrics"
    }  # fmt: skip


def test_both_searches_take_and_describe_the_same_parameters(client, products):
    path = client.get("/openapi.json").json()["paths"]["/search"]
    by_id, by_picture = ({each["name"]: each for each in path[how]["parameters"]} for how in ("get", "post"))
    assert by_id.pop("id")["required"]
    assert by_picture == by_id
    data = (products / "07-1.png").read_bytes()
    for given in ({}, {"top": "2"}, {"top": "2.5"}, {"top": ""}, {"one_of_a_class": "maybe"}, {"where": ""}):
        answers = (
            client.post("/search", params=given, content=data, headers=PNG),
            client.get("/search", params={"id": "07-1.png", **given}),
        )
        assert answers[0].status_code == answers[1].status_code, given
        told = [answer.json() for answer in answers]
        if answers[0].is_success:
            assert [len(each["matches"]) for each in told] == [int(given.get("top", 10))] * 2
        else:
            assert told[0] == told[1]


def test_settings_come_from_the_environment_and_are_checked(monkeypatch):
    monkeypatch.setenv("MOHS_SERVE_MAX_QUEUE", "3")
    assert read_settings({}).max_queue == 3
    assert read_settings({"max_queue": 4}).max_queue == 4
    with pytest.raises(InputError, match=r"^port: 70000 is wrong: input should be less than or equal to 65535$"):
        read_settings({"port": 70000})
    monkeypatch.setenv("MOHS_SERVE_TOKEN", "short-and-secret")
    assert "short-and-secret" not in repr(read_settings({}))
