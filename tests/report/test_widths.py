"""The page fits a desk, a small window and a phone: nothing is wider than the screen, and no caption is cut."""

import dataclasses
import re

import pytest
from PIL import Image

from mohs.compare.table import HEADER
from mohs.report.of_comparison import ASIDE
from mohs.report.page import write_report
from mohs.report.parts import TextTable

from .browser import address_of, needs_chromium, opened

pytestmark = needs_chromium

SCREEN = "document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def wide_row():
    return [f"column {i}" for i in range(1, 12)], [f"0.{i:03d} to 0.{i + 9:03d}" for i in range(1, 12)]


def test_nothing_is_wider_than_the_screen(tmp_path, report, wide_row):
    header, cells = wide_row
    table = TextTable(["run", *header], [["one", *cells]], "A caption of many words " * 9, aside=[3, 4])
    path = tmp_path / "report.html"
    write_report(path, dataclasses.replace(report, results=table, highlight=0))
    with opened(address_of(path)) as seen:
        for width in (1400, 1024, 390):
            seen.page.set_viewport_size({"width": width, "height": 900})
            assert seen.page.evaluate(f"document.documentElement.scrollWidth <= {SCREEN}"), width
            ends = seen.page.evaluate(
                "[...document.querySelectorAll('.caption, .notes, .scroll, figure.card')]"
                ".map(one => one.getBoundingClientRect().right)"
            )
            assert max(ends) <= width, width
        box = "document.querySelector('.scroll')"
        assert seen.page.evaluate(f"{box}.scrollWidth > {box}.clientWidth")  # a wide table scrolls in its own box
        assert seen.console == []


def test_the_columns_of_a_comparison_fit_a_desk(tmp_path, report):
    """All 25 columns of a comparison, with figures as wide as they come: none scrolls on a desk."""
    cells = ["0.501", "0.456 to 0.565", "+0.016 [-0.006, +0.037]", "+0.016 [-0.006, +0.037]"] * 2
    cells += ["0.501"] * 7 + ["0.95", "100%", "24,960", "2,403", "123.4", "123.4", "0 of 5", "0 of 5"]
    row = [*cells, "rate 0.012 (edge), loss.temperature 0.1"]
    rows = [[f"online multi-similarity with Muon {i}", *row] for i in range(2)]
    path = tmp_path / "report.html"
    table = TextTable(["", *HEADER[1:]], rows, "Results on held-out data", ASIDE)
    write_report(path, dataclasses.replace(report, results=table, highlight=0))
    with opened(address_of(path)) as seen:
        seen.page.locator("section[aria-labelledby=results] summary").click()
        for width in (1400, 1024):
            seen.page.set_viewport_size({"width": width, "height": 900})
            boxes = "document.querySelectorAll('section[aria-labelledby=results] .scroll')"
            wider = f"[...{boxes}].map(box => [box.scrollWidth, box.clientWidth])"
            sizes = seen.page.evaluate(wider)
            assert len(sizes) == 4
            assert all(inner <= outer for inner, outer in sizes), (width, sizes)


def test_a_table_can_be_saved(tmp_path, report):
    path = tmp_path / "report.html"
    write_report(path, report)
    with opened(address_of(path)) as seen, seen.page.expect_download() as told:
        seen.page.get_by_label("Save as CSV: Table of results").click()
        told.value.save_as(tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '"run","recall@1","95% interval","mAP","triplet accuracy","note"'
    assert len(lines) == 5


def test_a_figure_can_be_saved_with_the_colours_of_the_page(tmp_path, report):
    path = tmp_path / "report.html"
    write_report(path, report)
    with opened(address_of(path), colour_scheme="dark") as seen:
        for kind in ("SVG", "PNG"):
            with seen.page.expect_download() as told:
                seen.page.get_by_label(f"Save as {kind}: Loss").click()
            assert told.value.suggested_filename == f"loss.{kind.lower()}"
            told.value.save_as(tmp_path / f"loss.{kind.lower()}")
        assert seen.console == []
    svg = (tmp_path / "loss.svg").read_text(encoding="utf-8")
    assert "var(--" not in re.sub(r"<title.*?</title>", "", svg)
    assert "rgb(108, 176, 255)" in svg  # --series-0 of the dark page
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.width > 1000
        assert picture.convert("RGB").getpixel((1, 1)) == (0x14, 0x17, 0x1B)
