"""The Hugging Face hub, as a server on loopback; in processes of their own, since its variables are read once."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from mohs.data.images import ImagePolicy
from mohs.model.embedder import Embedder
from mohs.settings.config import ModelConfig

from .hub_server import COMMIT, TOKEN, Hub, hub_server

ASK = """
import sys
from mohs.errors import InputError
from mohs.model.hub import hub_embedder
for name in sys.argv[1:]:
    try:
        print(sorted((file.name, file.read_bytes().hex()) for file in hub_embedder(name).iterdir()))
    except InputError as error:
        print(error)
"""  # without torch, which takes long to import


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as found:
        yield found


def process(hub: Hub, home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        **variables,
    }
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def pushed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Callable[..., Any]) -> dict[str, bytes]:
    """What is in a repository after a push."""
    config = ModelConfig(widths=(4,), hidden_dim=0, embedding_dim=4)
    Embedder.create(config, ImagePolicy(size=16), seed=3).save_pretrained(tmp_path / "own")
    # Pushing from this process spares the import of torch in another one.
    for name, value in (("ENDPOINT", hub.address), ("HF_HUB_DISABLE_XET", True), ("HF_TOKEN_PATH", "/none")):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    command = ("export", tmp_path / "own", "--push-to-hub", "shop/rings", "--license", "apache-2.0")
    refused = run_cli(*command)
    assert refused.code == 2
    line = f"mohs: hub: {hub.address} answers 401 for 'shop/rings'; set HF_TOKEN to a token that may do this"
    assert refused.err == [line]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    done = run_cli(*command)
    assert (done.code, done.err[-1]) == (0, f"pushed: {hub.address}/shop/rings")
    return hub.repos["shop/rings"]


@pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # the hub's client warns of itself
def test_pushed_fetched_and_used_again_without_a_network(hub: Hub, pushed: dict[str, bytes], tmp_path: Path) -> None:
    assert sorted(pushed) == ["README.md", "embedder.json", "model.safetensors"]
    assert pushed["model.safetensors"] == (tmp_path / "own/model.safetensors").read_bytes()
    assert hub.visibility["shop/rings"] == "private"
    card = pushed["README.md"].decode()
    assert card.startswith("---\nlibrary_name: mohs\nlicense: apache-2.0\n")
    assert 'from_pretrained("hf-hub:shop/rings")' in card

    # The second time no file is fetched: they are in the cache.
    hub.repos["shop/pickled"] = {"embedder.json": b"{}", "pytorch_model.bin": b"evil"}
    wanted = str([(name, content.hex()) for name, content in sorted(pushed.items()) if name != "README.md"])
    repos = ("rings", "rings@v1", "none", "rings@v2", "a b", "pickled")
    fetched = process(hub, tmp_path / "home", "-c", ASK, *(f"hf-hub:shop/{repo}" for repo in repos))
    assert fetched.stderr == ""
    assert fetched.stdout.splitlines() == [
        wanted,
        wanted,
        f"hf-hub:shop/none: {hub.address} has no model 'shop/none', or you may not read it; check the name, "
        "or set HF_TOKEN",
        "hf-hub:shop/rings@v2: 'shop/rings' has no such revision; check what follows the @",
        "hf-hub:shop/a b: 'shop/a b' is not the name of a repository; write user/name",
        "hf-hub:shop/pickled: 'shop/pickled' has no model.safetensors, and no other file is loaded; use another "
        "repository",
    ]
    assert [each for each in hub.asked if each.startswith("GET /shop")] == [
        "GET /shop/rings/resolve/main/embedder.json",
        f"GET /shop/rings/resolve/{COMMIT}/model.safetensors",
        "GET /shop/pickled/resolve/main/embedder.json",
    ]
    assert not any("pytorch_model" in each for each in hub.asked)
    offline = process(hub, tmp_path / "home", "-c", ASK, "hf-hub:shop/rings", "hf-hub:a/b", HF_HUB_OFFLINE="1")
    why = "HF_HUB_OFFLINE is set, and 'a/b' is not in the cache; connect, or set HF_ENDPOINT to a mirror"
    assert offline.stdout.splitlines() == [wanted, f"hf-hub:a/b: {why}"]


def test_a_hub_that_is_not_there_is_one_line(hub: Hub, tmp_path: Path) -> None:
    gone = process(hub, tmp_path / "home", "-c", ASK, "hf-hub:shop/rings", HF_ENDPOINT="http://127.0.0.1:9")
    assert gone.stderr == ""
    assert gone.stdout.splitlines() == [
        "hf-hub:shop/rings: http://127.0.0.1:9 cannot be reached, and 'shop/rings' is not in the cache; connect, or "
        "set HF_ENDPOINT to a mirror"
    ]


def test_an_embedder_is_named_by_its_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(widths=(4,), hidden_dim=0, embedding_dim=4)
    Embedder.create(config, ImagePolicy(size=16)).save_pretrained(tmp_path / "own")
    monkeypatch.setattr("mohs.model.saved.hub_embedder", {"hf-hub:shop/rings": tmp_path / "own"}.__getitem__)
    assert Embedder.from_pretrained(Path("hf-hub:shop/rings")).embedding_dim == 4
