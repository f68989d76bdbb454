"""Seconds and memory of reading a table of 1,000,000 rows and 500,000 classes, as CSV and as Parquet.

    python benchmarks/bench_table.py
    python benchmarks/bench_table.py --rows 200000

Each table is read in a process of its own. Asked are at most 30 s and 700 MB for 1,000,000 rows.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from own_memory import memory_bytes


def write(folder: Path, num_rows: int) -> list[Path]:
    """Write the table in both forms, two pictures a class."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [f"pictures/{row // 1000:04d}/{row:07d}.jpg" for row in range(num_rows)]
    classes = [f"article-{row // 2:07d}" for row in range(num_rows)]
    text, columns = folder / "t.csv", folder / "t.parquet"
    with text.open("w", encoding="utf-8") as out:
        out.write("file,class\n")
        out.writelines(f"{file},{label}\n" for file, label in zip(files, classes, strict=True))
    pq.write_table(pa.table({"file": files, "class": classes}), columns)
    return [text, columns]


def read(path: Path) -> None:
    """Read a table, and say what it took."""
    from mohs import read_table

    before = memory_bytes("VmHWM")
    began = time.process_time()
    table = read_table(path)
    took_s = time.process_time() - began
    peak = memory_bytes("VmHWM")
    print(
        f"{path.suffix[1:]}: {len(table):,} rows of {table.num_classes:,} classes, {took_s:.1f} s of CPU, "
        f"peak {peak / 1e6:.0f} MB, {(peak - before) / 1e6:.0f} MB of it above what was taken before",
        flush=True,
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--read", type=Path, help="read this table only, in this process")
    arguments = parser.parse_args()
    if arguments.read is not None:
        read(arguments.read)
        return
    with tempfile.TemporaryDirectory() as name:
        for path in write(Path(name), arguments.rows):
            subprocess.run([sys.executable, __file__, "--read", str(path)], check=True)


if __name__ == "__main__":
    main()
