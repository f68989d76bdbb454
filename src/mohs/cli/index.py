"""`mohs index`: items that can be searched, built, changed, looked at and calibrated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mohs.cli.console import print_json, print_lines, print_table, require_file_place, require_folder_place, say
from mohs.cli.on_cluster import Actors, Address, Engine, check_engine, index_on_cluster
from mohs.cli.options import Catalog, Json, MaxBad, Quiet, naming_flags
from mohs.cli.pictures_read import QUARANTINE, tell_pictures
from mohs.cli.progress import counting_progress, decoding_progress
from mohs.errors import InputError

if TYPE_CHECKING:
    from mohs.data.quarantine import BadPicture, Reading
    from mohs.index.calibration import Calibration
    from mohs.index.index import Index

__all__ = ["index"]

index = typer.Typer(help="An index to search: build, add, remove, replace, compact, calibrate, export, info, check.")

_Index = Annotated[str, typer.Argument(metavar="INDEX", help="Folder of an index, or s3://bucket/name.")]
_ExactUpTo = Annotated[int | None, typer.Option(help="Search exactly up to this many items, approximately beyond.")]
_Items = Annotated[str, typer.Argument(metavar="TABLE", help="CSV, Parquet or folder with the items.")]


@index.command()
def build(
    folder: Annotated[str, typer.Argument(metavar="INDEX", help="New folder for the index, or s3://bucket/name.")],
    source: Annotated[str, typer.Argument(metavar="TABLE", help="CSV, Parquet, folder of class folders, or 'glyphs'.")],
    embedder: Annotated[Path | None, typer.Option(help="Run folder, or folder of a saved embedder.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Use a pretrained timm model, without training, instead of --embedder.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Safetensors file of the --backbone.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="timm's weights of the --backbone, from the Hugging Face hub.")
    ] = False,
    size: Annotated[int | None, typer.Option(help="With --backbone: side of its input, pixels; default 224.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column that names each item; default: its file.")] = None,
    catalog: Catalog = None,
    exact_up_to: _ExactUpTo = None,
    max_bad: MaxBad = None,
    engine: Engine = None,
    address: Address = None,
    actors: Actors = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Embed the pictures of a table into a new index. Its other columns, such as a price, become filters."""
    if (embedder is None) == (backbone is None):
        raise InputError("--embedder, --backbone: give one of them: it makes the vectors")
    if backbone is None and (weights is not None or pretrained):
        raise InputError("--weights, --pretrained: need --backbone; name it, or leave them out")
    if backbone is not None and (weights is not None) == pretrained:
        raise InputError("--backbone: needs weights; give --pretrained, or --weights FILE, one of them")
    if backbone is None and size is not None:
        raise InputError("--size: needs --backbone; leave it out, an embedder has a size of its own")
    check_engine(engine, address, actors)
    _require_new(folder)
    from mohs.data.quarantine import Reading
    from mohs.index.approximate_search import EXACT_UP_TO
    from mohs.index.index import Index

    exact = EXACT_UP_TO if exact_up_to is None else exact_up_to
    if engine is not None:
        if backbone is not None:
            raise InputError("--backbone: not with --engine ray; save its embedder, and give it with --embedder")
        if catalog is not None:
            raise InputError("--catalog: not with --engine ray; give one table with the column 'role'")
        if max_bad is not None:
            raise InputError("--max-bad: not with --engine ray; set pictures aside with 'mohs check --write'")
        assert embedder is not None
        made = index_on_cluster(
            folder, source, embedder,
            address=address, actors=actors, id_column=id_column, exact_up_to=exact, quiet=quiet or as_json,
        )  # fmt: skip
        _tell_built(made, Reading(len(made)), as_json=as_json, quiet=quiet)
        return
    network: Any = embedder
    if backbone is not None:
        from mohs.index.frozen import frozen_embedder

        flags = {"model.backbone": "--backbone", "model.weights": "--weights", "model.pretrained": "--pretrained"}
        with decoding_progress(quiet=quiet) as progress, naming_flags(flags):
            network = frozen_embedder(source, backbone=backbone, weights=weights, size=size or 224, progress=progress)
    flags = {"exact_up_to": "--exact-up-to", "max_bad_images": "--max-bad"}
    bad: list[BadPicture] = []
    with counting_progress("embedding", quiet=quiet) as progress, naming_flags(flags):
        made = Index.build(
            folder, source, network, id_column=id_column, catalog=catalog, exact_up_to=exact,
            max_bad_images=max_bad or 0, set_aside=bad.append, progress=progress,
        )  # fmt: skip
    _tell_built(made, Reading(len(made), tuple(bad)), as_json=as_json, quiet=quiet)


