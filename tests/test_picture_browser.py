"""The picture page as a viewer, in Chromium: zoom, labels, classes, sliders, neighbours."""

import re

import pytest

from apps.container import services
from apps.models import utcnow
from apps.services.results import store_result
from apps.vision.types import Box, Detections
from tests.test_browser import (  # noqa: F401 (fixtures)
    DETECTION,
    chromium,
    new_page,
    no_sideways_scrolling,
    pictures,
    pytestmark,
    requests_of,
    sign_up,
    site,
    smear_file,
    upload,
    width,
)

# Of a picture of 640 x 480. The two dogs overlap by about two thirds.
BOXES = (
    Box("dog", 0.95, 40, 60, 240, 260),
    Box("dog", 0.80, 60, 80, 260, 280),
    Box("cat", 0.90, 330, 90, 470, 220),
    Box("cat", 0.30, 500, 300, 600, 400),
    Box("person", 0.70, 300, 250, 420, 460),
)

WRONG_LABELS = """async () => {
  for (let n = 0; n < 2; n += 1) await new Promise(requestAnimationFrame);
  const all = selector => [...document.querySelectorAll(selector)].map(element => {
    const {left, top, right, bottom} = element.getBoundingClientRect();
    return [left, top, right, bottom];
  });
  const [labels, boxes] = [all(".label:not([hidden])"), all(".box:not(.d-none) .outline")];
  const meets = (a, b) => [0, 1].every(n => a[n] < b[n + 2] - 1 && b[n] < a[n + 2] - 1);
  const covers = (a, b) => [0, 1].every(n => a[n] <= b[n] && a[n + 2] >= b[n + 2]);
  const wrong = labels.length ? [] : ["none"];
  labels.forEach((label, n) => {
    if (label[3] - label[1] != 20) wrong.push("height");
    labels.slice(n + 1).forEach(other => meets(label, other) && wrong.push("label"));
    boxes.forEach(box => covers(label, box) && wrong.push("box"));
  });
  return wrong;
}"""


def found_in(site, image_id: int, boxes=BOXES) -> None:  # noqa: F811
    """Let the model "some.model" have found these boxes."""
    with site.app_context():
        session = services(site).results.session
        store_result(session, image_id, Detections(tuple(boxes), "some.model"), utcnow(), 5)
        session.commit()
        owner_id = services(site).images.get(image_id).owner_id
        services(site).results.use(image_id, owner_id, "some.model")


@pytest.fixture
def open_picture(new_page, pictures, site, monkeypatch):  # noqa: F811 (fixtures)
    """open_picture() -> the page of a picture of 640 x 480 with BOXES, of a new account.

    Nobody waits for a network: the engine says at once what it found.
    """
    found = Detections(BOXES, "some.model")
    monkeypatch.setattr(services(site).detections.engine, "detect", lambda *_, **__: found)

    def open_picture(count: int = 1, **options):
        page = new_page(**options)
        sign_up(page)
        files = [smear_file(pictures[0].parent / f"{n}.jpg", 20 + n) for n in range(count)]
        upload(page, *files)
        page.wait_for_url(re.compile(r"/images/\d+$") if count == 1 else "/")
        if count > 1:
            done = page.locator(".tile[data-status=done]")
            done.nth(count - 1).wait_for(timeout=DETECTION)
            page.locator(".tile-picture").nth(0).click()
        page.wait_for_selector("#result.is-live[data-status=done]", timeout=DETECTION)
        page.wait_for_load_state("networkidle")
        return page

    return open_picture


def number_of(page) -> int:
    return int(re.search(r"/images/(\d+)", page.url)[1])


def shown_boxes(page):
    return page.locator("svg .box:not(.d-none)")


