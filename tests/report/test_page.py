import base64
import dataclasses
import io
import itertools
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mohs.doctor.findings import Diagnosis, Finding
from mohs.errors import InputError
from mohs.evaluation.pair_scores import ScoreHistogram
from mohs.report.page import write_report
from mohs.report.parts import (
    Band,
    Confusion,
    DrawnRun,
    EmbeddingMap,
    Example,
    Hit,
    Judgement,
    MinedTriplet,
    Pairs,
    Report,
    TextTable,
)

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The page as a list of (tag, attributes), its text, and a check that every element is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def write(tmp_path):
    def written(report):
        write_report(tmp_path / "report.html", report)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return written


def small(**parts):
    return Report(title="A run", **parts)


def one_event(**values):
    return [DrawnRun("run", [{"event": "step", "triplets": 10, **values}])]


def test_everything_that_was_given_is_on_the_page(write, report):
    page = Page(write(report))
    for text in (
        report.title,
        "5,200",
        "61% of the triplets were inactive",
        "✗ Problem",
        "0.333 – 0.370",
        "as published",
        "default",
        "Hardness against time",
        "Active triplets",
        "Spread of the embeddings",
        "30.0",
        "120.0",
        "at triplet 2,400",
        "class 2",
        "0.300",
        "mohs demo --seed 0 --output runs/demo",
        "2.9.0",
    ):
        assert text in page.words, text
    assert page.words.count("✓ right") == 9
    assert page.words.count("✗ wrong") == 9


def test_a_finding_is_told_with_its_numbers_and_its_settings_as_a_diff(write, report):
    settings = {"training.learning_rate": 0.01, "loss.name": "infonce"}
    html = write(dataclasses.replace(report, diagnosed="run-7", settings=settings))
    page = Page(html)
    for text in (
        "In the run run-7 .",
        "✗ Error collapsed",
        "The loss is 0.2, the margin, at a spread of 0.003.",
        "Why: Every embedding is the same.",
        "What to do: Lower the rate.",
        "[training] -learning_rate = 0.01 +learning_rate = 0.001",
        "spread 0.0031",
        "● Note hubs",
        "collapsed, hubs, leak.",
        "not checked: no pairs were given",
    ):
        assert text in page.words, text
    assert page.words.index("✗ Error collapsed") < page.words.index("● Note hubs")
    assert "<del>-learning_rate = 0.01</del><ins>+learning_rate = 0.001</ins>" in html
    # Where the settings in force are not known, only the new one is shown.
    assert "<del>" not in write(report)


def test_recall_against_gallery_size_is_a_plot_and_a_table(write):
    curves = [
        Band("one", np.array([2.0, 1000]), np.array([0.9, 0.5]), np.array([0.8, 0.4]), np.array([0.95, 0.6])),
        Band("two", np.array([2.0, 50]), np.array([0.97, 0.7])),
    ]
    page = Page(write(small(gallery=curves, strategies=[DrawnRun("one", []), DrawnRun("two", [])])))
    assert "classes in the gallery 2 50 1,000 one 0.900 – 0.500 two 0.970 0.700 –" in page.words
    assert "one: from 0.9 at 2 to 0.5 at 1e+03; two: from 0.97 at 2 to 0.7 at 50" in page.words
    assert [each for each in page.all("ul") if each.get("class") == "legend"] != []
    page = Page(write(small(gallery=curves[:1], strategies=[DrawnRun("one", [])])))
    assert [each for each in page.all("ul") if each.get("class") == "legend"] == []


def test_nothing_is_fetched_from_anywhere(write, report):
    html = write(report)
    page = Page(html)
    assert (
        re.findall(r"""https?://[^"'\s]+""", html)
        == ["http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"] * 12
    )
    assert page.all("script") == [{}]
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                assert value.startswith(("data:image/png;base64,", "#"))
            assert not name.startswith("on")
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) == {"#"}


def test_pictures_have_texts_and_are_the_pictures(write, report):
    page = Page(write(report))
    images = page.all("img")
    assert len(images) == 3 * 7 + 3 * 8 + 2
    assert all(image["alt"].strip() for image in images)
    alts = [image["alt"] for image in images]
    assert alts[:3] == ["Anchor of class ɐ", "Positive of class ɐ", "Negative of class ɑ"]
    assert alts[24:26] == ["Query of class class 1", "Right result, class class 1"]
    assert alts[-3] == "Wrong result, class class 8"
    assert alts[-2:] == ["Query of class ɐ", "Nearest picture, class a"]
    found = {image["alt"]: image["src"] for image in images}
    data = base64.b64decode(found["Query of class class 1"].split(",")[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), report.examples_best[0].query)


