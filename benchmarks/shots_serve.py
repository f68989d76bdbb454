"""Pictures of the pages for the documentation, by a headless Chromium: on a desk and on a phone.

python benchmarks/shots_serve.py --index shop.index --picture photo.jpg docs/images
python benchmarks/shots_serve.py --run runs/shop docs/images
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from bench_serve import serving
from playwright.sync_api import sync_playwright

SIZES = {"": (1280, 900), "-phone": (390, 844)}


def search(page: Any, picture: Path) -> None:
    """Search by a picture, and ask why the first match is alike."""
    page.set_input_files("#file", picture)
    page.get_by_role("button", name="Search", exact=True).click()
    page.locator("#results li").nth(5).wait_for()
    page.locator("#results .why summary").first.click()
    page.locator("#results figcaption").nth(1).wait_for()


def walk(page: Any) -> None:
    """Show the nearest negatives."""
    page.locator("#triplets > li").first.wait_for()
    page.get_by_label("Order").select_option("nearest")
    page.wait_for_timeout(1000)


def main() -> None:
    """Write serve.png and serve-phone.png of an index, triplets.png and triplets-phone.png of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    if (arguments.index is None) != (arguments.picture is None) or (arguments.index or arguments.run) is None:
        parser.error("give --index and --picture, or --run")
    kinds: list[tuple[str, list[str | Path]]] = []
    if arguments.index is not None:
        kinds.append(("serve", [arguments.index]))
    if arguments.run is not None:
        kinds.append(("triplets", ["--run", arguments.run]))
    for kind, words in kinds:
        with serving(*words) as port, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for suffix, (width, height) in SIZES.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
                page.set_default_timeout(120_000)
                page.goto(f"http://127.0.0.1:{port}/")
                if kind == "serve":
                    search(page, arguments.picture)
                else:
                    walk(page)
                page.wait_for_load_state("networkidle")
                page.evaluate("scrollTo(0, 0)")
                page.screenshot(path=str(arguments.out / f"{kind}{suffix}.png"))
            browser.close()


if __name__ == "__main__":
    main()
