"""`mohs clean`: what to mend in a table of pictures, in one report and one file of corrections."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mohs.cli import options
from mohs.cli.console import print_json, print_table, require_folder_place, say
from mohs.cli.progress import counting_progress, decoding_progress, working
from mohs.errors import DataWarning, InputError

if TYPE_CHECKING:
    from mohs.data.fixes import LabelFix
    from mohs.data.table import Table
    from mohs.settings.config import DataConfig

__all__ = ["clean"]


def clean(
    source: options.TableOfFiles,
    embedder: Annotated[
        str | None, typer.Option(help="Run or saved embedder; its vectors show which labels are likely wrong.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Compare the table's new pictures with the items of this index, too.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and fixes.csv.")] = Path("clean"),
    catalog: options.Catalog = None,
    file_column: options.FileColumn = None,
    class_column: options.ClassColumn = None,
    group_column: options.GroupColumn = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Look for copies, pictures under two labels, likely wrong labels and pictures that show nothing."""
    if embedder is not None and against is not None:
        raise InputError("--embedder, --against: an index has its own embedder; leave --embedder out")
    require_folder_place(out, "--out")
    if out.is_file():
        raise InputError(f"--out: {out} is a file; name a folder")
    data = options.read_settings(None, locals() | {"out": None}).config.data
    from mohs.data.fixes import listing_fixes, write_fixes
    from mohs.data.multi_label import first_rows
    from mohs.data.table import BUILT_IN

    if data.source == BUILT_IN:
        raise InputError("SOURCE: 'glyphs' has no files to mend; write them with 'mohs glyphs FOLDER'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # `mohs check` tells them
        listing = data.read_listing()
    table = listing.take(sorted(first_rows(listing).values()))
    fixes = listing_fixes(listing, "error")
    if against is None:
        found, notes = _among_themselves(table, embedder, quiet=quiet)
    else:
        found, notes = _against(table, against, quiet=quiet)
    fixes += found
    write_fixes(fixes, out / "fixes.csv")
    _write_page(out / "report.html", table, data, fixes, notes)
    _tell(table, fixes, notes, out, as_json=as_json)


def _among_themselves(table: Table, embedder: str | None, *, quiet: bool) -> tuple[list[LabelFix], list[str]]:
    import numpy as np

    from mohs.data.cache import load_pictures
    from mohs.data.images import ImagePolicy
    from mohs.doctor.clean import Issue, find_issues, issue_fixes

    network: Any = None
    policy = ImagePolicy()
    if embedder is not None:
        from mohs.model.embedder import Embedder

        network = Embedder.from_pretrained(embedder)
        policy = network.policy
    with decoding_progress(quiet=quiet) as progress:
        loaded = load_pictures(table, policy, max_bad_images=len(table), progress=progress)
    bad = [Issue(each.index, "unreadable") for each in loaded.bad]
    sound = table.take(np.setdiff1d(np.arange(len(table)), [each.index for each in loaded.bad]))
    x_ND = None
    if network is not None:
        from mohs.model.embedder import embed_items

        with counting_progress("embedding", quiet=quiet) as progress:
            x_ND = embed_items(network, loaded.pictures, progress=progress)
    with working(f"comparing {len(sound):,} pictures with each other", quiet=quiet):
        issues, notes = find_issues(sound.labels, loaded.pictures, x_ND=x_ND)
    return [*issue_fixes(bad, table), *issue_fixes(issues, sound)], notes


def _against(table: Table, against: str, *, quiet: bool) -> tuple[list[LabelFix], list[str]]:
    from mohs.doctor.clean import check_arrivals
    from mohs.index.index import Index

    with counting_progress("comparing", quiet=quiet) as progress:
        return check_arrivals(table, Index.open(against), progress=progress)


def _names() -> dict[str, str]:
    from mohs.doctor.clean import CLEAN_CAUSES

    listed = {"several-classes": "files listed under several classes", "similar-names": "classes of nearly one name"}
    return {str(cause): name for cause, name in CLEAN_CAUSES.items()} | listed


def _write_page(path: Path, table: Table, data: DataConfig, fixes: Sequence[LabelFix], notes: Sequence[str]) -> None:
    from mohs.artefacts import write_text
    from mohs.data.images import ImagePolicy, decode_all
    from mohs.report.of_pictures import cleaning_page

    place = {file: table.path(i) for i, file in enumerate(table.files)}
    policy = ImagePolicy(size=96)

    def picture_of(file: str) -> Any:
        return decode_all([place[file]], policy)[0].pixels_HWC if file in place else None

    lines = [f"{len(table):,} pictures of {table.num_classes:,} classes; {len(fixes):,} to look at.", *notes]
    page = cleaning_page(f"To be mended: {data.source}", lines, fixes, _names(), picture_of)
    write_text(path, page)


def _tell(table: Table, fixes: Sequence[LabelFix], notes: Sequence[str], out: Path, *, as_json: bool) -> None:
    counts = {cause: sum(fix.cause == cause for fix in fixes) for cause in _names()}
    if as_json:
        print_json({"num_items": len(table), "found": counts, "notes": list(notes), "folder": str(out)})
        return
    rows = [(name, f"{counts[cause]:,}") for cause, name in _names().items()]
    print_table(f"{len(table):,} pictures of {table.num_classes:,} classes", ("", "found"), rows)
    for note in notes:
        say(note)
    say(f"report: {out / 'report.html'}")
    say(f"next: look through {out / 'fixes.csv'}, then mohs fix {table.source} {out / 'fixes.csv'} --out NEW.csv")
