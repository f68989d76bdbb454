"""`mohs doctor`: what is wrong with a run, or with what a training elsewhere left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mohs.cli import options
from mohs.cli.console import print_json, print_lines
from mohs.cli.progress import working
from mohs.doctor.log.stuck_values import LOSS_NAMES
from mohs.errors import InputError

if TYPE_CHECKING:
    from mohs.doctor.findings import Diagnosis, Finding

__all__ = ["doctor", "finding_lines"]

_FINDINGS_EXIT_CODE: Final = 5
"""Of `--fail-on`: a result that is not to be trusted is a training that failed."""

_FAIL_ON = {"error": ("error",), "warning": ("error", "warning")}
_INDENT = "   "


def doctor(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder made by 'mohs train'; the run need not have finished.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="CSV log of a training in another library: step or epoch, loss, val_loss, accuracy, …"),
    ] = None,
    loss_name: Annotated[
        str | None,
        typer.Option(help=f"With --log: its loss, {', '.join(LOSS_NAMES[:-1])} or {LOSS_NAMES[-1]}."),
    ] = None,
    margin: Annotated[float | None, typer.Option(help="With --log: the margin of its loss.")] = None,
    batch: Annotated[int | None, typer.Option(help="With --log: how many pairs or triplets a batch has.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help=".npy of test pictures, a row each.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Their classes: CSV or Parquet with a column 'class', .npy or .txt.")
    ] = None,
    train_embeddings: Annotated[Path | None, typer.Option(help=".npy of training pictures, same network.")] = None,
    train_labels: Annotated[Path | None, typer.Option(help="Their classes, as --labels.")] = None,
    query_embeddings: Annotated[
        Path | None, typer.Option(help="With --embeddings: .npy of queries, embedded as your service does.")
    ] = None,
    query_labels: Annotated[Path | None, typer.Option(help="Their classes, as --labels.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV of pairs: 'same' or 'different' (1 or 0), and 'distance', 'similarity' or 'score'."),
    ] = None,
    one_means: Annotated[
        str | None,
        typer.Option(help="With --pairs: what 1 means, same or different, if its column does not say."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="With --pairs: the threshold to judge at. With --precision: the lowest similarity to look at."
        ),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(help="Exit with 5 if there is a finding of this severity, error or warning, or a worse one."),
    ] = None,
    precision: Annotated[
        bool,
        typer.Option(
            "--precision", help="Find why the most confident matches are wrong; give RUN, or --embeddings and --labels."
        ),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="With --precision: look at all pictures of this table, not at the test pictures of RUN."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --precision: folder for the evidence; default RUN/precision.")
    ] = None,
    max_bad: options.MaxBad = None,
    recall: Annotated[
        float | None, typer.Option(help="With --precision: look at the nearest pairs up to this recall; default 0.1.")
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Say what is wrong with a run, a log, embeddings or pairs: the cause, its numbers, and what to change.

    Exits with 0 whatever it finds, unless --fail-on says otherwise. With --precision: pairs.csv, fixes.csv for
    'mohs fix', the curve without each cause, and contact sheets.
    """
    parameters = locals()
    given = [name for name, value in parameters.items() if value is not None]
    own = {"data", "max_bad", "out", "recall"}
    if precision:
        used = own | {"run", "embeddings", "labels", "threshold", "precision", "quiet", "as_json"}
        if unused := [options.flag_of(name) for name in given if name not in used]:
            raise InputError(f"{', '.join(unused)}: not used with --precision; leave out")
        from mohs.cli.precision import explain_precision

        if max_bad is not None and data is None:
            raise InputError("--max-bad: needs --data; the run knows how many it allows")
        explain_precision(
            run, data, embeddings, labels, max_bad=max_bad or 0, out=out,
            recall=0.1 if recall is None else recall, threshold=threshold,
            quiet=quiet, as_json=as_json,
        )  # fmt: skip
        return
    if unused := [options.flag_of(name) for name in given if name in own]:
        raise InputError(f"{', '.join(unused)}: need --precision")
    from mohs.checks import require, wrong_choice
    from mohs.doctor.diagnose import diagnose
    from mohs.settings.config import load_config
    from mohs.settings.toml import flat_settings

    require(None if fail_on is None else wrong_choice("--fail-on", fail_on, tuple(_FAIL_ON)))
    flags = {name: options.flag_of(name) for name in parameters}
    taken = parameters.keys() & signature(diagnose).parameters  # under the same names
    with options.naming_flags(flags), working("looking for causes", quiet=quiet):
        diagnosis = diagnose(**{name: parameters[name] for name in taken})
    if as_json:
        print_json(diagnosis.as_record())
    else:
        known = {"loss.margin": margin, "training.batch_triplets": batch}
        current = {name: value for name, value in known.items() if value is not None}
        if run is not None:
            current = flat_settings(load_config(run / "config.json").model_dump(mode="json"))
        print_lines(_lines(diagnosis, current))
    if any(finding.severity in _FAIL_ON.get(fail_on or "", ()) for finding in diagnosis.findings):
        raise typer.Exit(_FINDINGS_EXIT_CODE)


def _lines(diagnosis: Diagnosis, current: Mapping[str, Any]) -> Sequence[str]:
    lines = [diagnosis.verdict, *diagnosis.notes]
    for finding in diagnosis.findings:
        lines += ["", *finding_lines(finding, current)]
    lines += ["", f"looked for: {', '.join(diagnosis.checked)}"]
    reasons: dict[str, list[str]] = {}
    for cause, reason in diagnosis.not_checked.items():
        reasons.setdefault(reason, []).append(cause)
    return lines + [f"not looked for ({reason}): {', '.join(causes)}" for reason, causes in reasons.items()]


def finding_lines(finding: Finding, current: Mapping[str, Any]) -> list[str]:
    """Return a finding as lines of text: severity and cause, what was seen, its numbers, why, the fix, the settings."""
    numbers = " · ".join(f"{name} {value:.4g}" for name, value in finding.numbers.items())
    from mohs.doctor.findings import settings_diff

    lines = [f"{finding.severity}: {finding.cause}", f"{_INDENT}{finding.what}."]
    lines += [f"{_INDENT}({numbers})"] if numbers else []
    lines += [f"{_INDENT}Why: {finding.why}", f"{_INDENT}Fix: {finding.fix}"]
    return lines + [f"{_INDENT}{line}" for line in settings_diff(finding.settings, current)]
