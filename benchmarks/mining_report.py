"""Turn the JSON of `bench_mining.py` into the tables of `docs/performance.md` and a chart, so that no figure is typed.

    python benchmarks/mining_report.py benchmarks/mining.json

What stands between `<!-- figures: NAME -->` and `<!-- end of figures -->` in the page is replaced by the table NAME.
"""

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mining_ways import LIBRARY, PRODUCT

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "images" / "mining.png"

_BLOCK = re.compile(r"<!-- figures: (?P<name>\w+) -->\n.*?<!-- end of figures -->", re.DOTALL)
_OWN = ("`range`", "`rank`", "`log-rank`", "`margin`")


@dataclass(frozen=True)
class Bound:
    """What was set as a bound before it was measured: `measured` is to be at most (or at least) `must`."""

    what: str
    measured: float
    must: float
    at_least: bool = False
    unit: str = "×"

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.measured >= self.must if self.at_least else self.measured <= self.must


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the tables by name, Markdown."""
    return {
        "conditions": conditions(result),
        "ways": ways_table(result),
        "chart": "![Time of each way against the matrix product alone](images/mining.png)",
        "bounds": bounds_table(result),
        "sampled": sampled_table(result["sampled"]),
        "grid": grid_table(result["grid"]),
        "memory": memory_table(result["memory"]),
    }


def conditions(result: Mapping[str, Any]) -> str:
    """Return a paragraph that says what was measured, where and when."""
    machine, ways = result["machine"], result["ways"]
    avx512 = " with AVX-512" if machine["avx512"] else ""
    loads = [machine[name] for name in ("load_before", "load_after")]
    load = "" if None in loads else f", load average {loads[0]:.1f} before and {loads[1]:.1f} after"
    count = "1 round" if ways["rounds"] == 1 else f"{ways['rounds']} rounds"
    return (
        f"Measured on {result['date']}: {machine['threads']} threads on {machine['processor']}{avx512}{load}. "
        f"N = T = {ways['num_items']:,} items, d = {ways['dim']}, {ways['num_items'] // 2:,} classes of 2, {count}, "
        f"medians; in all {result['seconds'] / 60:.0f} minutes."
    )


def ways_table(result: Mapping[str, Any]) -> str:
    """Return the table of ways: seconds, ratio to the product, extra memory where it was measured."""
    ways = result["ways"]
    memory = {
        f"`{row['scale']}`": row["extra_bytes"]
        for row in result["memory"]
        if (row["num_items"], row["dim"], row["num_anchors"]) == (ways["num_items"], ways["dim"], ways["num_items"])
    }
    rows = []
    for figure in ways["figures"]:
        about = "~" if figure["scaled"] else ""
        name = f"{figure['name']}, exact" if figure["name"] in _OWN else figure["name"]
        extra = f"{memory[figure['name']] / 1e6:.0f}" if figure["name"] in memory else ""
        ratio = "1" if figure["name"] == PRODUCT else number(figure["wall_ratio"])
        rows.append((name, figure["note"], about + number(figure["wall_s"]), ratio, extra))
    return _table(("way", "what it finds", "seconds", "× the product", "extra memory, MB"), rows)


def bounds_table(result: Mapping[str, Any]) -> str:
    """Return the table of bounds, kept or not."""
    rows = [
        (
            bound.what,
            f"{'≥' if bound.at_least else '≤'} {bound.must:.4g} {bound.unit}".rstrip(),
            f"{_measured(bound)} {bound.unit}".rstrip(),
            "yes" if bound.holds else "**no**",
        )
        for bound in bounds(result)
    ]
    return _table(("bound", "wanted", "measured", "holds"), rows)


def _measured(bound: Bound) -> str:
    """Return the measured value, to four digits where three would hide on which side of the bound it lies."""
    return f"{bound.measured:.4g}" if abs(bound.measured / bound.must - 1) < 0.01 else number(bound.measured)


def bounds(result: Mapping[str, Any]) -> list[Bound]:
    """Return the bounds with what was measured."""
    ratio = {figure["name"]: figure["wall_ratio"] for figure in result["ways"]["figures"]}
    sampled, _, far = result["sampled"]["figures"]
    num_items = result["ways"]["num_items"]
    by_scale: dict[str, dict[int, int]] = {}
    for row in result["memory"]:
        by_scale.setdefault(row["scale"], {})[row["num_items"]] = row["extra_bytes"]
    most = max((sizes[num_items] for sizes in by_scale.values() if num_items in sizes), default=0)
    chosen = [
        Bound("`range`, exact, against the product", ratio["`range`"], 1.3),
        Bound("`rank`, exact, against the product", ratio["`rank`"], 1.45),
        Bound("`log-rank`, exact, against the product", ratio["`log-rank`"], 1.45),
        Bound("`margin`, exact, all items, against the product", ratio["`margin`"], 0.7),
        Bound("faiss flat, k = 1, against `margin`", ratio["faiss flat, k = 1"] / ratio["`margin`"], 1.6, True),
        Bound("torch cdist + mask against `range`", ratio["torch cdist + mask"] / ratio["`range`"], 5, True),
        Bound("torch cdist + sort against `rank`", ratio["torch cdist + sort"] / ratio["`rank`"], 15, True),
        Bound("published loop against `range`", ratio["published loop"] / ratio["`range`"], 800, True),
        Bound("extra memory, most of all scales", most / 1e6, 200, unit="MB"),
        Bound("`rank`, exact, against sampled", sampled["faster_than_exact"], 8, True),
        Bound("sampled: mean rank error", sampled["error_mean"], 0.0035, unit=""),
        Bound("sampled: 99% of the rank errors below", sampled["error_p99"], 0.012, unit=""),
        Bound(f"sampled from {result['sampled']['num_large']:,} items", far["times_of_smaller"], 2),
    ]
    bank = {row["num_items"]: row["bank_bytes"] for row in result["memory"]}
    for scale, sizes in by_scale.items():
        small, large = min(sizes), max(sizes)
        if small < large:
            text = f"bank and extra memory of `{scale}`, N = {large:,} against {small:,}: no faster than the bank"
            growth = (bank[large] + sizes[large]) / (bank[small] + sizes[small])
            chosen.append(Bound(text, growth, bank[large] / bank[small]))
    return chosen


def sampled_table(sampled: Mapping[str, Any]) -> str:
    """Return the table of sampled mining."""
    rows = [
        (
            figure["name"] if "N =" in figure["name"] else f"{figure['name']}, N = {sampled['num_items']:,}",
            number(figure["wall_s"]),
            f"{number(figure['faster_than_exact'])} ×",
            f"{figure['num_anchors_exact'] / figure['anchors_timed']:.0%}",
            f"{figure['error_mean']:.4f}",
            f"{figure['error_p99']:.4f}",
        )
        for figure in sampled["figures"]
    ]
    header = (
        f"{sampled['num_items']:,} anchors, m = {sampled['num_sampled']:,}",
        "seconds",
        f"faster than exact at N = {sampled['num_items']:,}",
        "anchors mined exactly",
        "mean rank error",
        "99%",
    )
    return _table(header, rows)


def grid_table(grid: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of other sizes: ratios to the product for the same anchors, and seconds for all items."""
    names = ("`range`", "`rank`", "`margin`", "`rank`, sampled", "faiss flat, k = 1")
    rows = []
    for cell in grid:
        figures = {figure["name"]: figure for figure in cell["figures"]}
        every = cell["num_items"] / cell["num_anchors"]
        about = "" if every == 1 else "~"
        ratios = [number(figures[name]["wall_ratio"]) if name in figures else "" for name in names]
        rows.append(
            (
                f"{cell['num_items']:,}",
                str(cell["dim"]),
                f"{cell['num_anchors']:,}",
                number(figures[PRODUCT]["wall_s"]),
                *ratios,
                about + number(figures["`rank`"]["wall_s"] * every),
            )
        )
    return _table(("N", "d", "anchors", "product, s", *names, "`rank`, all items, s"), rows)


