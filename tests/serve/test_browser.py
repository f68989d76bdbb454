"""The page in a browser: a picture finds itself, is cut, filtered and judged, on a desk and on a phone."""

import base64
import csv
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from ..report.browser import needs_chromium, opened, violations  # noqa: TID252
from .live import served

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def address(built, tmp_path_factory):
    review = tmp_path_factory.mktemp("review") / "review.csv"
    with served(built, review_list=str(review)) as port:
        yield f"http://127.0.0.1:{port}/", review


def classes(page):
    return page.locator("#results h3").all_inner_texts()


@pytest.mark.parametrize(("phone", "scheme"), [(False, "light"), (True, "dark")])
def test_from_a_picture_to_feedback(address, products, phone, scheme):
    url, review = address
    review.unlink(missing_ok=True)
    with opened(url, colour_scheme=scheme, of_site=True, phone=phone) as seen:
        page = seen.page
        page.get_by_text("60 items of 30 classes").wait_for()
        # Upload: it finds itself first.
        page.set_input_files("#camera" if phone else "#file", products / "07-1.png")
        page.keyboard.press("Enter")  # the button to search has the focus
        page.locator("#results li").nth(9).wait_for()
        assert page.locator("#results .id").first.inner_text() == "07-1.png"
        assert re.fullmatch(r"ring 7 \(\d+% probable\)", page.locator("#verdict").inner_text())
        assert "7.5" in page.locator("#results li").first.inner_text()
        assert violations(page) == []
        # Nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        # Feedback, on an upload, is kept.
        first = page.locator("#results li").first
        first.get_by_role("button", name="Same thing").click()
        first.get_by_text("Kept.").wait_for()
        assert first.get_by_role("button", name="Same thing").get_attribute("aria-pressed") == "true"
        page.locator("#results li").nth(3).get_by_role("button", name="Not a match").click()
        page.locator("#results li").nth(3).get_by_text("Kept.").wait_for()
        with review.open() as stream:
            rows = list(csv.DictReader(stream))
        assert [(row["other"], row["verdict"]) for row in rows][:2] == [
            ("07-1.png", "same"),
            (page.locator("#results .id").nth(3).inner_text(), "different"),
        ]
        # Why alike: a map of both, and a test of it, in words.
        first.get_by_text("Why alike?").click()
        expect(first.get_by_role("img", name=re.compile("what counts most is at the "))).to_have_count(2)
        assert re.search(r"Hiding the marked tenth costs -?\d\.\d\d similarity, a random", first.inner_text())
        # The threshold: what is farther is marked, and what to expect is said.
        page.locator("#slider").focus()
        told = []
        for key in ("End", "Home"):
            page.keyboard.press(key)
            told.append((page.locator("#results .is-far").count(), page.locator("#false-acceptance").inner_text()))
        assert told[0][0] < told[1][0] <= 10
        assert (told[0][1], told[1][1]) == ("100%", "0%")
        assert page.locator("#slider").get_attribute("aria-valuetext").startswith("distance below 0.")
        # Search from a result: a filter keeps what it says, and text of a table is no HTML.
        page.locator("#results button.picture").nth(1).click()
        page.get_by_role("img", name=re.compile("ring 7, ")).wait_for()
        page.locator("#filters summary").click()
        page.get_by_label("price to").fill("3")
        page.get_by_label("note contains").fill("<b>new")
        page.get_by_label("Only the nearest of each class").check()
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("#results li")).to_have_count(1)
        assert classes(page) == ["ring 0"]
        assert "<b>new</b>" in page.locator("#results li").first.inner_text()
        assert violations(page) == []
        assert seen.console == []
        assert seen.requests == []


def test_a_part_is_searched_and_unknown_is_said(address, products, tmp_path):
    # Two products side by side: each half finds its own.
    both = Image.new("RGB", (96, 48))
    for i, name in enumerate(("03-0.png", "21-0.png")):
        both.paste(Image.open(products / name), (48 * i, 0))
    both.save(tmp_path / "both.png")
    with opened(address[0], of_site=True) as seen:
        page = seen.page
        page.set_input_files("#file", tmp_path / "both.png")
        page.locator("#edges summary").click()
        page.get_by_label("Left").fill("50")
        page.get_by_role("button", name="Search", exact=True).click()
        page.locator("#results li").first.wait_for()
        assert page.locator("#results .id").first.inner_text() == "21-0.png"
        assert page.locator("#verdict").inner_text().startswith("ring 21")
        # With the mouse: the left half.
        box = page.locator("#shown").bounding_box()
        page.mouse.move(box["x"] + 1, box["y"] + 1)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 0.1, steps=3)
        page.mouse.up()
        page.get_by_role("button", name="Search", exact=True).click()
        expect(page.locator("#results .id").first).to_have_text("03-0.png")
        # All of it is no product.
        page.get_by_role("button", name="The whole picture again").click()
        page.get_by_role("button", name="Search", exact=True).click()
        page.get_by_text("Unknown: nothing here is near enough.").wait_for()
        # What is no picture is said, in words.
        (tmp_path / "broken.png").write_bytes(b"no picture")
        page.set_input_files("#file", tmp_path / "broken.png")
        page.get_by_text("This browser cannot show the picture.").wait_for()
        page.get_by_role("button", name="Search", exact=True).click()
        page.get_by_text("picture: not a picture of a known format; send another picture").wait_for()
        # Chromium itself tells of an answer that is no success, and of nothing else.
        assert [line for line in seen.console if "422" not in line] == []
        assert seen.requests == []


def test_a_picture_is_dropped_or_pasted(address, products):
    data = base64.b64encode((products / "11-0.png").read_bytes()).decode()
    script = """([kind, data]) => {
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "x.png", { type: "image/png" }));
      const more = { bubbles: true, cancelable: true };
      document.dispatchEvent(kind === "drop" ? new DragEvent("drop", { dataTransfer: transfer, ...more })
        : new ClipboardEvent("paste", { clipboardData: transfer, ...more }));
    }"""
    with opened(address[0], of_site=True) as seen:
        for kind in ("drop", "paste"):
            seen.page.reload()
            seen.page.get_by_text("60 items of 30 classes").wait_for()
            seen.page.evaluate(script, [kind, data])
            seen.page.get_by_role("button", name="Search", exact=True).click()
            seen.page.locator("#results li").first.wait_for()
            assert seen.page.locator("#results .id").first.inner_text() == "11-0.png"
        assert seen.console == []
