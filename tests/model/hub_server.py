"""A small server on loopback that answers as the Hugging Face hub does: as far as models are fetched and pushed."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, final

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"


@final
@dataclass
class Hub:
    """What the hub holds, {"user/name": {"file": bytes}}, its address, and what it was asked."""

    address: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    visibility: dict[str, str] = field(default_factory=dict)


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Yield a hub that answers while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        self._file(body=True)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.objects[self.path.rpartition("/")[2]] = content
        self._answer(200, b"")

    def do_POST(self) -> None:
        self.hub.asked.append(f"POST {self.path}")
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, b'{"error": "who are you?"}')
        parts = self.path.partition("?")[0].strip("/").split("/")
        match parts:
            case ["api", "validate-yaml"]:
                return self._json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                asked = json.loads(content)
                repo = f"{asked['organization']}/{asked['name']}"
                self.hub.repos.setdefault(repo, {})
                self.hub.visibility[repo] = str(asked.get("visibility", asked.get("private")))
                return self._json({"url": f"{self.hub.address}/{repo}", "id": repo})
            case ["api", "models", _, _, "preupload", "main"]:
                modes = [
                    {"path": each["path"], "uploadMode": _mode(each["path"]), "shouldIgnore": False}
                    for each in json.loads(content)["files"]
                ]
                return self._json({"files": modes})
            case [_, _, "info", "lfs", "objects", "batch"]:
                found = json.loads(content)["objects"]
                for each in found:
                    each["actions"] = {"upload": {"href": f"{self.hub.address}/objects/{each['oid']}"}}
                return self._json({"transfer": "basic", "objects": found})
            case ["api", "models", user, name, "commit", "main"]:
                self._commit(self.hub.repos[f"{user}/{name}"], content)
                address = f"{self.hub.address}/{user}/{name}/commit/{COMMIT}"
                return self._json({"commitUrl": address, "commitOid": COMMIT, "success": True})
        return self._answer(404, b"{}")

    def _commit(self, repo: dict[str, bytes], content: bytes) -> None:
        for line in map(json.loads, content.splitlines()):
            match line:
                case {"key": "file", "value": value}:
                    repo[value["path"]] = base64.b64decode(value["content"])
                case {"key": "lfsFile", "value": value}:
                    repo[value["path"]] = self.hub.objects[value["oid"]]

    def _file(self, *, body: bool) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        match self.path.partition("?")[0].strip("/").split("/"):
            case [user, name, "resolve", revision, file]:
                pass
            case _:
                return self._answer(404, b"{}")
        repo = self.hub.repos.get(f"{user}/{name}")
        if repo is None:
            return self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", "v1", COMMIT):
            return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        headers = {"X-Repo-Commit": COMMIT}
        if file not in repo:
            return self._answer(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
        etag = f'"{hashlib.sha256(repo[file]).hexdigest()}"'
        return self._answer(200, repo[file], {**headers, "ETag": etag}, body=body)

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None, *, body: bool = True) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"
