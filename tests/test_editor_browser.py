"""The picture page as an editor, in Chromium: mend, undo, save, conflicts, lost connections."""

import re

from apps.container import services
from tests.test_browser import (  # noqa: F401 (fixtures)
    chromium,
    new_page,
    no_sideways_scrolling,
    pictures,
    pytestmark,
    site,
    width,
)
from tests.test_picture_browser import (  # noqa: F401 (fixtures)
    found_in,
    number_of,
    open_picture,
    screen_of,
    shown_boxes,
)


def rows(page):
    return page.locator(".box-list li:not(.d-none)")


def saved(page):
    """The sign, once everything is saved."""
    from playwright.sync_api import expect

    expect(page.locator("[data-sign]")).to_have_attribute("data-sign", "saved")


def kept(site, page):  # noqa: F811
    """What the server has: (verdict, label, corners) of each annotation."""
    from apps.extensions import db
    from apps.models import Annotation

    saved(page)
    with site.app_context():
        query = db.select(Annotation).where(Annotation.image_id == number_of(page))
        found = db.session.scalars(query.order_by(Annotation.id))
        return [
            (
                word.verdict.value,
                word.label,
                [round(v) for v in (word.x1, word.y1, word.x2, word.y2)],
            )
            for word in found
        ]


def is_reviewed(site, image_id: int) -> bool:  # noqa: F811
    with site.app_context():
        return services(site).images.get(image_id).reviewed_at is not None


def drag(page, start, end) -> None:
    """From one point of the picture to another one."""
    start, end = screen_of(page, *start), screen_of(page, *end)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def near(corners, expected, pixels: float = 3) -> bool:
    return all(abs(a - b) <= pixels for a, b in zip(corners, expected, strict=True))


def test_a_box_is_drawn_named_and_undone(open_picture, site):  # noqa: F811
    from playwright.sync_api import expect

    page = open_picture()
    page.get_by_role("button", name="Draw a box").click()
    drag(page, (500, 60), (600, 160))
    field = page.get_by_role("combobox", name="Label")
    expect(field).to_be_focused()
    page.keyboard.type("per")
    expect(page.get_by_role("listbox").get_by_role("option")).to_have_text(["person"])
    page.keyboard.press("Enter")
    expect(page.locator(".stage")).to_be_focused()
    expect(rows(page).first).to_contain_text("person")
    expect(rows(page)).to_have_count(5)
    [(verdict, label, corners)] = kept(site, page)
    assert (verdict, label) == ("drawn", "person")
    assert near(corners, (500, 60, 600, 160))
    assert no_sideways_scrolling(page)

    page.keyboard.press("Control+z")  # drawing and naming are one step
    expect(rows(page)).to_have_count(4)
    assert kept(site, page) == []
    page.keyboard.press("Control+Shift+z")
    expect(rows(page)).to_have_count(5)
    assert kept(site, page) == [("drawn", "person", corners)]
    page.reload()
    expect(rows(page).first).to_contain_text("person")
    expect(shown_boxes(page)).to_have_count(5)


def test_a_models_box_is_moved_resized_and_renamed(open_picture, site):  # noqa: F811
    from playwright.sync_api import expect

    page = open_picture()
    page.mouse.click(*screen_of(page, 400, 150))
    drag(page, (400, 150), (420, 130))
    [(verdict, label, corners)] = kept(site, page)
    assert (verdict, label) == ("changed", "cat")
    assert near(corners, (350, 70, 490, 200))
    drag(page, (corners[2] + 2, corners[3] + 2), (560, 260))  # the handle of the corner
    [(_, _, corners)] = kept(site, page)
    assert near(corners, (350, 70, 558, 258))
    page.keyboard.press("l")
    page.keyboard.type("lynx")
    page.keyboard.press("Enter")
    assert kept(site, page) == [("changed", "lynx", corners)]
    expect(page.locator("[data-chip=lynx]")).to_be_visible()
    expect(page.locator("[data-details]")).to_contain_text("cat 90 %")  # what the model had said
    # A detection by the same model brings nothing of it back.
    found_in(site, number_of(page))
    page.reload()
    expect(page.locator(".box-list li[data-label=lynx]")).to_have_count(1)
    expect(rows(page)).to_have_count(4)
    page.locator(".box-list li[data-label=lynx]").click()
    page.locator(".stage").focus()
    page.keyboard.press("u")
    assert kept(site, page) == []


