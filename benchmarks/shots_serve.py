"""Pictures of the page for the documentation, by a headless Chromium: on a desk and on a phone.

python benchmarks/shots_serve.py shop.index photo.jpg docs/images
"""

import argparse
import shutil
from pathlib import Path

from bench_serve import serving
from playwright.sync_api import sync_playwright

SIZES = {"serve": (1280, 900), "serve-phone": (390, 844)}


def main() -> None:
    """Write serve.png and serve-phone.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with serving(arguments.index) as port, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
            page.set_default_timeout(120_000)
            page.goto(f"http://127.0.0.1:{port}/")
            page.set_input_files("#file", arguments.picture)
            page.get_by_role("button", name="Search", exact=True).click()
            page.locator("#results li").nth(5).wait_for()
            page.locator("#results .why summary").first.click()
            page.locator("#results figcaption").nth(1).wait_for()
            page.wait_for_load_state("networkidle")
            page.screenshot(path=str(arguments.out / f"{name}.png"))
        browser.close()


if __name__ == "__main__":
    main()
