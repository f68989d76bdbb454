import itertools
import re

import matplotlib as mpl
import numpy as np
import pytest

from mohs.report.page import write_report
from mohs.report.parts import Band
from mohs.report.plots import hardness_plot, line_plot
from mohs.report.result_plots import band_plot


def path_points(svg, colour):
    """The vertices, in points, of the one curve of this colour."""
    [path] = re.findall(rf'<path d="([^"]+)"[^>]*stroke: {re.escape(colour)};', svg)
    return np.array(re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", path), dtype=float)


SIZE = 9  # of a tick label, in points


def tick_labels(svg, axis):
    """The labels of an axis in their order, each with its place in points, and how wide it is at most."""
    found = re.findall(rf'id="[\w-]+-{axis}tick_\d+">(.*?</text>)', svg, flags=re.DOTALL)
    labels = [re.search(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', one) for one in found]
    return [(label[3], float(label[1 if axis == "x" else 2])) for label in labels if label]


def check_ticks(svg):
    assert "$" not in svg
    for axis in "xy":
        labels = tick_labels(svg, axis)
        assert len(labels) >= 2
        places = sorted((place, len(text) * 0.62 * SIZE if axis == "x" else SIZE) for text, place in labels)
        for (one, wide), (next_one, next_wide) in itertools.pairwise(places):
            assert next_one - one > (wide + next_wide) / 2, labels


def band(low, high):
    x = np.geomspace(low, high, 300)
    return Band("run", x, np.linspace(0.2, 0.9, 300))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e-6, 1, ["1e-6", "1e-5", "0.0001", "0.001", "0.01", "0.1", "1"]),
        (10, 1039, ["10", "100", "1k"]),
        (10, 60, ["10", "20", "50"]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_plain_and_apart(low, high, expected):
    svg = band_plot([band(low, high)], figure_id="f", title="t", x_label="x", y_label="y", x_log=True, diagonal=True)
    check_ticks(svg)
    assert [text for text, _ in tick_labels(svg, "x")] == expected


def test_ticks_of_every_figure_of_a_page_are_plain_and_apart(tmp_path, report):
    write_report(tmp_path / "report.html", report)
    figures = re.findall(r'<svg[^>]*class="plot".*?</svg>', (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    assert len(figures) == 12
    for svg in figures:
        check_ticks(svg)


def test_up_is_up_and_later_is_right():
    x = np.arange(20.0)
    none = Band("none", x[:0], x[:0])
    curves = [none, none, Band("run", x, x**2)]
    points = path_points(line_plot(curves, figure_id="f", title="t", y_label="y"), "var(--series-2)")
    assert len(points) == 20
    assert (np.diff(points[:, 0]) > 0).all()
    assert (np.diff(points[:, 1]) < 0).all()  # SVG counts downwards


def test_long_curves_are_drawn_as_means_of_stretches():
    x = np.arange(15_001.0)
    noisy = np.where(x % 2 == 0, 1.0, -1.0) + x
    svg = line_plot([Band("run", x, noisy)], figure_id="f", title="t", y_label="y")
    points = path_points(svg, "var(--series-0)")
    assert len(points) == 150
    slope = np.diff(points[:, 1]) / np.diff(points[:, 0])
    np.testing.assert_allclose(slope, slope.mean(), rtol=0.05)
    assert "run: from 1 to 1.5e+04" in svg


def test_hardness_has_a_dot_for_each_triplet_and_a_line():
    index = np.arange(0.0, 50)
    svg = hardness_plot(index, index / 50, index / 50 + 0.01, series=1, figure_id="f", title="t")
    assert svg.count("fill: var(--series-1)") >= 50
    assert "Asked hardness between 0.00 and 0.98; achieved hardness differs from it by 0.010 on average." in svg


def test_titles_are_escaped_and_settings_are_given_back():
    before = dict(mpl.rcParams)
    svg = line_plot([Band("<a>", np.ones(1), np.ones(1))], figure_id="f", title="<b>", y_label="y")
    assert "<a>" not in svg
    assert "&lt;b&gt;" in svg
    assert dict(mpl.rcParams) == before


def test_the_ids_of_two_figures_differ():
    line = Band("run", np.arange(3.0), np.arange(3.0))
    a, b = (
        set(re.findall(r'\bid="([^"]+)"', line_plot([line], figure_id=name, title="t", y_label="y"))) for name in "ab"
    )
    assert len(a) > 5
    assert not a & b
