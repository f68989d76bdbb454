"""What a report page is made of: plain values, ready to be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from mohs.doctor.findings import Diagnosis
from mohs.evaluation.pair_calibration import ReliabilityBin
from mohs.evaluation.pair_scores import ScoreHistogram

__all__ = [
    "Band",
    "Confusion",
    "DrawnRun",
    "EmbeddingMap",
    "Example",
    "Hit",
    "Judgement",
    "MinedTriplet",
    "Pairs",
    "Plot",
    "Report",
    "TextTable",
]


@final
@dataclass(frozen=True)
class Judgement:
    """A sentence or two: "result" (no judgement), "good" (better), "note" (worth knowing) or "bad" (a problem)."""

    level: Literal["result", "good", "note", "bad"]
    text: str


@final
@dataclass(frozen=True)
class DrawnRun:
    """One trained run to be drawn.

    `events` are those of its log, in order. Step events: {"event": "step", "triplets": seen so far} and any of "loss",
    "active_fraction", "spread", "pictures_per_s". Segment events: {"event": "segment"} and "triplet_index",
    "hardness_asked", "hardness_achieved" (lists of one length), "embed_s", "mine_s", "train_s", "effective_rank",
    "triplets". Other keys and other events are ignored; a missing value or None is not drawn.
    """

    name: str
    events: Sequence[Mapping[str, Any]]


@final
@dataclass(frozen=True, eq=False)
class Hit:
    """One result of a query: the picture (uint8 HW, HW1 or HW3), its label, its distance, and whether it is right."""

    picture: npt.NDArray[np.uint8]
    label: str
    distance: float
    is_match: bool


@final
@dataclass(frozen=True, eq=False)
class Example:
    """A query picture and its nearest results, nearest first.

    `num_matches` is how many pictures of its class there are to find, None if unknown. Results after the last of them
    are of other classes without being wrong.
    """

    query: npt.NDArray[np.uint8]
    query_label: str
    results: Sequence[Hit]
    num_matches: int | None = None

    def marks(self) -> list[str]:
        """Return "match", "miss" or "other" for each result; "other" if all that could match came before it.

        >>> white = np.zeros((2, 2), np.uint8)
        >>> hits = [Hit(white, label, 0.1, label == "a") for label in "bac"]
        >>> Example(white, "a", hits, num_matches=1).marks()
        ['miss', 'match', 'other']
        """
        found, marks = 0, []
        for hit in self.results:
            marks.append("match" if hit.is_match else "other" if found == self.num_matches else "miss")
            found += hit.is_match
        return marks


@final
@dataclass(frozen=True, eq=False)
class MinedTriplet:
    """A triplet as it was mined: three pictures, two labels, the achieved hardness, when; `strategy` groups them."""

    anchor: npt.NDArray[np.uint8]
    positive: npt.NDArray[np.uint8]
    negative: npt.NDArray[np.uint8]
    label: str
    negative_label: str
    hardness: float
    triplet_index: int
    strategy: str = ""


@final
@dataclass(frozen=True, eq=False)
class Band:
    """A curve with its 95% interval: x, y, low and high are [P]; low and high are None where there is none."""

    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64] | None = None
    high: npt.NDArray[np.float64] | None = None


# Columns of numbers, beside the name of the row, that fit a small window.
_MOST_ASIDE = 8


@final
@dataclass(frozen=True)
class TextTable:
    """A table, formatted: the first column names the row, every row is as long as the header.

    Attributes:
        header: names of the columns.
        rows: of cells, each as long as the header.
        caption: what the table measures.
        aside: columns, by number, that stand in a second table which the reader opens.
        notes: sentences below the table, such as why a cell is empty.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    aside: Sequence[int] = ()
    notes: Sequence[str] = ()

    def split(self) -> list["TextTable"]:
        """Return the columns that stand at once, and those aside, if there are some; all tables name their rows.

        More columns aside than fit a screen are shared out evenly among several tables.

        >>> [list(part.header) for part in TextTable(["run", "a", "b", "c"], [], "", aside=[2]).split()]
        [['run', 'a', 'c'], ['run', 'b']]
        >>> [len(part.header) for part in TextTable([*"abcdefghijklmnopqrst"], [], "", aside=range(2, 20)).split()]
        [2, 7, 7, 7]
        """
        first = [column for column in range(len(self.header)) if column not in self.aside]
        num_parts = -(-len(self.aside) // _MOST_ASIDE)
        parts = (
            [[0, *part] for part in np.array_split(np.array(self.aside, dtype=np.int64), num_parts)]
            if num_parts
            else []
        )
        return [
            TextTable([self.header[i] for i in chosen], [[row[i] for i in chosen] for row in self.rows], self.caption)
            for chosen in [first, *parts]
        ]


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """Same or different: what the distance of two pictures says.

    Attributes:
        note: which pairs were measured, in a sentence.
        facts: measures such as AP and EER, with intervals.
        thresholds: what each threshold gives.
        precision_recall: curves of precision over recall.
        roc: curves of the true positive rate over the false positive rate.
        histogram: of the distances of both kinds.
        reliability: filled bins of the calibrated probability; none if it was not calibrated.
    """

    note: str
    facts: TextTable
    thresholds: TextTable
    precision_recall: Sequence[Band]
    roc: Sequence[Band]
    histogram: ScoreHistogram
    reliability: Sequence[ReliabilityBin] = ()


@final
@dataclass(frozen=True, eq=False)
class Confusion:
    """Queries of one class whose nearest picture is of another: `num_wrong` of `num_queries`, with a pair to see."""

    label: str
    other_label: str
    num_wrong: int
    num_queries: int
    picture: npt.NDArray[np.uint8]
    other_picture: npt.NDArray[np.uint8]


@final
@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Pictures laid out so that near embeddings lie near each other: xy [P, 2], labels, pictures, nearest right or not.

    Attributes:
        note: how the map was made, in a sentence.
        xy_P2: any scale.
        labels: classes, [P].
        pictures: [P], uint8.
        is_hit: whether the nearest other picture of the whole test set is of its class, [P].
    """

    note: str
    xy_P2: npt.NDArray[np.float64]
    labels: Sequence[str]
    pictures: Sequence[npt.NDArray[np.uint8]]
    is_hit: Sequence[bool]


@final
@dataclass(frozen=True)
class Plot:
    """A plot that is drawn already (`mohs.report.plots`, `mohs.report.result_plots`), with what to see in it.

    `has_legend` if its colours are those of the strategies.
    """

    heading: str
    svg: Markup
    note: str
    has_legend: bool = False


@final
@dataclass(frozen=True, eq=False)
class Report:
    """What the page shows; empty parts are left out of it.

    Attributes:
        title: the heading of the page.
        summary: facts in pairs (what, value), such as ("classes", "5,200").
        verdicts: sentences of judgement, most important first.
        results: the table of results; its caption says on what they are, and with which intervals.
        more_tables: below it.
        highlight: index of the row to mark, or None.
        highlight_mark: the word it is marked with.
        comparison: plots of strategies side by side; colours are those of `strategies`.
        diagnosis: what the doctor found, or None if nobody asked.
        diagnosed: the name of what it looked at.
        settings: those in force there, by "section.name"; findings are shown as changes of them.
        pairs: verification on pairs.
        gallery: recall@1 (y) against the classes in the gallery (x), one curve a run, in the order of `strategies`.
        strategies: the runs to draw; the order gives their colours.
        examples_best: queries that went well.
        examples_worst: queries that went wrong.
        confusions: the pairs of classes that are taken for each other most.
        embedding_map: pictures where their embeddings lie.
        mined: triplets at chosen moments.
        command: the command that does it all again.
        versions: name and version of what was used.
    """

    title: str
    summary: Sequence[tuple[str, str]] = ()
    verdicts: Sequence[Judgement] = ()
    results: TextTable = TextTable((), (), "")
    more_tables: Sequence[TextTable] = ()
    highlight: int | None = None
    highlight_mark: str = "default"
    comparison: Sequence[Plot] = ()
    diagnosis: Diagnosis | None = None
    diagnosed: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    pairs: Pairs | None = None
    gallery: Sequence[Band] = ()
    strategies: Sequence[DrawnRun] = ()
    examples_best: Sequence[Example] = ()
    examples_worst: Sequence[Example] = ()
    confusions: Sequence[Confusion] = ()
    embedding_map: EmbeddingMap | None = None
    mined: Sequence[MinedTriplet] = ()
    command: str = ""
    versions: Mapping[str, str] | None = None
