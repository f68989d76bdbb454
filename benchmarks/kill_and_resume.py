"""Kill runs at random moments with SIGKILL, take them up again, and compare what they end with.

    python benchmarks/kill_and_resume.py --kills 30

Pictures of 200 characters are written once, so that a start costs little. An undisturbed run comes first. Then, for
each kill, a run of the same settings is begun in a folder of its own, killed when it has taken a random share (by seed
and number) of its steps and up to a tenth of a second more, and taken up with the same command. Weights and plans must
have the SHA-256 of the undisturbed ones.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mohs.randomness import generator

SETTINGS = (
    "--per-class", "2", "--size", "32", "--channels", "1", "--triplets", "1200", "--batch", "24", "--quiet",
    "--set", "training.num_segments=5", "--set", "training.checkpoint_s=0.1",
    "--device", "cpu",
)  # fmt: skip


def command(folder: Path, extra: tuple[str, ...]) -> list[str]:
    """Return the command that begins a run beside the pictures, or goes on with it."""
    pictures = str(folder.parent / "glyphs")
    return [sys.executable, "-m", "mohs", "train", pictures, "--resume", str(folder), *SETTINGS, *extra]


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the weights and plans of a finished run, by file."""
    files = [folder / "embedder" / "model.safetensors", *sorted((folder / "plans").glob("*.parquet"))]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def num_steps(folder: Path) -> int:
    """Return the steps that a run has written to its log."""
    log = folder / "events.jsonl"
    return log.read_bytes().count(b'{"event": "step"') if log.exists() else 0


def killed(folder: Path, after_steps: int, more_s: float, extra: tuple[str, ...]) -> str:
    """Begin a run, kill it when it has taken so many steps and some time more; return what it had come to."""
    process = subprocess.Popen(command(folder, extra), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and num_steps(folder) < after_steps:
        time.sleep(0.002)
    time.sleep(more_s)
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
        pictures = ("glyphs", str(Path(place) / "glyphs"), "--size", "32", "--classes", "200")
        subprocess.run([sys.executable, "-m", "mohs", *pictures], check=True, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        subprocess.run(command(Path(place) / "undisturbed", extra), check=True)
        took_s = time.monotonic() - began
        wanted = hashes(Path(place) / "undisturbed")
        all_steps = num_steps(Path(place) / "undisturbed")
        print(f"undisturbed: {took_s:.1f} s, {all_steps} steps, {len(wanted) - 1} plans", flush=True)
        different = taken_up = 0
        for number in range(arguments.kills):
            folder = Path(place) / f"killed-{number}"
            random = generator(arguments.seed, "kill", number)
            after_steps, more_s = int(all_steps * random.random()), 0.1 * random.random()
            left = killed(folder, after_steps, more_s, extra)
            taken_up += "step-" in left
            subprocess.run(command(folder, extra), check=True)
            same = hashes(folder) == wanted
            different += not same
            print(f"kill {number} at step {after_steps} and {more_s:.3f} s: {left}; {_word(same)}", flush=True)
            shutil.rmtree(folder)
    print(f"{arguments.kills - different} of {arguments.kills} identical; {taken_up} taken up from a checkpoint")
    return int(different > 0)


def _word(same: bool) -> str:
    return "identical" if same else "DIFFERENT"


if __name__ == "__main__":
    sys.exit(main())
