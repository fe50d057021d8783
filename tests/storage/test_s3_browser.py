"""Pictures that a browser fetches from the storage, which is another origin than the page."""

from collections.abc import Iterator

import pytest

from tests.conftest import picture_bytes
from tests.served import served
from tests.test_browser import ARGUMENTS, CHROMIUM, pytestmark  # noqa: F401 (marks this too)


@pytest.fixture
def app(make_app, s3):
    return make_app(**s3.settings, STORAGE_PRESIGN=60)


@pytest.fixture
def address(app) -> Iterator[str]:
    with served(app) as address:
        yield address


def test_the_page_shows_and_saves_them(app, s3, address, ann, upload):
    from playwright.sync_api import sync_playwright

    data = picture_bytes(size=(640, 480))
    image_id = upload(ann, data, name="고양이.jpg")
    cookie = ann.get_cookie("sightbox_session")
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(base_url=address)
        context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": address}])
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        for path in ("/", f"/images/{image_id}"):
            page.goto(path, wait_until="networkidle")
            widths = page.eval_on_selector_all("main img", "all => all.map(i => i.naturalWidth)")
            assert widths
            assert min(widths) > 0, problems
        with page.expect_download() as saving:
            page.get_by_role("link", name="Original").click()
        assert saving.value.suggested_filename == "고양이.jpg"
        assert saving.value.url.startswith(s3.endpoint)
        assert saving.value.path().read_bytes() == data
        browser.close()
    assert problems == []
