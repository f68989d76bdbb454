"""Whether both services answer as their OpenAPI documents say, by schemathesis, which makes up requests.

    python benchmarks/check_api.py --examples 100

An index of 60 pictures and a run of 200 triplets are made, served with a token, and asked. schemathesis is fetched by
uvx; it is no dependency of Mohs. Ends with 1 if it finds something.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_serve import build, network, serving

from mohs.runs import train
from mohs.settings.config import DataConfig, RunConfig, TrainingConfig

TOKEN = "a-token-of-some-length"
CONFIG = Path(__file__).parent / "schemathesis.toml"


def findings_of(port: int, num_examples: int) -> bool:
    """Return whether schemathesis finds something in the service at a port; it prints what."""
    command = [
        str(Path(sys.executable).parent / "uvx"), "--from", "schemathesis==4.32.5", "schemathesis",
        "--config-file", str(CONFIG), "run", f"http://127.0.0.1:{port}/openapi.json",
        "--header", f"Authorization: Bearer {TOKEN}", "--max-examples", str(num_examples), "--seed", "1",
    ]  # fmt: skip
    return subprocess.run(command, check=False).returncode != 0


def main() -> None:
    """Ask both services, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="requests made up for each address")
    arguments = parser.parse_args()
    os.environ["MOHS_SERVE_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        build(place / "index", network(None, 0), 100)
        table = place / "index-pictures" / "t.csv"
        # Of each class one picture; a copy makes it two.
        rows = [row.split(",") for row in table.read_text().splitlines()[1:]]
        for file, label in list(rows):
            shutil.copy(table.parent / file, table.parent / f"copy-{file}")
            rows.append([f"copy-{file}", label])
        table.write_text("file,class\n" + "".join(f"{file},{label}\n" for file, label in rows))
        config = RunConfig(
            out=str(place / "run"),
            data=DataConfig(source=str(table), size=32),
            training=TrainingConfig(num_triplets=200, num_segments=2),
        )
        train(config)
        found = []
        for words in ([place / "index"], ["--run", place / "run"]):
            with serving(*words) as port:
                found.append(findings_of(port, arguments.examples))
    sys.exit(any(found))


if __name__ == "__main__":
    main()
