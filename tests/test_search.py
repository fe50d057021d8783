"""The language of the gallery's search: what is understood, and what is told about a mistake."""

import uuid
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

import pytest
from sqlalchemy import select

from apps.container import services
from apps.extensions import db
from apps.models import (
    Annotation,
    Detection,
    Image,
    ImageStatus,
    ImageTag,
    Result,
    TagSource,
    Verdict,
    utcnow,
)
from apps.services import gallery, search
from apps.services.search import parse, with_terms
from apps.services.terms import (
    Counted,
    Measured,
    Named,
    Scored,
    SearchError,
    Tagged,
    Uploaded,
)
from tests.conftest import DATABASES, app_on
from tests.test_paging import flat, shown

MODEL, OTHER = "test.one", "test.two"


def conditions(text: str) -> list[object]:
    return [term.condition for term in parse(text).terms]


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("dog", Tagged("dog")),
        ('"traffic light"', Tagged("traffic light")),
        ("강아지", Tagged("강아지")),
        ("c++", Tagged("c++")),
        ("dog>=2", Counted("dog", ">=", 2)),
        ('"traffic light"<3', Counted("traffic light", "<", 3)),
        ('"score">1', Counted("score", ">", 1)),
        ("score>0.8", Scored(None, ">", 0.8)),
        ("SCORE>=80%", Scored(None, ">=", 0.8)),
        ("dog:score<0.5", Scored("dog", "<", 0.5)),
        ('"hot dog":score>0.5', Scored("hot dog", ">", 0.5)),
        ("boxes=0", Measured("boxes", "=", 0)),
        ("size>1.5MB", Measured("size", ">", 1.5 * 2**20)),
        ("bytes<=300", Measured("size", "<=", 300)),
        ("model:ssd300", Named("model", "ssd300")),
        ('title:"my cat"', Named("title", "my cat")),
    ],
)
def test_terms_are_understood(text, condition):
    assert conditions(text) == [condition]


def test_days_months_and_years_are_understood():
    def day(year: int, month: int, day_of: int) -> datetime:
        return datetime(year, month, day_of, tzinfo=UTC)

    assert conditions("date:2026-12") == [Uploaded(day(2026, 12, 1), day(2027, 1, 1))]
    assert conditions("date:2026") == [Uploaded(day(2026, 1, 1), day(2027, 1, 1))]
    assert conditions("date>2026-11-01") == [Uploaded(day(2026, 11, 2), None)]
    assert conditions("date<=2026-11-01") == [Uploaded(None, day(2026, 11, 2))]
    [term] = parse("date:yesterday", today=date(2026, 3, 1)).terms
    assert term.condition == Uploaded(day(2026, 2, 28), day(2026, 3, 1))


def test_a_minus_turns_a_term_round_and_the_order_is_none():
    found = parse('-person -"traffic light" -status:done sort=-title')
    assert [term.negated for term in found.terms] == [True, True, True]
    assert found.sort == "-title"


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("cat dog>=", 4, "write what shall follow “dog>=”"),
        ("dog>=many", 0, "write a whole number after “dog>=”, as in dog>=2"),
        ('cat "open', 4, "is not closed"),
        ("colour:red", 0, "there is no key “colour”"),
        ("score>2", 0, "a number from 0 to 1"),
        ("status:lost", 0, "queued, running, done, failed"),
        ("reviewed:perhaps", 0, "yes, no"),
        ("date>=2026-13-01", 0, "is no day"),
        ("a sort:colour", 2, "newest, oldest"),
        ("size>big", 0, "size>1MB"),
        ("width>=wide", 0, "width>=2"),
        (">2", 0, "cannot be understood"),
        ('""', 0, "nothing between the quotation marks"),
        ("model>3", 0, "a colon"),
        ("a " * 21, 40, "at most 20 terms"),
        ("a" * 501, 500, "at most 500 characters"),
    ],
)
def test_a_mistake_is_located_and_explained(text, position, says):
    with pytest.raises(SearchError, match=r"Character|at most") as error:
        parse(text)
    assert error.value.position == position
    assert says in str(error.value)


def test_terms_of_a_key_are_replaced_and_others_stay():
    changed = with_terms(
        'dog "hot dog" status:done -status:failed bytes>3 sort:title',
        {"status": ["status:queued"], "size": [], "sort": []},
    )
    assert changed == 'dog "hot dog" -status:failed status:queued'


@pytest.mark.parametrize("text", ["dog", "traffic light", '"', "-x", "a:b", "a=b", "x>1"])
def test_a_quoted_text_is_one_term_again(text):
    [term] = parse(search.quoted(text) if text != '"' else search.quoted('a"b')).terms
    assert isinstance(term.condition, Tagged)


# -- what is found -------------------------------------------------------------------------


