"""Every page in both themes and widths, as axe-core judges it: nothing serious or critical."""

import re

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import Image, Role, User
from tests.test_browser import (  # noqa: F401 (fixtures)
    DETECTION,
    chromium,
    new_page,
    pictures,
    pytestmark,
    sign_up,
    site,
    upload,
    width,
)

VISITOR = ("/", "/auth/login", "/auth/signup", "/auth/reset", "/auth/help", "/models", "/nothing")
EMPTY = (
    "/", "/images/search?search=nothing", "/review", "/trash", "/video", "/account/tokens",
    "/imports", "/exports", "/account/webhooks",
)  # fmt: skip
FILLED = (
    "/", "/images/search?search=RBC>=", "/images/{id}", "/images/{id}/compare", "/upload",
    "/images/delete/{id}", "/review", "/trash", "/live", "/video", "/classifier/",
    "/classifier/lenet5.mnist", "/models/{model}", "/auth/account", "/auth/password",
    "/auth/delete", "/account/tokens", "/connect", "/connect/api",
)  # fmt: skip
ADMIN = (
    "/crud/users", "/crud/users/new", "/crud/images", "/crud/images/new", "/crud/tags",
    "/crud/tags/new", "/crud/models", "/crud/models/new", "/crud/status",
)  # fmt: skip


def problems(page, *addresses: str) -> list[str]:
    """What axe-core calls serious or critical on each of the pages, light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    axe, found = Axe(), []
    for address in addresses:
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            page.goto(address)
            page.wait_for_load_state("load")
            for rule in axe.run(page).response["violations"]:
                if rule["impact"] in ("serious", "critical"):
                    nodes = [node["html"][:120] for node in rule["nodes"][:3]]
                    found.append(f"{address} {theme}: {rule['id']} {nodes}")
    return found


def test_pages_for_visitors(new_page):  # noqa: F811
    assert problems(new_page(), *VISITOR) == []


def test_pages_of_a_new_account(new_page):  # noqa: F811
    page = new_page()
    sign_up(page)
    assert problems(page, *EMPTY) == []


def test_pages_of_an_account_with_pictures(new_page, pictures, site):  # noqa: F811
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    upload(page, *pictures[:2])
    done = page.locator('[data-tiles] [data-image][data-status="done"]')
    expect(done).to_have_count(2, timeout=DETECTION)
    with site.app_context():
        owner = db.session.scalars(select(User).where(User.username == name)).one()
        first, second = db.session.scalars(select(Image.id).where(Image.owner_id == owner.id))
        model = services(site).models.current().name
        services(site).trash.move_one(owner.id, second)
    addresses = [address.format(id=first, model=model) for address in FILLED]
    assert problems(page, *addresses) == []


def test_the_editor_and_its_dialogs(new_page, pictures):  # noqa: F811
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    upload(page, pictures[0])
    page.wait_for_url(re.compile(r"/images/\d+$"))
    expect(page.locator('#result[data-status="done"]')).to_be_visible(timeout=DETECTION)
    page.keyboard.press("Tab")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    serious = [
        rule["id"]
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("part", [ADMIN[:5], ADMIN[5:]], ids=["people", "machines"])
def test_pages_of_administrators(new_page, site, part):  # noqa: F811
    page = new_page()
    name = sign_up(page)
    with site.app_context():
        owner = db.session.scalars(select(User).where(User.username == name)).one()
        owner.role = Role.ADMIN
        db.session.commit()
    assert problems(page, *part) == []
