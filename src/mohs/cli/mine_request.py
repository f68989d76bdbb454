"""What `mohs mine` was asked for, and what of it is wrong whatever the data."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final, get_args

from mohs.cli.console import require_file_place
from mohs.errors import InputError
from mohs.hardness.scales import rule_of
from mohs.mining.problem import Metric
from mohs.mining.roles import Anchors
from mohs.sequence import usual_length
from mohs.settings.config import DataConfig, HardnessConfig

__all__ = ["MineRequest", "check_request", "naming_flags"]

PositiveRule = Literal["random", "easy", "hard"]
Method = Literal["exact", "sampled", "auto"]
Candidates = Literal["all", "sample", "catalog"]

_DEVICE = re.compile(r"cpu|cuda(:\d+)?|mps")
# What mining calls its arguments, and what the command line does.
_FLAGS = {
    "candidates": "--candidates",
    "num_negatives": "--negatives",
    "excluded_pairs": "--review-list",
    "device": "--device",
}


@final
@dataclass(frozen=True)
class MineRequest:
    """What `mohs mine` was asked for; `out` is the Parquet plan, `csv` the same with file names.

    `num_triplets`, `prefer_positive`, `num_sampled` and `device` are None where nothing was said.
    """

    data: DataConfig
    hardness: HardnessConfig
    margin: float | None
    num_triplets: int | None
    num_negatives: int
    positive_rule: PositiveRule
    anchors: Anchors
    prefer_positive: Literal["class", "catalog"] | None
    metric: Metric
    candidates: Candidates
    review_list: Path | None
    method: Method
    num_sampled: int | None
    device: str | None
    embedder: Path | None
    embeddings: Path | None
    out: Path
    csv: Path | None
    seed: int

    def length(self, num_classes: int) -> int:
        """Return how many anchors are mined for on so many classes."""
        return usual_length(num_classes) if self.num_triplets is None else self.num_triplets

    @property
    def on_accelerator(self) -> bool:
        """Whether a device other than the CPU mines."""
        return self.device not in (None, "cpu")


def check_request(request: MineRequest) -> None:
    """Raise `InputError` with one line for each mistake: minutes of embedding must not come first."""
    problems = [
        *_check_names(request),
        *_check_bank(request),
        *_check_hardness(request),
        *_check_positives_and_negatives(request),
        *_check_anchors(request),
        *_check_method(request),
    ]
    if problems:
        raise InputError(*problems)
    if request.on_accelerator:
        from mohs.mining.on_device import mining_device

        with naming_flags("the embeddings"):
            mining_device(str(request.device))
    _check_places(request)


@contextmanager
def naming_flags(bank: str) -> Iterator[None]:
    """Let messages of mining name flags, and the bank as a person knows it, in place of arguments."""
    try:
        yield
    except InputError as error:
        names = {**_FLAGS, "embeddings_ND": bank}
        parts = [problem.partition(":") for problem in error.problems]
        raise InputError(*(names.get(name, name) + colon + rest for name, colon, rest in parts)) from None


def _check_names(request: MineRequest) -> list[str]:
    names: dict[str, tuple[str, Sequence[str]]] = {
        "--positive-rule": (request.positive_rule, get_args(PositiveRule)),
        "--metric": (request.metric, get_args(Metric)),
        "--candidates": (request.candidates, get_args(Candidates)),
        "--method": (request.method, get_args(Method)),
    }
    problems = [
        f"{flag}: {name!r} is not one of {', '.join(map(repr, known))}"
        for flag, (name, known) in names.items()
        if name not in known
    ]
    if request.device is not None and not _DEVICE.fullmatch(request.device):
        problems.append(f"--device: {request.device!r} is not one of 'cpu', 'cuda', 'cuda:0' and so on, 'mps'")
    return problems


def _check_bank(request: MineRequest) -> Iterator[str]:
    if request.embedder is not None and request.embeddings is not None:
        yield "--embedder, --embeddings: both given; use one of them"


def _check_hardness(request: MineRequest) -> Iterator[str]:
    if request.hardness.curve == "closed-loop":
        yield "--curve: 'closed-loop' reads training; use it with 'mohs train', or give a curve"
    margin, scale = request.margin, request.hardness.scale
    by_margin = rule_of(scale).needs == "margin"
    if margin is None:
        if by_margin:
            yield f"--margin: missing; the scale {scale!r} needs the loss's margin, for example --margin 0.2"
    elif not by_margin:
        yield f"--margin: {margin:g} given for the scale {scale!r}; use --scale margin, or leave it out"
    elif not 0.0 < margin < math.inf:
        yield f"--margin: {margin:g} is not above 0; use for example --margin 0.2"


def _check_positives_and_negatives(request: MineRequest) -> Iterator[str]:
    if request.num_negatives < 1:
        yield f"--negatives: {request.num_negatives} is not at least 1; use for example --negatives 4"
    if request.prefer_positive is not None and request.positive_rule in ("easy", "hard"):
        yield (
            f"--prefer: {request.prefer_positive!r} is for random positives; leave it out, or --positive-rule "
            f"{request.positive_rule}"
        )


def _check_anchors(request: MineRequest) -> Iterator[str]:
    anchors = request.anchors
    if anchors == "any":
        return
    if request.prefer_positive is not None:
        yield (
            f"--prefer: {request.prefer_positive!r} with --anchors {anchors}, which decides who is the positive; leave "
            "one of the two out"
        )
    if request.positive_rule in ("easy", "hard"):
        yield (
            f"--positive-rule: {request.positive_rule!r} with --anchors {anchors}: it takes any picture of the class, "
            "whatever its role; leave one of the two out"
        )
    if anchors == "catalog" and request.candidates == "catalog":
        yield "--candidates: 'catalog' with --anchors catalog, whose negatives are samples; leave one of the two out"


def _check_method(request: MineRequest) -> Iterator[str]:
    scale, num_sampled = request.hardness.scale, request.num_sampled
    if request.method == "sampled" and rule_of(scale).exact_only:
        yield f"--method: 'sampled' is for the scales rank and log-rank, not {scale!r}; use --scale rank, or exact"
    if num_sampled is not None:
        if request.method == "exact":
            yield f"--num-sampled: {num_sampled} given for exact mining; use --method sampled or auto, or leave it out"
        elif num_sampled < 256:
            yield f"--num-sampled: {num_sampled} is not at least 256; use for example --num-sampled 4096"
    if request.on_accelerator:
        only_cpu = {
            "--method sampled": request.method == "sampled",
            f"--negatives {request.num_negatives}": request.num_negatives > 1,
            "--review-list": request.review_list is not None,
        }
        for flag, given in only_cpu.items():
            if given:
                yield f"--device: {request.device!r} with {flag}, which only the CPU does; leave one of the two out"


def _check_places(request: MineRequest) -> None:
    if request.out.suffix.lower() == ".csv":
        raise InputError(f"--out: {request.out}: the plan is a Parquet file; use --csv for CSV")
    require_file_place(request.out, "--out")
    if request.csv is not None:
        require_file_place(request.csv, "--csv")
        if request.csv.absolute() == request.out.absolute():
            raise InputError(f"--csv: {request.csv} is the plan of --out too; name another file")
