"""What is refused before anything is done, and what slow or many clients cost the others."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from mohs.serve.batching import Batcher
from mohs.serve.limits import Limits
from mohs.serve.metrics import Metrics
from mohs.serve.settings import read_settings

from .conftest import ADDRESS

PNG = {"content-type": "image/png"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("shop.example", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("", 400),
        ("[", 400),
    ],
)
def test_only_its_own_names_are_answered(client_of, built, host, status):
    client = client_of(built, allowed_hosts=("shop.example",))
    assert client.get("/health", headers={"host": host}).status_code == status


def test_other_sites_cannot_send_anything(client):
    said = {"query": "00-0.png", "item": "01-0.png", "verdict": "same", "distance": 0.25}
    assert client.post("/feedback", json=said, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.post("/feedback", json=said, headers={"origin": "null"}).status_code == 403
    assert client.post("/feedback", json=said, headers={"origin": ADDRESS}).status_code == 201


def test_every_answer_has_safe_headers(client):
    for answer in (client.get("/"), client.get("/nothing"), client.get("/health", headers={"host": "x"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in answer.headers["content-security-policy"]


def test_a_body_is_counted_while_it_comes_in(client_of, built):
    client = client_of(built, max_body_bytes=1000)
    assert client.post("/search", content=b"x" * 1001, headers=PNG).status_code == 413
    taken = []

    def parts():
        for _ in range(1000):
            taken.append(1)
            yield b"x" * 100

    # Without a length: it is chunked.
    answer = client.post("/search", content=parts(), headers=PNG)
    assert (answer.status_code, answer.json()["detail"]) == (413, "body: more than 1,000 bytes; send a smaller picture")


def scope_of(length=None):
    headers = [(b"host", b"localhost"), (b"content-type", b"image/png")]
    return {
        "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "",
        "headers": headers, "http_version": "1.1", "scheme": "http", "client": None, "server": None,
    }  # fmt: skip


async def status_of(app, parts):
    """Return the status of an answer to a body that comes in parts; None is silence."""
    sent = []

    async def receive():
        part = parts.pop(0) if parts else None
        if part is None:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    await app(scope_of(), receive, send)
    return sent[0]["status"]


def test_the_app_is_given_no_more_than_the_limit_and_nothing_late():
    given = []

    async def endpoint(request):
        given.append(await request.body())
        return Response("ok")

    settings = read_settings({"max_body_bytes": 10, "body_s": 0.05, "max_buffered_bytes": 15})
    inner = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    app = Limits(inner, settings=settings, metrics=Metrics())

    async def all_of_them():
        assert await status_of(app, [b"12345", b"67890"]) == 200
        assert await status_of(app, [b"12345", b"67890", b"1", b""]) == 413
        assert await status_of(app, [b"12345", None, b""]) == 408
        # Two that are slow hold ten bytes of the fifteen; six more are too many, until the two have gone.
        slow = [asyncio.create_task(status_of(app, [b"12345", None, b""])) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert await status_of(app, [b"123456"]) == 503
        assert await asyncio.gather(*slow) == [408, 408]
        assert await status_of(app, [b"123456"]) == 200

    asyncio.run(all_of_them())
    assert given == [b"1234567890", b"123456"]


def test_queries_that_come_together_are_answered_together_and_each_its_own():
    sizes = {"one": [], "other": []}

    def work(group, queries):
        sizes[group].append(len(queries))
        time.sleep(0.02)
        return [3 * query for query in queries]

    async def ask():
        batcher = Batcher(work, 8, Metrics())
        asked = [batcher.ask("one" if i < 20 else "other", i) for i in range(30)]
        found = await asyncio.gather(*asked)
        batcher.close()
        return found

    assert asyncio.run(ask()) == [3 * i for i in range(30)]
    # Never two groups in a batch, never more than eight queries.
    assert sizes == {"one": [8, 8, 4], "other": [8, 2]}


def test_a_full_queue_says_so_and_late_answers_are_told(client_of, built, products, monkeypatch):
    client = client_of(built, max_queue=1, inference_s=0.2)
    data = (products / "00-0.png").read_bytes()
    embed = client.app.state.editions.current.index.embedder.embed

    def slow(pictures):
        time.sleep(0.5)
        return embed(pictures)

    monkeypatch.setattr(client.app.state.editions.current.index.embedder, "embed", slow)
    assert client.post("/search", content=data, headers=PNG).status_code == 504
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post("/search", content=data, headers=PNG), range(4)))
    assert sorted({answer.status_code for answer in answers}) == [503, 504]
    full = next(answer for answer in answers if answer.status_code == 503)
    assert full.headers["retry-after"] == "1"
    assert full.json()["detail"] == "busy: the queue is full; try again in a second"
    assert client.get("/health").status_code == 200
    monkeypatch.undo()
    time.sleep(0.6)
    assert client.post("/search", content=data, headers=PNG).status_code == 200
