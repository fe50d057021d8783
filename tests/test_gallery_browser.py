"""The gallery in Chromium: completion, boxes on hover, endless scroll, choosing, deleting."""

import io
import re
import zipfile

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageStatus, User, utcnow
from apps.services.results import store_result
from apps.vision.types import Box, Detections
from tests.conftest import picture_bytes
from tests.test_browser import (  # noqa: F401 (fixtures)
    chromium,
    new_page,
    no_sideways_scrolling,
    pytestmark,
    requests_of,
    sign_up,
    site,
    width,
)

SIZES = [(640, 480), (480, 640), (900, 300), (500, 500)]


@pytest.fixture
def fill(site, monkeypatch):  # noqa: F811
    """fill(name, count) -> ids of new pictures of an account, oldest first, each with two boxes."""
    monkeypatch.setattr(services(site).queue, "_next_job", lambda _but: None)  # nothing waits long

    def fill(name: str, count: int) -> list[int]:
        ids = []
        with site.app_context():
            owner = db.session.scalar(select(User).where(User.username == name))
            for n in range(count):
                size = SIZES[n % len(SIZES)]
                data = io.BytesIO(picture_bytes(size))
                image = services(site).uploads.upload(owner.id, f"picture {n}.jpg", data)
                ids.append(image.id)
                _detected(site, image.id, size, "dog" if n % 2 else "traffic light")
        return ids

    return fill


def _detected(site, image_id: int, size: tuple[int, int], label: str) -> None:  # noqa: F811
    image = db.session.get_one(Image, image_id)
    image.status, image.model, image.detected_at = ImageStatus.DONE, "test.model", utcnow()
    w, h = size
    boxes = (Box(label, 0.9, w / 4, h / 4, w / 2, h / 2), Box("cat", 0.2, 1, 1, 30, 30))
    store_result(
        services(site).results.session, image_id, Detections(boxes, "test.model"), utcnow(), 5
    )
    services(site).tags.follow_result(image_id)
    db.session.commit()


def tile(page, image_id: int):
    return page.locator(f'.tile[data-image="{image_id}"]')


def shown(page) -> list[int]:
    tiles = page.locator(".tile")
    return tiles.evaluate_all("all => all.map((one) => Number(one.dataset.image))")


def test_tags_and_keys_are_completed_with_the_keyboard(new_page, fill):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    fill(sign_up(page), 3)
    page.goto("/")
    field = page.get_by_role("combobox", name="Search by tag")
    field.click()
    field.press_sequentially("tra")
    option = page.get_by_role("option", name="traffic light")
    expect(option).to_be_visible()
    assert no_sideways_scrolling(page)
    field.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    field.press("Enter")
    expect(field).to_have_value('"traffic light" ')
    field.press_sequentially("-do")
    field.press("ArrowDown")
    field.press("Tab")
    expect(field).to_have_value('"traffic light" -dog ')
    field.press_sequentially("stat")
    page.get_by_role("listbox").get_by_role("option", name=re.compile("^status:")).click()
    page.get_by_role("listbox").get_by_role("option", name="done").click()
    expect(field).to_have_value('"traffic light" -dog status:done ')
    field.press_sequentially("re")
    expect(page.get_by_role("listbox")).to_be_visible()
    field.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    field.press("Backspace")
    field.press("Backspace")
    field.press("Enter")
    page.wait_for_url(re.compile("search="))
    expect(page.locator(".tile")).to_have_count(2)
    expect(field).to_have_value('"traffic light" -dog status:done')


def test_a_mistake_is_told_at_the_field_and_the_text_stays(new_page, fill):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    fill(sign_up(page), 1)
    page.goto("/images/search?search=dog>=many")
    field = page.get_by_role("combobox")
    expect(field).to_have_value("dog>=many")
    expect(page.get_by_role("alert")).to_contain_text("write a whole number after “dog>=”")
    assert no_sideways_scrolling(page)


