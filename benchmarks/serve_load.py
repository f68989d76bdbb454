"""Clients of a service: many that ask, slow ones, and ones that send bombs."""

import contextlib
import http.client
import io
import json
import multiprocessing
import random
import socket
import struct
import threading
import time
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image


@dataclass
class Asked:
    """One answer: which query, its status, what was said, and how long it took. Status 0: no answer at all."""

    query: int
    status: int
    answer: dict[str, Any]
    time_s: float


def ask_for(port: int, queries: list[bytes], num_clients: int, for_s: float, top: int) -> list[Asked]:
    """Return what clients were answered that each ask again and again, from a process of their own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_ask_all, (port, queries, num_clients, for_s, top))


def _ask_all(port: int, queries: list[bytes], num_clients: int, for_s: float, top: int) -> list[Asked]:
    until = time.monotonic() + for_s
    found: list[list[Asked]] = [[] for _ in range(num_clients)]
    threads = [threading.Thread(target=_ask, args=(port, queries, until, top, i, found[i])) for i in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [each for of_one in found for each in of_one]


def _ask(port: int, queries: list[bytes], until: float, top: int, seed: int, found: list[Asked]) -> None:
    # On a bare socket, and read as JSON when the time is over: clients share the cores with what they measure.
    requests = [
        f"POST /search?top={top} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: image/jpeg\r\n"
        f"content-length: {len(query)}\r\n\r\n".encode()
        + query
        for query in queries
    ]
    chosen = random.Random(seed)
    connection: socket.socket | None = None
    raw: list[tuple[int, int, bytes, float]] = []
    while time.monotonic() < until:
        query = chosen.randrange(len(queries))
        began = time.monotonic()
        try:
            if connection is None:
                connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(requests[query])
            head, body = _answer_of(connection)
            raw.append((query, int(head[9:12]), body, time.monotonic() - began))
            if b"connection: close" in head:
                connection.close()
                connection = None
        except OSError as error:
            found.append(Asked(query, 0, {"detail": repr(error)}, time.monotonic() - began))
            if connection is not None:
                connection.close()
            connection = None
    found += [Asked(query, status, json.loads(body), time_s) for query, status, body, time_s in raw]


def _answer_of(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return head, in small letters, and body of an answer whose length is told."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    head = head.lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += _received(connection)
    return head, body


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("closed")
    return data


class HealthWatch:
    """Asks for /health ten times a second, each time on a new connection, and keeps how long it took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.times_s: list[float] = []
        self.failed = 0

    def __enter__(self) -> "HealthWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            began = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                connection.request("GET", "/health")
                self.failed += connection.getresponse().status != 200
                connection.close()
            except (OSError, http.client.HTTPException):
                self.failed += 1
            self.times_s.append(time.monotonic() - began)


def slow_sockets(port: int, num: int, for_s: float) -> list[float]:
    """Return how long each of `num` sockets lived that send a byte a second: a third headers, bodies, nothing."""
    header = f"GET /health HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n".encode()
    body = (
        header.replace(b"GET /health", b"POST /search") + b"content-type: image/png\r\ncontent-length: 999999\r\n\r\n"
    )
    opened = []
    for i in range(num):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall((header, body, b"")[i % 3])
        one.setblocking(False)
        opened.append((one, i % 3, time.monotonic()))
    lived: dict[int, float] = {}
    until = time.monotonic() + for_s
    while time.monotonic() < until and len(lived) < num:
        time.sleep(1)
        for i, (one, kind, began) in enumerate(opened):
            if i in lived:
                continue
            try:
                if one.recv(65536) == b"":
                    lived[i] = time.monotonic() - began
                    continue
            except BlockingIOError:
                pass
            except OSError:
                lived[i] = time.monotonic() - began
                continue
            if kind < 2:
                with contextlib.suppress(OSError):
                    one.sendall((b"x: y\r\n", b"x")[kind])
    for one, _, _ in opened:
        one.close()
    return [lived.get(i, float("inf")) for i in range(num)]


def bombs() -> list[tuple[str, bytes]]:
    """Return pictures that are small as files and large otherwise, five of each of four kinds."""
    kinds = [
        ("PNG, 49 megapixels", _flat_png(7000, 7000)),
        ("PNG, 900 megapixels", _flat_png(30000, 30000, whole=False)),
        ("GIF, 400 frames of 4 megapixels", _gif(400, 2000)),
        ("progressive JPEG, 49 megapixels", _jpeg(7000)),
    ]
    return [each for each in kinds for _ in range(5)]


def send_all(port: int, bodies: list[bytes]) -> list[Asked]:
    """Return what came back for bodies that are all sent at once."""
    found: list[Asked] = []

    def send(i: int) -> None:
        began = time.monotonic()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request("POST", "/search", bodies[i], {"content-type": "image/png"})
            answer = connection.getresponse()
            found.append(Asked(i, answer.status, json.loads(answer.read()), time.monotonic() - began))
        except (OSError, http.client.HTTPException) as error:
            found.append(Asked(i, 0, {"detail": repr(error)}, time.monotonic() - began))

    threads = [threading.Thread(target=send, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found, key=lambda each: each.query)


def _flat_png(width: int, height: int, *, whole: bool = True) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = b"\0" + bytes(3 * width)
    data = b"".join(packer.compress(row) for _ in range(height if whole else 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _gif(num: int, side: int) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("P", (side, side), i % 2) for i in range(num)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], optimize=False, duration=1)
    return buffer.getvalue()


def _jpeg(side: int) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (side // 100, side // 100)).astype(np.uint8)
    Image.fromarray(noise).resize((side, side)).convert("RGB").save(buffer, "JPEG", progressive=True, quality=50)
    return buffer.getvalue()