@pytest.fixture(params=DATABASES)
def app(request):
    return app_on(request, GALLERY_PAGE_SIZE=4)


DAY = datetime(2026, 11, 1, 12, tzinfo=UTC)
# label -> scores of its boxes, for each picture, oldest first
LIBRARY: list[dict[str, tuple[float, ...]]] = [
    {"dog": (0.9, 0.8), "person": (0.7,)},
    {"dog": (0.6, 0.3)},
    {"person": (0.95,)},
    {"traffic light": (0.5,)},
    {},
    {"dog": (0.99, 0.9, 0.8)},
]


@pytest.fixture
def library(app, make_user) -> list[int]:
    """Ids of six pictures of ann, oldest first."""
    owner_id = make_user("ann")
    make_user("bob")
    ids = []
    with app.app_context():
        for n, boxes in enumerate(LIBRARY):
            key = uuid.uuid4().hex
            image = Image(
                owner_id=owner_id, title=f"{'zyxwvu'[n]} photo.jpg", key=key, extension="jpg",
                media_type="image/jpeg", sha256=key, bytes=1000 * (n + 1), width=100 * (n + 1),
                height=100, status=ImageStatus.FAILED if n == 4 else ImageStatus.DONE,
                model=OTHER if n == 2 else MODEL, created_at=DAY + timedelta(days=n),
                reviewed_at=utcnow() if n == 0 else None, uncertainty=None if n == 4 else n / 10,
            )  # fmt: skip
            db.session.add(image)
            db.session.flush()
            _boxes(image, boxes)
            services(app).tags.set_model_tags(
                image.id, [label for label, scores in boxes.items() if max(scores) >= 0.5]
            )
            ids.append(image.id)
        db.session.commit()
    return ids


def _boxes(image: Image, boxes: dict[str, tuple[float, ...]]) -> None:
    for model in (MODEL, OTHER):
        db.session.add(Result(image_id=image.id, model=model, detected_at=utcnow()))
    corners = {"x1": 1, "y1": 1, "x2": 9, "y2": 9}
    for label, scores in boxes.items():
        for score in scores:
            db.session.add(
                Detection(image_id=image.id, label=label, score=score, model=image.model, **corners)
            )
    # What another model said is not asked for.
    another = MODEL if image.model == OTHER else OTHER
    db.session.add(
        Detection(image_id=image.id, label="zebra", score=0.99, model=another, **corners)
    )


FOUND = {
    "dog": [5, 1, 0],
    "dog person": [0],
    "dog -person": [5, 1],
    '"traffic light"': [3],
    "traffic light": [3],
    "traf": [3],
    "-dog": [4, 3, 2],
    "dog>=2": [5, 0],
    "dog=1": [1],
    "DOG>2": [5],
    "dog<1": [4, 3, 2],
    "-dog>=2": [4, 3, 2, 1],
    "zebra>=1": [],
    "score>0.9": [5, 2],
    "score<0.7": [3, 1],
    "score=0.95": [2],
    "dog:score>=0.9": [5, 0],
    "person:score<0.8": [0],
    "boxes>=3": [5, 0],
    "boxes=0": [4],
    "model:two": [2],
    "-model:two": [5, 4, 3, 1, 0],
    "status:failed": [4],
    "status:waiting": [],
    "-status:failed": [5, 3, 2, 1, 0],
    "reviewed:yes": [0],
    "reviewed:no dog": [5, 1],
    "date>=2026-11-04": [5, 4, 3],
    "date:2026-11-02": [1],
    "date<2026-11-02": [0],
    "width>=400": [5, 4, 3],
    "height>100": [],
    "size>3KB": [5, 4, 3],
    "bytes<=1000": [0],
    "uncertainty>0.2": [5, 3],
    "-uncertainty>0.2": [2, 1, 0],
    "title:W": [3],
    "tag:dog score>0.9": [5],
    "sort:oldest": [0, 1, 2, 3, 4, 5],
    "sort:title": [5, 4, 3, 2, 1, 0],
    "dog sort:-title": [0, 1, 5],
    "sort:largest": [5, 4, 3, 2, 1, 0],
    "sort:smallest": [0, 1, 2, 3, 4, 5],
    "sort:boxes": [5, 0, 3, 2, 1, 4],
    "sort:uncertainty": [5, 3, 2, 1, 0],
    "reviewed:no sort:uncertainty": [5, 3, 2, 1],
    "nothing -dog": [],
}