def test_frame_mark_and_alternative_text_say_the_same(write):
    picture = np.zeros((4, 4), dtype=np.uint8)
    matches = [True, False, False]
    hits = [Hit(picture, "x", 0.1, is_match) for is_match in matches]
    html = write(small(examples_best=[Example(picture, "q", hits)]))
    found = re.findall(
        r'<figure class="(match|miss)">\s*<img [^>]*alt="(Right|Wrong) [^>]*>\s*<figcaption><strong>(.)', html
    )
    assert found == [("match", "Right", "✓"), ("miss", "Wrong", "✗"), ("miss", "Wrong", "✗")]


def test_structure_is_accessible(write, report):
    html = write(report)
    page = Page(html)
    assert html.startswith('<!doctype html>\n<html lang="en">')
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.all("table")) == 5
    ids = [attributes.get("id") for _, attributes in page.elements]
    assert all(ids.count(table["aria-labelledby"]) == 1 for table in page.all("table"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointed = [attributes["href"] for attributes in page.all("a")]
    pointed += [attributes["xlink:href"] for attributes in page.all("use")]
    pointed += [f"#{part}" for _, a in page.elements for part in a.get("aria-labelledby", "").split()]
    pointed += re.findall(r"url\((#[^)]+)\)", html)
    assert len(pointed) > 20
    assert {name.removeprefix("#") for name in pointed} <= set(ids)
    plots = [attributes for attributes in page.all("svg") if "aria-hidden" not in attributes]
    assert len(plots) == 13
    assert all(attributes["role"] == "img" and attributes["aria-labelledby"] for attributes in plots)
    assert len(page.all("title")) == 1 + 13 + 30


def test_plots_take_their_colours_from_the_page(write, report):
    html = write(report)
    body = html[html.index("<body>") :]
    assert "currentColor" in body
    assert "var(--series-2)" in body
    assert not re.search(r"#fe0\d", body)
    assert not re.search(r"#[0-9a-f]{6}\b", re.sub(r'src="[^"]*"|(?:href|id)="[^"]*"|url\([^)]*\)', "", body))
    for name in set(re.findall(r"var\((--[a-z0-9-]+)\)", html)):
        assert f"{name}:" in html


def test_every_label_is_escaped(write):
    evil = "<script>alert(1)</script>\"'&$x^"
    picture = np.zeros((4, 4), dtype=np.uint8)
    segment = {
        "event": "segment",
        "triplet_index": [0, 1],
        "hardness_asked": [0.0, 1.0],
        "hardness_achieved": [0.1, 0.9],
        "embed_s": 1.0,
        "mine_s": 1.0,
    }
    report = Report(
        title=evil,
        summary=[(evil, evil)],
        verdicts=[Judgement("bad", evil)],
        results=TextTable([evil, evil], [[evil, evil]], evil),
        highlight=0,
        highlight_mark=evil,
        strategies=[DrawnRun(evil, [segment, {"event": "step", "triplets": 1, "loss": 0.5}])],
        examples_best=[Example(picture, evil, [Hit(picture, evil, 0.1, True)])],
        examples_worst=[Example(picture, evil, [Hit(picture, evil, 0.1, False)])],
        mined=[MinedTriplet(picture, picture, picture, evil, evil, 0.5, 3, evil)],
        diagnosis=Diagnosis(
            (Finding(evil, "error", evil, evil, evil, {evil: evil}, {evil: 1.0}),), (evil,), {evil: evil}
        ),
        pairs=Pairs(
            note=evil,
            facts=TextTable([evil], [[evil]], evil),
            thresholds=TextTable([evil], [[evil]], evil),
            precision_recall=[Band(evil, np.ones(2), np.ones(2))],
            roc=[Band(evil, np.ones(2), np.ones(2))],
            histogram=ScoreHistogram("distance", np.arange(3.0), np.ones(2) / 2, np.ones(2) / 2),
        ),
        gallery=[Band(evil, np.ones(2), np.ones(2))],
        confusions=[Confusion(evil, evil, 1, 2, picture, picture)],
        embedding_map=EmbeddingMap(evil, np.zeros((1, 2)), [evil], [picture], [True]),
        command=evil,
        versions={evil: evil},
    )
    html = write(report)
    page = Page(html)
    assert html.count("<script") == 1  # the page's own
    assert page.words.count("<script>alert(1)</script>\"'&$x^") >= 38
    assert f"Query of class {evil}" in [image["alt"] for image in page.all("img")]


def test_results_after_the_only_match_are_not_called_wrong(write, report):
    hits = [Hit(picture, f"{i}", 0.1, i == 1) for i, picture in enumerate(np.zeros((4, 8, 8), np.uint8))]
    page = Page(write(small(examples_best=[Example(hits[0].picture, "1", hits, num_matches=1)])))
    assert [page.words.count(mark) for mark in ("✗ wrong", "✓ right", "other class ")] == [1, 1, 2]
    assert [one["class"] for one in page.all("figure")] == ["query", "miss", "match", "other", "other"]


def test_columns_aside_stand_in_a_second_table_and_captions_outside_both(write):
    rows = [["a", "0.5", "0.25"], ["b", "0.4", "0.35"]]
    html = write(small(results=TextTable(["run", "R@1", "mAP"], rows, "What", aside=[2])))
    page = Page(html)
    assert "1 more columns: mAP run mAP a 0.25 b 0.35" in page.words
    assert page.words.index("0.4") < page.words.index("more columns")
    assert "<caption" not in html
    assert html.index(">What.</p>") < html.index('class="scroll"')
    assert [table["aria-labelledby"] for table in page.all("table")] == ["table-results"] * 2
    with pytest.raises(InputError, match=r"results: aside \[3\] are not columns from 1 to 1"):
        write(small(results=TextTable(["run", "R@1"], [["a", "1"]], "", aside=[3])))


def test_a_line_that_jumps_has_its_sentence(write):
    def run(asked):
        index = list(range(len(asked)))
        segment = {"event": "segment", "triplet_index": index, "hardness_asked": asked, "hardness_achieved": asked}
        return Page(write(small(strategies=[DrawnRun("run", [segment])]))).words

    smooth = (np.arange(100) % 20 / 20).tolist()
    assert "batches, not of the curve" not in run(smooth)
    assert "batches, not of the curve" in run(np.random.default_rng(0).permutation(smooth).tolist())


def test_the_learning_curve_says_what_it_is_of_and_which_weights_were_kept(write):
    def shown(*more, **of_point):
        points = [
            {"event": "held-out", "triplets": 100 * i, "recall": 0.1 * i, "hits": "10", **of_point} for i in range(5)
        ]
        html = write(small(strategies=[DrawnRun("run", [*points, *more])]))
        return Page(html).words, html

    words, html = shown(of="validation", low=0.1, high=0.6)
    assert "Learning curve" in words
    assert "R@1 on classes that are neither trained on nor tested. Shaded: 95% interval." in words
    assert "run: from 0 at 0 to 0.4 at 400" in html
    assert "The weights are those after" not in words
    end = {"event": "early-stopping", "triplets": 400, "num_triplets": 900, "best_triplets": 300, "best_recall": 0.3}
    assert "The weights are those after 300 triplets, the best point." in shown(end, of="validation", low=0, high=1)[0]
    older, bare = shown()  # a run of a version without intervals
    assert "R@1 on test pictures, at most one pair of each class; they decide nothing." in older
    assert html.count("<path") > bare.count("<path")  # the band
    assert "Learning curve" not in Page(write(small(strategies=[DrawnRun("run", [])]))).words


def test_the_summary_is_a_sentence_and_then_tiles_and_sections_have_searchable_names(write, report):
    words = Page(write(report)).words
    assert words.index("No run collapsed: the spread stays") < words.index("5,200")
    for name in ("Verification: same or different", "Timing: where the time went", "Reproduce: do it again"):
        assert name in words


def test_each_chart_of_several_runs_has_its_legend(write, report):
    html = write(report)
    training = html[html.index('<h2 id="training">') : html.index('<h2 id="time">')]
    assert training.count("<figure") == training.count('aria-label="Legend"') == 4
    hardness = html[html.index('<h2 id="hardness">') : html.index('<h2 id="training">')]
    assert hardness.count("asked for</li>") == hardness.count("achieved</li>") == len(report.strategies)


def test_the_same_report_gives_the_same_bytes(tmp_path, report):
    write_report(tmp_path / "a.html", report)
    write_report(tmp_path / "b.html", report)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    write_report(tmp_path / "b.html", dataclasses.replace(report, title="Another"))
    assert (tmp_path / "a.html").read_bytes() != (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_large_reports_stay_small(tmp_path, report):
    # Noise hardly compresses: the worst pictures there are.
    random = np.random.default_rng(0)

    def noise():
        return random.integers(0, 256, size=(120, 120, 3), dtype=np.uint8)

    examples = [Example(noise(), "q", [Hit(noise(), "r", 0.1, False) for _ in range(10)]) for _ in range(20)]
    strategies = [DrawnRun(f"{i}", report.strategies[i % 3].events) for i in range(10)]
    large = dataclasses.replace(report, examples_worst=examples, strategies=strategies)
    write_report(tmp_path / "report.html", large)
    assert 1_000_000 < (tmp_path / "report.html").stat().st_size < 3_000_000
    with pytest.raises(InputError, match="pictures take over 1,700,000 bytes even at 32 x 32; show fewer examples"):
        write_report(tmp_path / "report.html", dataclasses.replace(large, examples_best=examples * 3))


def test_empty_parts_are_left_out(write):
    page = Page(write(small()))
    assert [tag for tag, _ in page.elements if tag in ("h2", "section", "svg", "table", "img")] == []
    page = Page(write(small(strategies=[DrawnRun("nothing yet", [])])))
    assert page.all("svg") == []


@pytest.mark.parametrize("values", [{"loss": 0.5}, {"loss": 0.5, "active_fraction": None}])
def test_missing_values_are_not_drawn(write, values):
    page = Page(write(small(strategies=one_event(**values))))
    assert page.words.count("Loss") >= 1
    assert "Active triplets" not in page.words
    assert "run: from 0.5 to 0.5" in page.words


def test_unmeasured_time_is_a_dash(write):
    segment = {"event": "segment", "embed_s": 1.0, "mine_s": 3.0}
    page = Page(write(small(strategies=[DrawnRun("run", [segment, segment])])))
    assert "2.0 6.0 – 8.0" in page.words
    assert "embed 25.0 %, mine 75.0 %, train 0.0 %" in [a.get("aria-label") for _, a in page.elements]


def test_only_columns_of_numbers_stand_right(write):
    rows = [["a", "0.5 ± 0.1", "12 (of 20)", "x"], ["b", "–", "-3", "1"]]
    page = Page(write(small(results=TextTable(["run", "m", "n", "text"], rows, ""))))
    assert [attributes.get("class") for attributes in page.all("td")] == ["right", "right", None] * 2


def test_all_problems_are_told_together(write):
    broken = {
        "event": "segment",
        "segment": 4,
        "triplet_index": [1, 2],
        "hardness_asked": [0.5],
        "hardness_achieved": [0.5, 0.5],
    }
    with pytest.raises(InputError) as caught:
        write(
            small(
                results=TextTable(["a", "b"], [["x"]], ""),
                highlight=1,
                verdicts=[Judgement("great", "all")],
                strategies=[DrawnRun("run", [broken])],
            )
        )
    assert caught.value.problems == (
        "results: row 0 has 1 cells and the header 2; give one for each column",
        "highlight: 1 is not in [0, 1), the rows of the table",
        "verdicts: level 'great' of 'all' is not one of 'result', 'good', 'note', 'bad'",
        "strategy 'run': segment 4: triplet_index, hardness_asked and hardness_achieved have lengths [2, 1, 2]; "
        "they must be equal",
    )


def test_pictures_of_another_type_are_refused(write):
    picture = np.zeros((4, 4), dtype=np.float32)
    with pytest.raises(InputError) as caught:
        write(small(examples_best=[Example(picture, "a", [])]))
    assert str(caught.value) == (
        "report: picture 0: shape (4, 4) and type float32; give uint8 [H, W], [H, W, 1] or [H, W, 3]"
    )


def test_pyplot_stays_out():
    code = "import sys, mohs.report.page; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
