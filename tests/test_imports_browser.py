"""The page of imports in Chromium: an archive goes up, its preview comes, its pictures come."""

import pytest

from tests.conftest import PASSWORD
from tests.labelled import coco, packed
from tests.served import served
from tests.test_browser import chromium, pytestmark  # noqa: F401 (a fixture)


@pytest.fixture
def page(app, make_user, chromium):  # noqa: F811
    make_user("ann")
    app.config["WTF_CSRF_ENABLED"] = True
    with served(app) as address:
        context = chromium.new_context(base_url=address)
        page = context.new_page()
        page.goto("/auth/login")
        page.get_by_label("Email or user name").fill("ann")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/")
        yield page
        context.close()


def test_an_archive_goes_up_with_the_keyboard_and_comes_with_a_new_name(app, page):
    from playwright.sync_api import expect

    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("/imports")
    archive = {"name": "set.zip", "mimeType": "application/zip", "buffer": packed(coco())}
    page.get_by_label("ZIP file").set_input_files(archive)
    page.get_by_role("button", name="Upload").press("Enter")
    page.wait_for_url("**/imports/*")
    page.get_by_label("Label for “dog”").fill("wolf")
    page.get_by_label("Take “cat”").press("Space")
    page.get_by_role("button", name="Import 3 pictures").press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("3 pictures with 2 boxes")
    page.get_by_role("button", name="Undo: move 3 pictures to the trash").click()
    expect(page.get_by_text("3 pictures are in the trash now.")).to_be_visible()
    assert errors == []
