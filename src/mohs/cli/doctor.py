"""`mohs doctor`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from mohs.cli.console import print_json, print_lines
from mohs.doctor import diagnose
from mohs.doctor.findings import Diagnosis, Finding, settings_diff
from mohs.errors import InputError
from mohs.settings.config import RunConfig, load_config
from mohs.settings.toml import flat_settings

__all__ = ["FINDINGS_EXIT_CODE", "DoctorRequest", "doctor_command", "finding_lines", "settings_diff", "verdict"]

FINDINGS_EXIT_CODE: Final = 5
"""Of `--fail-on`: a result that is not to be trusted is a training that failed."""

_FAIL_ON = {"error": ("error",), "warning": ("error", "warning")}
_INDENT = "   "


@final
@dataclass(frozen=True)
class DoctorRequest:
    """What is to be looked at: a run, or files of a training elsewhere."""

    run: Path | None
    log: Path | None
    loss_name: str | None
    margin: float | None
    batch: int | None
    embeddings: Path | None
    labels: Path | None
    train_embeddings: Path | None
    train_labels: Path | None
    query_embeddings: Path | None
    query_labels: Path | None
    pairs: Path | None
    threshold: float | None
    one_means: str | None


def doctor_command(request: DoctorRequest, *, fail_on: str | None, as_json: bool) -> int:
    """Diagnose, print the findings and return the exit code: 0, or 5 for findings as bad as `fail_on`."""
    if fail_on is not None and fail_on not in _FAIL_ON:
        raise InputError(f"--fail-on: {fail_on!r} is not one of {', '.join(map(repr, _FAIL_ON))}")
    diagnosis = _diagnose(request)
    config = None if request.run is None else load_config(request.run / "config.json")
    known = {} if config is not None else {"loss.margin": request.margin, "training.batch_triplets": request.batch}
    if as_json:
        print_json(diagnosis.as_record())
    else:
        print_lines(_lines(diagnosis, _current(config, known)))
    bad = _FAIL_ON.get(fail_on or "", ())
    return FINDINGS_EXIT_CODE if any(finding.severity in bad for finding in diagnosis.findings) else 0


def verdict(diagnosis: Diagnosis) -> str:
    """Return the diagnosis in one line.

    >>> verdict(Diagnosis((), ("collapsed", "swapped"), {}))
    'nothing found; 2 causes looked for'
    """
    if not diagnosis.findings:
        return f"nothing found; {len(diagnosis.checked)} causes looked for"
    count = Counter(finding.severity for finding in diagnosis.findings)
    numbers = [f"{count[s]} {s}{'s' if count[s] > 1 else ''}" for s in ("error", "warning", "note") if count[s]]
    first = diagnosis.findings[0]
    trusted = "the result is not to be trusted" if count["error"] else "the result is worse than need be"
    if not count["error"] and not count["warning"]:
        trusted = "good to know"
    return f"{', '.join(numbers)}: {trusted}; look first at {first.cause}"


def finding_lines(finding: Finding, current: Mapping[str, Any]) -> list[str]:
    """Return a finding as lines of text: severity and cause, what was seen, its numbers, why, the fix, the settings."""
    numbers = " · ".join(f"{name} {value:.4g}" for name, value in finding.numbers.items())
    lines = [f"{finding.severity}: {finding.cause}", f"{_INDENT}{finding.what}."]
    lines += [f"{_INDENT}({numbers})"] if numbers else []
    lines += [f"{_INDENT}Why: {finding.why}", f"{_INDENT}Fix: {finding.fix}"]
    return lines + [f"{_INDENT}{line}" for line in settings_diff(finding.settings, current)]


def _diagnose(request: DoctorRequest) -> Diagnosis:
    try:
        return diagnose(**asdict(request))
    except InputError as error:
        raise InputError(*map(_by_flag, error.problems)) from None


def _by_flag(problem: str) -> str:
    """Return a message about parameters as one about the flags that gave them."""
    problem = problem.replace("one_means", "--one-means")  # in the messages on the file of pairs
    names, colon, rest = problem.partition(": ")
    fields = DoctorRequest.__dataclass_fields__
    if colon and all(name in fields for name in names.split(", ")):
        flags = ["RUN" if name == "run" else f"--{name.replace('_', '-')}" for name in names.split(", ")]
        for field in sorted(fields, key=len, reverse=True):
            if "_" in field:
                rest = rest.replace(field, f"--{field.replace('_', '-')}")
        return f"{', '.join(flags)}: {rest}"
    return problem


def _lines(diagnosis: Diagnosis, current: Mapping[str, Any]) -> Sequence[str]:
    lines = [verdict(diagnosis), *diagnosis.notes]
    for finding in diagnosis.findings:
        lines += ["", *finding_lines(finding, current)]
    lines += ["", f"looked for: {', '.join(diagnosis.checked)}"]
    reasons: dict[str, list[str]] = {}
    for cause, reason in diagnosis.not_checked.items():
        reasons.setdefault(reason, []).append(cause)
    return lines + [f"not looked for ({reason}): {', '.join(causes)}" for reason, causes in reasons.items()]


def _current(config: RunConfig | None, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings in force by their dotted names."""
    if config is None:
        return {name: value for name, value in known.items() if value is not None}
    return flat_settings(config.model_dump(mode="json"))
