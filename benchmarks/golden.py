"""Golden runs: what the command line does on small inputs, recorded, to see that a change of the code changes nothing.

    python benchmarks/golden.py record before --omniglot omniglot --emoji emoji --weights mobilenetv2_100.safetensors
    ... change the code, not its behaviour ...
    python benchmarks/golden.py record after --omniglot omniglot --emoji emoji --weights mobilenetv2_100.safetensors
    python benchmarks/golden.py compare before after

`record` runs the commands of `golden_grid.py` in one process, on one thread, in a new folder. Of each it keeps the exit
code, stdout, stderr, and every file that was written or changed, as text that is the same each time (`golden_text.py`);
`golden.json` has the SHA-256 of each. `compare` prints what differs, with a short diff, and exits with 1 if anything
does. Both recordings must be of one machine: another one rounds otherwise. Only files are read and commands given, so
modules may move. `--only` records a part, by the beginnings of names; commands whose files it
needs must be in it ("glyphs" writes the pictures).
"""

import argparse
import difflib
import hashlib
import importlib.util
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import golden_grid
import golden_text

ROOT = Path(__file__).resolve().parents[1]
# One thread everywhere: sums in another order differ in their last bits, and training makes that visible. A width for
# text of help, a hash of strings and a time zone of its own, so that the shell does not matter.
ENVIRONMENT: Mapping[str, str] = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
    "PYTHONHASHSEED": "0",
    "COLUMNS": "100",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
    "TERM": "dumb",
}
_SHOWN_LINES, _SHOWN_CHARACTERS = 12, 160


