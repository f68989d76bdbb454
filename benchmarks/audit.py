"""What is known against the versions of the lock file, and a list of them (CycloneDX) in build/sbom.json.

    make audit

uvx fetches cyclonedx-bom and pip-audit. pip-audit asks the advisory service for each version: where it does not
answer, that is said in a line, and the list is written all the same. The exit code is 1 if something is known.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK, BILL = Path("requirements.lock"), Path("build/sbom.json")
TRIED_S = 600


def run(*command: str) -> tuple[str, str]:
    """Return what a command of uvx printed, and why it failed, in a line; "" if it did not."""
    try:
        done = subprocess.run(("uvx", *command), capture_output=True, text=True, timeout=TRIED_S, check=False)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {TRIED_S} s"
    except OSError as error:
        return "", f"uvx: {error.strerror}"
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:] if done.returncode else []
    return done.stdout, "".join(last)[:200]


def audited(report: str) -> tuple[int, int, list[str]]:
    """Return how many packages a report of pip-audit lists, how many were found, and what is against them."""
    packages = json.loads(report)["dependencies"]
    answered = [each for each in packages if "skip_reason" not in each]
    against = [
        f"{each['name']} {each['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version'}"
        for each in answered
        for found in each["vulns"]
    ]
    return len(packages), len(answered), against


def main() -> int:
    """Write the list, ask, and say."""
    BILL.parent.mkdir(exist_ok=True)
    BILL.unlink(missing_ok=True)
    _, problem = run("--from", "cyclonedx-bom", "cyclonedx-py", "requirements", str(LOCK), "--output-file", str(BILL))
    if BILL.is_file():
        print(f"{BILL}: {len(json.loads(BILL.read_text())['components']):,} packages")
    else:
        print(f"audit: the list could not be written ({problem})")
    report, problem = run(
        "pip-audit", "--require-hashes", "--disable-pip", "--requirement", str(LOCK), "--format", "json",
        "--progress-spinner", "off",
    )  # fmt: skip
    try:
        num, num_answered, against = audited(report)
    except (ValueError, KeyError, TypeError):
        print(f"audit: the advisory service could not be asked ({problem or 'no report'}); try again with a network")
        return int(not BILL.is_file())
    if num_answered < num:
        print(f"audit: the advisory service knows nothing of {num - num_answered:,} of {num:,} packages")
    for line in against:
        print(line)
    print(f"{len(against):,} known problems in {num_answered:,} packages")
    return int(bool(against) or not BILL.is_file())


if __name__ == "__main__":
    sys.exit(main())
