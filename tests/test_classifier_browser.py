"""The page of a classifier in Chromium: drawing, choosing, pasting; the networks are real ones.

Their weights are random, so only what people see of an answer is tested here, not which it is.
"""

import re
from collections.abc import Iterator

import pytest
from PIL import Image

from apps.vision.zoo import classifiers as registry
from apps.vision.zoo.classifiers import get_classifier
from tests.test_browser import (  # noqa: F401 (fixtures)
    DETECTION,
    chromium,
    new_page,
    no_sideways_scrolling,
    pictures,
    pytestmark,
    sign_up,
    site,
    upload,
    width,
)

PAGE = "/classifier/lenet5.mnist"


@pytest.fixture(scope="module", autouse=True)
def _weights(tmp_path_factory) -> Iterator[None]:
    from tests.vision.test_classify import saved  # needs torch

    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("lenet5.mnist", "convnet.cats_dogs"):
            patch.setitem(registry._specs, name, saved(get_classifier(name), folder))
        yield


def draw(page, *points: tuple[float, float]) -> None:
    """One stroke over the sheet; points are parts of its sides."""
    sheet = page.locator("canvas")
    sheet.scroll_into_view_if_needed()
    frame = sheet.bounding_box()
    places = [
        (frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in points
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def guesses(page):
    return page.locator("#answer .guesses li")


def test_a_drawing_is_answered_while_it_grows_and_can_be_taken_back(new_page):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    page.goto(PAGE)
    undo, clear = (page.get_by_role("button", name=name) for name in ("Undo", "Clear"))
    expect(undo).to_be_disabled()
    draw(page, (0.3, 0.2), (0.7, 0.2), (0.5, 0.8))
    expect(guesses(page)).to_have_count(5, timeout=DETECTION)
    expect(guesses(page).first).to_contain_text("%")
    assert no_sideways_scrolling(page)
    drawn = page.locator("#answer .captioned img").first.get_attribute("src")
    draw(page, (0.4, 0.5), (0.7, 0.5))
    seen = page.locator("#answer .captioned img").first
    expect(seen).not_to_have_attribute("src", drawn)
    undo.click()
    expect(seen).to_have_attribute("src", drawn)
    clear.click()
    expect(guesses(page)).to_have_count(0)
    expect(clear).to_be_disabled()


def test_a_finger_draws_without_moving_the_page(chromium, site):  # noqa: F811
    context = chromium.new_context(
        base_url=site.config["TEST_ADDRESS"], viewport={"width": 390, "height": 850}, has_touch=True
    )
    page = context.new_page()
    sign_up(page)
    page.goto(PAGE)
    page.locator("canvas").tap()
    page.wait_for_selector("#answer .guesses li", timeout=DETECTION)
    assert page.evaluate("getComputedStyle(document.querySelector('canvas')).touchAction") == "none"
    context.close()


def test_a_file_is_answered_at_once_with_reasons_and_a_wrong_one_says_why(new_page, pictures):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    page.goto("/classifier/convnet.cats_dogs")
    upload(page, pictures[0])
    expect(guesses(page)).to_have_count(2, timeout=DETECTION)
    page.get_by_label("Show why").check()
    expect(page.locator("#answer .heat img")).to_be_visible()
    expect(page.locator("#answer .captioned-maps img").first).to_be_visible()
    assert no_sideways_scrolling(page)
    upload(page, pictures[2])
    expect(page.locator("#answer [role=alert]")).to_contain_text("not a picture")
    page.context.set_offline(True)
    upload(page, pictures[1])
    expect(page.locator("#answer [role=alert]")).to_contain_text("The connection broke")
    page.context.set_offline(False)
    upload(page, pictures[1])
    expect(guesses(page)).to_have_count(2)


def test_from_a_box_to_what_a_network_says_about_it(new_page, pictures):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    upload(page, pictures[0])
    page.wait_for_url(re.compile(r"/images/\d+$"))
    page.wait_for_selector("#result[data-status=done] rect", timeout=DETECTION)
    page.get_by_role("link", name="Classify this box").first.click()
    expect(page.get_by_role("main")).to_contain_text("The box “")
    page.get_by_role("link", name="Small convnet").click()
    expect(guesses(page)).to_have_count(2, timeout=DETECTION)
    page.wait_for_selector("[data-classify].is-enhanced")  # what was there before is the server's
    before = page.locator("#answer .captioned img").first.get_attribute("src")
    page.get_by_label("Around the box").select_option(label="much")
    expect(page.locator("#answer .captioned img").first).not_to_have_attribute("src", before)
    page.locator(".picks a").first.click()
    page.wait_for_url(re.compile(r"\?image=\d+$"))
    expect(guesses(page)).to_have_count(2)
    page.get_by_text("Layers", exact=True).click()
    expect(page.get_by_role("table")).to_contain_text("Conv2d")


def test_everything_but_the_sheet_works_without_scripts(new_page, pictures, tmp_path):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page(java_script_enabled=False)
    sign_up(page)
    page.goto(PAGE)
    expect(page.get_by_text("Drawing needs JavaScript.")).to_be_visible()
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#answer [role=alert]")).to_contain_text("Choose a picture first.")
    Image.new("L", (40, 40), 200).save(tmp_path / "grey.png")
    page.get_by_label("Swap light and dark").select_option("no")
    upload(page, tmp_path / "grey.png")
    page.get_by_role("button", name="Classify").click()
    expect(guesses(page)).to_have_count(5, timeout=DETECTION)
    expect(page.get_by_label("Swap light and dark")).to_have_value("no")
    page.get_by_text("Layers", exact=True).click()
    page.get_by_role("link", name="Show the table of layers").click()
    expect(page.get_by_role("table")).to_contain_text("Linear")
