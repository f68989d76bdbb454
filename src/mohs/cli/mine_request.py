"""What `mohs mine` was asked for, and what of it is wrong whatever the data."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final, get_args

from mohs.checks import wrong_choice
from mohs.cli.console import require_file_place
from mohs.errors import InputError, Problem
from mohs.mining.options import (
    Method,
    Metric,
    PositiveRule,
    device_problems,
    margin_problems,
    method_problems,
    option_problems,
)
from mohs.mining.roles import Anchors
from mohs.sequence import usual_length
from mohs.settings.config import DataConfig, HardnessConfig

__all__ = ["MineRequest", "check_request", "naming_flags"]

Candidates = Literal["all", "sample", "catalog"]

# What mining calls its arguments, and what the command line does.
_FLAGS = {
    "candidates": "--candidates",
    "device": "--device",
    "excluded_pairs": "--review-list",
    "margin": "--margin",
    "method": "--method",
    "metric": "--metric",
    "num_negatives": "--negatives",
    "num_sampled": "--num-sampled",
    "positive_rule": "--positive-rule",
    "scale": "--scale",
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
    scale, num_sampled = request.hardness.scale, 4096 if request.num_sampled is None else request.num_sampled
    of_mining = [
        *option_problems(scale, request.metric, request.positive_rule, request.num_negatives),
        *method_problems(request.method, num_sampled, scale),
        *margin_problems(scale, request.margin, squared=False),
        *device_problems(
            request.device,
            request.method,
            request.num_negatives,
            has_exclusions=request.review_list is not None,
        ),
        wrong_choice("candidates", request.candidates, get_args(Candidates)),
    ]
    problems = [
        *(problem.at(_FLAGS[problem.place]) for problem in of_mining if problem is not None),
        *_check_flags(request),
        *_check_anchors(request),
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
    names = {**_FLAGS, "embeddings_ND": bank}
    try:
        yield
    except InputError as error:
        lines = (
            problem.at(names.get(problem.place, problem.place)) if isinstance(problem, Problem) else problem
            for problem in error.problems
        )
        raise InputError(*lines) from None


def _check_flags(request: MineRequest) -> Iterator[str]:
    if request.embedder is not None and request.embeddings is not None:
        yield "--embedder, --embeddings: both given; use one of them"
    if request.hardness.curve == "closed-loop":
        yield "--curve: 'closed-loop' reads training; use it with 'mohs train', or give a curve"
    if request.num_sampled is not None and request.method == "exact":
        how = "use --method sampled or auto, or leave it out"
        yield f"--num-sampled: {request.num_sampled} given for exact mining; {how}"
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


def _check_places(request: MineRequest) -> None:
    if request.out.suffix.lower() == ".csv":
        raise InputError(f"--out: {request.out}: the plan is a Parquet file; use --csv for CSV")
    require_file_place(request.out, "--out")
    if request.csv is not None:
        require_file_place(request.csv, "--csv")
        if request.csv.absolute() == request.out.absolute():
            raise InputError(f"--csv: {request.csv} is the plan of --out too; name another file")
