"""Ways in which bytes and JSON values go wrong, drawn by a seeded generator."""

import json
import random
from typing import Any

__all__ = ["BYTES", "VALUES", "changed_json", "changed_value"]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    num = min(rng.choice((1, 8, 64, 512)), len(data) - start)
    return data[:start] + bytes(num) + data[start + num :]


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 4, 16))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def longer(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.choice((1, 77, 300)))


def repeated(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start : start + 32] + data[start:]


BYTES = (cut, zeroed, flipped, flipped, longer, repeated)

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e300, float("nan"), float("inf"), "", "x" * 5000, "\x1b[31m", [], {}, [[]],
)  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where values lie in a JSON value, down to some depth."""
    if len(at) > 20:
        return []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [place for key, each in inner for place in places(each, (*at, key))]


def changed_value(values: Any, rng: random.Random) -> Any:
    """Change one value of a JSON value in place: it is missing, added, of another kind, or nested; return the whole."""
    *way, last = rng.choice(places(values))
    inner = values
    for key in way:
        inner = inner[key]
    match rng.randrange(4):
        case 0:
            del inner[last]
        case 1 if isinstance(inner, dict):
            inner[f"{last}_too"] = rng.choice(VALUES)
        case 2:
            inner[last] = json.loads("[" * 900 + "]" * 900)
        case _:
            inner[last] = rng.choice(VALUES)
    return values


def changed_json(data: bytes, rng: random.Random) -> bytes:
    """Return the JSON with a value changed, there twice, or nested deeply."""
    values = json.loads(data)
    match rng.randrange(6):
        case 0:
            *_, last = rng.choice([place for place in places(values) if isinstance(place[-1], str)])
            name = json.dumps(last) + ": "
            return json.dumps(values).replace(name, f"{name}{rng.choice(('0', 'null', '[]'))}, {name}", 1).encode()
        case 1:
            deep = b"[" * 100_000 + b"]" * 100_000
            return deep if rng.random() < 0.5 else b'{"format": ' + deep + b"}"
        case _:
            return json.dumps(changed_value(values, rng)).encode()
