"""The page that connects programs in Chromium: its self-test, and how its cards look to axe."""

import json
import re

import pytest

from apps.container import services
from apps.errors import Busy
from apps.extensions import db
from apps.models import Token
from tests.api.test_api_browser import new_token
from tests.test_browser import (  # noqa: F401 (fixtures)
    DETECTION,
    chromium,
    new_page,
    no_sideways_scrolling,
    pytestmark,
    sign_up,
    site,
    width,
)

CARDS = {  # name on the card: the address that its program asks
    "Home Assistant": "/v1/vision/detection",
    "Blue Iris": "/v1/vision/detection",
    "Agent DVR": "/v1/vision/detection",
    "Node-RED": "/v1/vision/detection",
    "Frigate": "/v1/vision/custom/fast",
    "CVAT": "/v1/vision/custom/default",
    "Roboflow SDK": "/infer/object_detection",
    "Your own program": "/api/v1/detect",
}


@pytest.fixture
def page(new_page):  # noqa: F811
    page = new_page(reduced_motion="reduce")
    sign_up(page)
    return page


def serious(page) -> list[str]:
    """What axe-core calls serious or critical on the page as it is, light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for rule in Axe().run(page).response["violations"]:
            if rule["impact"] in ("serious", "critical"):
                nodes = [node["html"][:160] for node in rule["nodes"][:3]]
                found.append(f"{theme}: {rule['id']} {nodes}")
    return found


def looks_good(page) -> None:
    assert no_sideways_scrolling(page)
    assert serious(page) == []


def card(page, name: str):
    place = page.locator(".api-card").filter(has=page.locator("summary", has_text=name))
    if place.get_attribute("open") is None:
        place.locator("summary").click()
    return place


def verdict_of(place):
    """The verdict of the test in ``place``, once it is there."""
    place.locator("[data-self-start]").click()
    verdict = place.locator(".api-verdict:not(.is-busy):not(:empty)")
    verdict.wait_for(timeout=DETECTION)
    return verdict


def answered(page, address: str, **answer) -> None:
    """As if something else answered at ``address``."""
    page.route(f"**{address}", lambda route: route.fulfill(**answer))


def test_without_a_token_the_test_borrows_one_and_is_in_the_log_at_once(page, site):  # noqa: F811
    from playwright.sync_api import expect

    page.goto("/connect")
    expect(page.get_by_text("You have no token yet.")).to_be_visible()
    expect(page.get_by_text("No program has asked")).to_be_visible()
    looks_good(page)
    expect(verdict_of(page.locator("#test"))).to_contain_text("It works")
    calls = page.locator("#test .api-call")
    expect(calls).to_have_count(3)
    here = site.config["TEST_ADDRESS"]
    for n, path in enumerate(("/v1/vision/detection", "/infer/object_detection", "/api/v1/detect")):
        expect(calls.nth(n)).to_contain_text(f"POST {here}{path}")
        expect(calls.nth(n)).to_contain_text("200 OK")
        expect(calls.nth(n)).to_contain_text(" ms")
        expect(page.locator("[data-calls]")).to_contain_text(path)
    expect(page.locator("[data-calls]")).to_contain_text("the test of this page")
    looks_good(page)
    with site.app_context():
        assert db.session.query(Token).count() == 0


def test_every_card_asks_the_way_its_program_does(page, site):  # noqa: F811
    from playwright.sync_api import expect

    token = new_token(page)
    page.goto("/connect")
    expect(page.get_by_text("You have 1 token that works.")).to_be_visible()
    page.get_by_label("Token (optional)").fill(token)
    for name, path in CARDS.items():
        place = card(page, name)
        expect(verdict_of(place)).to_contain_text("It works")
        expect(place.locator(".api-call")).to_contain_text(f"{site.config['TEST_ADDRESS']}{path}")
        expect(place.locator(".api-call")).to_contain_text(token[:11])
    assert token not in page.locator("main").inner_text()
    expect(page.locator("[data-calls]")).to_contain_text(token[:11])
    looks_good(page)


def test_frigate_is_told_of_a_token_that_lets_too_many_boxes_through(page):
    from playwright.sync_api import expect

    page.goto("/connect")
    says = "with 20 as “Most boxes in an answer”"
    expect(verdict_of(card(page, "Frigate"))).to_contain_text(says)  # of the borrowed one
    expect(verdict_of(card(page, "Home Assistant"))).not_to_contain_text(says)
    for most, warned in (("", True), ("21", True), ("20", False)):
        page.goto("/account/tokens")
        page.get_by_label("Most boxes in an answer").fill(most)
        token = new_token_here(page)
        page.goto("/connect")
        page.get_by_label("Token (optional)").fill(token)
        verdict = verdict_of(card(page, "Frigate"))
        expect(verdict).to_contain_text(says if warned else "gets an answer")
        expect(verdict).to_have_class(re.compile("is-doubt" if warned else "is-good"))
    looks_good(page)


def test_a_token_that_may_not_detect_or_was_revoked_is_refused_with_the_reason(page):
    from playwright.sync_api import expect

    page.goto("/account/tokens")
    page.get_by_label("Detect: pictures").uncheck()
    token = new_token_here(page, "Read: your pictures")
    page.goto("/connect")
    page.get_by_label("Token (optional)").fill(token)
    expect(verdict_of(page.locator("#test"))).to_contain_text("The token may not detect.")
    expect(page.locator("#test .api-call").first).to_contain_text("403")
    verdict = verdict_of(card(page, "Frigate"))
    expect(verdict).to_contain_text("Tokens are made and revoked on the page Tokens.")
    expect(page.locator("[data-calls]")).to_contain_text("it lacks the scope “detect”")
    looks_good(page)
    page.goto("/account/tokens")
    page.get_by_role("button", name="Revoke “A test”").click()
    page.goto("/connect")
    page.get_by_label("Token (optional)").fill(token)
    expect(verdict_of(card(page, "Roboflow SDK"))).to_contain_text("This token was revoked.")
    page.get_by_label("Token (optional)").fill("a “word”")
    expect(verdict_of(card(page, "Node-RED"))).to_contain_text("This token is not known here.")
    expect(page.locator("[data-calls] .text-bg-danger").first).to_be_visible()
    looks_good(page)


def new_token_here(page, *scopes: str) -> str:
    page.fill("#name", "A test")
    for label in scopes:
        page.get_by_label(label).check()
    page.get_by_role("main").get_by_role("button", name="Make a token").click()
    return page.locator("#new-token").text_content()


def test_an_engine_with_too_much_to_do_is_told_apart(page, site, monkeypatch):  # noqa: F811
    from playwright.sync_api import expect

    def full(*_args, **_options):
        raise Busy("Many pictures wait.")

    monkeypatch.setattr(services(site).instant.engine, "detect", full)
    page.goto("/connect")
    place = card(page, "Your own program")
    verdict = verdict_of(place)
    expect(verdict).to_contain_text("too much to do. Many pictures wait.")
    expect(verdict).to_contain_text("Test again in 5 seconds.")
    expect(place.locator(".api-call")).to_contain_text("503")


JSON = "application/json"
STRANGERS = {  # an answer on the way, and what the page says of it
    "a login page": ({"status": 200, "content_type": "text/html", "body": "<h1>Log in</h1>"},
                     "is not Sightbox"),
    "a way to https": ({"status": 307, "headers": {"Location": "/elsewhere"}}, "leads elsewhere"),
    "no server": ({"status": 502, "content_type": "text/html", "body": "Bad Gateway"},
                  "it does not reach Sightbox"),
    "a small limit": ({"status": 413, "content_type": "text/html", "body": "Too large"},
                      "too large"),
    "too often": ({"status": 429, "content_type": JSON, "headers": {"Retry-After": "7"},
                   "body": json.dumps({"detail": "Slowly.", "code": "rate_limited"})},
                  "Wait 7 seconds."),
    "no model": ({"status": 503, "content_type": JSON,
                  "body": json.dumps({"detail": "No weights.", "code": "unavailable"})},
                 "The model cannot be used. No weights."),
    "no header": ({"status": 401, "content_type": JSON,
                   "body": json.dumps({"detail": "Send a token.", "code": "token"})},
                  "let it pass"),
}  # fmt: skip


def test_what_stands_between_a_program_and_the_server_is_named(page):
    from playwright.sync_api import expect

    page.goto("/connect")
    place = card(page, "Your own program")
    for answer, said in STRANGERS.values():
        answered(page, "/api/v1/detect", **answer)
        expect(verdict_of(place)).to_contain_text(said)
        page.unroute("**/api/v1/detect")
    page.route("**/api/v1/detect", lambda route: route.abort())
    expect(verdict_of(place)).to_contain_text("the connection broke")
    looks_good(page)


def test_a_proxy_that_answers_in_place_of_the_page_is_named(page):
    from playwright.sync_api import expect

    page.goto("/connect")
    place = card(page, "Your own program")
    for name in ("a login page", "no server"):
        answer, said = STRANGERS[name]
        answered(page, "/connect/test/begin", **answer)
        verdict = verdict_of(place)
        expect(verdict).to_contain_text(said)
        expect(verdict).not_to_contain_text("JSON")
        page.unroute("**/connect/test/begin")


def test_an_address_that_programs_would_not_reach_is_told(page):
    from playwright.sync_api import expect

    def behind_a_proxy(route) -> None:
        answer = route.fetch()
        body = re.sub(r'data-address="[^"]*"', 'data-address="http://inner:8000"', answer.text())
        route.fulfill(response=answer, body=body)

    page.route("**/connect", behind_a_proxy, times=1)  # the page asks for its log again
    page.goto("/connect")
    expect(verdict_of(card(page, "Frigate"))).to_contain_text("SIGHTBOX_TRUSTED_PROXIES")


def test_the_address_of_a_label_studio_is_asked_and_never_shown(page):
    from playwright.sync_api import expect

    page.goto("/connect")
    place = card(page, "Label Studio")
    expect(verdict_of(place)).to_contain_text("Paste the whole address")
    page.get_by_label("Address that was made here").fill("http://nas:8000/labelstudio/wrong")
    expect(verdict_of(place)).to_contain_text("This address is not known here.")
    page.get_by_label("Address of Label Studio").fill("http://192.0.2.1:8080")
    place.get_by_role("button", name="Make an address").click()
    place = card(page, "Label Studio")
    address = page.get_by_label("Address that was made here").input_value()
    expect(place.get_by_role("status").first).to_contain_text("It is shown this once")
    verdict = verdict_of(place)
    expect(verdict).to_contain_text("It works: the address is known.")
    expect(page.locator("[data-calls]")).to_contain_text("GET /labelstudio/…/health")
    assert address.rpartition("/")[2] not in page.locator("[data-calls]").inner_text()
    looks_good(page)


def test_without_scripts_the_server_tests_itself_and_says_so(page, chromium, site, width):  # noqa: F811
    from playwright.sync_api import expect

    context = chromium.new_context(
        base_url=site.config["TEST_ADDRESS"], viewport={"width": width, "height": 850},
        java_script_enabled=False, storage_state=page.context.storage_state(),
    )  # fmt: skip
    plain = context.new_page()
    plain.goto("/connect")
    expect(plain.locator("noscript p")).to_contain_text("not the way to it")
    expect(plain.get_by_role("button", name="Test this way")).to_have_count(0)
    plain.get_by_role("button", name="Test now").click()
    expect(plain.get_by_text("The detector answers")).to_be_visible(timeout=DETECTION)
    context.close()
