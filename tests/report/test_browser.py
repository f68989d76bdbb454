"""The page in a browser: nothing breaks, nothing is asked for, and it can be used without a mouse."""

import dataclasses

import pytest

from mohs.report.page import write_report
from mohs.report.parts import TextTable

from .browser import address_of, needs_chromium, opened, violations

pytestmark = needs_chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_clean_and_axe_finds_nothing_serious(tmp_path, report, scheme):
    path = tmp_path / "report.html"
    write_report(path, report)
    assert path.stat().st_size < 3_000_000
    with opened(address_of(path), colour_scheme=scheme) as seen:
        assert violations(seen.page) == []
        assert seen.console == []
        assert seen.requests == []


def test_axe_and_the_console_would_have_told(tmp_path, report):
    path = tmp_path / "report.html"
    write_report(path, report)
    html = path.read_text(encoding="utf-8")
    html = html.replace('alt="', 'data-alt="', 1).replace("</main>", '<img src="https://example.org/x.png"></main>')
    path.write_text(html.replace('"use strict";', '"use strict"; nothing();'), encoding="utf-8")
    with opened(address_of(path)) as seen:
        assert [line.split(":")[1].strip() for line in violations(seen.page)] == ["image-alt", "image-alt"]
        assert any("nothing is not defined" in line for line in seen.console)
        assert seen.requests == ["https://example.org/x.png"]


def test_tables_sort_by_keyboard_and_say_so(tmp_path, report):
    path = tmp_path / "report.html"
    write_report(path, report)
    with opened(address_of(path)) as seen:
        table = seen.page.locator("section[aria-labelledby=results] table")
        heading = table.get_by_role("columnheader", name="recall@1")
        heading.get_by_role("button").press("Enter")
        first = [cell.strip() for cell in table.locator("tbody tr td:nth-of-type(1)").all_inner_texts()]
        assert first == ["0.548", "0.402", "0.351", "0.112"]
        assert heading.get_attribute("aria-sort") == "descending"
        heading.get_by_role("button").press("Space")
        assert table.locator("tbody tr td:nth-of-type(1)").all_inner_texts() == first[::-1]
        assert heading.get_attribute("aria-sort") == "ascending"
        assert violations(seen.page) == []


def test_the_map_shows_one_class(tmp_path, report):
    path = tmp_path / "report.html"
    write_report(path, report)
    with opened(address_of(path)) as seen:
        seen.page.get_by_label("Show only the class").fill("class 3")
        assert seen.page.locator("svg.map g:not(.dim)").count() == 2
        assert seen.page.locator("#map-found").inner_text() == "2 of 30 pictures"
        seen.page.get_by_label("Show only the class").fill("")
        assert seen.page.locator("svg.map g.dim").count() == 0


def test_on_paper_it_is_light_and_whole_whatever_the_screen(tmp_path, report):
    """Printed from a dark screen: black on white, nothing cut at the edge, nothing left closed, and no buttons."""
    path = tmp_path / "report.html"
    header = ["run", *(f"column {i}" for i in range(1, 13))]
    cells = ["one", *(f"-0.{i:03d} [-0.{i:03d}, +0.{i:03d}]" for i in range(237, 249))]
    table = TextTable(header, [cells], "Results on held-out data", aside=[9, 10, 11, 12])
    wide = dataclasses.replace(report, results=table, highlight=0)
    write_report(path, wide)
    with opened(address_of(path), colour_scheme="dark") as seen:
        page = seen.page
        page.set_viewport_size({"width": 720, "height": 900})
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        boxes = "[...document.querySelectorAll('.scroll, table, figure, .caption')]"
        assert page.evaluate(f"Math.max(...{boxes}.map(one => one.getBoundingClientRect().right))") <= 720
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert not page.locator(".save, nav").first.is_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details:not([open])").count() > 0
        assert seen.console == []
