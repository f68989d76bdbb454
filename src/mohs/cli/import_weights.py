"""`mohs import-weights`: a pickle of weights becomes a safetensors file for a backbone.

Short, since one file is one command; the work is `mohs.model.import_weights`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mohs.cli.console import require_file_place, say
from mohs.cli.options import naming_flags

__all__ = ["import_weights"]


def import_weights(
    file: Annotated[Path, typer.Argument(help="Weights as a pickle: .pth, .pt or .bin.")],
    backbone: Annotated[str, typer.Argument(metavar="NAME", help="The timm model that the weights belong to.")],
    out: Annotated[Path | None, typer.Option(help="The new file; default NAME.safetensors.")] = None,
) -> None:
    """Read weights from a pickle, without running what is in it, and write them for --weights."""
    out = out or Path(f"{backbone}.safetensors")
    require_file_place(out, "--out")
    from mohs.model.import_weights import import_weights as read

    with naming_flags({"file": "FILE", "backbone": "NAME"}):
        made = read(file, backbone, out)
    left = f"; left out: {', '.join(made.left_out[:4])}" if made.left_out else ""
    say(f"written: {made.path} ({made.num_tensors:,} tensors, mapped {made.mapped}{left})")
    say(f"next: mohs train SOURCE --backbone {backbone} --weights {made.path}")
