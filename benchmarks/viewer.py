"""What a browser feels: 500 boxes under the slider and the pointer; the weight of a first page.

python -m benchmarks.viewer             # needs Debian's package chromium
"""

import io
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from flask import Flask
from sqlalchemy import select

from apps.app import create_app
from apps.container import services
from apps.extensions import db
from apps.models import Image, ImageStatus, User, utcnow
from apps.services.results import store_result
from apps.vision.types import Box, Detections
from benchmarks.collection import LARGE
from benchmarks.gallery import library
from benchmarks.report import Row, arguments, report
from tests.served import served, site_of
from tests.smear import smear
from tests.test_browser import ARGUMENTS, CHROMIUM

BOXES = 500
LABELS = 10
FRAMES = 120  # in one round
LEAST = 50  # frames a second
MOST = 200_000  # bytes over the wire
WINDOW = {"width": 1280, "height": 850}
PASSWORD = "many plain words"

# One step in each frame; the milliseconds from frame to frame.
MEASURE = """async ([kind, frames]) => {
  const slider = document.querySelector("[data-threshold]");
  const stage = document.querySelector("[data-stage]");
  const area = stage.getBoundingClientRect();
  const steps = {
    nothing: () => {},
    slider: (n) => {
      const span = slider.max - slider.min;
      slider.value = Number(slider.min) + span * Math.abs(((2 * n) / frames) % 2 - 1);
      slider.dispatchEvent(new Event("input", {bubbles: true}));
    },
    hover: (n) => {
      const clientX = area.left + area.width * ((n * 0.137) % 1);
      const clientY = area.top + area.height * ((n * 0.071) % 1);
      stage.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX, clientY, pointerType: "mouse", isPrimary: true}));
    },
  };
  const frame = () => new Promise(requestAnimationFrame);
  const times = [];
  let last = await frame();
  for (let n = 0; n < frames; n += 1) {
    steps[kind](n);
    const now = await frame();
    times.push(now - last);
    last = now;
  }
  return times;
}"""  # noqa: E501


def many_boxes() -> Detections:
    """500 boxes of ten classes with every score, some over each other."""
    random = np.random.default_rng(5)
    boxes = []
    for n in range(BOXES):
        x, y = random.uniform(0, [1150, 850])
        wide, high = random.uniform(12, 130, 2)
        score = float(random.uniform(0.06, 1))
        corners = (float(x), float(y), float(min(1280, x + wide)), float(min(960, y + high)))
        boxes.append(Box(f"class {n % LABELS}", score, *corners))
    boxes.sort(key=lambda box: -box.score)
    return Detections(tuple(boxes), "benchmark")


@contextmanager
def crowded() -> Iterator[Flask]:
    """An application whose detector sleeps."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(
            "local", INSTANCE_PATH=folder, TESTING=True, RATELIMIT_ENABLED=False,
            LOG_LEVEL="ERROR", MODEL_DOWNLOADS=False,
        )  # fmt: skip
        setattr(services(app).queue, "_next_job", lambda _but: None)  # noqa: B010
        with site_of(app) as site:
            yield site


def put_picture(app: Flask) -> int:
    """The id of a picture with 500 boxes in the only account."""
    data = io.BytesIO()
    smear(1, (1280, 960))[0].save(data, "JPEG", quality=92)
    with app.app_context():
        owner = db.session.scalars(select(User)).one()
        new = services(app).uploads.upload(owner.id, "crowd.jpg", io.BytesIO(data.getvalue()))
        image = db.session.get_one(Image, new.id)
        image.status, image.model, image.detected_at = ImageStatus.DONE, "benchmark", utcnow()
        store_result(services(app).results.session, image.id, many_boxes(), utcnow(), 5)
        db.session.commit()
        return int(image.id)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser without a GPU."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def fill_in(page: Any, address: str, **values: str) -> None:
    """Send the form of a page for visitors, and arrive at the gallery."""
    page.goto(address)
    for name, value in values.items():
        page.fill(f"#{name}", value)
    page.get_by_role("main").locator("form button[type=submit], form input[type=submit]").click()
    page.wait_for_url("/")


def frames(browser: Any, rounds: int) -> Iterator[Row]:
    """Frames a second while the slider moves and while the pointer wanders."""
    with crowded() as app:
        context = browser.new_context(base_url=app.config["TEST_ADDRESS"], viewport=WINDOW)
        page = context.new_page()
        fill_in(page, "/auth/signup", username="measured", email="m@example.com", password=PASSWORD)
        page.goto(f"/images/{put_picture(app)}")
        page.wait_for_selector(".is-live .box", state="attached")
        if page.locator(".box").count() != BOXES:
            raise AssertionError("the page does not show every box")
        times: dict[str, list[float]] = {kind: [] for kind in ("nothing", "slider", "hover")}
        for _ in range(rounds + 1):  # the first one is not counted
            for kind, found in times.items():
                found.append(statistics.mean(page.evaluate(MEASURE, [kind, FRAMES])))
        context.close()
    idle = 1000 / statistics.median(times.pop("nothing")[1:])
    for kind, found in times.items():
        rate = 1000 / statistics.median(found[1:])
        note = f"{rate:.0f} a second, {idle:.0f} when nothing happens"
        yield Row(f"{kind} over {BOXES} boxes, frames / {LEAST}", rate / LEAST, least=1, note=note)


def weight(browser: Any) -> Iterator[Row]:
    """Bytes that the gallery needs before its thumbnails: nothing cached, then a second time."""
    with library(LARGE, None) as large, served(large.client.application) as address:
        context = browser.new_context(base_url=address, viewport=WINDOW)
        page = context.new_page()
        network = context.new_cdp_session(page)
        network.send("Network.enable")
        kinds, sizes = {}, {}
        network.on("Network.responseReceived", lambda e: kinds.update({e["requestId"]: e["type"]}))
        network.on(
            "Network.loadingFinished",
            lambda e: sizes.update({e["requestId"]: e["encodedDataLength"]}),
        )
        fill_in(page, "/auth/login", email="measured", password=PASSWORD)
        for name in ("first", "next"):
            if name == "first":
                network.send("Network.clearBrowserCache")
            kinds.clear()
            sizes.clear()
            page.goto("/", wait_until="networkidle")
            seen = {key: size for key, size in sizes.items() if kinds.get(key) != "Image"}
            total = sum(seen.values())
            note = f"{total / 1000:.0f} kB in {len(seen)} answers"
            yield Row(f"{name} visit at 100,000 pictures / 200 kB", total / MOST, most=1, note=note)
        context.close()


def main() -> int:
    options = arguments(__doc__).parse_args()
    with chromium() as browser:
        rows = [*frames(browser, options.rounds), *weight(browser)]
    return report(rows, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
