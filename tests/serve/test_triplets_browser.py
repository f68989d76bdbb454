"""The triplets of a run in a browser: walked through, of a class, marked, on a desk and on a phone."""

import csv
import re

import pytest
from playwright.sync_api import expect

from mohs.data.dataset import open_dataset
from mohs.data.images import ImagePolicy
from mohs.serve.triplets import create_run_app
from mohs.training.false_negatives import read_review_list

from ..report.browser import needs_chromium, opened, violations  # noqa: TID252
from .live import served

pytestmark = needs_chromium


@pytest.mark.parametrize(("phone", "scheme"), [(False, "light"), (True, "dark")])
def test_triplets_are_walked_through_and_one_is_marked(run, products, tmp_path, phone, scheme):
    review = tmp_path / "review.csv"
    with (
        served(run, create_run_app, review_list=str(review)) as port,
        opened(f"http://127.0.0.1:{port}/", colour_scheme=scheme, of_site=True, phone=phone) as seen,
    ):
        page, cards = seen.page, seen.page.locator("#triplets > li")
        expect(page.locator("#where")).to_have_text("1 to 12 of 60 triplets")
        expect(page.locator("#about")).to_contain_text("60 triplets of 48 pictures of 24 classes. Loss triplet: max(0")
        expect(page.locator("#activity")).to_contain_text("not which triplets")
        expect(cards).to_have_count(12)
        first = cards.first
        assert re.search(r"hardness asked \d\.\d\d, achieved \d\.\d\d", first.inner_text())
        assert re.search(r"active when it was mined, \d+% of its batch active in training", first.inner_text())
        assert len(re.findall(r"distance \d\.\d{3}", first.inner_text())) == 2
        expect(first.get_by_role("img")).to_have_count(3)
        # The page's policy allows no text to be run, which waiting for a condition does when it does not hold at once.
        page.evaluate("Promise.all([...document.images].slice(0, 6).map((each) => each.decode()))")
        assert violations(page) == []
        # Nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        # Onward, by the keyboard: by time, then by hardness.
        page.get_by_role("button", name="Next").press("Enter")
        expect(page.locator("#where")).to_have_text("13 to 24 of 60 triplets")
        page.get_by_label("Where").press("End")
        expect(page.locator("#where")).to_have_text("60 to 60 of 60 triplets")
        expect(page.get_by_role("button", name="Next")).to_be_disabled()
        page.get_by_label("Order").select_option("hardest")
        expect(page.locator("#where")).to_have_text("1 to 12 of 60 triplets")
        hardness = [float(each) for each in re.findall(r"achieved (\d\.\d\d)", page.locator("#triplets").inner_text())]
        assert len(hardness) == 12
        assert hardness == sorted(hardness, reverse=True)
        # Pictures, larger.
        cards.first.locator("button").first.click()
        expect(page.locator("dialog img")).to_have_count(3)
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_be_hidden()
        # Marked: it is in the review list as training reads it, and still is when the page is opened again.
        mark = cards.nth(2).get_by_role("button", name=re.compile("Really the same thing"))
        files = re.fullmatch("Really the same thing: (.*) and (.*)", mark.get_attribute("aria-label")).groups()
        mark.click()
        cards.nth(2).get_by_text("Kept in the review list.").wait_for()
        expect(mark).to_have_attribute("aria-pressed", "true")
        with review.open(newline="") as stream:
            assert [(row["file"], row["other"], row["verdict"]) for row in csv.DictReader(stream)] == [(*files, "same")]
        table = open_dataset(products / "shop.csv", policy=ImagePolicy(size=16)).table
        kept_apart = read_review_list(review, table.files)
        assert {table.files[item] for item in kept_apart.ravel().tolist()} == set(files)
        assert violations(page) == []
        page.reload()
        page.get_by_label("Order").select_option("hardest")
        expect(mark).to_have_attribute("aria-pressed", "true")
        mark.click()
        cards.nth(2).get_by_text("Taken back: it stays a negative.").wait_for()
        assert len(read_review_list(review, table.files)) == 0
        # Of a class.
        label = cards.nth(2).locator("figcaption span").first.inner_text()
        page.get_by_label("Class").fill(label)
        expect(page.locator(f"#classes option[value='{label}']")).to_have_count(1)
        page.get_by_role("button", name="Show").click()
        expect(page.locator("#where")).to_contain_text(f"triplets of class {label}")
        for each in cards.all():
            assert label in each.locator("figcaption span").all_inner_texts()
        page.get_by_label("Class").fill("no such class")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("#where")).to_have_text("No triplets of class no such class.")
        assert seen.console == []
        assert seen.requests == []


def test_a_run_without_a_record_says_so(in_batch_run, tmp_path):
    with (
        served(in_batch_run, create_run_app, review_list=str(tmp_path / "review.csv")) as port,
        opened(f"http://127.0.0.1:{port}/", of_site=True) as seen,
    ):
        expect(seen.page.locator("#negatives")).to_contain_text("This loss takes other negatives than the plan's")
        expect(seen.page.locator("#triplets > li").first).to_contain_text("% of its batch active in training")
        assert "when it was mined" not in seen.page.locator("#triplets").inner_text()
        assert seen.console == []
