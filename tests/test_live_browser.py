"""The camera and clips in Chromium, with its fake camera; the detector is a fake one too."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from apps.app import create_app
from apps.container import services
from apps.extensions import db
from apps.models import Image
from tests.clips import clip_bytes
from tests.served import site_of
from tests.test_browser import (  # noqa: F401 (fixtures)
    ARGUMENTS,
    CHROMIUM,
    no_sideways_scrolling,
    pytestmark,
    sign_up,
    width,
)
from tests.test_browser import new_page as fresh_page  # noqa: F401

PATIENCE = 60_000  # milliseconds for what comes at once on an idle machine
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The application with a fake engine and threads, served on a free port."""
    folder = tmp_path_factory.mktemp("site")
    app = create_app(
        "testing",
        INSTANCE_PATH=str(folder),
        QUEUE="thread",
        WTF_CSRF_ENABLED=True,
        LOG_LEVEL="ERROR",
    )
    with site_of(app) as site:
        yield site


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = [*ARGUMENTS, *FAKE_CAMERA]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def new_page(fresh_page):  # noqa: F811
    from playwright.sync_api import expect

    def new_page():
        page = fresh_page()
        page.set_default_timeout(PATIENCE)
        return page

    expect.set_options(timeout=PATIENCE)
    yield new_page
    expect.set_options(timeout=5000)


@pytest.fixture
def walk(tmp_path) -> Path:
    path = tmp_path / "walk.webm"
    path.write_bytes(clip_bytes(40, (160, 120), codec="libvpx", format="webm"))
    return path


def open_camera(page) -> None:
    sign_up(page)
    page.goto("/live")
    page.get_by_role("button", name="Start the camera").click()


def test_frames_go_one_at_a_time_and_boxes_come_over_the_picture(new_page):
    from playwright.sync_api import expect

    page = new_page()
    under_way, most = set(), []

    def begun(request) -> None:
        if request.url.endswith("/live/detect"):
            under_way.add(request)
            most.append(len(under_way))

    page.on("request", begun)
    page.on("requestfinished", lambda request: under_way.discard(request))
    page.on("requestfailed", lambda request: under_way.discard(request))
    open_camera(page)
    expect(page.locator("[data-boxes] .box")).to_have_count(1)  # the cat is not sure enough
    expect(page.locator("[data-boxes] text")).to_have_text("dog 90 %")
    expect(page.locator("[data-rate]")).to_contain_text("frames a second")
    expect(page.locator("[data-latency]")).to_contain_text("ms")
    page.wait_for_function(
        "() => performance.getEntriesByType('resource')"
        ".filter((entry) => entry.name.endsWith('/live/detect')).length > 5"
    )
    assert set(most) == {1}
    assert len(most) > 5
    page.get_by_label("Confidence").fill("0.2")
    expect(page.locator("[data-boxes] .box")).to_have_count(2)
    assert no_sideways_scrolling(page)


def test_mirror_pause_and_a_hidden_tab(new_page):
    from playwright.sync_api import expect

    page = new_page()
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if r.url.endswith("/live/detect") else None)
    open_camera(page)
    expect(page.locator("[data-boxes] .box")).to_have_count(1)
    side = "() => document.querySelector('[data-boxes] rect').x.baseVal.value"
    mirrored = page.get_by_label("Mirror the picture").is_checked()
    before = page.evaluate(side)
    page.get_by_label("Mirror the picture").set_checked(not mirrored)
    assert page.evaluate(side) != before
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status").filter(has_text="Paused.")).to_be_visible()
    page.wait_for_load_state("networkidle")
    count = len(sent)
    page.evaluate("() => new Promise((go) => setTimeout(go, 500))")
    assert len(sent) == count
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.get_by_role("button", name="Go on").click()
    page.evaluate("() => new Promise((go) => setTimeout(go, 500))")
    assert len(sent) == count
    with page.expect_request("**/live/detect"):
        page.evaluate(
            "() => { delete document.hidden;"
            " document.dispatchEvent(new Event('visibilitychange')); }"
        )
    page.get_by_role("button", name="Camera off").click()
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()


def test_a_snapshot_is_in_the_gallery(new_page, site):
    from playwright.sync_api import expect

    page = new_page()
    open_camera(page)
    expect(page.locator("[data-boxes] .box")).to_have_count(1)
    page.get_by_role("button", name="Snapshot").click()
    page.get_by_role("status").filter(has_text="in the gallery").get_by_role("link").click()
    expect(page.get_by_role("heading", name="camera 2")).to_be_visible()
    with site.app_context():
        assert db.session.scalar(select(func.count(Image.id))) >= 1