def _require_new(folder: str) -> None:
    from mohs.index.places import is_address, place_of

    if not is_address(folder):
        require_folder_place(Path(folder), "INDEX")
    with naming_flags({"folder": "INDEX"}):
        place_of(folder).require_new()


def _tell_built(made: Index, reading: Reading, *, as_json: bool, quiet: bool) -> None:
    info, folder = made.info(), made.folder
    tell_pictures(reading, folder / QUARANTINE if isinstance(folder, Path) else QUARANTINE, quiet=quiet or as_json)
    if as_json:
        print_json({**info, "pictures_read": reading.as_record()})
        return
    say(f"index: {folder} ({info['num_items']:,} items of {info['num_classes']:,} classes)")
    _say_approximation(made)
    say(f"next: mohs search {folder} PICTURE")


@index.command()
def add(folder: _Index, source: _Items, max_bad: MaxBad = None, quiet: Quiet = False) -> None:
    """Add items, of new classes too, without training."""
    _change("added", folder, source, max_bad, quiet=quiet)


@index.command()
def replace(folder: _Index, source: _Items, max_bad: MaxBad = None, quiet: Quiet = False) -> None:
    """Put items in the place of those with the same ids, and add the others."""
    _change("replaced or added", folder, source, max_bad, quiet=quiet)


