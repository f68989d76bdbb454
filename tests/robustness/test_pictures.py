"""Every kind of picture through every way in: an array, or one line that says why not; nothing else, and soon."""

import ast
import io
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mohs
from mohs.cli import main
from mohs.data.cache import load_pictures
from mohs.data.colour import as_srgb
from mohs.data.images import ImagePolicy, decode_all, decode_bytes, decode_image, decode_untrusted
from mohs.data.picture_input import prepare_pictures
from mohs.data.table import Table
from mohs.errors import DataWarning, InputError

from .picture_kinds import GROUPS, encoded, make_kinds, picture, png, swapped_profile
from .reliability import check_table_of

POLICY = ImagePolicy(size=16)
READ = "array"


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    return make_kinds(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def outcomes(kinds: dict[str, dict[str, Path]]) -> dict[str, str]:
    """What the gate says of each kind: "array", or the reason."""
    found = {}
    for group in GROUPS:
        for kind, path in kinds[group].items():
            began = time.perf_counter()
            decoded = decode_all([path], POLICY)[0]
            assert time.perf_counter() - began < 20, kind  # beside other tests
            found[kind] = READ if decoded.pixels_HWC is not None else decoded.problem
            assert "\n" not in found[kind], kind
            assert found[kind], kind
    return found


def test_every_kind_is_an_array_or_a_line(kinds: dict[str, dict[str, Path]], outcomes: dict[str, str]) -> None:
    assert sum(map(len, kinds.values())) >= 146
    assert all(outcomes[kind] == READ for kind in kinds["formats and modes"] if kind not in _NO_RANGE), outcomes
    assert all(outcomes[kind] == READ for group in ("orientations", "colours and depth") for kind in kinds[group])
    assert not any(outcomes[kind] == READ for group in ("other files", "no regular files") for kind in kinds[group])
    for kind in _NO_RANGE:
        assert "pixels" in outcomes[kind]


# Their values have no white without --white-level.
_NO_RANGE = ("TIFF F",)


def test_every_way_in_says_the_same(kinds: dict[str, dict[str, Path]], outcomes: dict[str, str]) -> None:
    paths = {kind: path for group in kinds.values() for kind, path in group.items()}
    table = Table(
        tuple(map(str, paths.values())), np.array(["a"] * len(paths)), np.array(["sample"] * len(paths)),
        np.array([""] * len(paths)),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        loaded = load_pictures(table, POLICY, max_bad_images=len(paths))
        bad = {bad.index for bad in loaded.bad}
        held = {group: [0, 0, 0] for group in GROUPS}
        for index, (kind, path) in enumerate(paths.items()):
            group = next(group for group in GROUPS if kind in kinds[group])
            assert (outcomes[kind] == READ) == (index not in bad), kind
            for way, give in enumerate((path, path.read_bytes() if group != GROUPS[-1] else None)):
                if give is None:
                    continue
                if outcomes[kind] == READ:
                    assert prepare_pictures([give], POLICY).shape == (1, 16, 16, 3), kind
                else:
                    with pytest.raises(InputError) as caught:
                        prepare_pictures([give], POLICY)
                    assert len(caught.value.problems) == 1, kind
                held[group][way] += 1
            if group != GROUPS[-1]:
                sent = decode_untrusted(path.read_bytes(), POLICY, 10**7)
                assert (sent.pixels_HWC is None) == bool(sent.problem)
                held[group][2] += 1
    rows = [[group, len(kinds[group]), *counts] for group, counts in held.items()]
    check_table_of("pictures", ["pictures", "kinds", "file", "bytes", "upload of the service"], rows)


def test_a_check_names_every_bad_one(
    kinds: dict[str, dict[str, Path]], outcomes: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for group in GROUPS:
        table = tmp_path / "images.csv"
        lines = ["file,class", *(f"{path},{kind[:1]}" for kind, path in kinds[group].items())]
        table.write_text("\n".join(lines) + "\n")
        with pytest.raises(SystemExit) as stop:
            main(["check", str(table), "--quiet"])
        said = capsys.readouterr().err
        bad = [kind for kind in kinds[group] if outcomes[kind] != READ]
        assert stop.value.code == (2 if bad else 0), said
        assert "Traceback" not in said
        named = [path for kind, path in kinds[group].items() if kind in bad and f"{str(path)!r}: " in said]
        more = 0 if len(bad) <= 20 else len(bad) - 20
        assert len(named) >= len(bad) - more - 1


def test_white_is_0() -> None:
    grey = np.array([[0, 20_000, 65_535]] * 3, np.uint16).repeat(8, 0).repeat(8, 1)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "TIFF", tiffinfo={262: 0})
    turned = decode_bytes(buffer.getvalue(), ImagePolicy(size=24, channels=1, fit="stretch"))
    assert turned[12, [2, 12, 22], 0].tolist() == [255, (65_535 - 20_000) >> 8, 0]
    with_level = ImagePolicy(size=24, channels=1, fit="stretch", white_level=20_000)
    assert decode_bytes(buffer.getvalue(), with_level)[12, [2, 12, 22], 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_grey_of_16_bits_is_white(channels: int) -> None:
    rows = b"".join(b"\0" + struct.pack(">8H", *[8000] * 4, *[20_000] * 4) for _ in range(8))
    policy = ImagePolicy(size=8, channels=channels)
    clear = decode_bytes(png(0, 16, 8, 8, rows, struct.pack(">H", 8000)), policy)
    assert (clear[4, 0, 0], clear[4, 7, 0]) == (255, 20_000 >> 8)
    with pytest.warns(DataWarning, match="nearly black"):
        plain = decode_bytes(png(0, 16, 8, 8, b"".join(b"\0" + b"\x1f\x40" * 8 for _ in range(8))), policy)
    assert plain[4, 0, 0] == 8000 >> 8


def test_a_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    plain, swapped = encoded("RGB", "PNG"), encoded("RGB", "PNG", icc_profile=swapped_profile())
    one, other = decode_bytes(plain, POLICY).astype(int), decode_bytes(swapped, POLICY).astype(int)
    assert np.abs(other - one[..., ::-1]).max() <= 3
    assert np.abs(other - one).max() > 100
    (tmp_path / "a.png").write_bytes(swapped)
    assert (decode_image(tmp_path / "a.png", POLICY) == other).all()
    clear = picture("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    clear.info["icc_profile"] = swapped_profile()
    assert (np.asarray(as_srgb(clear))[..., 3] == 0).all()
    garbage = encoded("RGB", "PNG", icc_profile=b"x" * 500)
    assert (decode_bytes(garbage, POLICY) == one).all()


def test_one_gate() -> None:
    """Pillow opens files in one place, by a list of formats."""
    calls = []
    root = Path(mohs.__file__).parent
    for file in sorted(root.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text if "Image" in text else "")):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open"):
                calls.append((file.relative_to(root).as_posix(), {word.arg for word in node.keywords}))
    assert calls == [("data/images.py", {"formats"})] * 2
