"""What was looked for: checks with what they need, carried out and put together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from mohs.diagnosis.findings import Diagnosis, Finding, ranked

__all__ = ["Check", "combined", "examine"]


@final
@dataclass(frozen=True)
class Check:
    """One cause to look for.

    Attributes:
        cause: its name, as in `Finding.cause`.
        find: returns the finding, or None if the cause is not there.
        missing: what is needed and not there, as in "no column 'val_loss'"; "" if the check can be carried out.
    """

    cause: str
    find: Callable[[], Finding | None]
    missing: str = ""


def examine(checks: Iterable[Check]) -> Diagnosis:
    """Carry out the checks that can be, and return what they found.

    >>> quiet = Check("swapped", lambda: None)
    >>> examine([quiet, Check("overfitting", lambda: None, missing="no column 'val_loss'")]).not_checked
    {'overfitting': "no column 'val_loss'"}
    """
    findings: list[Finding] = []
    checked: list[str] = []
    missing: dict[str, list[str]] = {}
    for check in checks:
        if check.missing:
            missing.setdefault(check.cause, []).append(check.missing)
            continue
        checked.append(check.cause)
        found = check.find()
        if found is not None:
            findings.append(found)
    return combined([Diagnosis(ranked(findings), tuple(dict.fromkeys(checked)), _joined(missing))])


def combined(parts: Iterable[Diagnosis]) -> Diagnosis:
    """Return one diagnosis of several materials.

    A cause found in two of them is told once, by its worst finding; a cause that one could not be looked for in, but
    another could, counts as looked for. All reasons why one could not are kept, in order.
    """
    parts = list(parts)
    worst: dict[str, Finding] = {}
    for finding in ranked(finding for part in parts for finding in part.findings):
        worst.setdefault(finding.cause, finding)
    checked = tuple(dict.fromkeys(cause for part in parts for cause in part.checked))
    missing: dict[str, list[str]] = {}
    for part in parts:
        for cause, reason in part.not_checked.items():
            if cause not in checked:
                missing.setdefault(cause, []).append(reason)
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Diagnosis(ranked(worst.values()), checked, _joined(missing), notes)


def _joined(missing: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {cause: "; ".join(dict.fromkeys(reasons)) for cause, reasons in missing.items()}