@index.command()
def remove(folder: _Index, ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of items.")]) -> None:
    """Take items out."""
    from mohs.index.index import Index

    opened = Index.open(folder)
    num = opened.remove(ids)
    say(f"removed {num:,}; {len(opened):,} items are left")


@index.command()
def compact(folder: _Index, exact_up_to: _ExactUpTo = None) -> None:
    """Make an index small and fast again. Changes do so now and then by themselves; searches go on meanwhile."""
    from mohs.index.approximate_search import EXACT_UP_TO
    from mohs.index.index import Index

    opened = Index.open(folder)
    with naming_flags({"exact_up_to": "--exact-up-to"}):
        opened.compact(exact_up_to=EXACT_UP_TO if exact_up_to is None else exact_up_to)
    _say_approximation(opened)
    say(f"{folder}: compacted; versions replaced in the last two minutes stay on the disk until the next compaction")


@index.command()
def calibrate(
    folder: _Index,
    source: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="Held-out pictures with classes, none of them trained on.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Use the test pictures of this run instead of a table.")] = None,
    false_acceptance: Annotated[
        float | None,
        typer.Option(help="Wanted share of pictures of unknown classes that are given a class; default 0.05."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help='Instead of --false-acceptance: your own distance. From it on the answer is "unknown". What '
            "it reaches is measured."
        ),
    ] = None,
    max_bad: MaxBad = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Choose from held-out pictures when to say "unknown", and learn the probability that a distance means."""
    if (source is None) == (run is None):
        raise InputError("TABLE, --run: give one of them, the pictures to learn from")
    if max_bad is not None and run is not None:
        raise InputError("--max-bad: needs TABLE; the run knows how many it allows")
    from mohs.index.index import Index

    opened = Index.open(folder)
    pictures, labels, ids, reading = _held_out(opened, source, run, max_bad, quiet=quiet)
    with naming_flags({"max_false_acceptance": "--false-acceptance", "threshold_distance": "--threshold"}):
        found = opened.calibrate(
            pictures, labels, ids=ids, max_false_acceptance=false_acceptance, threshold_distance=threshold
        )
    tell_pictures(reading, quiet=quiet or as_json)
    if as_json:
        print_json({**found.as_record(), "pictures_read": reading.as_record()})
    else:
        print_lines(_in_words(found))


@index.command()
def info(folder: _Index, as_json: Json = False) -> None:
    """Say what is in an index."""
    from mohs.index.index import Index

    opened = Index.open(folder)
    found = opened.info()
    if as_json:
        print_json(found)
        return
    counts = ("num_items", "num_classes", "embedding_dim", "version")
    rows = [(name.removeprefix("num_").replace("_", " "), f"{found[name]:,}") for name in counts]
    rows += [("embedder", found["embedder"]), ("columns", ", ".join(found["columns"]))]
    print_table(folder, ("", ""), rows)
    _say_approximation(opened)
    if opened.calibration is None:
        say(f"not calibrated; to tell unknown classes: mohs index calibrate {folder} TABLE")
    else:
        print_lines(_in_words(opened.calibration))


@index.command()
def export(
    folder: _Index,
    to: Annotated[str, typer.Option(help="qdrant or pgvector.")],
    out: Annotated[
        Path | None, typer.Option(help="pgvector: new SQL file; qdrant: the folder of its local mode.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="qdrant: address of a server; QDRANT_API_KEY is its key.")] = None,
    name: Annotated[str, typer.Option(help="Name of the new collection or table.")] = "items",
) -> None:
    """Write the items of an index for another store, whose distances are those of Mohs."""
    from mohs.checks import require, wrong_choice

    require(wrong_choice("--to", to, ("qdrant", "pgvector")))
    if to == "pgvector":
        if out is None or url is not None:
            raise InputError("--out: pgvector is a file of SQL, for psql; give --out FILE.sql, and no --url")
        require_file_place(out, "--out")
    elif (out is None) == (url is None):
        raise InputError("--url, --out: give one of them, a server or a folder of the local mode")
    from mohs.index.index import Index

    opened = Index.open(folder)
    if to == "pgvector":
        from mohs.export.pgvector import export_to_pgvector

        assert out is not None
        with naming_flags({"table": "--name"}):
            num = export_to_pgvector(opened, out, table=name)
    else:
        from mohs.export.qdrant import export_to_qdrant

        with naming_flags({"collection": "--name"}):
            num = export_to_qdrant(opened, name, url=url, folder=out)
    say(f"written: {num:,} items to {url or out}, {'table' if to == 'pgvector' else 'collection'} {name}")


@index.command()
def check(folder: _Index) -> None:
    """Look for damage in an index: duplicate ids, vectors whose length is not 1."""
    from mohs.index.index import Index

    problems = Index.open(folder).check()
    if problems:
        raise InputError(*(f"{folder}: {line}; build the index again" for line in problems))
    say(f"{folder}: sound")


def _change(what: str, folder: str, source: str, max_bad: int | None, *, quiet: bool) -> None:
    from mohs.data.quarantine import Reading
    from mohs.index.index import Index

    opened = Index.open(folder)
    change = opened.add if what == "added" else opened.replace
    bad: list[BadPicture] = []
    with counting_progress("embedding", quiet=quiet) as progress, naming_flags({"max_bad_images": "--max-bad"}):
        num = change(source, max_bad_images=max_bad or 0, set_aside=bad.append, progress=progress)
    tell_pictures(Reading(num, tuple(bad)), quiet=quiet)
    say(f"{what} {num:,}; {len(opened):,} items are in the index")


def _say_approximation(opened: Index) -> None:
    found = opened.approximation
    if found is not None:
        say(
            f"approximate: finds {found.recall:.1%} of the ten nearest, measured on {found.num_queries:,} of "
            f"{found.num_items:,} items; filters and --one-of-a-class compare every item"
        )


def _held_out(
    opened: Any, source: str | None, run: Path | None, max_bad: int | None, *, quiet: bool
) -> tuple[Any, Any, list[str | None], Reading]:
    """Return the pictures to learn from, their classes, the id of each that is in the index itself, and their count."""
    import numpy as np

    with decoding_progress(quiet=quiet) as progress:
        if run is not None:
            from mohs.runs import Run
            from mohs.training.run_inputs import open_split_data

            found = Run.open(run)
            data = open_split_data(found.config.data, seed=found.config.seed, progress=progress)
            reading = data.reading
            held_out = data.dataset.take(np.flatnonzero(data.test_N))
        else:
            from mohs.data.dataset import open_dataset

            assert source is not None
            with naming_flags({"max_bad_images": "--max-bad"}):
                held_out = open_dataset(
                    source, policy=opened.embedder.policy, max_bad_images=max_bad or 0, progress=progress
                )
            reading = held_out.reading
    table = held_out.table
    paths = [str(table.path(i).absolute()) for i in range(len(table))]
    return held_out.pictures, table.labels, opened.ids_of(paths, table.files), reading


def _in_words(found: Calibration) -> list[str]:
    low, high = found.false_acceptance_interval
    measured = f"{found.false_acceptance:.1%} ({low:.1%} to {high:.1%})"
    counted = f"{found.num_pictures:,} pictures of {found.num_classes:,} classes"
    if found.max_false_acceptance is None:
        lines = [
            f'"unknown" from a distance of {found.threshold_distance:.3f} on, as you chose',
            f"of pictures of unknown classes {measured} are given a class all the same; {counted}",
        ]
    else:
        lines = [
            f'"unknown" from a distance of {found.threshold_distance:.3f} on: so that at most '
            f"{found.max_false_acceptance:.1%} of pictures of unknown classes are given a class",
            f"measured on other classes: {measured}, {counted}",
        ]
    if found.found is not None and found.wrong is not None and found.unknown is not None:
        lines.append(
            f"of {found.num_known:,} pictures of classes in the index: {found.found:.1%} are given their own class, "
            f"{found.wrong:.1%} another, {found.unknown:.1%} none"
        )
        answered = found.found + found.wrong
        if answered:
            lines.append(f"of the answers that name a class, {found.found / answered:.1%} are right")
    return lines