def test_the_panel_writes_the_search_and_a_search_is_kept(new_page, fill):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    fill(sign_up(page), 3)
    page.goto("/")
    page.get_by_text("Filter and sort").click()
    page.get_by_label("Order").select_option("Name, A to Z")
    page.get_by_label("Detection").select_option("done")
    page.get_by_role("button", name="Show", exact=True).click()
    field = page.get_by_role("combobox", name="Search by tag")
    expect(field).to_have_value("status:done sort:title")
    expect(page.locator(".tile-title")).to_have_text(
        ["picture 0.jpg", "picture 1.jpg", "picture 2.jpg"]
    )
    assert no_sideways_scrolling(page)
    page.get_by_label("Keep this search as").fill("By name")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_text("The search is kept as “By name”.")).to_be_visible()
    page.goto("/")
    page.get_by_text("Filter and sort").click()
    page.get_by_role("link", name="By name").click()
    expect(field).to_have_value("status:done sort:title")
    page.get_by_text("Filter and sort").click()
    page.get_by_label("Rename or delete “By name”").click()
    page.get_by_label("New name of “By name”").fill("Sorted")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("link", name="Sorted")).to_be_visible()
    page.get_by_label("Rename or delete “Sorted”").click()
    page.locator(".kept-edit").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The search “Sorted” is deleted")).to_be_visible()


def test_boxes_appear_under_the_pointer_and_the_focus_with_one_request(new_page, fill):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    first, second, third = fill(sign_up(page), 3)
    page.goto("/")
    page.wait_for_load_state("networkidle")
    requests = requests_of(page)
    tile(page, first).locator(".tile-picture").hover()
    expect(tile(page, first).locator("svg rect.edge")).to_have_count(1)
    expect(tile(page, first).locator("svg")).to_be_visible()
    tile(page, second).locator(".tile-picture").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(tile(page, second).locator("svg")).to_be_visible()
    tile(page, third).locator(".tile-picture").hover()
    expect(tile(page, third).locator("svg")).to_be_visible()
    assert len([url for url in requests if "/images/boxes" in url]) == 1
    picture = tile(page, third).locator(".tile-picture").bounding_box()
    box = tile(page, third).locator("rect.edge").bounding_box()
    assert (box["x"] - picture["x"]) / picture["width"] == pytest.approx(0.25, abs=0.03)
    assert (box["y"] - picture["y"]) / picture["height"] == pytest.approx(0.25, abs=0.03)


def test_scrolling_goes_on_and_coming_back_finds_the_same_place(new_page, fill, site):  # noqa: F811
    from playwright.sync_api import expect

    site.config["GALLERY_PAGE_SIZE"] = 12
    try:
        page = new_page()
        ids = fill(sign_up(page), 40)[::-1]
        page.goto("/")
        expect(page.locator(".tile").first).to_be_visible()
        for there in (24, 36, 40):
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            expect(page.locator(".tile").nth(there - 1)).to_be_attached()
        shown = page.locator(".tile").evaluate_all(
            "all => all.map((one) => Number(one.dataset.image))"
        )
        assert shown == ids
        tile(page, ids[30]).scroll_into_view_if_needed()
        page.evaluate(
            "id => document.querySelector(`[data-image='${id}']`).scrollIntoView()", ids[30]
        )
        expect(page).to_have_url(re.compile(r"page=3$"))
        page.evaluate("scrollBy(0, -100)")
        before = tile(page, ids[30]).bounding_box()["y"]
        tile(page, ids[30]).locator(".tile-picture").click()
        page.wait_for_url(f"/images/{ids[30]}")
        page.go_back()
        expect(page).to_have_url(re.compile(r"page=3$"))
        expect(tile(page, ids[30])).to_be_in_viewport()
        page.wait_for_function(
            """([id, y]) => Math.abs(
                document.querySelector(`[data-image="${id}"]`).getBoundingClientRect().top - y
            ) < 60""",
            arg=[ids[30], before],
        )
        page.evaluate("scrollTo(0, 300)")
        page.mouse.wheel(0, -200)
        expect(tile(page, ids[20])).to_be_attached()  # the page before this one came too
    finally:
        site.config["GALLERY_PAGE_SIZE"] = 48


def test_the_help_of_the_search_fits_the_window(new_page):  # noqa: F811
    page = new_page()
    sign_up(page)
    page.goto("/auth/help#search")
    assert page.get_by_text("score>0.8").is_visible()
    assert no_sideways_scrolling(page)


