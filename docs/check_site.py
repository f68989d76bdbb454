"""Looks at the built site in a browser, on loopback: the search finds pages, links lead somewhere, pictures have text.

make docs-check
"""

import contextlib
import functools
import http.server
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
SITE = ROOT / "build" / "docs"

# What a reader types, and the page that must be among the first results.
SEARCHES = {
    "early stopping": "how-long.html",
    "unknown": "search.html",
    "collapse": "collapse.html",
    "torchrun": "many-machines.html",
    "learning_rate": "settings.html",
    "onnx": "export.html",
}
FIRST = 5
PAGES = ("index.html", "guides/how-long.html", "settings.html", "glossary.html")
WIDTHS = (1400, 1024, 390)


def link_problems(site: Path) -> list[str]:
    """Return links of the guides that lead nowhere, and pictures without text, a line each."""
    problems = []
    for page in sorted(site.rglob("*.html")):
        if page.is_relative_to(site / "api") or page.name == "404.html":
            continue
        text, name = page.read_text(encoding="utf-8"), page.relative_to(site)
        images = re.findall(r"<img\b[^>]*>", text)
        problems += [f"{name}: {found}: no text" for found in images if not re.search(r'\balt="[^"]+"', found)]
        for link in re.findall(r"<a\b[^>]*\bhref=\"([^\"]+)\"", text):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            place = f'id="{unquote(parts.fragment)}"'
            if not target.is_file():
                problems.append(f"{name}: {link}: leads nowhere")
            elif parts.fragment and place not in target.read_text(encoding="utf-8"):
                problems.append(f"{name}: {link}: no such place in that page")
    return problems


@contextlib.contextmanager
def served(site: Path) -> Iterator[str]:
    """Yield the address of the site, on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def found_by(page: Page, address: str, words: str) -> list[str]:
    """Return the pages that the site's search lists for words, best first."""
    page.goto(f"{address}index.html")
    page.get_by_role("button", name="Search").first.click()
    page.keyboard.type(words)
    results = page.get_by_role("option")
    results.first.wait_for(timeout=60_000)  # a busy machine is no fault of the site
    links = [result.get_attribute("href") or "" for result in results.all()]
    return list(dict.fromkeys(urlsplit(link).path.rsplit("/", 1)[-1] for link in links))


def look(address: str) -> list[str]:
    """Return what a browser finds wrong with the site, a line each."""
    problems = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
        for words, wanted in SEARCHES.items():
            found = found_by(page, address, words)
            if wanted not in found[:FIRST]:
                problems.append(f"search for {words!r}: {wanted} is not among {found[:FIRST]}")
        for name in PAGES:
            page.goto(address + name)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                    problems.append(f"{name}: wider than a screen of {width} pixels")
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.set_viewport_size({"width": 1400, "height": 900})
                page.goto(address + name)
                for one in Axe().run(page).response["violations"]:
                    if one["impact"] in ("serious", "critical"):
                        problems.append(f"{name}, {scheme}: {one['id']}: {one['nodes'][0]['html'][:160]}")
        browser.close()
    return problems


def main() -> int:
    """Say what is wrong with build/docs; 1 if anything is."""
    if not (SITE / "index.html").is_file():
        print(f"{SITE}: no site; run make docs first")
        return 1
    with served(SITE) as address:
        problems = [*link_problems(SITE), *look(address)]
    print(*problems, f"{len(problems)} problems", sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
