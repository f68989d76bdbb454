"""The service on a real socket: it answers, and slow sockets are cut."""

import contextlib
import http.client
import socket
import threading
import time

import pytest

from mohs.errors import InputError
from mohs.serve.server import bind
from mohs.serve.settings import read_settings

from .live import served


def lifetime_s(port, first, then=b"", every_s=0.05):
    """Return how long a connection lives that sends `first`, and then goes on dripping."""
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.settimeout(every_s)
        began = time.monotonic()
        with contextlib.suppress(OSError):
            one.sendall(first)
            while time.monotonic() - began < 5:
                with contextlib.suppress(TimeoutError):
                    if not one.recv(65536):
                        break
                one.sendall(then)
        return time.monotonic() - began


def test_it_answers_and_cuts_what_is_slow(built, products):
    with served(built, header_s=0.4, body_s=0.4, inference_s=0.4, send_s=0.4) as port:
        # One connection for two requests, as browsers do, with longer than a header may take between them.
        one = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(2):
            one.request("POST", "/search", (products / "07-1.png").read_bytes(), {"content-type": "image/png"})
            answer = one.getresponse()
            assert answer.status == 200
            assert b'"class":"ring 7"' in answer.read()
            time.sleep(0.5)
        slow = [
            (b"", b""),
            (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n", b"x: y\r\n"),
            (
                b"POST /search HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n",
                b"x",
            ),
        ]
        found: dict[int, float] = {}
        threads = [
            threading.Thread(target=lambda i, each: found.update({i: lifetime_s(port, *each)}), args=(i, each))
            for i, each in enumerate(slow)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(0.3 < time_s < 2 for time_s in found.values()), found
        one.request("GET", "/health")
        assert one.getresponse().status == 200
        one.close()


def test_an_answer_that_is_not_taken_is_cut(built):
    with served(built, body_s=0.2, inference_s=0.2, send_s=0.2) as port, socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        # Asks for more than the sockets hold, and reads none of it.
        with contextlib.suppress(OSError):
            for _ in range(400):
                one.sendall(b"GET /items/07-1.png/image?large=1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
                time.sleep(0.005)
        time.sleep(0.3)
        with pytest.raises(OSError):  # noqa: PT012
            one.settimeout(2)
            for _ in range(1000):
                one.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 10)
                time.sleep(0.005)


def test_one_connection_too_many_is_closed(built):
    with served(built, max_connections=2) as port:
        kept = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port)) as third:
            third.settimeout(2)
            with contextlib.suppress(ConnectionResetError):
                assert third.recv(10) == b""
        for each in kept:
            each.close()


def test_where_it_cannot_listen_is_said():
    with bind(read_settings({"port": 0})) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"^port: {port} is in use; give another$"):
            bind(read_settings({"port": port}))
    with pytest.raises(InputError, match=r"^host: 'no such host' is no address; use for example 127.0.0.1$"):
        bind(read_settings({"port": 0, "host": "no such host"}))
    with pytest.raises(InputError, match=r"^host: '192.0.2.1' is no address of this machine; use for example"):
        bind(read_settings({"port": 0, "host": "192.0.2.1"}))
