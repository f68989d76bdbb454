"""What a set of any size takes, on paper: bytes, floating-point operations, seconds and dollars.

    python benchmarks/scale.py

It prints the tables of docs/scale.md. The formulas are the functions of this file; rates that were measured come from
`benchmarks/mining.json`, and all others are assumptions, which stand in `MACHINES` and in the page.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np

FIGURES: Final = Path(__file__).with_name("mining.json")
SIZES: Final = (70_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
NUM_SAMPLED: Final = 4096
EXACT: Final = ("`range`", "`rank`", "`log-rank`")


@final
@dataclass(frozen=True)
class Work:
    """What is done with each picture, and with each pair.

    Attributes:
        size: pixels of a side, in colour.
        file_bytes: of a picture as it came.
        dim: D, numbers of an embedding.
        vector_bytes: of each number of the bank.
        triplet_bytes: of a row of a plan: three int64, four float32, one byte.
        forward_flops: of the network for a picture, 2 for a multiplication with its addition.
        step_over_forward: a training step over a forward pass, for a picture.
        sampled_overhead: sampled mining over its own.
    """

    size: int = 224
    file_bytes: int = 15_000
    dim: int = 128
    vector_bytes: int = 2
    triplet_bytes: int = 41
    forward_flops: float = 769e6
    step_over_forward: float = 3.4
    sampled_overhead: float = 2.2


@final
@dataclass(frozen=True)
class Overhead:
    """What exact mining takes beside its matrix product.

    Attributes:
        pair_s: for a pair of anchor and item: its product is looked at.
        number_s: for a number of the bank: it is checked, hashed, centred and copied, whoever the anchors are.
    """

    pair_s: float
    number_s: float

    def faster(self, times: float) -> "Overhead":
        """Return it on a machine that is so many times as fast."""
        return Overhead(self.pair_s / times, self.number_s / times)


@final
@dataclass(frozen=True)
class Machine:
    """What a machine, or many, reaches, and what it costs.

    Attributes:
        name: in tables.
        product_flops: a second, of matrix products.
        overhead: of exact mining beside them.
        network_flops: a second, of the network.
        read_bytes: a second, of pictures.
        dollars_per_hour: of all of it.
    """

    name: str
    product_flops: float
    overhead: "Overhead"
    network_flops: float
    read_bytes: float
    dollars_per_hour: float


def measured_product_flops(figures: Mapping[str, Any]) -> float:
    """Return the rate of the matrix product alone that `bench_mining.py` measured."""
    ways = figures["ways"]
    product = next(way for way in ways["figures"] if way["name"] == "the matrix product alone")
    return 2.0 * ways["num_items"] ** 2 * ways["dim"] / float(product["wall_s"])


def measured_overhead(figures: Mapping[str, Any]) -> Overhead:
    """Return the overhead that explains best, by least squares of relative errors, what `bench_mining.py` measured."""
    ways = figures["ways"]
    cells = [(ways["num_items"], ways["num_items"], ways["dim"], ways["figures"])]
    cells += [(row["num_items"], row["num_anchors"], row["dim"], row["figures"]) for row in figures["grid"]]
    terms, rests = [], []
    for num_items, num_anchors, dim, found in cells:
        wall_s = {way["name"]: float(way["wall_s"]) for way in found}
        for name in EXACT:
            if name in wall_s:
                terms.append(np.array([num_anchors * num_items, num_items * dim]) / wall_s[name])
                rests.append(1.0 - wall_s["the matrix product alone"] / wall_s[name])
    pair_s, number_s = np.linalg.lstsq(np.stack(terms), np.array(rests), rcond=None)[0]
    return Overhead(float(pair_s), float(number_s))


def machines(figures: Mapping[str, Any]) -> list[Machine]:
    """Return the machines of the page: two cores as measured, and larger ones by assumption.

    What mining takes beside the product is taken to be faster by as much as the product is.
    """
    product, overhead = measured_product_flops(figures), measured_overhead(figures)

    def machine(name: str, product_flops: float, *others: float) -> Machine:
        return Machine(name, product_flops, overhead.faster(product_flops / product), *others)

    return [
        machine("2 cores", product, 27e9, 1e9, 0.10),
        machine("64 cores", 32 * product, 32 * 27e9, 2e9, 3.0),
        machine("1 GPU", 100e12, 20e12, 2e9, 2.5),
        machine("8 GPUs", 8 * 100e12, 8 * 20e12, 4e9, 20.0),
        machine("64 × 8 GPUs", 512 * 100e12, 512 * 20e12, 64 * 4e9, 1280.0),
    ]


def picture_bytes(num_items: int, work: Work) -> float:
    """Return the bytes of decoded pictures."""
    return float(num_items) * work.size**2 * 3


def bank_bytes(num_items: int, work: Work) -> float:
    """Return the bytes of the embeddings."""
    return float(num_items) * work.dim * work.vector_bytes


def embed_flops(num_items: int, work: Work) -> float:
    """Return the operations of embedding all items once."""
    return num_items * work.forward_flops


def exact_flops(num_items: int, work: Work) -> float:
    """Return the operations of mining exactly, each item an anchor: 2·N²·D."""
    return 2.0 * num_items**2 * work.dim


def sampled_flops(num_items: int, work: Work) -> float:
    """Return the operations of sampled ranks, each item an anchor: 2·N·m·D."""
    return 2.0 * num_items * NUM_SAMPLED * work.dim


def train_flops(num_items: int, work: Work) -> float:
    """Return the operations of a pass of training over all items."""
    return embed_flops(num_items, work) * work.step_over_forward


def embed_s(num_items: int, work: Work, machine: Machine) -> float:
    """Return the seconds of embedding: reading and computing overlap, and the slower one decides."""
    return max(
        embed_flops(num_items, work) / machine.network_flops, picture_bytes(num_items, work) / machine.read_bytes
    )


def exact_s(num_items: int, work: Work, machine: Machine, num_anchors: int | None = None) -> float:
    """Return the seconds of exact mining; each item is an anchor, if not told otherwise."""
    num_pairs = num_items * (num_items if num_anchors is None else num_anchors)
    product_s = 2.0 * num_pairs * work.dim / machine.product_flops
    return product_s + num_pairs * machine.overhead.pair_s + num_items * work.dim * machine.overhead.number_s


def sampled_s(num_items: int, work: Work, machine: Machine) -> float:
    """Return the seconds of sampled mining, which also reads the bank three times, as fast as pictures are read."""
    reading = 3 * bank_bytes(num_items, work) / machine.read_bytes
    return sampled_flops(num_items, work) * work.sampled_overhead / machine.product_flops + reading


def train_s(num_items: int, work: Work, machine: Machine) -> float:
    """Return the seconds of a pass of training."""
    return max(
        train_flops(num_items, work) / machine.network_flops, picture_bytes(num_items, work) / machine.read_bytes
    )


def dollars(seconds: float, machine: Machine) -> float:
    """Return what these seconds cost."""
    return seconds / 3600 * machine.dollars_per_hour


def in_seconds(seconds: float) -> str:
    """Return a time for a person, of two digits.

    >>> in_seconds(0.123), in_seconds(75), in_seconds(5000), in_seconds(3e5), in_seconds(1e9)
    ('0.12 s', '75 s', '1.4 h', '3.5 d', '32 years')
    """
    if seconds < 0.01:
        return "< 0.01 s"
    for unit, most, name in ((1, 120, "s"), (60, 7200 / 60, "min"), (3600, 48, "h"), (86_400, 700, "d")):
        if seconds / unit < most and not (unit == 60 and seconds >= 3600):
            return f"{_two_digits(seconds / unit)} {name}"
    return f"{_two_digits(seconds / 31_557_600)} years"


def in_bytes(num: float) -> str:
    """Return bytes for a person, of two digits.

    >>> in_bytes(18e6), in_bytes(1.5e14)
    ('18 MB', '150 TB')
    """
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if num >= unit:
            return f"{_two_digits(num / unit)} {name}"
    return f"{_two_digits(num / 1e3)} kB"


def _two_digits(value: float) -> str:
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def _flops(value: float) -> str:
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}·10^{int(exponent)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bytes_table(work: Work) -> str:
    """Return the table of bytes and operations."""
    header = ["items", "files", "decoded", "bank, float16", "plan", "embed", "mine, exact", "mine, sampled", "train"]
    rows = [
        [
            f"{n:,}",
            in_bytes(n * work.file_bytes),
            in_bytes(picture_bytes(n, work)),
            in_bytes(bank_bytes(n, work)),
            in_bytes(n * work.triplet_bytes),
            *(_flops(flops(n, work)) for flops in (embed_flops, exact_flops, sampled_flops, train_flops)),
        ]
        for n in SIZES
    ]
    return _table(header, rows)


_SECONDS: Final[Mapping[str, Callable[[int, Work, Machine], float]]] = {
    "embed": embed_s,
    "mine, exact": exact_s,
    "mine, sampled": sampled_s,
    "train": train_s,
}


def seconds_table(work: Work, machine: Machine) -> str:
    """Return the table of a machine: seconds, and dollars of embedding, mining (the cheaper way) and a pass."""
    rows = []
    for n in SIZES:
        found = {name: seconds(n, work, machine) for name, seconds in _SECONDS.items()}
        mining = min(found["mine, exact"], found["mine, sampled"])
        cost = dollars(found["embed"] + mining + found["train"], machine)
        rows.append([f"{n:,}", *map(in_seconds, found.values()), f"${cost:,.2f}" if cost < 100 else f"${cost:,.0f}"])
    return _table(["items", *_SECONDS, "dollars"], rows)


def checks(figures: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return what was measured on two cores: its name, seconds by the formulas, and seconds measured."""
    cores, work = machines(figures)[0], Work()
    found = [
        (f"{way['name']}, exact, 70,000 items", exact_s(70_000, work, cores), way["wall_s"])
        for way in figures["ways"]["figures"]
        if way["name"] in EXACT
    ]
    for row in figures["grid"]:
        num_items, num_anchors = row["num_items"], row["num_anchors"]
        if row["dim"] == work.dim and num_items > 70_000:
            found += [
                (
                    f"{way['name']}, exact, {num_anchors:,} anchors of {num_items:,}",
                    exact_s(num_items, work, cores, num_anchors),
                    way["wall_s"],
                )
                for way in row["figures"]
                if way["name"] in EXACT
            ]
    of_70k, of_1m = (
        next(way["wall_s"] for way in figures["sampled"]["figures"] if way["name"] == name)
        for name in ("`rank`, sampled", "`rank`, sampled, N = 1,000,000")
    )
    reading = 3 * (bank_bytes(1_000_000, work) - bank_bytes(70_000, work)) / cores.read_bytes
    found.append(("`rank`, sampled, 70,000 items", sampled_s(70_000, work, cores), of_70k))
    found.append(("`rank`, sampled, 70,000 anchors of 1,000,000", sampled_s(70_000, work, cores) + reading, of_1m))
    return found


def check_table(figures: Mapping[str, Any]) -> str:
    """Return the table that holds the formulas against what was measured."""
    rows = [
        [name, in_seconds(computed), in_seconds(measured), f"{measured / computed:.2f}"]
        for name, computed, measured in checks(figures)
    ]
    return _table(["two cores", "formula", "measured", "measured over formula"], rows)


def page_tables() -> dict[str, str]:
    """Return the tables of the page by name."""
    figures, work = json.loads(FIGURES.read_text(encoding="utf-8")), Work()
    return {
        "bytes": bytes_table(work),
        **{machine.name: seconds_table(work, machine) for machine in machines(figures)},
        "check": check_table(figures),
    }


def main() -> None:
    """Print the tables."""
    for name, table in page_tables().items():
        print(f"{name}\n{table}\n")


if __name__ == "__main__":
    main()