def test_a_busy_server_is_left_alone_as_long_as_it_says(new_page, site):
    from playwright.sync_api import expect

    page = new_page()
    answers = [(503, {"Retry-After": "1"})]

    def answer(route) -> None:
        if not answers:
            return route.continue_()
        status, headers = answers.pop()
        return route.fulfill(status=status, headers=headers, json={"error": {"message": "busy"}})

    page.route("**/live/detect", answer)
    open_camera(page)
    expect(page.get_by_role("status").filter(has_text="Trying again in 1 s")).to_be_visible()
    expect(page.locator("[data-boxes] .box")).to_have_count(1)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("navigator.mediaDevices.getUserMedia = () => Promise.reject("
         "new DOMException('no', 'NotAllowedError'))", "The camera was refused"),
        ("navigator.mediaDevices.getUserMedia = () => Promise.reject("
         "new DOMException('no', 'NotFoundError'))", "No camera was found"),
        ("Object.defineProperty(window, 'isSecureContext', {value: false})", "https://"),
    ],
)  # fmt: skip
def test_why_there_is_no_picture_is_told_with_the_next_step(new_page, script, text):
    from playwright.sync_api import expect

    page = new_page()
    page.add_init_script(script)
    open_camera(page)
    expect(page.get_by_role("status").filter(has_text=text)).to_be_visible()
    expect(page.get_by_role("button", name="Start the camera")).to_be_enabled()


def send_clip(page, path: Path, every: int = 2) -> None:
    page.goto("/video")
    page.get_by_label("Clip").set_input_files(str(path))
    page.get_by_label("Look at every").fill(str(every))
    page.get_by_role("main").get_by_role("button", name="Upload").click()
    page.wait_for_url("**/video/*")


def test_a_clip_goes_up_plays_with_boxes_and_its_timeline_leads_through_it(
    new_page, walk
):  # fmt: skip
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    page.goto("/video")
    expect(page.get_by_text("No clips yet.")).to_be_visible()
    send_clip(page, walk)
    parts = page.locator("[data-timeline] button")
    expect(parts).to_have_count(1)
    expect(parts).to_have_attribute("aria-label", "dog, from 0:00.0 to 0:04.0, at most 1 at once")
    expect(page.locator("[data-running]")).to_be_hidden()
    expect(page.locator("[data-boxes] .box")).to_have_count(1)
    page.get_by_label("Confidence").fill("0.2")
    expect(parts).to_have_count(2)
    parts.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('video').currentTime < 0.1")
    page.locator(".track").first.click(position={"x": 100, "y": 2})
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
    expect(page.locator("[data-boxes] .box")).to_have_count(2)
    page.get_by_role("button", name="dog", exact=True).click()
    expect(page.locator("[data-boxes] .box")).to_have_count(1)
    expect(parts).to_have_count(1)
    before = page.evaluate("document.querySelector('video').currentTime")
    page.get_by_role("button", name="The next frame").click()
    page.wait_for_function("(before) => document.querySelector('video').currentTime > before",
                           arg=before)  # fmt: skip
    page.evaluate("document.querySelector('video').play()")
    page.wait_for_function("() => document.querySelector('video').ended")
    assert no_sideways_scrolling(page)
    page.goto("/video")
    expect(page.locator(".clip")).to_contain_text("done")
    assert no_sideways_scrolling(page)
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No clips yet.")).to_be_visible()


def test_a_clip_that_the_browser_cannot_play_is_shown_frame_by_frame(
    new_page, tmp_path
):  # fmt: skip
    from playwright.sync_api import expect

    path = tmp_path / "old.avi"
    path.write_bytes(clip_bytes(20, (160, 120), codec="mpeg4", format="avi"))
    page = new_page()
    sign_up(page)
    send_clip(page, path)
    expect(page.get_by_text("This browser cannot play")).to_be_visible()
    expect(page.locator("[data-boxes] .box")).to_have_count(1)
    still = page.locator("[data-still]")
    expect(still).to_be_visible()
    page.get_by_role("button", name="The next frame").click()
    expect(still).to_have_attribute("src", re.compile(r"/frame/2\.jpg$"))
    page.wait_for_function("() => document.querySelector('[data-still]').naturalWidth === 160")


def test_what_is_no_clip_is_refused_on_the_page(new_page, tmp_path):
    from playwright.sync_api import expect

    path = tmp_path / "notes.mp4"
    path.write_text("not a clip")
    page = new_page()
    sign_up(page)
    page.goto("/video")
    page.get_by_label("Clip").set_input_files(str(path))
    page.get_by_role("main").get_by_role("button", name="Upload").click()
    expect(page.get_by_role("status").filter(has_text="This is not a clip")).to_be_visible()


def test_a_clip_in_work_is_followed_and_can_be_cancelled(new_page, site, walk):
    from playwright.sync_api import expect

    engine, gate = services(site).detections.engine, threading.Event()
    script = engine.script

    def slowly(picture):
        gate.wait(0.3)
        return script(picture)

    engine.script = slowly
    try:
        page = new_page()
        sign_up(page)
        send_clip(page, walk, every=1)
        expect(page.get_by_text("Looking at the frames")).to_be_visible()
        expect(page.locator("[data-timeline] button")).to_have_count(1)
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("main")).to_contain_text("Cancelled; what was found")
        page.get_by_role("button", name="Detect again").click()
        expect(page.get_by_text("Looking at the frames")).to_be_visible()
        page.goto("/video")
        expect(page.locator(".clip progress")).to_be_visible()
        gate.set()
        expect(page.locator(".clip")).to_contain_text("done")
    finally:
        gate.set()
        engine.script = script
