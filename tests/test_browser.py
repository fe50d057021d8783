"""What a person does, in Chromium, against the real server and the real detector."""

import fcntl
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from apps.app import create_app
from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageStatus, Role, User, utcnow
from apps.services.results import store_result
from apps.vision.masks import encode
from apps.vision.types import Box, Detections
from apps.vision.zoo.registry import BEST_ON_CPU, BLOOD_CELLS
from tests.conftest import PASSWORD
from tests.served import site_of
from tests.smear import smear

# The shell is the same browser without windows, and takes a quarter less of the time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="install Debian's package chromium"),
    # Werkzeug does not close a file that it was sending when the browser broke the connection.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
DETECTION = 60_000  # milliseconds; the first one loads the model


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The application with its real engine and thread, served on a free port."""
    folder = tmp_path_factory.mktemp("site")
    app = create_app(
        "local",
        INSTANCE_PATH=str(folder),
        TESTING=True,
        RATELIMIT_ENABLED=False,
        LOG_LEVEL="ERROR",
        MODEL_DOWNLOADS=False,
        DETECTOR=BLOOD_CELLS.name,  # the pictures are drawn smears
    )
    with site_of(app) as site:
        yield site


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def width(request) -> int:
    return request.param


@pytest.fixture
def new_page(site, chromium, width) -> Iterator:
    """new_page() -> a page with cookies of its own; problems in its console fail the test."""
    contexts, problems = [], []

    def listen(message) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            problems.append(message.text)

    def new_page(**options):
        context = chromium.new_context(
            base_url=site.config["TEST_ADDRESS"], viewport={"width": width, "height": 850},
            **({"locale": "en-US"} | options),
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", listen)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda r: (
                r.url.startswith((site.config["TEST_ADDRESS"], "data:", "blob:"))
                or problems.append(r.url)
            ),
        )
        return page

    yield new_page
    for context in contexts:
        context.close()
    assert problems == []


def smear_file(path: Path, seed: int) -> Path:
    picture, _ = smear(seed)
    picture.save(path, quality=92)
    return path


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """Two photographs of blood, and one file that is none."""
    files = []
    for seed in (1, 2):
        files.append(smear_file(tmp_path / f"smear {seed}.jpg", seed))
    files.append(tmp_path / "notes.txt")
    files[-1].write_text("not a picture")
    return files


_names = iter(f"person{n}" for n in range(1000))


def sign_up(page) -> str:
    name = next(_names)
    page.goto("/auth/signup")
    page.fill("#username", name)
    page.fill("#email", f"{name}@example.com")
    page.fill("#password", PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign up").click()
    page.wait_for_url("/")
    return name


def no_sideways_scrolling(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def requests_of(page) -> list[str]:
    """What the page asks of the server from now on; its icon may come late and does not count."""
    urls: list[str] = []
    page.on("request", lambda request: "/assets/" in request.url or urls.append(request.url))
    return urls


def upload(page, *files: Path) -> None:
    page.set_input_files("input[type=file]", [str(file) for file in files])


def open_tray(page) -> None:
    """It is a line where there is little room, or where all went well."""
    toggle = page.locator("[data-tray-toggle]")
    toggle.wait_for()
    if toggle.get_attribute("aria-expanded") == "false":
        toggle.click()


def test_from_sign_up_to_boxes_tags_and_search(new_page, pictures):
    from playwright.sync_api import expect

    page = new_page()
    name = sign_up(page)
    expect(page.get_by_text(f"Welcome, {name}!")).to_be_visible()
    assert no_sideways_scrolling(page)

    # Two photographs and one text file: the good ones go on, the bad one says why.
    upload(page, *pictures)
    expect(page.locator("[data-tray-summary]")).to_have_text("2 of 3 uploaded, 1 not")
    open_tray(page)
    expect(page.locator(".tray-row.is-failed")).to_contain_text(
        "not a picture that Sightbox can read"
    )
    page.get_by_role("button", name="Clear finished").click()
    expect(page.locator(".tile[data-status=done]")).to_have_count(2, timeout=DETECTION)
    expect(page.locator("[data-waiting]")).to_be_hidden()
    assert no_sideways_scrolling(page)

    # The picture page shows boxes; the slider changes them without asking the server.
    page.locator(".tile-picture").first.click()
    visible = page.locator("svg .box:not(.d-none)")
    expect(visible.first).to_be_visible()
    before = visible.count()
    assert before > 3
    assert no_sideways_scrolling(page)
    page.wait_for_load_state("networkidle")  # the neighbours are fetched ahead
    requests = requests_of(page)
    slider = page.get_by_label("Confidence")
    slider.focus()
    slider.press("End")
    expect(page.get_by_text("No box is this sure.")).to_be_visible()
    expect(visible).to_have_count(0)
    slider.press("Home")
    expect(visible.nth(before - 1)).to_be_attached()  # as many at least
    assert requests == []

    # Either side lights the other.
    row = page.locator(".box-list li:not(.d-none)").first
    row.hover()
    lit = page.locator("svg .box.is-lit")
    expect(lit).to_have_attribute("data-box", row.get_attribute("data-box"))

    # Own tag, and search by it.
    page.fill("#name", "my slide")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#tags")).to_contain_text("my slide")
    page.goto("/")
    page.fill("#search", "my slide")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".tile")).to_have_count(1)
    page.goto("/")
    page.locator(".page-head ~ .chips").get_by_role("link", name=re.compile("RBC")).click()
    expect(page.locator(".tile")).to_have_count(2)


def test_the_boxes_lie_on_the_picture(new_page, pictures):
    """The corner of a box on the screen is where its picture pixels are on the screen."""
    page = new_page()
    sign_up(page)
    upload(page, pictures[0])
    page.wait_for_url(re.compile(r"/images/\d+$"))
    page.wait_for_selector("#result[data-status=done] rect", timeout=DETECTION)
    places = page.evaluate("""() => {
      const image = document.querySelector(".stage img");
      const frame = image.getBoundingClientRect();
      const [W, H] = ["width", "height"].map(name => Number(image.getAttribute(name)));
      const scale = Math.min(frame.width / W, frame.height / H);
      const left = frame.left + (frame.width - W * scale) / 2;
      const top = frame.top + (frame.height - H * scale) / 2;
      const rect = document.querySelector(".box:not(.d-none) rect");
      const [x, y] = [rect.x.baseVal.value, rect.y.baseVal.value];
      const corner = new DOMPoint(x, y).matrixTransform(rect.getScreenCTM());
      return [corner.x - (left + x * scale), corner.y - (top + y * scale)];
    }""")
    assert max(abs(place) for place in places) < 1.0


def test_a_waiting_picture_turns_into_its_result_without_a_reload(
    new_page, pictures, site, monkeypatch
):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    engine = services(site).detections.engine
    real, may_go = engine.detect, threading.Event()

    def detect(*picture, **options):
        may_go.wait(60)
        return real(*picture, **options)

    monkeypatch.setattr(engine, "detect", detect)
    upload(page, pictures[0])
    page.wait_for_url(re.compile(r"/images/\d+$"))
    page.evaluate("window.sameDocument = true")
    expect(page.locator("#result")).to_have_attribute("data-status", re.compile("queued|running"))
    expect(page.get_by_role("button", name="Detect again")).to_be_disabled()
    may_go.set()
    expect(page.locator("#result")).to_have_attribute("data-status", "done", timeout=DETECTION)
    expect(page.locator("svg .box:not(.d-none)").first).to_be_visible()
    assert page.evaluate("window.sameDocument") is True


def test_a_second_person_finds_nothing(new_page, pictures):
    from playwright.sync_api import expect

    ann, bob = new_page(), new_page()
    sign_up(ann)
    upload(ann, pictures[0])
    ann.wait_for_url(re.compile(r"/images/\d+$"))
    sign_up(bob)
    expect(bob.locator(".tile")).to_have_count(0)
    assert bob.goto("/images/search?search=RBC").status == 200
    expect(bob.get_by_text("No picture of yours has the tag")).to_be_visible()
    assert bob.goto(ann.url).status == 404
    source = ann.locator(".stage img").get_attribute("src")
    assert bob.goto(source).status == 404


def test_files_dropped_anywhere_go_up(new_page, pictures):
    import base64

    page = new_page()
    sign_up(page)
    data = base64.b64encode(pictures[0].read_bytes()).decode()
    page.evaluate(
        """data => {
      const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "dropped.jpg"));
      const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
      for (const kind of ["dragenter", "dragover", "drop"])
        document.body.dispatchEvent(new DragEvent(kind, options));
    }""",
        data,
    )
    page.wait_for_url(re.compile(r"/images/\d+$"))


def test_everything_works_without_scripts(new_page, pictures):
    from playwright.sync_api import expect

    page = new_page(java_script_enabled=False)
    sign_up(page)
    upload(page, *pictures[:2])
    page.get_by_role("main").get_by_role("button", name="Upload").click()
    expect(page.get_by_text("2 pictures uploaded")).to_be_visible()
    page.locator(".tile-picture").first.click()
    for _ in range(200):  # a reload shows it
        if page.locator("#result").get_attribute("data-status") == "done":
            break
        page.reload()
    expect(page.locator("svg .box:not(.d-none)").first).to_be_visible()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".tile")).to_have_count(1)


def test_language_and_theme_are_switched_and_remembered(new_page):
    from playwright.sync_api import expect

    page = new_page(color_scheme="dark")
    page.goto("/auth/login")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")  # as the system
    page.get_by_label("Language and theme").click()
    page.get_by_role("button", name="한국어").click()
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    expect(page).to_have_url(re.compile("/auth/login$"))
    page.locator("summary").first.click()
    page.locator("button[value=light]").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "light")
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "light")


def test_the_keyboard_alone_is_enough(new_page, pictures):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    upload(page, pictures[0])
    page.wait_for_url(re.compile(r"/images/\d+$"))
    page.wait_for_selector("#result[data-status=done] rect", timeout=DETECTION)
    page.get_by_label("Confidence").focus()
    page.keyboard.press("Tab")
    expect(page.locator(".box-list li.is-lit")).to_have_count(1)
    menu = page.locator("details[data-menu]").first
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(menu).to_have_attribute("open", "")
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", "")


def test_an_administrator_edits_and_deletes(new_page, pictures, site):
    from playwright.sync_api import expect

    ann, boss = new_page(), new_page()
    name = sign_up(ann)
    upload(ann, pictures[0])
    ann.wait_for_url(re.compile(r"/images/\d+$"))
    boss_name = sign_up(boss)
    with site.app_context():
        db.session.scalars(select(User).where(User.username == boss_name)).one().role = Role.ADMIN
        db.session.commit()

    boss.goto(f"/crud/users?search={name}")
    assert no_sideways_scrolling(boss)
    boss.get_by_role("main").get_by_role("link", name=name, exact=True).click()
    boss.fill("#username", f"{name}-renamed")
    boss.get_by_role("button", name="Save").click()
    boss.goto(f"/crud/images?search={name}-renamed")
    expect(boss.locator("main tbody tr")).to_have_count(1)
    expect(boss.locator("main tbody img")).to_have_js_property("complete", True)
    assert no_sideways_scrolling(boss)
    boss.goto(f"/crud/users?search={name}")
    boss.get_by_role("main").get_by_role("link", name=f"{name}-renamed", exact=True).click()
    boss.get_by_role("link", name="Delete").click()
    expect(boss.get_by_role("main")).to_contain_text("1 picture")
    boss.get_by_role("main").get_by_role("button", name=re.compile("Delete")).click()
    boss.goto(f"/crud/users?search={name}")
    expect(boss.locator("main tbody tr")).to_have_count(0)
    assert ann.goto("/auth/account").url.endswith("/auth/login?next=/auth/account")


def test_states_and_buttons_of_all_models_are_in_sight(new_page, site):
    boss = new_page()
    name = sign_up(boss)
    with site.app_context():
        db.session.execute(update(User).where(User.username == name).values(role=Role.ADMIN))
        db.session.commit()
    store, file = services(site).models.store, BEST_ON_CPU.weights
    store.folder.mkdir(parents=True, exist_ok=True)
    part, lock = store.folder / f"{file.name}.part", store.folder / f".{file.name}.lock"
    part.write_bytes(bytes(2**20))
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as another process that downloads
        boss.goto("/crud/models")
        row = boss.locator(f'[data-model="{BEST_ON_CPU.name}"]')
        part.write_bytes(bytes(5 * 2**20))
        row.get_by_text("5.0 of 74.2 MB").wait_for(timeout=15_000)
    row.get_by_role("button", name="Fetch").wait_for(timeout=15_000)
    part.unlink()
    assert no_sideways_scrolling(boss)
    for seen in boss.locator("tbody button, tbody .crud-error").all():
        box = seen.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= boss.viewport_size["width"]


def test_the_status_page_follows_by_itself_and_can_be_paused(new_page, site):
    from playwright.sync_api import expect

    boss = new_page()
    boss_name = sign_up(boss)
    with site.app_context():
        user = db.session.scalars(select(User).where(User.username == boss_name)).one()
        user.role, owner_id = Role.ADMIN, user.id
        db.session.commit()

    def fail(number: int) -> None:
        with site.app_context():
            image = Image(
                owner_id=owner_id, title=f"{boss_name} {number}.jpg", key=f"{owner_id}-{number}",
                extension="jpg", media_type="image/jpeg", sha256=f"{owner_id}-{number}", bytes=1,
                width=1, height=1, status=ImageStatus.FAILED, claimed_at=utcnow(), error="Too bad.",
            )  # fmt: skip
            db.session.add(image)
            db.session.commit()

    boss.clock.install()  # time runs on and can jump, so that nobody waits for the next question
    boss.goto("/crud/status")
    tile = boss.locator(".status-tiles [data-text=failed]")
    before = int(tile.inner_text())
    boss.evaluate("window.sameDocument = true")
    assert no_sideways_scrolling(boss)
    fail(1)
    boss.clock.fast_forward(5000)
    expect(tile).to_have_text(str(before + 1), timeout=15_000)
    expect(boss.locator("[data-part=failures]")).to_contain_text(f"{boss_name} 1.jpg")
    assert no_sideways_scrolling(boss)

    boss.get_by_role("button", name="Pause").click()
    expect(boss.get_by_text("Paused.")).to_be_visible()
    asked = []
    boss.on("request", lambda request: asked.append(request.url))
    fail(2)
    boss.clock.fast_forward(60_000)
    assert asked == []
    boss.get_by_role("button", name="Pause").click()
    expect(tile).to_have_text(str(before + 2), timeout=15_000)
    assert boss.evaluate("window.sameDocument") is True

    boss.route("**/crud/status.json", lambda route: route.abort())
    boss.clock.fast_forward(5000)
    away = boss.get_by_text("The server does not answer; trying again.")
    expect(away).to_be_visible(timeout=15_000)
    boss.unroute("**/crud/status.json")
    boss.clock.fast_forward(5000)
    expect(away).to_be_hidden(timeout=15_000)

    # The stored files are missing, so trying again fails for a reason of its own.
    boss.get_by_role("button", name=f"Detect {boss_name} 2.jpg again").click()
    expect(boss.get_by_role("main")).to_contain_text("The picture is queued for detection.")
    expect(boss.locator("[data-part=failures]")).to_contain_text("is gone", timeout=DETECTION)


def test_a_broken_connection_is_told_and_tried_again(new_page, pictures):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    page.route("**/upload", lambda route: route.abort())
    upload(page, pictures[0])
    expect(page.locator("[data-tray-pause]")).to_contain_text("The connection is lost")
    page.unroute("**/upload")
    page.get_by_role("button", name="Try now").click()
    page.wait_for_url(re.compile(r"/images/\d+$"))


def add_result(site, image_id: int) -> None:
    """The result of a second model, "other.model": the same boxes, a little aside; one is new."""
    with site.app_context():
        image = services(site).images.get(image_id)
        own = services(site).results.boxes(image_id, image.model or "")
        moved = [
            Box(box.label, box.score, box.x1 + 1, box.y1 + 1, box.x2 + 1, box.y2 + 1) for box in own
        ]
        mask = np.zeros((image.height, image.width), bool)
        mask[20:90, 30:120] = True
        found = Detections(
            (*moved, Box("thing", 0.99, 30, 20, 120, 90, encode(mask))), "other.model"
        )
        session = services(site).results.session
        store_result(session, image_id, found, utcnow(), 12)
        session.commit()


def test_two_results_are_compared_and_the_other_one_is_used(new_page, pictures, site):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    upload(page, pictures[0])
    page.wait_for_url(re.compile(r"/images/\d+$"))
    page.wait_for_selector("#result[data-status=done] rect", timeout=DETECTION)
    image_id = int(page.url.rsplit("/", 1)[1])
    add_result(site, image_id)
    page.reload()
    page.get_by_role("link", name="Compare with “other.model”").click()
    assert no_sideways_scrolling(page)
    both = int(page.locator("[data-tally=both]").inner_text())
    assert both > 3
    expect(page.locator("[data-tally=left]")).to_have_text("1")
    expect(page.locator("[data-tally=right]")).to_have_text("0")

    # Either part of an object lights the others: two boxes and a row.
    page.wait_for_load_state("load")  # of its scripts
    page.locator("tr.is-both:not(.d-none)").first.hover()
    expect(page.locator("svg .is-lit")).to_have_count(2)
    expect(page.locator("tr.is-lit")).to_have_count(1)
    page.locator("tr.is-left:not(.d-none)").hover()
    expect(page.locator("svg .is-lit")).to_have_count(1)

    # One slider for both, without asking the server; labels and masks on and off.
    requests = requests_of(page)
    slider = page.get_by_label("Confidence")
    slider.focus()
    slider.press("End")
    expect(page.locator("svg .box:not(.d-none)")).to_have_count(0)
    expect(page.get_by_text("No box is this sure.")).to_be_visible()
    slider.press("Home")
    expect(page.locator("[data-tally=left]")).to_have_text("1")
    assert int(page.locator("[data-tally=both]").inner_text()) >= both
    mask = page.locator("svg .mask").first
    expect(mask).to_be_visible()
    page.get_by_label("Masks").uncheck()
    expect(mask).to_be_hidden()
    assert requests == []

    page.get_by_role("button", name="Use this result").click()
    page.wait_for_url(re.compile(rf"/images/{image_id}$"))
    expect(page.locator(".box-list")).to_contain_text("thing")
    expect(page.locator("#tags")).to_contain_text("thing")


def test_several_tiles_are_chosen_and_detected_again(new_page, pictures):
    from playwright.sync_api import expect

    page = new_page()
    sign_up(page)
    files = [smear_file(pictures[0].parent / f"{seed}.jpg", seed) for seed in range(3, 8)]
    upload(page, *files)
    page.wait_for_url("/")
    expect(page.locator(".tile")).to_have_count(5)
    expect(page.locator(".tile[data-status=done]")).to_have_count(5, timeout=DETECTION)
    bar, boxes = page.locator("[data-selection]"), page.locator("[data-select]")
    expect(bar).to_be_hidden()
    boxes.nth(0).check()
    expect(bar).to_be_visible()
    expect(bar).to_contain_text("1 selected")
    boxes.nth(2).click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 selected")
    assert no_sideways_scrolling(page)
    bar.get_by_role("button", name="Select all on this page").click()
    expect(bar).to_contain_text("5 selected")
    page.keyboard.press("Escape")
    expect(bar).to_be_hidden()
    boxes.nth(1).focus()
    page.keyboard.press("Space")
    boxes.nth(3).check()
    expect(bar).to_contain_text("2 selected")
    bar.get_by_role("button", name="Detect again").click()
    expect(page.get_by_text("2 pictures are queued for detection.")).to_be_visible()
    expect(bar).to_be_hidden()
    expect(page.locator(".tile[data-status=done]")).to_have_count(5, timeout=DETECTION)


def test_tiles_are_chosen_and_results_compared_without_scripts(new_page, pictures, site):
    from playwright.sync_api import expect

    page = new_page(java_script_enabled=False)
    sign_up(page)
    upload(page, pictures[0])
    page.get_by_role("main").get_by_role("button", name="Upload").click()
    page.wait_for_url(re.compile(r"/images/\d+$"))
    address = page.url
    for _ in range(400):  # a reload shows it
        if page.locator("#result").get_attribute("data-status") == "done":
            break
        page.reload()
    add_result(site, int(address.rsplit("/", 1)[1]))
    page.goto(f"{address}/compare?threshold=0.98")
    expect(page.locator("[data-tally=left]")).to_have_text("1")
    expect(page.locator("svg .mask").first).to_be_visible()
    page.goto("/")
    page.locator("[data-select]").check()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("[data-selection]")).to_be_hidden()
    page.locator("[data-select]").check()
    page.get_by_role("button", name="Detect again").click()
    expect(page.get_by_text("1 picture is queued for detection.")).to_be_visible()