def test_tiles_are_chosen_by_keys_and_ranges_and_deleting_is_undone(new_page, fill):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    ids = fill(sign_up(page), 6)[::-1]
    page.goto("/")
    bar = page.locator("[data-selection]")
    tile(page, ids[1]).locator(".tile-picture").click(modifiers=["Control"])
    expect(bar).to_contain_text("1 selected")
    tile(page, ids[3]).locator(".tile-picture").click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 selected")
    assert page.url.endswith("/")
    assert no_sideways_scrolling(page)
    bar.get_by_text("Tags").click()
    bar.get_by_label("Tag", exact=True).fill("holiday")
    bar.get_by_role("button", name="Add the tag").click()
    expect(page.get_by_text("The tag was added to 3 pictures.")).to_be_visible()
    for n in (1, 3):
        tile(page, ids[n]).locator("[data-select]").check()
    bar.get_by_text("Review", exact=True).click()
    bar.get_by_role("button", name="Mark as reviewed").click()
    expect(page.get_by_text("2 pictures are marked as reviewed.")).to_be_visible()
    expect(page.locator(".tile-reviewed")).to_have_count(2)
    tile(page, ids[0]).locator("[data-select]").check()
    tile(page, ids[5]).locator("[data-select]").check()
    bar.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("2 pictures are in the trash.").first).to_be_visible()
    expect(page.locator(".tile")).to_have_count(4)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("2 pictures are back.")).to_be_visible()
    assert shown(page) == ids  # each in its old place


def exporting(new_page, fill):  # noqa: F811
    """The gallery of two pictures, and its bar: one is chosen, and the menu of exports is open."""
    page = new_page()
    ids = fill(sign_up(page), 2)
    page.goto("/")
    bar = page.locator("[data-selection]")
    tile(page, ids[0]).locator("[data-select]").check()
    bar.get_by_text("Export", exact=True).click()
    return page, bar


def test_the_chosen_pictures_are_exported(new_page, fill):  # noqa: F811
    page, bar = exporting(new_page, fill)
    bar.get_by_label("Format").select_option("YOLO")
    with page.expect_download() as download:
        bar.get_by_role("button", name="Export as ZIP").click()
    assert download.value.suggested_filename == "sightbox-yolo.zip"


def test_enter_in_the_menu_exports_and_its_field_stops_nothing_else(new_page, fill):  # noqa: F811
    from playwright.sync_api import expect

    page, bar = exporting(new_page, fill)
    field = bar.get_by_label("Lowest score of a model’s box, in percent")
    expect(field).to_have_value("50")
    assert no_sideways_scrolling(page)
    bar.get_by_label("Format").select_option("CSV")
    field.fill("10")
    with page.expect_download() as download:
        field.press("Enter")
    with zipfile.ZipFile(download.value.path()) as archive:
        assert b",cat," in archive.read("boxes.csv")
    field.fill("200")
    bar.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("1 picture is in the trash.").first).to_be_visible()


def test_a_long_press_chooses_and_further_taps_go_on(new_page, fill, width):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page(has_touch=True, is_mobile=width == 390)
    ids = fill(sign_up(page), 3)[::-1]
    page.goto("/")
    picture = tile(page, ids[0]).locator(".tile-picture")
    frame = picture.bounding_box()
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    device = page.context.new_cdp_session(page)
    device.send(
        "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]}
    )
    expect(page.locator("[data-selection]")).to_contain_text("1 selected")
    device.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    tile(page, ids[1]).locator(".tile-picture").tap()
    expect(page.locator("[data-selection]")).to_contain_text("2 selected")
    assert page.url.endswith("/")
    assert no_sideways_scrolling(page)


def test_the_trash_gives_back_and_forgets(new_page, fill):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    ids = fill(sign_up(page), 3)
    for image_id in ids:
        page.goto(f"/images/delete/{image_id}")
        page.get_by_role("button", name="Delete").click()
        page.wait_for_url("/")
    page.get_by_role("link", name="3 pictures in the trash").click()
    expect(page.locator(".tile")).to_have_count(3)
    assert (
        page.locator(".tile img").first.evaluate("img => img.decode().then(() => img.naturalWidth)")
        > 0
    )
    assert no_sideways_scrolling(page)
    page.get_by_role("button", name="Restore “picture 0.jpg”").click()
    expect(page.get_by_text("1 picture is back.")).to_be_visible()
    page.get_by_role("link", name="Empty the trash").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("2 pictures are deleted for good.")).to_be_visible()
    expect(page.get_by_text("The trash is empty.")).to_be_visible()
