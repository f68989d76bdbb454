"""Where an index can be: addresses that are none, and servers that do not answer, are told in one line."""

import socket
import time
from pathlib import Path

import pytest

from mohs.errors import InputError, ResourceError
from mohs.index.index import Index
from mohs.index.places import FolderPlace, is_address, place_of
from mohs.index.store import Store


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ALLOW_HTTP", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")


@pytest.mark.parametrize(
    "address",
    [
        "gs://shop/rings", "s3://shop", "s3://shop/", "s3:///rings", "s3://shop/a//b", "s3://shop/../b",
        "s3://shop/my rings", "s3://shop/a?b", "s3://key:secret@shop/b", "s3://Shop/b", "file:///tmp/b", "s3://shop/ü",
    ],
)  # fmt: skip
def test_an_address_that_no_index_can_have(address: str) -> None:
    assert is_address(address)
    for ask in (Index.open, place_of):
        with pytest.raises(InputError) as caught:
            ask(address)
        assert str(caught.value) == (
            f"{address}: no such address: an index can be in a folder or under s3://bucket/name, of letters, digits, "
            "'-', '_' and '.'; for example s3://shop/rings.index"
        )


def test_a_path_is_a_folder_and_an_address_outlives_one(tmp_path: Path) -> None:
    for where in ("rings", "./s3", "a:b/c", "C:/rings", tmp_path, ""):
        assert isinstance(place_of(where), FolderPlace), where
    assert place_of(Path("s3://shop/a/rings.index/")).uri == "s3://shop/a/rings.index"


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("shop", "'shop' is no address; give for example https://s3.example.org"),
        ("ftp://shop", "'ftp://shop' is no address; give for example https://s3.example.org"),
        ("http://shop:99999", "'http://shop:99999' is no address; give for example https://s3.example.org"),
        ("http://10.0.0.1:9000", "'http://10.0.0.1:9000' is not encrypted; use https://, or set AWS_ALLOW_HTTP=true"),
        ("http://127.a.example", "'http://127.a.example' is not encrypted; use https://, or set AWS_ALLOW_HTTP=true"),
    ],
)  # fmt: skip
def test_an_endpoint_that_is_none(endpoint: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, endpoint)
        with pytest.raises(InputError) as caught:
            Index.open("s3://shop/rings")
        assert str(caught.value) == f"{name}: {message}"


@pytest.mark.parametrize("answers", ["refuses", "is silent"])
def test_a_server_that_does_not_answer_is_told_in_seconds(
    answers: str, monkeypatch: pytest.MonkeyPatch, shop: Path, embedder: object
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers == "is silent":
            server.listen(50)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        place = place_of("s3://shop/rings")
        asked = [
            lambda: Index.open("s3://shop/rings"),
            lambda: Index.build("s3://shop/rings", shop / "shop.csv", embedder),
            lambda: Store.open(place),
        ]
        for ask in asked if answers == "refuses" else asked[:1]:
            began = time.monotonic()
            with pytest.raises(ResourceError) as caught:
                ask()
            assert time.monotonic() - began < 60  # 1 s and 11 s on a quiet machine
            [line] = str(caught.value).splitlines()
            assert line.startswith("s3://shop/rings: cannot be reached (")
            assert line.endswith("; check the address, the AWS_... variables and the network")
            assert "curlCode" in line