@pytest.mark.parametrize("rare", [5000, 0], ids=["by label", "walking"])
def test_the_gallery_finds_what_is_asked_for(rare, library, client_of, monkeypatch):
    monkeypatch.setattr(gallery, "RARE", rare)
    if not rare:
        monkeypatch.setattr(gallery, "MANY", 0)
    found = {
        text: [
            library.index(image_id)
            for image_id in flat(shown(client_of("ann"), f"/images/search?search={quote(text)}"))
        ]
        for text in FOUND
    }
    assert found == FOUND
    for text in ("dog>=2", "-dog", "sort:title"):
        assert flat(shown(client_of("bob"), f"/images/search?search={quote(text)}")) == []


def test_what_a_person_says_counts_and_what_they_reject_does_not(app, library, client_of):
    with app.app_context():
        for verdict, label in ((Verdict.DRAWN, "cat"), (Verdict.REJECTED, "person")):
            model = None if verdict is Verdict.DRAWN else MODEL
            said = Annotation(
                image_id=library[0], ref=str(uuid.uuid4()), verdict=verdict, label=label,
                x1=1, y1=1, x2=9, y2=9, found_model=model,
            )  # fmt: skip
            db.session.add(said)
            db.session.flush()
            if verdict is Verdict.REJECTED:
                query = select(Detection).where(
                    Detection.image_id == library[0], Detection.label == "person"
                )
                db.session.scalars(query).one().annotation_id = said.id
        db.session.commit()
    ann = client_of("ann")

    def found(text: str) -> list[int]:
        return flat(shown(ann, f"/images/search?search={text}"))

    assert found("cat>=1") == [library[0]]
    assert found("cat:score>=1") == [library[0]]
    assert found("person>=1") == [library[2]]
    assert found("boxes=3") == [library[5], library[0]]
    boxes = ann.get(f"/images/boxes?id={library[0]}").json["pictures"][str(library[0])]["boxes"]
    assert [(box["label"], box["score"]) for box in boxes] == [
        ("cat", None), ("dog", 0.9), ("dog", 0.8),
    ]  # fmt: skip


def test_a_tag_is_found_by_its_name_whatever_characters_it_has(app, library, client_of):
    with app.app_context():
        for n, name in enumerate(("score>0.9", "my holiday", "-odd")):
            tag = services(app).tags.ensure(name)
            link = ImageTag(image_id=library[n], tag_id=tag.id, source=TagSource.PERSON)
            db.session.add(link)
        db.session.commit()
    ann = client_of("ann")
    for n, text in enumerate(("score>0.9", "my holiday", "-odd")):
        assert flat(shown(ann, f"/images/search?search={text}")) == [library[n]]


def test_a_mistake_is_shown_and_the_text_kept(library, client_of):
    ann = client_of("ann")
    answer = ann.get("/images/search?search=dog>%3Dmany")
    assert answer.status_code == 422
    assert 'value="dog&gt;=many"' in answer.text
    assert 'aria-describedby="search-error"' in answer.text
    assert "write a whole number" in answer.text
    asked = ann.get("/images/search?search=dog>=", headers={"Accept": "application/json"})
    assert asked.json["error"]["code"] == "search"


def test_the_panels_fields_become_a_search_and_come_back(library, client_of):
    ann = client_of("ann")
    address = (
        "/images/filter?search=dog+status:done&status=failed&reviewed=no&since=2026-11-01"
        "&until=2026-11-30&least=1.5&most=3&found_by=test.one&sort=title"
    )
    answer = ann.get(address, follow_redirects=True)
    text = (
        "dog model:test.one status:failed reviewed:no date&gt;=2026-11-01 date&lt;=2026-11-30 "
        "size&gt;=1.5MB size&lt;=3MB sort:title"
    )
    assert f'value="{text}"' in answer.text
    for field in ('name="since" value="2026-11-01"', 'name="until" value="2026-11-30"'):
        assert field in answer.text
    assert 'name="least" value="1.5"' in answer.text
    assert '<option value="failed" selected>' in answer.text
    assert "Leave one condition out" in answer.text


def test_what_completes_a_search_is_ones_own(library, client_of):
    ann = client_of("ann").get("/images/search/words").json
    assert {tag["name"]: tag["count"] for tag in ann["tags"]} == {
        "dog": 3, "person": 2, "traffic light": 1,
    }  # fmt: skip
    assert ann["values"]["model"] == [MODEL, OTHER]
    bob = client_of("bob").get("/images/search/words").json
    assert (bob["tags"], bob["values"]["model"]) == ([], [])
    assert client_of("bob").get(f"/images/boxes?id={library[0]}").json == {"pictures": {}}


def test_garbage_is_an_answer_and_no_crash(library, client_of):
    ann = client_of("ann")
    for text in ("%00", "%FF%FE", "x" * 3000, '"' * 99, "a>" * 99, "-" * 200):
        assert ann.get(f"/images/search?search={text}").status_code in (200, 422)
        assert ann.get(f"/images/filter?search={text}&least={text}").status_code == 302