def screen_of(page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the picture is in the window."""
    return tuple(
        page.evaluate(
            """([x, y]) => {
          const point = new DOMPoint(x, y);
          const {x: left, y: top} = point.matrixTransform(
            document.querySelector("svg[data-boxes]").getScreenCTM());
          return [left, top];
        }""",
            [x, y],
        )
    )


def picture_at(page, left: float, top: float) -> list[float]:
    """The point of the picture that the picture itself, not the boxes, shows there."""
    return page.evaluate(
        """([left, top]) => new Promise(resolve => requestAnimationFrame(() => {
      const frame = document.querySelector(".stage img").getBoundingClientRect();
      resolve([640 * (left - frame.left) / frame.width, 480 * (top - frame.top) / frame.height]);
    }))""",
        [left, top],
    )


def distance(a, b) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def wait_for_zoom(page, sign: str, percent: float) -> None:
    """Until the zoom is as large ("=") or larger (">")."""
    page.wait_for_function(
        """([sign, percent]) => {
          const now = parseInt(document.querySelector("[data-zoom]").textContent);
          return sign === ">" ? now > percent : now === percent;
        }""",
        arg=[sign, percent],
    )


def zoom(page) -> int:
    return int(page.locator("[data-zoom]").text_content().split()[0])


def test_the_wheel_zooms_to_the_pointer_and_the_boxes_stay_on_the_picture(open_picture):
    page = open_picture()
    left, top = (round(place) for place in screen_of(page, 200, 150))
    under = picture_at(page, left, top)
    page.mouse.move(left, top)
    before = zoom(page)
    for _ in range(4):
        page.mouse.wheel(0, -240)
    wait_for_zoom(page, ">", 4 * before)
    assert distance(picture_at(page, left, top), under) < 0.2  # pixels of the picture
    assert distance(screen_of(page, *under), (left, top)) < 0.5  # where the boxes have it

    # Dragging moves the picture; 0 shows all of it again, 1 a pixel for a pixel.
    page.keyboard.press("Escape")
    page.mouse.down()
    page.mouse.move(left - 60, top - 40, steps=4)
    page.mouse.up()
    assert distance(picture_at(page, left - 60, top - 40), under) < 0.2
    page.keyboard.press("0")
    wait_for_zoom(page, "=", before)
    page.keyboard.press("1")
    wait_for_zoom(page, "=", 100)
    page.keyboard.press("+")
    wait_for_zoom(page, "=", 125)
    page.keyboard.press("-")
    wait_for_zoom(page, "=", 100)
    assert no_sideways_scrolling(page)


def test_a_double_click_zooms_and_another_one_shows_all(open_picture):
    page = open_picture()
    before = zoom(page)
    page.mouse.dblclick(*screen_of(page, 550, 60))
    wait_for_zoom(page, ">", 1.5 * before)
    page.mouse.dblclick(*screen_of(page, 550, 60))
    wait_for_zoom(page, "=", before)


def test_two_fingers_zoom_around_their_middle(open_picture, width):  # noqa: F811
    page = open_picture(has_touch=True)
    left, top = screen_of(page, 320, 240)
    before = zoom(page)
    client = page.context.new_cdp_session(page)

    def touch(kind, *points):
        fingers = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    touch("touchStart", (left - 20, top), (left + 20, top))
    for step in range(1, 6):
        touch("touchMove", (left - 20 - 8 * step, top), (left + 20 + 8 * step, top))
    touch("touchEnd")
    wait_for_zoom(page, ">", 2.5 * before)
    assert distance(picture_at(page, left, top), (320, 240)) < 3


def test_labels_keep_their_size_and_never_cover_each_other_or_a_whole_box(open_picture, site):  # noqa: F811
    page = open_picture()
    crowd = [
        Box("thing", 0.9, 20 + 30 * n, 20 + 25 * n, 50 + 30 * n, 45 + 25 * n) for n in range(15)
    ]
    found_in(site, number_of(page), [*BOXES, *crowd])
    page.reload()
    page.wait_for_selector("#result.is-live .outline", state="attached")
    for _ in range(3):
        assert page.evaluate(WRONG_LABELS) == []
        page.keyboard.press("+")


def test_chips_hide_and_show_classes_and_one_alone(open_picture):
    from playwright.sync_api import expect

    page = open_picture()
    expect(shown_boxes(page)).to_have_count(4)
    chips = page.locator("[data-label-counts]")
    dog, cat = (chips.locator(f"[data-chip={name}]") for name in ("dog", "cat"))
    expect(dog).to_contain_text("2")
    expect(cat).to_contain_text("1")  # the other one is not sure enough
    requests = requests_of(page)
    dog.click()
    expect(dog).to_have_attribute("aria-pressed", "false")
    expect(shown_boxes(page)).to_have_count(2)
    dog.click()
    expect(shown_boxes(page)).to_have_count(4)
    cat.click(modifiers=["Alt"])
    expect(shown_boxes(page)).to_have_count(1)
    expect(page.locator(".box-list li:not(.d-none)")).to_have_count(1)
    page.keyboard.press("a")
    expect(shown_boxes(page)).to_have_count(4)
    dog.click(delay=700)  # a long press
    expect(shown_boxes(page)).to_have_count(2)
    cat.focus()
    page.keyboard.press("o")
    expect(shown_boxes(page)).to_have_count(1)
    page.keyboard.press("o")
    expect(shown_boxes(page)).to_have_count(4)
    assert requests == []


def test_confidence_and_overlap_are_changed_without_asking(open_picture):
    from playwright.sync_api import expect

    page = open_picture()
    requests = requests_of(page)
    page.keyboard.press(",")  # 45 %
    for _ in range(4):
        page.keyboard.press(",")
    expect(shown_boxes(page)).to_have_count(5)
    page.get_by_label("Confidence").fill("0.92")
    expect(shown_boxes(page)).to_have_count(1)
    page.get_by_label("Confidence").fill("0.5")
    overlap = page.get_by_label("Overlap")
    overlap.fill("0.5")
    expect(page.locator("[data-overlap-output]")).to_have_text("50 %")
    expect(shown_boxes(page)).to_have_count(3)  # the less sure dog is gone
    expect(page.locator("[data-chip=dog] b")).to_have_text("1")
    overlap.fill("0.9")
    expect(shown_boxes(page)).to_have_count(4)
    assert requests == []


def test_list_and_picture_light_each_other_and_sizes_are_told(open_picture):
    from playwright.sync_api import expect

    page = open_picture()
    row = page.locator(".box-list li:not(.d-none)").first
    row.hover()
    lit = page.locator("svg .box.is-lit")
    expect(lit).to_have_attribute("data-box", row.get_attribute("data-box"))
    page.locator(".stage").scroll_into_view_if_needed()
    page.mouse.move(*screen_of(page, 400, 150))
    expect(page.locator("li.is-lit")).to_have_attribute("data-label", "cat")
    page.mouse.click(*screen_of(page, 400, 150))
    details = page.locator("[data-details]")
    expect(details).to_contain_text("cat")
    expect(details).to_contain_text("140 × 130 px")
    expect(details).to_contain_text("18,200 px² · 5.9 %")
    assert no_sideways_scrolling(page)
    # Alt takes the box below.
    page.mouse.click(*screen_of(page, 150, 150))
    expect(page.locator("li.is-chosen")).to_contain_text("95 %")
    page.keyboard.down("Alt")
    page.mouse.click(*screen_of(page, 150, 150))
    page.keyboard.up("Alt")
    expect(page.locator("li.is-chosen")).to_contain_text("80 %")


def test_the_question_mark_lists_the_keys(open_picture):
    from playwright.sync_api import expect

    page = open_picture()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("Mark reviewed and go on")
    assert no_sideways_scrolling(page)
    # Single keys can be kept for the picture alone.
    dialog.get_by_label("Single keys work").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.locator("body").evaluate("body => document.activeElement.blur()")
    page.keyboard.press("v")
    expect(page.locator("[data-rejected]")).not_to_be_checked()
    page.locator(".stage").focus()
    page.keyboard.press("v")
    expect(page.locator("[data-rejected]")).to_be_checked()


def test_neighbours_are_those_of_the_search_and_are_there_already(open_picture, site):  # noqa: F811
    from playwright.sync_api import expect

    page = open_picture(count=3)
    newest = number_of(page)
    found_in(site, newest, [*BOXES, Box("fox", 0.9, 10, 10, 30, 30)])
    page.goto(f"/images/{newest}?search=fox")  # no other picture has one
    older = page.get_by_role("link", name="Older picture")
    expect(older).to_have_attribute("aria-disabled", "true")
    found_in(site, newest - 2, [Box("fox", 0.9, 10, 10, 30, 30)])
    asked = requests_of(page)
    page.goto(f"/images/{newest}?search=fox")
    page.wait_for_load_state("networkidle")
    assert len([url for url in asked if "-display." in url]) == 2  # this one and the next
    page.keyboard.press("n")
    page.wait_for_url(re.compile(rf"/images/{newest - 2}\?search=fox$"))
    expect(page.locator(".stage")).to_be_focused()
    page.keyboard.press("p")
    page.wait_for_url(re.compile(rf"/images/{newest}\?search=fox$"))
    page.keyboard.press("g")
    page.wait_for_url(re.compile("/images/search\\?search=fox"))


def test_the_original_is_loaded_when_its_copy_is_too_coarse(new_page, tmp_path, site, monkeypatch):  # noqa: F811
    from PIL import Image as Picture
    from playwright.sync_api import expect

    found = Detections((), "some.model")
    monkeypatch.setattr(services(site).detections.engine, "detect", lambda *_, **__: found)
    page = new_page()
    sign_up(page)
    file = tmp_path / "large.jpg"
    Picture.linear_gradient("L").resize((3000, 1500)).convert("RGB").save(file)
    upload(page, file)
    page.wait_for_url(re.compile(r"/images/\d+$"))
    page.wait_for_selector("#result[data-status=done]", timeout=DETECTION)
    picture = page.locator(".stage img")
    expect(picture).to_have_js_property("naturalWidth", 2048)
    page.keyboard.press("1")
    expect(picture).to_have_js_property("naturalWidth", 3000)
    page.keyboard.press("0")
    expect(picture).to_have_js_property("naturalWidth", 3000)


def test_the_crop_and_the_boxes_are_copied_and_saved(open_picture):
    from playwright.sync_api import expect

    page = open_picture(permissions=["clipboard-read", "clipboard-write"])
    page.locator(".box-list li:not(.d-none)").first.click()
    page.locator(".stage").focus()
    page.keyboard.press("j")
    expect(page.locator("[data-toast]")).to_have_text("Copied.")
    told = page.evaluate("navigator.clipboard.readText().then(JSON.parse)")
    assert [box["label"] for box in told["boxes"]] == ["dog", "cat", "dog", "person"]
    assert told["boxes"][0]["x1"] == 40
    with page.expect_download() as saved:
        page.keyboard.press("Shift+K")
    assert saved.value.suggested_filename.endswith("-dog.png")
    # A browser that lets no page copy says what to do instead.
    page.evaluate("delete Clipboard.prototype.writeText")
    page.keyboard.press("j")
    expect(page.locator("[data-toast]")).to_contain_text("Download it instead")
