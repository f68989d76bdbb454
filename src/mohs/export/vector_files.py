"""Vectors and what they are of, as files: numpy, Parquet, CSV for FiftyOne, TSV for TensorBoard's projector."""

import csv
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mohs.artefacts import atomic_path
from mohs.data.table import Table
from mohs.errors import InputError, Problem
from mohs.sums import add_array_sum

__all__ = ["SUFFIXES", "write_vectors"]

SUFFIXES: Final = (".npy", ".parquet", ".csv", ".tsv")


def write_vectors(path: str | Path, table: Table, x_ND: NDArray[np.float32]) -> tuple[Path, ...]:
    """Write the vectors of a table's items, rows as in the table, and return the files; each is whole or absent.

    The suffix of `path` says how:

    - `.npy`: float32 [N, D]; behind it its SHA-256, which numpy passes over.
    - `.parquet`: columns file, class, role and vector.
    - `.csv`: columns filepath (absolute), class, role and embedding (a JSON list), as FiftyOne can take them.
    - `.tsv`: what TensorBoard's projector loads: the vectors, tabs between, and beside them NAME.metadata.tsv with the
      columns class, file and role. A tab or a new line in a name becomes a space there, which the format demands.

    Numbers in text have 9 digits, which give the same float32 again. Raises `InputError` for another suffix.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".npy":
            with atomic_path(path) as temporary:
                np.save(temporary, x_ND)
                add_array_sum(temporary)
        case ".parquet":
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(x_ND.ravel()), x_ND.shape[1])
            cells = {"file": list(table.files), "class": table.labels.tolist(), "role": table.roles.tolist()}
            with atomic_path(path) as temporary:
                pq.write_table(pa.table({**cells, "vector": vectors}), temporary)
        case ".csv":
            _write_csv(path, table, x_ND)
        case ".tsv":
            return _write_tsv(path, table, x_ND)
        case _:
            raise InputError(Problem("path", f"{path} is not one of {', '.join(SUFFIXES)}", "name it so"))
    return (path,)


def _write_csv(path: Path, table: Table, x_ND: NDArray[np.float32]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("filepath", "class", "role", "embedding"))
        rows = zip(table.labels.tolist(), table.roles.tolist(), x_ND, strict=True)
        for i, (label, role, x_D) in enumerate(rows):
            writer.writerow((str(table.path(i).absolute()), label, role, f"[{', '.join(_texts(x_D))}]"))


def _write_tsv(path: Path, table: Table, x_ND: NDArray[np.float32]) -> tuple[Path, Path]:
    about = path.with_suffix(".metadata.tsv")
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for x_D in x_ND:
            file.write("\t".join(_texts(x_D)) + "\n")
    with atomic_path(about) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write("class\tfile\trole\n")
        for cells in zip(table.labels.tolist(), table.files, table.roles.tolist(), strict=True):
            file.write("\t".join(" ".join(cell.splitlines()).replace("\t", " ") for cell in cells) + "\n")
    return path, about


def _texts(x_D: NDArray[np.float32]) -> list[str]:
    return [f"{value:.9g}" for value in x_D.tolist()]
