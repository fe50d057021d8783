"""The pages for programs in Chromium: a token made, copied and tried."""

import pytest

from tests.conftest import picture_bytes
from tests.test_browser import (  # noqa: F401 (fixtures)
    chromium,
    new_page,
    no_sideways_scrolling,
    pytestmark,
    sign_up,
    site,
    width,
)


@pytest.fixture
def page(new_page):  # noqa: F811
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    sign_up(page)
    return page


def new_token(page, *more: str) -> str:
    page.goto("/account/tokens")
    page.fill("#name", "A test")
    for label in more:
        page.get_by_label(label).check()
    page.get_by_role("main").get_by_role("button", name="Make a token").click()
    return page.locator("#new-token").text_content()


def test_a_token_is_copied_with_its_button(page):
    token = new_token(page)
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == token
    assert no_sideways_scrolling(page)


def test_an_operation_is_tried_with_the_keyboard(page, tmp_path):
    token = new_token(page, "Read: your pictures")
    page.goto("/connect/api")
    page.get_by_label("Token", exact=True).fill(token)
    operation = page.locator("details.api-operation", has_text="Tell whose token this is")
    operation.locator("summary").press("Enter")
    operation.get_by_role("button", name="Send").press("Enter")
    operation.get_by_text('"scopes"').wait_for()
    assert operation.locator("pre").text_content().startswith("200")
    (tmp_path / "x.jpg").write_bytes(picture_bytes())
    operation = page.locator("details.api-operation", has_text="Upload one or many")
    operation.locator("summary").click()
    operation.locator("input[type=file]").set_input_files(tmp_path / "x.jpg")
    operation.get_by_role("button", name="Send").click()
    operation.get_by_text("it lacks the scope “write”").wait_for()
    assert no_sideways_scrolling(page)


def test_the_settings_unfold_and_the_latest_calls_tell_what_went_wrong(page):
    token = new_token(page, "Read: your pictures")
    page.evaluate(
        "token => fetch('/api/v1/images', {method: 'POST', headers: {'X-API-Key': token}})", token
    )
    page.goto("/connect")
    page.get_by_text("Blue Iris", exact=True).click()
    page.get_by_text("fast").first.wait_for()
    page.get_by_text("it lacks the scope “write”").wait_for()
    assert no_sideways_scrolling(page)
