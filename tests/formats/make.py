"""Write this release's artefacts, and what is read from them, for later versions.

    cd tests/formats && python make.py 0.1

What is there already stays, since a release's files never change.
"""

import sys
from pathlib import Path

from saved_formats import ARTEFACTS

from mohs.artefacts import write_json

if __name__ == "__main__":
    place = Path(sys.argv[1])
    for name, artefact in ARTEFACTS.items():
        numbers = place / f"{name}.json"
        if not numbers.exists():
            if not (place / name).exists():
                artefact.make(place / name)
            write_json(numbers, artefact.read(place / name))