def test_the_keyboard_alone_walks_mends_and_goes_on(open_picture, site):  # noqa: F811
    from playwright.sync_api import expect

    page = open_picture(count=2)
    first = number_of(page)
    page.locator(".stage").focus()
    chosen = page.locator("li.is-chosen")
    page.keyboard.press("Tab")
    expect(chosen).to_contain_text("dog")
    page.keyboard.press("Enter")
    expect(chosen).to_have_attribute("data-verdict", "accepted")
    page.keyboard.press("Tab")
    expect(chosen).to_contain_text("cat")
    page.keyboard.press("x")  # and the next one is chosen
    expect(chosen).to_contain_text("80 %")
    expect(rows(page)).to_have_count(3)
    page.keyboard.press("Shift+Tab")
    expect(chosen).to_contain_text("95 %")
    page.keyboard.press("c")
    expect(rows(page)).to_have_count(4)
    for _ in range(5):
        page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    words = kept(site, page)
    assert [word[:2] for word in words] == [
        ("accepted", "dog"), ("rejected", "cat"), ("drawn", "dog"),
    ]  # fmt: skip
    assert words[2][2][0] > 60
    page.keyboard.press("Control+z")  # the size
    page.keyboard.press("Control+z")  # five steps to the right, made in one go
    page.keyboard.press("Escape")
    expect(chosen).to_have_count(0)
    page.keyboard.press("d")
    page.keyboard.press("Enter")  # in the middle
    expect(rows(page)).to_have_count(5)
    page.keyboard.press("Delete")
    expect(rows(page)).to_have_count(4)
    page.keyboard.press("v")
    expect(page.locator("li.is-rejected:not(.d-none)")).to_have_count(1)
    page.keyboard.press("Space")
    page.wait_for_url(re.compile(rf"/images/{first - 1}$"))
    expect(page.locator(".stage")).to_be_focused()
    assert is_reviewed(site, first)
    page.keyboard.press("Tab")  # it goes on with the keys at once
    expect(chosen).to_have_count(1)
    page.go_back()
    expect(page.locator("[data-reviewed]")).to_have_attribute("aria-pressed", "true")


def test_space_goes_on_in_the_inbox(open_picture, site):  # noqa: F811
    page = open_picture(count=3)
    page.goto("/review")
    page.get_by_role("link", name="Review in order").click()
    page.wait_for_url(re.compile(r"\?review=1$"))
    seen = set()
    for left in (2, 1):
        seen.add(number_of(page))
        here = page.url
        page.wait_for_selector("#result.is-live")
        page.keyboard.press("Space")
        page.wait_for_url(lambda url, here=here: url != here)
        assert page.locator("a[rel=next]").count() == (left > 1)
    seen.add(number_of(page))
    assert len(seen) == 3
    assert sum(is_reviewed(site, image_id) for image_id in seen) == 2


def test_all_shown_boxes_are_accepted_at_once_and_taken_back_at_once(open_picture, site):  # noqa: F811
    page = open_picture()
    page.keyboard.press("Shift+Enter")
    assert [word[0] for word in kept(site, page)] == ["accepted"] * 4
    page.keyboard.press("Control+z")
    assert kept(site, page) == []


def changed_elsewhere(page):
    """Another window of the same person, with the same picture."""
    other = page.context.browser.new_context(
        base_url=page.url.partition("/images")[0], storage_state=page.context.storage_state()
    )
    window = other.new_page()
    window.goto(page.url)
    window.wait_for_selector("#result.is-live")
    return window


