"""The tray of uploads in Chromium: every way in, what goes wrong, and pages that come and go."""

# ruff: noqa: F811

import base64
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image as Picture
from sqlalchemy import func, select

from apps.app import create_app
from apps.extensions import db
from apps.models import Image, User
from tests.conftest import PASSWORD, picture_bytes
from tests.served import site_of
from tests.test_browser import (  # noqa: F401 (fixtures)
    chromium,
    new_page,
    no_sideways_scrolling,
    open_tray,
    pytestmark,
    sign_up,
    upload,
    width,
)

UPLOAD = re.compile(r"/upload$")
WAIT = 20_000  # milliseconds; for what takes a moment unless it is broken


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The application with a detector that answers at once, served on a free port."""
    app = create_app(
        "testing",
        INSTANCE_PATH=str(tmp_path_factory.mktemp("site")),
        WTF_CSRF_ENABLED=True,
        LOG_LEVEL="ERROR",
    )
    with site_of(app) as site:
        yield site


@pytest.fixture
def make_files(tmp_path):
    """make_files(3) -> the paths of three different pictures."""

    def make_files(count: int, folder: str = ".", size: tuple[int, int] = (64, 48)) -> list[Path]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        files = []
        for number in range(count):
            files.append(tmp_path / folder / f"picture {number}.jpg")
            files[-1].write_bytes(picture_bytes(size))
        return files

    return make_files


def rows(page, state: str = ""):
    return page.locator(f".tray-row{f'.is-{state}' if state else ''}")


def expect_done(page, count: int) -> None:
    """Waits until so many files are up, and shows them."""
    from playwright.sync_api import expect

    expect(summary(page)).to_have_text(re.compile(rf"^{count} of "), timeout=WAIT)
    open_tray(page)
    expect(rows(page, "done")).to_have_count(count)


def summary(page):
    return page.locator("[data-tray-summary]")


def titles_of(site, name: str) -> list[str]:
    with site.app_context():
        query = select(Image.title).join(User).where(User.username == name).order_by(Image.title)
        return list(db.session.scalars(query))


class Gate:
    """Holds uploads back until they may go on."""

    def __init__(self, page) -> None:
        self.held: list = []
        self.open = False
        page.route(UPLOAD, self._arrive)

    def _arrive(self, route) -> None:
        if route.request.method != "POST" or self.open:
            route.continue_()
        else:
            self.held.append(route)

    def let_one_go(self) -> None:
        self.held.pop(0).continue_()

    def let_all_go(self) -> None:
        self.open = True
        while self.held:
            self.let_one_go()


def wait_for(page, condition) -> None:
    """Until ``condition`` holds, while the browser goes on."""
    for _ in range(200):
        if condition():
            return
        page.wait_for_timeout(50)
    assert condition()


DROP = """([files, target]) => {
  const transfer = new DataTransfer();
  for (const [name, data] of files)
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
  const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
  const place = document.querySelector(target);
  for (const kind of ["dragenter", "dragover", "drop"])
    place.dispatchEvent(new DragEvent(kind, options));
}"""
PASTE = """([files, text, target]) => {
  const transfer = new DataTransfer();
  for (const [name, data, type] of files)
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, {type}));
  if (text) transfer.setData("text/plain", text);
  const options = {clipboardData: transfer, bubbles: true, cancelable: true};
  document.querySelector(target).dispatchEvent(new ClipboardEvent("paste", options));
}"""


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


# -- ways in -------------------------------------------------------------------------------


def test_several_files_dropped_on_any_page_go_up(new_page, site):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    page.goto("/auth/account")
    files = [[f"{n}.jpg", coded(picture_bytes())] for n in range(4)]
    page.evaluate(DROP, [[*files, ["notes.txt", coded(b"no picture")]], "main"])
    expect_done(page, 4)
    expect(rows(page, "failed")).to_contain_text("not a picture")
    expect(summary(page)).to_have_text("4 of 5 uploaded, 1 not")
    assert titles_of(site, name) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert no_sideways_scrolling(page)
    # The link of a finished one leads to its picture, the others to the gallery.
    expect(rows(page, "done").first.get_by_role("link")).to_have_attribute(
        "href", re.compile(r"/images/\d+$")
    )
    page.get_by_role("link", name="Show in the gallery").click()
    expect(page.locator(".tile")).to_have_count(4)


def test_the_page_says_so_while_files_hang_over_it(new_page):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    overlay = page.locator("[data-drop-overlay]")
    expect(overlay).to_be_hidden()
    drag = """kind => {
      const transfer = new DataTransfer();
      transfer.items.add(new File(["x"], "x.jpg"));
      document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true}));
    }"""
    page.evaluate(drag, "dragenter")
    expect(overlay).to_be_visible()
    page.evaluate(drag, "dragleave")
    expect(overlay).to_be_hidden()


def test_a_folder_goes_up_with_its_folders_and_without_what_is_no_picture(
    new_page,
    site,
    make_files,
    tmp_path,
):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    make_files(2, "trip")
    make_files(1, "trip/day 2")[0].rename(tmp_path / "trip/day 2/deep.jpg")
    (tmp_path / "trip/notes.txt").write_text("no picture")
    (tmp_path / "trip/.hidden.jpg").write_bytes(picture_bytes())
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(tmp_path / "trip")
    open_tray(page)
    expect(rows(page)).to_have_count(3)
    expect(page.locator("[data-tray-more]")).to_contain_text("1 files of the folder")
    expect(page.locator(".tile")).to_have_count(3, timeout=WAIT)
    assert titles_of(site, name) == ["deep.jpg", "picture 0.jpg", "picture 1.jpg"]


def test_pictures_are_pasted_anywhere_but_not_where_one_types_text(new_page, site):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    page.goto("/auth/account")
    picture = ["image.png", coded(picture_bytes(format="PNG")), "image/png"]
    page.evaluate(PASTE, [[], "only text", "main"])
    page.evaluate(PASTE, [[picture], "words", "#email, input[type=text], input[type=email]"])
    expect(page.locator("[data-tray]")).to_be_hidden()
    page.evaluate(PASTE, [[picture], "", "body"])
    expect_done(page, 1)
    [title] = titles_of(site, name)
    assert re.fullmatch(r"Pasted picture [\d-]+ [\d.]+\.png", title)


def test_a_photograph_is_taken(new_page, site, make_files):
    page = new_page(has_touch=True, is_mobile=True)
    name = sign_up(page)
    camera = page.locator("[data-tray-camera]")
    assert camera.get_attribute("capture") == "environment"
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Take a photograph").click()
    chooser.value.set_files(make_files(1)[0])
    page.wait_for_url(re.compile(r"/images/\d+$"))
    assert titles_of(site, name) == ["picture 0.jpg"]


def test_a_zip_tells_what_became_of_each_of_its_files(new_page, site, tmp_path):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("a.jpg", picture_bytes())
        archive.writestr("b/c.jpg", picture_bytes())
        archive.writestr("notes.txt", "no picture")
    upload(page, tmp_path / "pets.zip")
    expect_done(page, 1)
    row = rows(page, "done")
    expect(row).to_contain_text("2 uploaded, 0 already there, 1 refused", timeout=WAIT)
    row.get_by_text("What was refused, and why").click()
    expect(row).to_contain_text("notes.txt: This is not a picture")
    expect(page.locator(".tile")).to_have_count(2)
    assert titles_of(site, name) == ["a.jpg", "c.jpg"]


# -- many, and taken back ------------------------------------------------------------------


def test_three_go_up_at_a_time_and_each_can_be_cancelled_and_tried_again(
    new_page,
    site,
    make_files,
):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    gate = Gate(page)
    upload(page, *make_files(6))
    open_tray(page)
    wait_for(page, lambda: len(gate.held) == 3)
    expect(rows(page, "sending")).to_have_count(3)
    expect(rows(page, "queued")).to_have_count(3)
    gate.let_one_go()
    expect_done(page, 1)
    wait_for(page, lambda: len(gate.held) == 3)

    waiting = page.get_by_role("button", name="Cancel “picture 5.jpg”")
    waiting.click()
    expect(rows(page, "cancelled")).to_have_count(1)
    page.get_by_role("button", name="Cancel “picture 1.jpg”").click()
    expect(rows(page, "cancelled")).to_have_count(2)
    page.get_by_role("button", name="Try “picture 5.jpg” again").click()
    gate.let_all_go()
    expect_done(page, 5)
    assert titles_of(site, name) == [f"picture {n}.jpg" for n in (0, 2, 3, 4, 5)]
    open_tray(page)
    page.get_by_role("button", name="Try “picture 1.jpg” again").click()
    expect_done(page, 6)
    page.get_by_role("button", name="Clear finished").click()
    expect(page.locator("[data-tray]")).to_be_hidden()


def test_all_can_be_cancelled_at_once(new_page, site, make_files):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    Gate(page)
    upload(page, *make_files(8))
    open_tray(page)
    page.get_by_role("button", name="Cancel all").click()
    expect(rows(page, "cancelled")).to_have_count(8)
    assert titles_of(site, name) == []


def test_three_hundred_files_at_once_end_up_in_the_gallery(new_page, site, tmp_path):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    files = []
    for number in range(300):
        buffer = io.BytesIO()
        Picture.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(buffer, "PNG")
        files.append(
            {"name": f"{number}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
        )
    page.set_input_files("input[type=file]", files)
    expect(summary(page)).to_have_text("300 of 300 uploaded", timeout=180_000)
    assert len(titles_of(site, name)) == 300
    expect(page.locator("[data-total]")).to_contain_text("300")


# -- what goes wrong -----------------------------------------------------------------------


def test_a_lost_connection_goes_on_by_itself_without_duplicates(
    new_page,
    site,
    make_files,
):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    lost: list[str] = []

    def lose_the_answer(route) -> None:
        """The server takes the file, but nobody hears of it."""
        if route.request.method == "POST" and len(lost) < 2:
            lost.append(route.request.url)
            route.fetch()
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(UPLOAD, lose_the_answer)
    upload(page, *make_files(5))
    expect_done(page, 5)
    assert len(lost) == 2
    expect(page.get_by_text("already there")).to_have_count(0)  # this very upload put them there
    assert titles_of(site, name) == [f"picture {n}.jpg" for n in range(5)]


def test_uploads_wait_while_the_browser_is_offline(new_page, site, make_files):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    page.context.set_offline(True)
    upload(page, *make_files(2))
    expect(page.locator("[data-tray-pause]")).to_contain_text("The connection is lost")
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("[data-tray-pause]")).to_contain_text("The connection is lost")
    page.context.set_offline(False)
    expect(page.locator(".tile")).to_have_count(2, timeout=WAIT)
    assert len(titles_of(site, name)) == 2


def test_what_is_there_already_is_said_with_a_link(new_page, site, make_files):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    [file] = make_files(1)
    upload(page, file)
    page.wait_for_url(re.compile(r"/images/\d+$"))
    address = page.url
    page.goto("/")
    upload(page, file)
    expect_done(page, 1)
    row = rows(page, "done")
    expect(row).to_contain_text("already there", timeout=WAIT)
    row.get_by_role("link").click()
    assert page.url == address


def answer_once(page, status: int, error: dict[str, object], **headers: str) -> list:
    """The first upload gets this answer, the others go on to the server."""
    seen: list = []

    def handle(route) -> None:
        if route.request.method == "POST" and not seen:
            seen.append(route)
            body = json.dumps({"error": error})
            route.fulfill(
                status=status, body=body, headers={"Content-Type": "application/json"} | headers
            )
        else:
            route.continue_()

    page.route(UPLOAD, handle)
    return seen


@pytest.mark.parametrize(
    ("status", "code"), [(429, "rate_limited"), (503, "busy"), (400, "csrf"), (502, "http")]
)
def test_a_passing_trouble_of_the_server_passes_by_itself(
    new_page,
    site,
    make_files,
    status,
    code,
):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    seen = answer_once(page, status, {"code": code, "message": "Wait."}, **{"Retry-After": "1"})
    upload(page, *make_files(2))
    expect(page.locator(".tile")).to_have_count(2, timeout=WAIT)
    assert len(seen) == 1
    assert len(titles_of(site, name)) == 2


def test_a_file_too_large_for_the_server_is_said_to_be(new_page, site, make_files):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    answer_once(page, 413, {"code": "http", "message": "Send fewer or smaller files."})
    upload(page, *make_files(2))
    open_tray(page)
    expect(rows(page, "failed")).to_contain_text("Send fewer or smaller files.")
    page.get_by_role("button", name="Try all again").click()
    expect(page.locator(".tile")).to_have_count(2, timeout=WAIT)


def test_a_full_account_stops_the_others_and_goes_on_when_there_is_room(
    new_page,
    site,
    make_files,
):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    files = make_files(5)
    set_quota(site, name, files[0].stat().st_size * 2)
    asked: list[str] = []
    page.on("request", lambda r: UPLOAD.search(r.url) and asked.append(r.url))
    upload(page, *files)
    expect(page.locator("[data-tray-pause]")).to_contain_text("Your space", timeout=WAIT)
    expect(page.locator("[data-tray-pause]")).to_contain_text("is full")
    wait_for(page, lambda: rows(page, "sending").count() == 0)
    assert len(asked) <= 5
    assert rows(page, "failed").count() == 0
    set_quota(site, name, 0)
    page.get_by_role("button", name="Try now").click()
    expect(page.locator(".tile")).to_have_count(5, timeout=WAIT)


def set_quota(site, name: str, size: int) -> None:
    with site.app_context():
        db.session.scalars(select(User).where(User.username == name)).one().quota_bytes = size
        db.session.commit()


def test_who_is_logged_out_logs_in_and_the_uploads_go_on(new_page, site, make_files):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    page.context.clear_cookies()
    upload(page, *make_files(3))
    expect(page.locator("[data-tray-pause]")).to_contain_text("no longer logged in")
    page.locator("[data-tray-pause]").get_by_role("link", name="Log in").click()
    page.fill("#email", f"{name}@example.com")
    page.fill("#password", PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Log in").click()
    expect(page.locator(".tile")).to_have_count(3, timeout=WAIT)
    assert len(titles_of(site, name)) == 3


def test_the_files_of_one_person_never_go_up_as_another(new_page, site, make_files):
    from playwright.sync_api import expect

    page = new_page()
    ann = sign_up(page)
    second = page.context.new_page()
    page.context.clear_cookies()
    bob = sign_up(second)
    upload(page, *make_files(2))
    expect(page.locator("[data-tray-pause]")).to_contain_text("no longer logged in")
    second.goto("/")
    assert titles_of(site, ann) == []
    assert titles_of(site, bob) == []


def test_logging_out_leaves_no_files_in_the_browser(new_page, site, make_files):
    page = new_page()
    name = sign_up(page)
    Gate(page)
    upload(page, *make_files(3))
    open_tray(page)
    page.locator("[data-tray-toggle]").click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("details[data-menu]").last.locator("summary").click()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Sign up").first.wait_for()  # the visitor's page, at the same URL
    kept = page.evaluate(
        """async () => {
      const [found] = (await indexedDB.databases()).filter(d => d.name.startsWith("sightbox"));
      const open = indexedDB.open(found.name);
      await new Promise(resolve => (open.onsuccess = resolve));
      const count = open.result.transaction("files").objectStore("files").count();
      await new Promise(resolve => (count.onsuccess = resolve));
      return count.result;
    }"""
    )
    assert kept == 0
    assert titles_of(site, name) == []


# -- pages that come and go ----------------------------------------------------------------


def kept_files(page) -> int:
    """How many files the browser has put aside."""
    return page.evaluate(
        """async () => {
      const [found] = (await indexedDB.databases()).filter(d => d.name.startsWith("sightbox"));
      if (!found) return 0;
      const open = indexedDB.open(found.name);
      await new Promise(resolve => (open.onsuccess = resolve));
      const count = open.result.transaction("files").objectStore("files").count();
      await new Promise(resolve => (count.onsuccess = resolve));
      open.result.close();
      return count.result;
    }"""
    )


def test_the_uploads_go_on_while_one_browses(new_page, site, make_files):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    gate = Gate(page)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.accept()))
    upload(page, *make_files(7))
    wait_for(page, lambda: len(gate.held) == 3)
    gate.let_one_go()
    expect(summary(page)).to_have_text("1 of 7 uploaded", timeout=WAIT)
    wait_for(page, lambda: kept_files(page) == 6)
    gate.held.clear()
    page.get_by_role("link", name="Classifiers").click()  # a page that takes files for itself
    page.wait_for_url("**/classifier/")
    expect(page.locator("[data-tray]")).to_be_visible()
    wait_for(page, lambda: len(gate.held) == 3)
    gate.held.clear()
    page.get_by_role("contentinfo").get_by_role("link", name="Models").click()
    page.wait_for_url("**/models")
    gate.let_all_go()
    expect(summary(page)).to_have_text("7 of 7 uploaded", timeout=WAIT)
    assert dialogs == []  # nothing was lost, so nobody was asked
    assert titles_of(site, name) == [f"picture {n}.jpg" for n in range(7)]
    page.goto("/")
    expect(page.locator(".tile")).to_have_count(7)
    expect(page.locator("[data-tray]")).to_be_hidden()
    assert kept_files(page) == 0


def test_closing_the_page_asks_while_something_is_on_its_way(
    new_page,
    site,
    make_files,
):
    page = new_page()
    sign_up(page)
    Gate(page)
    upload(page, *make_files(4))
    open_tray(page)
    page.locator("[data-tray-toggle]").click()  # only pages that somebody touched may ask
    wait_for(page, lambda: kept_files(page) == 4)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.type), dialog.dismiss()))
    page.close(run_before_unload=True)
    page.context.pages[0].wait_for_timeout(500)
    assert dialogs == ["beforeunload"]


def test_of_two_pages_one_uploads_and_both_show_it(new_page, make_files):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    other = page.context.new_page()
    other.goto("/auth/account")
    gates = {page: Gate(page), other: Gate(other)}
    upload(page, *make_files(5))
    wait_for(page, lambda: sum(len(gate.held) for gate in gates.values()) == 3)
    [sender] = [tab for tab, gate in gates.items() if gate.held]
    [watcher] = [tab for tab, gate in gates.items() if not gate.held]
    open_tray(watcher)
    expect(rows(watcher, "sending")).to_have_count(3)
    watcher.get_by_role("button", name="Cancel “picture 4.jpg”").click()
    open_tray(sender)
    expect(rows(sender, "cancelled")).to_have_count(1)
    # The one that sends is closed: the other goes on. Its requests stay held here: Chromium sends
    # no file of another page's choice once somebody has stepped between (net::ERR_ACCESS_DENIED).
    wait_for(watcher, lambda: kept_files(watcher) == 5)
    sender.close()
    wait_for(watcher, lambda: len(gates[watcher].held) == 3)


def test_the_tray_is_used_with_the_keyboard_alone(new_page, site, make_files):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    Gate(page)
    upload(page, *make_files(3))
    open_tray(page)
    toggle = page.locator("[data-tray-toggle]")
    toggle.focus()
    page.keyboard.press("Enter")
    expect(toggle).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")  # the list, which scrolls
    expect(page.locator("[data-tray-list]")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(rows(page, "cancelled")).to_have_count(1)


def test_without_scripts_a_zip_goes_up_through_the_form(new_page, site, tmp_path):
    from playwright.sync_api import expect

    page = new_page(java_script_enabled=False)
    name = sign_up(page)
    expect(page.locator("[data-tray]")).to_be_hidden()
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for number in range(2):
            archive.writestr(f"{number}.jpg", picture_bytes())
    upload(page, tmp_path / "pets.zip")
    page.get_by_role("main").get_by_role("button", name="Upload").click()
    expect(page.get_by_text("2 pictures uploaded")).to_be_visible()
    assert titles_of(site, name) == ["0.jpg", "1.jpg"]
    with site.app_context():
        assert db.session.scalar(select(func.count()).select_from(Image)) >= 2
