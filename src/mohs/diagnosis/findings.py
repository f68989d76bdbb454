"""What the doctor says of a result: findings, worst first."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, final

__all__ = ["Diagnosis", "Finding", "Severity", "ranked"]

Severity: TypeAlias = Literal["error", "warning", "note"]
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@final
@dataclass(frozen=True)
class Finding:
    """One cause, with the numbers that show it and what to do.

    Attributes:
        cause: a stable name in kebab case, for example "collapsed".
        severity: "error": the result is not to be trusted; "warning": it is worse than need be; "note": good to know.
        what: what was seen, one sentence with its numbers.
        why: how that comes about, one or two sentences.
        fix: what to do, one sentence.
        settings: the change as settings of a run, dotted names to values; empty where no setting helps.
        numbers: the evidence, by name.
        share: how much of the trouble it explains, in [0, 1]; orders findings of one severity, largest first.
    """

    cause: str
    severity: Severity
    what: str
    why: str
    fix: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    share: float = 0.0

    def as_record(self) -> dict[str, Any]:
        """Return the finding as JSON takes it."""
        return asdict(self)


@final
@dataclass(frozen=True)
class Diagnosis:
    """All findings, worst first; the causes that were looked for, and those that could not be, with the reason.

    `notes` are lines on how something was read that may be meant otherwise.
    """

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    not_checked: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Finding | None:
        """The worst finding; None if there is none."""
        return self.findings[0] if self.findings else None

    def as_record(self) -> dict[str, Any]:
        """Return the diagnosis as JSON takes it."""
        return {
            "findings": [finding.as_record() for finding in self.findings],
            "checked": list(self.checked),
            "not_checked": dict(self.not_checked),
            "notes": list(self.notes),
        }


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings by (severity, share, cause): errors first, then the larger share, then the name.

    >>> small = Finding("hubs", "warning", "", "", "", share=0.1)
    >>> [finding.cause for finding in ranked([small, Finding("collapsed", "error", "", "", "")])]
    ['collapsed', 'hubs']
    """
    return tuple(sorted(findings, key=lambda f: (_ORDER[f.severity], -f.share, f.cause)))