def main() -> int:
    """Record or compare; return 1 if recordings differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="run all commands and keep what they do")
    record.add_argument("folder", type=Path, help="new folder for the recording")
    record.add_argument("--omniglot", type=Path, help="folder with images.csv")
    record.add_argument("--emoji", type=Path, help="folder with images.csv and catalog.csv")
    record.add_argument("--weights", type=Path, help="mobilenetv2_100.safetensors; default: a tiny random network")
    record.add_argument("--only", nargs="*", default=(), help="beginnings of the names of commands")
    against = commands.add_parser("compare", help="say what differs between two recordings")
    against.add_argument("folders", type=Path, nargs=2)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        lines = list(differences(*arguments.folders))
        print("\n".join(lines) if lines else "no difference")
        return int(bool(lines))
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        # Before numpy and torch are loaded is too late to ask for in this process.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ENVIRONMENT})
    sets = {name: getattr(arguments, name) for name in ("omniglot", "emoji")}
    take(arguments.folder.resolve(), sets, arguments.weights, tuple(arguments.only))
    return 0


def take(folder: Path, sets: Mapping[str, Path | None], weights: Path | None, only: Sequence[str] = ()) -> None:
    """Record into a new folder; sets and weights that are absent are left out, and that is said and kept."""
    if folder.exists():
        raise SystemExit(f"{folder}: exists already; give a new folder, or remove it")
    if weights is not None and not weights.is_file():
        raise SystemExit(f"{weights}: no such file; give the weights' file, or leave --weights out")
    folder.mkdir(parents=True)
    began, entries, absent = time.perf_counter(), {}, [name for name, path in sets.items() if not _is_set(path)]
    for name in absent:
        why = f"give --{name} FOLDER" if sets[name] is None else f"{sets[name]} has no images.csv"
        print(f"SKIPPED: {name}; {why}", file=sys.stderr)
    if weights is None:
        print("SKIPPED: pretrained weights (no --weights); a tiny random network is tuned instead", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        work, cache = Path(place).resolve() / "work", Path(place).resolve() / "cache"
        work.mkdir()
        os.environ["XDG_CACHE_HOME"] = str(cache)  # decoded pictures are not taken from what was there before
        places = {str(work): "<work>", str(cache): "<cache>", str(ROOT): "<mohs>", str(Path.home()): "<home>"}
        golden_grid.write_inputs(work)
        for name, path in sets.items():
            if path is not None and name not in absent:
                golden_grid.copy_part(path, work / name)
        if weights is not None:
            (work / "weights.safetensors").symlink_to(weights.resolve())
        names = [name for name in sets if name not in absent]
        os.chdir(work)
        for step in golden_grid.steps(work, names, weights and "weights.safetensors"):
            if not only or step.name.startswith(tuple(only)):
                entries[step.name] = _entry(step, work, folder / step.name, places)
        os.chdir(folder)
    about = {
        "commit": _git("rev-parse", "HEAD"),
        "changed since": _git("status", "--porcelain", "--", "."),
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "absent": absent,
        "weights": weights is not None,
    }
    (folder / "golden.json").write_text(json.dumps({"about": about, "entries": entries}, indent=1), encoding="utf-8")
    print(f"{len(entries)} commands in {about['seconds']} s, {about['cpu_seconds']} s of CPU", file=sys.stderr)


def _git(*arguments: str) -> str | None:
    """Return what git says of the code that runs, which need not stand beside this file; None where it says nothing."""
    spec = importlib.util.find_spec("mohs")
    place = Path(spec.origin).parent if spec is not None and spec.origin is not None else ROOT
    said = subprocess.run(("git", "-C", place, *arguments), capture_output=True, text=True, check=False)
    return said.stdout.strip() or None


def _is_set(path: Path | None) -> bool:
    return path is not None and (path / "images.csv").is_file()


def _entry(step: golden_grid.Step, work: Path, folder: Path, places: Mapping[str, str]) -> dict[str, Any]:
    """Run a command; keep its texts in `folder` and return its exit code and their SHA-256."""
    before = _stamps(work)
    began = time.process_time()
    code, out, err = run(step.arguments)
    after = _stamps(work)
    texts = {"stdout": golden_text.normalised(out, places), "stderr": golden_text.normalised(err, places)}
    for name in sorted(after):
        if before.get(name) != after[name]:
            texts[f"files/{name}"] = golden_text.file_text(work / name, places)
    texts |= {f"files/{name}": "removed\n" for name in sorted(before.keys() - after)}
    print(f"{time.process_time() - began:6.1f} s  {code}  {step.name}", file=sys.stderr, flush=True)
    return {"command": ["mohs", *step.arguments], "exit": code, "sha256": keep(texts, folder)}


def keep(texts: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Write each text to a file of its name below the folder; return their SHA-256 by name."""
    for name, text in texts.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def _stamps(work: Path) -> dict[str, tuple[int, int]]:
    """Return when each file was written, and its size, by its name."""
    files = (path for path in work.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(work)): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def run(arguments: Sequence[str]) -> tuple[object, str, str]:
    """Run `python -m mohs` in this process; return exit code, stdout and stderr.

    One process spares each command the seconds of loading torch. What is written is caught where the system sees it,
    so that nothing that a library prints is missed.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = [(stream, os.dup(stream.fileno())) for stream in (sys.stdout, sys.stderr)]
        argv = sys.argv
        try:
            for (stream, _), file in zip(kept, (out, err), strict=True):
                stream.flush()
                os.dup2(file.fileno(), stream.fileno())
            sys.argv = ["mohs", *arguments]
            code = _exit_code()
        finally:
            sys.argv = argv
            for stream, descriptor in kept:
                stream.flush()
                os.dup2(descriptor, stream.fileno())
                os.close(descriptor)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return code, texts[0], texts[1]


def _exit_code() -> object:
    try:
        runpy.run_module("mohs", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        if stop.code in (130, 143):
            raise KeyboardInterrupt from None  # the recording is to stop, not this command alone
        return stop.code or 0
    except Exception as error:
        # Where it was raised names modules, which may move.
        print("".join(traceback.format_exception_only(error)), file=sys.stderr)
        return "traceback"
    return 0


def differences(first: Path, second: Path) -> Iterator[str]:
    """Yield a line for each thing that differs, and a short unified diff below it."""
    for folder in (first, second):
        if not (folder / "golden.json").is_file():
            raise SystemExit(f"{folder}: no golden.json; give a folder of 'golden.py record' that came to its end")
    old, new = (json.loads((folder / "golden.json").read_text(encoding="utf-8")) for folder in (first, second))
    for key in ("absent", "weights"):
        if old["about"][key] != new["about"][key]:
            yield f"not alike: {key} is {old['about'][key]} in {first} and {new['about'][key]} in {second}"
    for step in sorted(old["entries"].keys() | new["entries"].keys()):
        if step not in old["entries"] or step not in new["entries"]:
            yield f"{step}: only in {first if step in old['entries'] else second}"
            continue
        one, other = old["entries"][step], new["entries"][step]
        for key in ("command", "exit"):
            if one[key] != other[key]:
                yield f"{step}: {key} was {one[key]}, is {other[key]}"
        for name in sorted(one["sha256"].keys() | other["sha256"].keys()):
            if one["sha256"].get(name) != other["sha256"].get(name):
                yield f"{step}: {name}"
                yield from _diff(first / step / f"{name}.txt", second / step / f"{name}.txt")


def _diff(first: Path, second: Path) -> Iterator[str]:
    texts = [path.read_text(encoding="utf-8").splitlines() if path.is_file() else [] for path in (first, second)]
    lines = list(difflib.unified_diff(*texts, "was" if first.is_file() else "absent", "is", n=1, lineterm=""))
    yield from (f"    {line[:_SHOWN_CHARACTERS]}" for line in lines[:_SHOWN_LINES])
    if len(lines) > _SHOWN_LINES:
        yield f"    … {len(lines) - _SHOWN_LINES} more lines"


if __name__ == "__main__":
    sys.exit(main())
