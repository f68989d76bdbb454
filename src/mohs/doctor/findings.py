"""What the doctor says of a result: findings, worst first."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, final

from mohs.settings.toml import toml_value

__all__ = [
    "Check", "Diagnosis", "Finding", "Severity", "combined", "examine", "ranked", "settings_diff", "unavailable",
    "unless",
]  # fmt: skip

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

    def __repr__(self) -> str:
        return f"Diagnosis({self.verdict})"

    @property
    def verdict(self) -> str:
        """The diagnosis in one line.

        >>> Diagnosis((), ("collapsed", "swapped"), {}).verdict
        'nothing found; 2 causes looked for'
        """
        if not self.findings:
            return f"nothing found; {len(self.checked)} causes looked for"
        count = Counter(finding.severity for finding in self.findings)
        numbers = [f"{count[s]} {s}{'s' if count[s] > 1 else ''}" for s in ("error", "warning", "note") if count[s]]
        trusted = "the result is not to be trusted" if count["error"] else "the result is worse than need be"
        if not count["error"] and not count["warning"]:
            trusted = "good to know"
        return f"{', '.join(numbers)}: {trusted}; look first at {self.findings[0].cause}"

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


Find: TypeAlias = Callable[[], Finding | None]


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
    find: Find
    missing: str = ""


def unavailable(missing: str, *causes: str) -> list[Check]:
    """Return checks of causes that cannot be looked for, all for one reason."""
    return [Check(cause, lambda: None, missing) for cause in causes]


def unless(*known: Find) -> Callable[[Find], Find]:
    """Return what makes a search find nothing where one of the known causes is there, and explains it.

    >>> small = Finding("hubs", "note", "", "", "")
    >>> unless(lambda: None)(lambda: small)() is small, unless(lambda: small)(lambda: small)()
    (True, None)
    """
    return lambda find: lambda: None if any(each() is not None for each in known) else find()


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


def settings_diff(settings: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return settings as changes of a TOML file: "-" what is set (where that is known), "+" what to set.

    Settings that are so already are left out.

    >>> settings_diff({"loss.margin": 0.5, "hardness.curve": "closed-loop"}, {"loss.margin": 1.6})
    ['[loss]', '-margin = 1.6', '+margin = 0.5', '[hardness]', '+curve = "closed-loop"']
    """
    lines: list[str] = []
    last = ""
    for name, value in settings.items():
        section, _, setting = name.rpartition(".")
        if name in current and current[name] == value:
            continue
        if section != last:
            lines.append(f"[{section}]")
            last = section
        if current.get(name) is not None:
            lines.append(f"-{setting} = {toml_value(current[name])}")
        lines.append(f"+{setting} = {toml_value(value)}")
    return lines
