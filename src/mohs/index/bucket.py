"""An index in a bucket of S3, or of what speaks as it does; laid out as in a folder, so that either can be copied.

A bucket has no lock. Every object is written whole or not at all, LanceDB's versions take turns by conditional writes,
and `index.json`, which makes it an index, is written last.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from mohs.artefacts import atomic_folder
from mohs.data.cache import default_cache_dir
from mohs.errors import InputError, MohsError, Problem, ResourceError, reason_of
from mohs.index.places import ABOUT, EMBEDDER, Stamp
from mohs.lock import only_writer
from mohs.model.embedder import Embedder
from mohs.model.saved import SETTINGS, WEIGHTS
from mohs.sums import parse_summed, summed_text

__all__ = ["BucketPlace"]

# LanceDB and pyarrow encode other characters in ways of their own.
_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]*)/([\w.-]+(?:/[\w.-]+)*)/?", re.ASCII)
# What is there answers within these; what is not is told in seconds.
_CONNECT_S, _ANSWER_S, _TRIES = 3, 5, 2
_STORE_ANSWER_S, _STORE_RETRY_S = 20, 20
_FETCH_WAIT_S = 60.0
_MOST_SHOWN = 200


@final
class BucketPlace:
    """An index under an address `s3://bucket/name`.

    Credentials, region and endpoint are those of the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_REGION`,
    `AWS_ENDPOINT_URL` and so on), or files of the AWS command line.
    """

    def __init__(self, bucket: str, key: str) -> None:
        self._bucket = bucket
        self._path = f"{bucket}/{key}"
        self.uri = f"s3://{self._path}"
        self.folder = self.uri

    @classmethod
    def of(cls, address: str) -> "BucketPlace":
        """Return the place of an address; raise `InputError` for one that no index can have."""
        found = _ADDRESS.fullmatch(address)
        if found is None or {".", ".."} & set(found[2].split("/")):
            what = "an index can be in a folder or under s3://bucket/name, of letters, digits, '-', '_' and '.'"
            raise InputError(Problem(address, f"no such address: {what}", "for example s3://shop/rings.index"))
        return cls(found[1], found[2])

    @property
    def storage_options(self) -> dict[str, str]:
        """Endpoint and region for LanceDB, and how long it waits; credentials it finds by itself."""
        options = {
            "connect_timeout": f"{_CONNECT_S}s",
            "timeout": f"{_STORE_ANSWER_S}s",
            "client_max_retries": str(_TRIES),
            "client_retry_timeout": str(_STORE_RETRY_S),
        }
        if (endpoint := _endpoint()) is not None:
            options |= {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}
        if self._region is not None:
            options["aws_region"] = self._region
        return options

    def has_file(self, name: str) -> bool:
        """Return whether there is an object of this name."""
        return self.stamp(name) is not None

    def has_folder(self, name: str) -> bool:
        """Return whether there are objects whose names begin so."""
        from pyarrow.fs import FileType

        with self.reaching():
            return bool(self._system.get_file_info(f"{self._path}/{name}").type == FileType.Directory)

    def stamp(self, name: str) -> Stamp:
        """Return hash and time of an object."""
        with self.reaching():
            try:
                with self._system.open_input_stream(f"{self._path}/{name}") as file:
                    about = file.metadata()
            except FileNotFoundError:
                return None
        return tuple(about[key].decode() for key in ("ETag", "Last-Modified") if key in about)

    def named(self, name: str) -> str:
        """Return an object's address."""
        return f"{self.uri}/{name}"

    def read(self, name: str) -> dict[str, Any]:
        """Return the values of a JSON object (`mohs.sums.read_summed`)."""
        return parse_summed(self._bytes(name), self.named(name))

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON object (`mohs.sums.write_summed`)."""
        with self.reaching(), self._system.open_output_stream(f"{self._path}/{name}") as file:
            file.write(summed_text(values).encode())

    def remove(self, name: str) -> None:
        """Remove an object, if there is one."""
        if self.has_file(name):
            with self.reaching():
                self._system.delete_file(f"{self._path}/{name}")

    def save_embedder(self, network: Embedder) -> None:
        """Write a copy of an embedder, its settings last."""
        with tempfile.TemporaryDirectory() as folder:
            network.save_pretrained(folder)
            for name in (WEIGHTS, SETTINGS):
                with (
                    self.reaching(),
                    (Path(folder) / name).open("rb") as file,
                    self._system.open_output_stream(f"{self._path}/{EMBEDDER}/{name}") as to,
                ):
                    shutil.copyfileobj(file, to)

    def embedder_folder(self) -> Path:
        """Return a folder in the user's cache with the embedder: fetched once, for its settings have its SHA-256."""
        settings = self._bytes(f"{EMBEDDER}/{SETTINGS}")
        folder = default_cache_dir() / "embedders" / hashlib.sha256(settings).hexdigest()[:32]
        with only_writer(folder.parent, "fetching an embedder", wait_s=_FETCH_WAIT_S):
            if not folder.exists():
                with atomic_folder(folder) as temporary:
                    (temporary / WEIGHTS).write_bytes(self._bytes(f"{EMBEDDER}/{WEIGHTS}"))
                    (temporary / SETTINGS).write_bytes(settings)
        return folder

    def require_new(self) -> None:
        """Raise `InputError` if there are objects under this address."""
        from pyarrow.fs import FileSelector

        if self.has_file(ABOUT):
            raise InputError(Problem("folder", f"{self.uri} exists already", "give another, or remove it"))
        with self.reaching():
            found = self._system.get_file_info(FileSelector(self._path, allow_not_found=True))
        if found:
            what = "is no index and not empty: one is being built, or its building was killed"
            raise InputError(Problem("folder", f"{self.uri} {what}", "give another, or remove what is there"))

    def require_room(self, num_bytes: int) -> None:
        """Do nothing: a bucket has room."""

    @contextlib.contextmanager
    def new(self) -> Iterator["BucketPlace"]:
        """Yield this place, which must be empty, and is empty again if the block raises."""
        self.require_new()
        try:
            yield self
        except BaseException:
            with contextlib.suppress(OSError):
                self._system.delete_dir(self._path)
            raise

    @contextlib.contextmanager
    def changing(self, doing: str, wait_s: float) -> Iterator[bool]:  # noqa: ARG002
        """Yield False: LanceDB has changes of several processes take turns, and makes one again that came too late."""
        try:
            yield False
        except MohsError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            fix = "see with 'mohs index info' how it is, and try again"
            raise ResourceError(Problem(self.uri, f"cannot be changed ({_reason(error)})", fix)) from None

    @contextlib.contextmanager
    def reaching(self) -> Iterator[None]:
        """Have what cannot be reached, or may not be, told in a line."""
        try:
            yield
        except MohsError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            raise self.unreadable(error) from None

    def unreadable(self, error: Exception) -> ResourceError:
        """Return the line for a place that cannot be reached, or may not be."""
        fix = "check the address, the AWS_... variables and the network"
        return ResourceError(Problem(self.uri, f"cannot be reached ({_reason(error)})", fix))

    def is_lost(self, error: Exception) -> bool:
        """Return whether LanceDB raised an error since it could not reach the bucket."""
        return "LanceError(IO)" in str(error) or "Generic S3 error" in str(error)

    def _bytes(self, name: str) -> bytes:
        with self.reaching():
            try:
                with self._system.open_input_stream(f"{self._path}/{name}") as file:
                    return bytes(file.read())
            except FileNotFoundError:
                raise InputError(f"{self.named(name)}: no such file; check the address") from None

    @cached_property
    def _region(self) -> str | None:
        """The region of the bucket; None where a variable has it, or an endpoint of one's own has none."""
        if _endpoint() is not None or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
            return None
        from pyarrow.fs import resolve_s3_region

        with self.reaching():
            return str(resolve_s3_region(self._bucket))

    @cached_property
    def _system(self) -> Any:
        try:
            from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem
        except ImportError:
            raise InputError(f"{self.uri}: this pyarrow has no S3; pip install pyarrow") from None
        given: dict[str, str] = {}
        if (endpoint := _endpoint()) is not None:
            parts = urlsplit(endpoint)
            given = {"endpoint_override": parts.netloc, "scheme": parts.scheme}
        if self._region is not None:
            given["region"] = self._region
        with self.reaching():
            return S3FileSystem(
                **given,
                connect_timeout=_CONNECT_S,
                request_timeout=_ANSWER_S,
                retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_TRIES),
            )


def _endpoint() -> str | None:
    """Return the address of another server than Amazon's; raise `InputError` for none, and for one in the clear."""
    name = "AWS_ENDPOINT_URL_S3" if os.environ.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"
    endpoint = os.environ.get(name)
    if not endpoint:
        return None
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname if parts.port is None or parts.port else None
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https"):
        raise InputError(Problem(name, f"{endpoint!r} is no address", "give for example https://s3.example.org"))
    is_wanted = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
    if parts.scheme == "http" and not (_is_this_machine(host) or is_wanted):
        raise InputError(Problem(name, f"{endpoint!r} is not encrypted", "use https://, or set AWS_ALLOW_HTTP=true"))
    return endpoint.rstrip("/")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """Return what went wrong, without the layers around it that pyarrow and LanceDB tell first."""
    text = re.sub(r"(^lance error: LanceError\(\w+\): |, /\S+\.rs:\d+:\d+.*$)", "", reason_of(error))
    if inner := re.findall(r'message: "([^"]+)"', text):
        return str(inner[-1])[:_MOST_SHOWN]
    for before in ("AWS Error ", "HTTP error: "):
        text = text.rpartition(before)[2]
    return text.partition("; Details: ")[0][:_MOST_SHOWN]
