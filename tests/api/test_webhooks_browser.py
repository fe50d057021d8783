"""The page of a webhook in Chromium: what became of a test is seen without loading it again."""

import threading

import pytest

from apps.app import create_app
from tests.api.test_webhooks import Receiver, receiver  # noqa: F401 (fixture)
from tests.served import site_of
from tests.test_browser import (  # noqa: F401 (fixtures)
    chromium,
    new_page,
    no_sideways_scrolling,
    pytestmark,
    sign_up,
    width,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """May tell addresses of this machine."""
    app = create_app(
        "local",
        INSTANCE_PATH=str(tmp_path_factory.mktemp("site")),
        TESTING=True,
        RATELIMIT_ENABLED=False,
        LOG_LEVEL="ERROR",
        MODEL_DOWNLOADS=False,
        OUTBOUND_PRIVATE=True,
    )
    with site_of(app) as site:
        yield site


class Held(list):
    """What a receiver got; the next one is answered when ``gate`` opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def append(self, one: object) -> None:
        self.gate.wait(30)
        super().append(one)


def test_the_answer_to_a_test_comes_without_a_reload(new_page, receiver: Receiver):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    page.goto("/account/webhooks")
    page.get_by_role("textbox", name="Address").fill(receiver.url)
    page.get_by_role("main").get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Webhooks").last.wait_for()
    receiver.status, receiver.got = 500, (held := Held())
    page.get_by_role("button", name="Send a test").click()
    page.wait_for_url("**/account/webhooks/*")
    page.evaluate("window.same = true")
    messages = page.locator("[data-messages]")
    expect(messages).to_contain_text("waiting")
    held.gate.set()
    expect(messages).to_contain_text("500", timeout=15_000)
    expect(messages).to_contain_text("1 try")
    expect(page.locator("[data-latest]")).to_contain_text("failed")
    expect(messages).not_to_have_attribute("data-live", "")
    assert page.evaluate("window.same") is True  # it is the same page
    assert no_sideways_scrolling(page)
