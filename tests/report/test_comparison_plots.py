import re

import pytest

from mohs.report.page import write_report
from mohs.report.parts import Plot, Report
from mohs.report.plots import interval_plot


def plot(names, values, intervals, **more):
    return interval_plot(names, values, intervals, figure_id="x", title="R@1", x_label="R@1", **more)


def test_each_row_is_told_and_named():
    svg = plot(["default", "hardest"], [0.5, 0.25], [(0.4, 0.6), (0.2, 0.3)])
    assert "default: 0.500 (0.400 to 0.600); hardest: 0.250 (0.200 to 0.300)" in svg
    assert svg.index(">default<") < svg.index(">hardest<")
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')


def test_better_stands_to_the_right_and_the_first_on_top():
    svg = plot(["one", "two"], [0.9, 0.1], [(0.8, 1.0), (0.0, 0.2)])
    found = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*series-0', svg)
    dots = [tuple(map(float, place)) for place in found]
    assert len(dots) == 2
    (x1, y1), (x2, y2) = dots
    assert x1 > x2
    assert y1 < y2


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="zip"):
        plot(["one"], [0.5, 0.6], [(0.4, 0.6)])


def test_a_page_shows_them_with_what_to_see(tmp_path):
    svg = plot(["default"], [0.5], [(0.4, 0.6)], zero=True)
    write_report(tmp_path / "report.html", Report("A page", comparison=[Plot("R@1 side by side", svg, "Read it so.")]))
    page = (tmp_path / "report.html").read_text()
    assert '<a href="#comparison">Comparison</a>' in page
    assert "<h3>R@1 side by side</h3>" in page
    assert "<figcaption>Read it so.</figcaption>" in page
