"""Korean and English are complete: no text without a translation, no stale compiled catalogue."""

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from apps.config import ROOT

KOREAN = ROOT / "apps" / "translations" / "ko" / "LC_MESSAGES"
DOMAINS = ["messages", "flask_security"]
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]")
METHODS = [("**.py", "python"), ("**/templates/**.html", "jinja2")]


def catalogue(domain: str) -> Catalog:
    with (KOREAN / f"{domain}.po").open("rb") as file:
        return read_po(file, locale="ko", domain=domain)


def plain(messages: Catalog) -> dict[str, str]:
    """Text to translation; of a plural, the first of each."""

    def first(text: str | list[str] | tuple[str, ...]) -> str:
        return text if isinstance(text, str) else text[0]

    return {first(m.id): first(m.string) for m in messages if m.id}


def texts() -> set[str]:
    """Every text in the sources that is marked for translation."""
    keywords = DEFAULT_KEYWORDS | {"_l": None, "N_": None}
    found = extract_from_dir(str(ROOT / "apps"), METHODS, keywords=keywords)
    return {m[0] if isinstance(m, tuple) else m for _, _, m, *_ in found} - {""}


def test_every_text_has_a_korean_translation():
    known = {
        m.id[0] if isinstance(m.id, tuple) else m.id
        for m in catalogue("messages")
        if m.id and not m.fuzzy and (m.string[0] if isinstance(m.string, tuple) else m.string)
    }
    missing = texts() - known
    assert not missing, f"run script/translations, then translate: {sorted(missing)}"


def test_every_text_of_flask_security_has_a_korean_translation():
    import flask_security

    template = Path(flask_security.__file__).parent / "translations" / "flask_security.pot"
    with template.open("rb") as file:
        wanted = {m.id for m in read_po(file) if m.id}
    known = {m.id for m in catalogue("flask_security") if m.string}
    assert len(wanted) > 100
    assert not wanted - known


@pytest.mark.parametrize("domain", DOMAINS)
def test_translations_keep_their_placeholders(domain):
    for message in catalogue(domain):
        ids = message.id if isinstance(message.id, tuple) else (message.id,)
        strings = message.string if isinstance(message.string, tuple) else (message.string,)
        for string in strings:
            expected = sorted(set(PLACEHOLDER.findall(ids[-1])))
            assert sorted(set(PLACEHOLDER.findall(string))) == expected or not ids[0], message.id


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_compiled_catalogue_is_up_to_date(domain):
    with (KOREAN / f"{domain}.mo").open("rb") as file:
        compiled = plain(read_mo(file))
    assert compiled == plain(catalogue(domain)), "run script/translations"


def test_templates_hold_no_text_outside_of_translation():
    """Words between tags that no gettext call surrounds."""
    allowed = re.compile(
        r"Sightbox|AP(50)?|SHA-256|M|ms|UTC|JSON|flask users.*|\.venv.*|in|x"
        r"|Home Assistant|Blue Iris|Agent DVR|Node-RED|Frigate"
        r"|Label Studio( JSON)?|CVAT|Roboflow SDK|COCO JSON|YOLO|Pascal VOC|CSV",
        re.I,
    )
    for path in (ROOT / "apps").rglob("templates/**/*.html"):
        text = re.sub(
            r"\{% call copy.*?\{% endcall %\}|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}"
            r"|<script.*?</script>|<!.*?>",
            "",
            path.read_text(),
            flags=re.S,
        )
        text = re.sub(r"<code>.*?</code>", "", text, flags=re.S)
        for words in re.findall(r">([^<>]*[A-Za-z]{2,}[^<>]*)<", text):
            cleaned = words.strip(" ·\n%×&;:,.+")
            assert not cleaned or allowed.fullmatch(cleaned), f"{path.name}: {cleaned!r}"
