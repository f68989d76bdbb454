"""The command `mohs doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from mohs.cli.options import Json, Quiet
from mohs.errors import InputError

__all__ = ["doctor"]


def doctor(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder made by 'mohs train'; the run need not have finished.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="CSV of a training elsewhere: step or epoch, loss, val_loss, accuracy, …")
    ] = None,
    loss_name: Annotated[
        str | None, typer.Option(help="Of --log: triplet, soft-triplet, contrastive, infonce or cross-entropy.")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Of the loss of --log.")] = None,
    batch: Annotated[int | None, typer.Option(help="Of --log: pairs or triplets in a batch.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help=".npy of test pictures, a row each.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Their classes: CSV or Parquet with a column 'class', .npy or .txt.")
    ] = None,
    train_embeddings: Annotated[Path | None, typer.Option(help=".npy of training pictures, same network.")] = None,
    train_labels: Annotated[Path | None, typer.Option(help="Their classes, as --labels.")] = None,
    query_embeddings: Annotated[Path | None, typer.Option(help=".npy of queries, made as the service does.")] = None,
    query_labels: Annotated[Path | None, typer.Option(help="Their classes, as --labels.")] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="CSV of pairs: 'same' or 'different' (1 or 0), and 'distance', 'similarity' or 'score'."),
    ] = None,
    one_means: Annotated[
        str | None,
        typer.Option(help="Of --pairs: what 1 means, same or different, if the column's name does not say it."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Of --pairs: where accuracy is read. Of --precision: similarity to look down to."),
    ] = None,
    fail_on: Annotated[
        str | None, typer.Option(help="error or warning: exit with 5 if there is such a finding, or a worse one.")
    ] = None,
    precision: Annotated[
        bool, typer.Option("--precision", help="Why the most confident matches are wrong: RUN, or --embeddings.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Of --precision: other data for RUN's embedder, all of it looked at.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Of --precision: folder for the evidence; default RUN/precision.")
    ] = None,
    recall: Annotated[float | None, typer.Option(help="Of --precision: how far down to look; default 0.1.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a run, a log, embeddings or pairs: the cause, its numbers, and what to change.

    Exits with 0 whatever it finds, unless --fail-on says otherwise. With --precision: pairs.csv, fixes.csv for
    'mohs fix', the curve without each cause, and contact sheets.
    """
    of_precision = {"--data": data, "--out": out, "--recall": recall}
    if precision:
        others = {
            "--log": log,
            "--loss-name": loss_name,
            "--margin": margin,
            "--batch": batch,
            "--train-embeddings": train_embeddings,
            "--train-labels": train_labels,
            "--query-embeddings": query_embeddings,
            "--query-labels": query_labels,
            "--pairs": pairs,
            "--one-means": one_means,
            "--fail-on": fail_on,
        }
        if unused := [name for name, value in others.items() if value is not None]:
            raise InputError(f"{', '.join(unused)}: not used with --precision; leave out")
        from mohs.cli.precision import PrecisionRequest, precision_command

        asked = PrecisionRequest(
            run=run,
            data=data,
            embeddings=embeddings,
            labels=labels,
            out=out,
            recall=0.1 if recall is None else recall,
            threshold=threshold,
        )
        precision_command(asked, quiet=quiet, as_json=as_json)
        return
    if unused := [name for name, value in of_precision.items() if value is not None]:
        raise InputError(f"{', '.join(unused)}: need --precision")
    from mohs.cli.doctor import DoctorRequest, doctor_command

    request = DoctorRequest(
        run=run,
        log=log,
        loss_name=loss_name,
        margin=margin,
        batch=batch,
        embeddings=embeddings,
        labels=labels,
        train_embeddings=train_embeddings,
        train_labels=train_labels,
        query_embeddings=query_embeddings,
        query_labels=query_labels,
        pairs=pairs,
        threshold=threshold,
        one_means=one_means,
    )
    raise typer.Exit(doctor_command(request, fail_on=fail_on, as_json=as_json))
