"""The command `mohs doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from mohs.cli.options import Json, Quiet

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
    labels: Annotated[Path | None, typer.Option(help="CSV with the column 'class', in the order of the rows.")] = None,
    train_embeddings: Annotated[Path | None, typer.Option(help=".npy of training pictures, same network.")] = None,
    train_labels: Annotated[Path | None, typer.Option(help="CSV with their classes.")] = None,
    query_embeddings: Annotated[Path | None, typer.Option(help=".npy of queries, made as the service does.")] = None,
    query_labels: Annotated[Path | None, typer.Option(help="CSV with their classes.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV of pairs: 'same' (1 or 0) and 'distance', 'similarity' or 'score'.")
    ] = None,
    fail_on: Annotated[
        str | None, typer.Option(help="error or warning: exit with 5 if there is such a finding, or a worse one.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a run, a log, embeddings or pairs: the cause, its numbers, and what to change.

    Exits with 0 whatever it finds, unless --fail-on says otherwise.
    """
    from mohs.commands.doctor import DoctorRequest, doctor_command

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
    )
    raise typer.Exit(doctor_command(request, fail_on=fail_on, quiet=quiet, as_json=as_json))
