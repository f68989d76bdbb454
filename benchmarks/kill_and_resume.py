"""Kill runs at random moments with SIGKILL, take them up again, and compare what they end with.

    python benchmarks/kill_and_resume.py --kills 30

An undisturbed run comes first. Then, for each kill, a run of the same settings is begun in a folder of its own, killed
after a random share (by seed and number) of the time that the undisturbed one took, and taken up with the same command.
Weights and plans must have the SHA-256 of the undisturbed ones.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mohs.randomness import generator

SETTINGS = (
    "--per-class", "2", "--size", "32", "--channels", "1", "--triplets", "3000", "--set", "data.max_classes=400",
    "--set", "training.checkpoint_s=0.2", "--set", "training.num_segments=5", "--quiet", "--device", "cpu",
)  # fmt: skip


def command(folder: Path, extra: tuple[str, ...]) -> list[str]:
    """Return the command that begins a run, or goes on with it."""
    return [sys.executable, "-m", "mohs", "train", "glyphs", "--resume", str(folder), *SETTINGS, *extra]


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the weights and plans of a finished run, by file."""
    files = [folder / "embedder" / "model.safetensors", *sorted((folder / "plans").glob("*.parquet"))]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def killed(folder: Path, after_s: float, extra: tuple[str, ...]) -> str:
    """Begin a run, kill it after some seconds, and return what it had come to."""
    process = subprocess.Popen(command(folder, extra), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if (folder / "run.json").exists():
        return "had finished"
    checkpoints = sorted((folder / "checkpoints").glob("step-*.json"))
    return f"had {checkpoints[-1].stem}" if checkpoints else "had no checkpoint"


def main() -> int:
    """Run, kill, compare; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="extra", action="append", default=[], help="settings, as of mohs train")
    arguments = parser.parse_args()
    extra = tuple(part for setting in arguments.extra for part in ("--set", setting))
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        subprocess.run(command(Path(place) / "undisturbed", extra), check=True)
        took_s = time.monotonic() - began
        wanted = hashes(Path(place) / "undisturbed")
        print(f"undisturbed: {took_s:.1f} s, {len(wanted) - 1} plans")
        different = 0
        for number in range(arguments.kills):
            folder = Path(place) / f"killed-{number}"
            after_s = took_s * generator(arguments.seed, "kill", number).random()
            left = killed(folder, after_s, extra)
            subprocess.run(command(folder, extra), check=True)
            same = hashes(folder) == wanted
            different += not same
            print(f"kill {number} after {after_s:.1f} s: {left}; {'identical' if same else 'DIFFERENT'}", flush=True)
    print(f"{arguments.kills - different} of {arguments.kills} identical")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
