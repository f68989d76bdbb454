"""A headless Chromium that notes what a page says, asks for and breaks."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: nobody has looked at the page in a browser"
)


@dataclass
class Seen:
    """The page, and what happened while it was open."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def opened(address: str, *, colour_scheme: str = "light", of_site: bool = False, phone: bool = False) -> Iterator[Seen]:
    """Open a page; requests other than for the page itself and for data inside it are noted, and refused.

    With `of_site` the page may ask for all that is below its address, and for pictures that it has made itself.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, Chromium refuses to start in its sandbox; its own chatter with the network is turned off.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
        )
        try:
            size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
            page = browser.new_page(color_scheme=colour_scheme, viewport=size, is_mobile=phone, has_touch=phone)
            seen = Seen(page)
            page.on("console", lambda message: seen.console.append(message.text) if message.type != "log" else None)
            page.on("pageerror", lambda error: seen.console.append(str(error)))

            def route(asked: Any) -> None:
                url = asked.request.url
                own = of_site and url.startswith((address, f"blob:{address}"))
                if url == address or own or url.startswith("data:"):
                    asked.continue_()
                    return
                seen.requests.append(url)
                asked.abort()

            page.route("**/*", route)
            page.goto(address, timeout=120_000)  # a busy machine is no fault of the page
            yield seen
        finally:
            browser.close()


def violations(page: Any) -> list[str]:
    """Return what axe calls serious or critical, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['impact']}: {one['id']}: {node['html'][:160]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def address_of(path: Path) -> str:
    """Return the file's address."""
    return path.resolve().as_uri()
