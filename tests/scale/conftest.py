import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mohs
from mohs.data.images import ImagePolicy
from mohs.settings.config import ModelConfig

NUM_ITEMS = 600


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str | None]:
    """An S3 server on loopback, of which this process and those that it starts know; None without moto."""
    if find_spec("moto") is None or find_spec("flask") is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "none")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "none")
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(endpoint, timeout=5)
                    break
                time.sleep(0.1)
            yield endpoint
        finally:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def ray(s3_server: str | None) -> Iterator[Any]:
    """A cluster of this machine, with two processors."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: mining and embedding on a cluster are NOT tested")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that Ray brings
        for attempt in range(4):
            try:
                ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
                break
            except Exception:  # a node has 30 s to start, which a busy machine may need longer for
                ray.shutdown()
                if attempt == 3:
                    raise
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, their table and a saved embedder."""
    folder = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (NUM_ITEMS, 12, 12, 3), dtype=np.uint8)
    rows = ["file,class"]
    for i in range(NUM_ITEMS):
        Image.fromarray(pixels[i]).save(folder / f"{i}.png")
        rows.append(f"{i}.png,ring {i // 2}")
    (folder / "shop.csv").write_text("\n".join(rows) + "\n")
    network = mohs.Embedder.create(ModelConfig(widths=(4,), hidden_dim=0, embedding_dim=8), ImagePolicy(size=16))
    network.save_pretrained(folder / "network")
    return folder
