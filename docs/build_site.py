"""The site: guides, pages and the reference, from the Markdown of this folder and the docstrings.

make docs
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "docs"
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def gather() -> None:
    """Put all pages into one folder: README becomes the first page, and links follow."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name in ("README.md", *OUTSIDE):
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](").replace("](LICENSE)", "](../LICENSE)")
        (SOURCE / ("index.md" if name == "README.md" else name)).write_text(text, encoding="utf-8")
    for page in SOURCE.rglob("*.md"):
        text, up = page.read_text(encoding="utf-8"), "../" * (len(page.relative_to(SOURCE).parts) - 1)
        text = re.sub(r"\]\((?:\.\./)+README\.md", f"]({up}index.md", text)
        text = re.sub(rf"\]\((?:\.\./)+({'|'.join(map(re.escape, OUTSIDE))})", rf"]({up}\1", text)
        # GitHub ends a list at a paragraph, and begins one after it, without an empty line.
        page.write_text(re.sub(r"^(?!- |\s|\|)(.+)\n(?=- )", r"\1\n\n", text, flags=re.MULTILINE), encoding="utf-8")
    links = "".join(f'<li><a href="api/{name.replace(".", "/")}.html">{name}</a></li>\n' for name in modules())
    (SOURCE / "reference.md").write_text(
        f"# Reference\n\nFrom the docstrings.\n\n<ul>\n{links}</ul>\n", encoding="utf-8"
    )


def modules() -> list[str]:
    """Return the public modules, by name; a module that a function of the same name hides has its package's page."""
    files = (ROOT / "src" / "mohs").rglob("*.py")
    names = [".".join(file.relative_to(ROOT / "src").with_suffix("").parts) for file in files if file.name[0] != "_"]
    return ["mohs", *sorted(name for name in names if not name.endswith(".curves"))]


def main() -> None:
    """Write the site to build/docs; a link that leads nowhere is an error."""
    gather()
    shutil.rmtree(SITE, ignore_errors=True)
    subprocess.run(["zensical", "build", "--clean", "--strict"], cwd=ROOT, check=True)  # noqa: S607
    pdoc = [sys.executable, "-m", "pdoc", "--docformat", "google", "--output-directory", str(SITE / "api")]
    subprocess.run([*pdoc, *modules()], cwd=ROOT, check=True)  # noqa: S603  names of our own modules


if __name__ == "__main__":
    main()
