"""`mohs export`: an embedder in forms that other programs take."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mohs.cli.console import require_file_place, require_folder_place, say
from mohs.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mohs.export.network import Exported
    from mohs.model.embedder import Embedder
    from mohs.runs import Run

__all__ = ["export"]

_NUM_PICTURES = 100


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or folder of a saved embedder.")],
    onnx: Annotated[Path | None, typer.Option(help="New ONNX file.")] = None,
    torch_export: Annotated[Path | None, typer.Option(help="New file of torch.export, .pt2.")] = None,
    hub_folder: Annotated[Path | None, typer.Option(help="New folder, as the Hugging Face hub has models.")] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="Upload to this repository of the hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    name: Annotated[str | None, typer.Option(help="With --hub-folder: user/name, for the card's example.")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence of the weights, for the model card.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Pictures (a table) to check the file on; default: those of the run.")
    ] = None,
) -> None:
    """Write an embedder as ONNX, for torch.export or for the hub. A file is kept only if it gives the same vectors."""
    if onnx is None and torch_export is None and hub_folder is None and push_to_hub is None:
        raise InputError("--onnx, --torch-export, --hub-folder, --push-to-hub: give at least one")
    for path, flag in ((onnx, "--onnx"), (torch_export, "--torch-export")):
        if path is not None:
            require_file_place(path, flag)
    if hub_folder is not None:
        require_folder_place(hub_folder, "--hub-folder")
        if hub_folder.exists():
            raise InputError(f"--hub-folder: {hub_folder} exists already; give another, or remove it")
    from mohs.model.embedder import Embedder

    run = None
    if (source / "config.json").is_file():
        from mohs.runs import Run

        run = Run.open(source)
    embedder = Embedder.from_pretrained(source)
    if onnx is not None or torch_export is not None:
        from mohs.export.network import export_onnx, export_torch

        pictures = _pictures(embedder, run, data)
        if onnx is not None:
            _tell(export_onnx(embedder, onnx, pictures))
        if torch_export is not None:
            _tell(export_torch(embedder, torch_export, pictures))
    if hub_folder is not None or push_to_hub is not None:
        _for_the_hub(embedder, run, hub_folder, push_to_hub, name or push_to_hub, licence, public=public)


def _for_the_hub(
    embedder: Embedder,
    run: Run | None,
    folder: Path | None,
    repo: str | None,
    name: str | None,
    licence: str | None,
    *,
    public: bool,
) -> None:
    from mohs.export import hub

    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary) / "model"
        hub.write_hub_folder(embedder, place, name=name or f"user/{place.name}", run=run, licence=licence)
        if folder is not None:
            say(f"written: {folder}")
        if repo is not None:
            say(f"pushed: {hub.push_to_hub(place, repo, private=not public)}")


def _pictures(embedder: Embedder, run: Run | None, data: str | None) -> NDArray[np.uint8]:
    """Return up to 100 real pictures as the embedder takes them, drawn at random, always the same."""
    if data is None and run is None:
        raise InputError("--data: missing; a saved embedder has no pictures of its own to check the file on")
    import numpy as np

    from mohs.data.dataset import open_dataset
    from mohs.data.images import decode_images
    from mohs.data.table import BUILT_IN
    from mohs.errors import at_most_20
    from mohs.randomness import generator
    from mohs.settings.config import DataConfig

    config = run.config.data if run is not None and data is None else DataConfig(source=str(data))
    policy = embedder.policy
    if config.source == BUILT_IN:
        whole = open_dataset(BUILT_IN, policy=policy)
        rows = generator(0, "pictures of an export").permutation(len(whole))[:_NUM_PICTURES]
        return np.asarray(whole.pictures[np.sort(rows)])
    table = config.read_listing()
    rows = np.sort(generator(0, "pictures of an export").permutation(len(table))[:_NUM_PICTURES])
    decoded = decode_images([table.path(i) for i in rows.tolist()], policy)
    bad = [
        f"{table.place(i)}: {found}" for i, found in zip(rows.tolist(), decoded, strict=True) if isinstance(found, str)
    ]
    if bad:
        raise InputError(*at_most_20([f"{line}; replace the picture, or give others by --data" for line in bad]))
    return np.stack([found for found in decoded if not isinstance(found, str)])


def _tell(made: Exported) -> None:
    say(
        f"written: {made.path} and {made.description} (checked on {made.num_pictures:,} pictures: vectors differ by at "
        f"most {made.largest_difference:.1g})"
    )
