"""`mohs serve`: what it says before it serves, and that it serves."""

import contextlib
import importlib.util
import os
import signal
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

import mohs
from mohs.data.images import ImagePolicy
from mohs.settings.config import ModelConfig

pytest.importorskip("lancedb", reason="needs mohs[search]")
pytest.importorskip("fastapi", reason="needs mohs[serve]")


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        Image.fromarray(np.full((12, 12, 3), 80 * i, dtype=np.uint8)).save(f"{i}.png")
    (tmp_path / "shop.csv").write_text("file,class\n0.png,a\n1.png,b\n2.png,c\n")
    embedder = mohs.Embedder.create(
        ModelConfig(widths=(8,), hidden_dim=0, embedding_dim=8), ImagePolicy(size=8), seed=0
    )
    return mohs.Index.build("i", "shop.csv", embedder.eval()).folder


def test_what_is_wrong_is_one_line(index, run_cli, monkeypatch):
    def told(*words):
        bad = run_cli("serve", *words)
        assert (bad.code, bad.out) == (2, "")
        return bad.err

    line = "mohs: INDEX, --run: give one of them, an index to search or a run to look through"
    assert told() == told("i", "--run", "r") == [line]
    line = "mohs: i: not a run folder (no config.json); give one made by 'mohs train'"
    assert told("--run", "i", "--port", "0") == [line]
    line = "mohs: none: not an index (no index.json); make one with 'mohs index build'"
    assert told("none", "--port", "0") == [line]
    assert told("i", "--port", "-1") == ["mohs: --port: -1 is wrong: input should be greater than or equal to 0"]
    assert told("i", "--host", "no such") == ["mohs: --host: 'no such' is no address; use for example 127.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert told("i", "--port", port) == [f"mohs: --port: {port} is in use; give another"]
    (index.parent / "folder").mkdir()
    assert told("i", "--review", "folder") == ["mohs: --review: folder is a folder; name a file in it"]
    monkeypatch.setenv("MOHS_SERVE_TOKEN", "hunter2")
    line = "mohs: MOHS_SERVE_TOKEN: has fewer than 16 characters; use a longer one"
    assert told("i", "--port", "0") == [line]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    assert told("i") == ["mohs: mohs[serve]: the service needs uvicorn; pip install 'mohs[serve]'"]


def test_it_serves_until_it_is_stopped(index, run_cli):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    seen = []

    def ask_and_stop():
        until = time.monotonic() + 30
        while not seen and time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                seen.append(answer.read())
        os.kill(os.getpid(), signal.SIGINT)

    asking = threading.Thread(target=ask_and_stop)
    # A process that runs tests beside others ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asking.start()
        stopped = run_cli("serve", "i", "--port", port)
        asking.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert b'"num_items":3' in seen[0]
    assert stopped.err == [f"serving i at http://127.0.0.1:{port} (stop with Ctrl-C)", "mohs: interrupted"]
    assert stopped.code == 130
