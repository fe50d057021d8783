"""Style sheets, scripts and icons as browsers load them."""

import re

import pytest

from apps import assets


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def home(client) -> str:
    return client.get("/").text


def addresses(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="(/assets/[^"]+)"', page)


def test_every_style_sheet_and_script_of_a_page_is_kept_for_a_year(client, home):
    assert len(addresses(home)) >= 5
    for address in addresses(home):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert "Set-Cookie" not in answer.headers
        assert "Cookie" not in answer.headers["Vary"]


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
def test_texts_are_compressed_as_the_browser_can_read_them(client, home, coding):
    address = next(a for a in addresses(home) if a.endswith("bootstrap.min.css"))
    plain = client.get(address, headers={"Accept-Encoding": "identity"})
    small = client.get(address, headers={"Accept-Encoding": coding})
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == coding
    assert "Accept-Encoding" in small.headers["Vary"]
    assert len(small.data) < len(plain.data) / 4


def test_pages_are_not_compressed(client):
    """A page holds secrets beside what the visitor sent."""
    answer = client.get("/", headers={"Accept-Encoding": "gzip, br"})
    assert "Content-Encoding" not in answer.headers


def test_an_older_page_gets_the_present_file_and_asks_again_next_time(client, home):
    address = next(a for a in addresses(home) if a.endswith("sightbox.css"))
    old = address.replace(assets.version(), "0123456789ab")
    answer = client.get(old)
    assert answer.data == client.get(address).data
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get(old, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


def test_scripts_import_each_other_under_the_same_version(client):
    answer = client.get(f"/assets/{assets.version()}/js/picture.js")
    assert answer.mimetype == "text/javascript"
    assert re.search(r'from "\./picture/app\.js"', answer.text)


@pytest.mark.parametrize(
    "name", ["nothing.css", "../config.py", "%2e%2e/config.py", "js", "", "bootstrap.css"]
)
def test_what_is_no_such_file_is_not_found(client, name):
    assert client.get(f"/assets/{assets.version()}/{name}").status_code == 404


def test_every_icon_that_a_page_shows_has_its_drawing(ann):
    for address in ("/", "/images", "/images/upload", "/review", "/trash", "/video/", "/auth/"):
        page = ann.get(address, follow_redirects=True).text
        for name in re.findall(r'class="bi bi-([a-z0-9-]+)"', page):
            assert f".bi-{name}{{" in assets.icons_css(), name


def test_every_icon_that_scripts_name_has_its_drawing():
    scripts = "".join(path.read_text() for path in assets.OWN.rglob("*.js"))
    names = set(re.findall(r"\bbi-([a-z][a-z0-9-]*[a-z0-9])", scripts))
    assert {"cloud-slash", "person-fill"} <= names
    for name in names:
        assert f".bi-{name}{{" in assets.icons_css(), name