def memory_table(memory: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of memory."""
    rows = [
        (
            f"`{row['scale']}`",
            f"{row['num_items']:,}",
            f"{row['num_anchors']:,}",
            *(f"{row[name] / 1e6:.0f}" for name in ("bank_bytes", "extra_bytes", "estimated_bytes")),
        )
        for row in memory
    ]
    return _table(("scale", "N", "anchors", "bank, MB", "extra memory, MB", "as estimated, MB"), rows)


def write_page(result: Mapping[str, Any], page: Path, chart: Path) -> None:
    """Draw the chart and replace the figures of a page, all of them or none."""
    blocks = tables(result)
    text = page.read_text(encoding="utf-8")
    names = [match["name"] for match in _BLOCK.finditer(text)]
    if sorted(names) != sorted(blocks):
        raise SystemExit(f"{page}: has the figures {sorted(names)}; mark {sorted(blocks)}, each once")
    draw_chart(result, chart)
    page.write_text(
        _BLOCK.sub(
            lambda match: f"<!-- figures: {match['name']} -->\n{blocks[match['name']]}\n<!-- end of figures -->", text
        ),
        encoding="utf-8",
    )


def draw_chart(result: Mapping[str, Any], path: Path) -> None:
    """Draw the ways by their ratio to the product, and the grid by its dimensions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures = sorted(result["ways"]["figures"], key=lambda figure: -figure["wall_ratio"])
    drawing, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=(1.7, 1), layout="constrained")
    names = [figure["name"].replace("`", "").replace(LIBRARY, "p.-m.-l.") for figure in figures]
    colours = ["tab:red" if f["name"] in _OWN else "0.4" if f["name"] == PRODUCT else "tab:blue" for f in figures]
    bars = left.barh(names, [figure["wall_ratio"] for figure in figures], color=colours)
    left.bar_label(bars, [number(figure["wall_ratio"]) for figure in figures], padding=3, fontsize=8)
    left.set(xscale="log", xlabel="time, × the matrix product alone (red: Mohs, exact)")
    left.margins(x=0.12)
    left.tick_params(labelsize=8)
    left.set_title(f"N = {result['ways']['num_items']:,}, d = {result['ways']['dim']}", fontsize=9)
    for num_items in dict.fromkeys(cell["num_items"] for cell in result["grid"]):
        cells = [cell for cell in result["grid"] if cell["num_items"] == num_items]
        ratios = [next(f["wall_ratio"] for f in cell["figures"] if f["name"] == "`rank`") for cell in cells]
        right.plot([cell["dim"] for cell in cells], ratios, marker="o", label=f"N = {num_items:,}")
    right.axhline(1.0, color="0.4", linewidth=1)
    right.set(xscale="log", xlabel="dimensions", ylabel="rank, exact: × the product", ylim=(0, None))
    right.set_xticks(sorted({cell["dim"] for cell in result["grid"]}))
    right.minorticks_off()
    right.get_xaxis().set_major_formatter("{x:.0f}")
    right.tick_params(labelsize=8)
    right.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(drawing)


def number(value: float) -> str:
    """Return three digits, or as many as the whole number has.

    >>> number(0.001234), number(1.215), number(34.56), number(11289.3)
    ('0.00123', '1.22', '34.6', '11,289')
    """
    if value >= 100:
        return f"{value:,.0f}"
    digits = 2 if value >= 1 else 3
    return f"{value:.3g}" if value < 1 else f"{value:.{digits if value < 10 else 1}f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("|  |", "| |")


def main() -> None:
    """Read the JSON, write page and chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="written by bench_mining.py --json")
    result = json.loads(parser.parse_args().json.read_text(encoding="utf-8"))
    if not result["complete"]:
        parser.error("these figures are of --quick; the page is of all sizes")
    write_page(result, PAGE, CHART)
    print(f"written: {PAGE.relative_to(ROOT)}, {CHART.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
