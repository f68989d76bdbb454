"""The picture of the demo's report that README shows, by a headless Chromium.

mohs demo
python benchmarks/shot_demo.py mohs-demo docs/images/demo.png

What the report's table says is written into the PNG as text ("figures"), so that a test can hold README against it.
"""

import argparse
import json
import shutil
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1180, 1500
READ_TABLE = """() => {
  const table = document.querySelector('section[aria-labelledby=results] table');
  const words = row => [...row.cells].map(cell => cell.innerText.replace(/shown below/, '').trim());
  return [...table.rows].map(words);
}"""


def shoot(demo: Path, out: Path, *, width: int = WIDTH, height: int = HEIGHT) -> dict[str, dict[str, str]]:
    """Write the picture of the top of the demo's report; return its table: strategy to column to figure."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto((demo / "report.html").resolve().as_uri(), timeout=120_000)
        header, *rows = page.evaluate(READ_TABLE)
        page.screenshot(path=str(out))
        browser.close()
    figures = {name: dict(zip(header[1:], cells, strict=True)) for name, *cells in rows}
    text = PngInfo()
    text.add_text("figures", json.dumps(figures))
    with Image.open(out) as picture:
        picture.quantize(128).save(out, pnginfo=text, optimize=True)
    return figures


def main() -> None:
    """Write the picture and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="what `mohs demo` wrote")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    for name, figures in shoot(arguments.demo, arguments.out).items():
        print(name, figures)


if __name__ == "__main__":
    main()