def conflict_of(page, site):  # noqa: F811
    """Both windows have changed the picture; this one learns it and asks."""
    from playwright.sync_api import expect

    other = changed_elsewhere(page)
    other.locator(".box-list li[data-label=cat]").first.click()
    other.locator(".stage").focus()
    other.keyboard.press("x")
    saved(other)
    other.context.close()
    page.locator(".box-list li[data-label=person]").first.click()
    page.locator(".stage").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Somebody else")
    expect(dialog).to_be_visible()
    expect(dialog.locator("[data-differs=mine]")).to_have_text("1")
    expect(dialog.locator("[data-differs=theirs]")).to_have_text("1")
    assert no_sideways_scrolling(page)
    return dialog


def test_of_two_windows_mine_can_be_kept(open_picture, site):  # noqa: F811
    from playwright.sync_api import expect

    page = open_picture()
    dialog = conflict_of(page, site)
    page.keyboard.press("Escape")  # not chosen yet: nothing can be changed
    expect(dialog).to_be_hidden()
    page.keyboard.press("x")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Changed elsewhere").click()
    dialog.get_by_role("button", name="Keep mine").click()
    assert kept(site, page) == [("accepted", "person", [300, 250, 420, 460])]
    expect(rows(page)).to_have_count(4)


def test_of_two_windows_theirs_can_be_taken(open_picture, site):  # noqa: F811
    from playwright.sync_api import expect

    page = open_picture()
    conflict_of(page, site).get_by_role("button", name="Take theirs").click()
    assert kept(site, page) == [("rejected", "cat", [330, 90, 470, 220])]
    expect(rows(page)).to_have_count(3)
    page.locator(".box-list li[data-label=person]").first.click()  # and one can go on
    page.locator(".stage").focus()
    page.keyboard.press("Enter")
    assert len(kept(site, page)) == 2


def test_another_tab_follows_by_itself(open_picture, site):  # noqa: F811
    from playwright.sync_api import expect

    page = open_picture()
    tab = page.context.new_page()
    tab.goto(page.url)
    tab.wait_for_selector("#result.is-live")
    page.locator(".box-list li[data-label=person]").first.click()
    page.locator(".stage").focus()
    page.keyboard.press("x")
    saved(page)
    expect(rows(tab)).to_have_count(3)


def test_a_lost_connection_loses_nothing(open_picture, site):  # noqa: F811
    from playwright.sync_api import expect

    page = open_picture()
    page.context.set_offline(True)
    sign = page.locator("[data-sign]")
    expect(sign).to_have_attribute("data-sign", "offline")
    page.keyboard.press("Shift+Enter")
    page.locator(".box-list li[data-label=person]").first.click()
    page.locator(".stage").focus()
    page.keyboard.press("x")
    expect(rows(page)).to_have_count(3)
    expect(sign).to_contain_text("Offline")
    page.context.set_offline(False)
    assert [word[0] for word in kept(site, page)].count("rejected") == 1
    assert len(kept(site, page)) == 4


def test_what_could_not_be_sent_is_sent_on_the_next_visit(open_picture, site):  # noqa: F811
    from playwright.sync_api import expect

    page = open_picture()
    address = page.url
    page.route("**/state.json", lambda route: route.abort())
    page.keyboard.press("Shift+Enter")
    expect(page.locator("[data-sign]")).to_have_attribute("data-sign", "offline")
    page.goto("/")
    page.unroute("**/state.json")
    page.goto(address)
    page.wait_for_selector("#result.is-live")
    expect(page.locator("li[data-verdict=accepted]")).to_have_count(4)
    assert [word[0] for word in kept(site, page)] == ["accepted"] * 4
    assert page.evaluate("Object.keys(localStorage)") == []


def test_a_model_that_looks_again_meanwhile_asks_nobody(open_picture, site):  # noqa: F811
    page = open_picture()
    found_in(site, number_of(page))  # another version, but no person changed anything
    page.keyboard.press("Shift+Enter")
    words = kept(site, page)
    assert [word[0] for word in words] == ["accepted"] * 4
