"""The pages and the JSON of the classifiers: who may ask what, and every way to ask wrongly."""

import io
import re
from dataclasses import replace

import pytest
from PIL import Image as Picture
from sqlalchemy import select

from apps.container import EXTENSION, services
from apps.errors import Busy, Unavailable, WeightsError
from apps.extensions import db
from apps.models import Detection
from apps.services.classifications import AT_ONCE
from apps.vision.zoo import classifiers as registry
from apps.vision.zoo.classifiers import classifiers, get_classifier
from tests.conftest import picture_bytes

NAME = "lenet5.mnist"
AWAY = "vgg16.imagenet1k_v1"
PAGE = f"/classifier/{NAME}"
ASKS = ["", "/answer", "/predict"]  # after the address of a network: ways to send it a picture


@pytest.fixture(autouse=True)
def _weights(monkeypatch, tmp_path) -> None:
    """The weights of NAME are here, whatever this checkout has."""
    spec = get_classifier(NAME)
    path = tmp_path / spec.weights.name
    path.write_bytes(b"weights")
    file = replace(spec.weights, folder=tmp_path, size=path.stat().st_size)
    here = replace(spec, weights=file)
    monkeypatch.setitem(registry._specs, NAME, here)


def file(data: bytes | None = None, name: str = "digit.png") -> tuple[io.BytesIO, str]:
    return io.BytesIO(picture_bytes() if data is None else data), name


def predict(client, name=NAME, **fields):
    return client.post(f"/classifier/{name}/predict", data=fields)


@pytest.fixture
def asked(app, monkeypatch) -> list[tuple[tuple[int, int], bool | None]]:
    """Size of each picture that reached the network, and whether it shall be inverted."""
    asked = []
    classifier = services(app).classifications.classifier
    classify = classifier.classify

    def watch(picture, *arguments, **options):
        asked.append((picture.size, options["invert"]))
        return classify(picture, *arguments, **options)

    monkeypatch.setattr(classifier, "classify", watch)
    return asked


def boxes(app, image_id: int) -> list[int]:
    with app.app_context():
        query = select(Detection.id).where(Detection.image_id == image_id).order_by(Detection.id)
        return list(db.session.scalars(query))


# -- the networks --------------------------------------------------------------------------


def test_every_network_has_a_card_that_says_whether_it_can_be_used(ann):
    text = ann.get("/classifier/").text
    for spec in classifiers():
        assert f'href="/classifier/{spec.name}"' in text
    assert f"flask models fetch {AWAY}" in text
    assert f"flask models fetch {NAME}" not in text


def test_the_navigation_and_the_cards_of_detectors_lead_to_the_classifiers(ann):
    assert 'href="/classifier/"' in ann.get("/").text
    assert 'href="/classifier/"' in ann.get("/models").text.partition("<main")[2]


@pytest.mark.parametrize("spec", classifiers(), ids=lambda spec: spec.name)
def test_the_page_of_a_network_says_what_it_is_for_and_what_it_knows(ann, spec):
    page = ann.get(f"/classifier/{spec.name}")
    assert page.status_code == 200
    assert spec.labels[-1] in page.text
    assert f"/classifier/{spec.name}/layers" in page.text


def test_missing_weights_come_with_the_command_or_for_administrators_the_page(ann, admin):
    page = f"/classifier/{AWAY}"
    assert f"<code>flask models fetch {AWAY}</code>" in ann.get(page).text
    assert "<form" not in ann.get(page).text.partition("<main")[2]
    assert "/crud/models#classifiers" in admin.get(page).text


def test_the_table_of_layers_has_shapes_and_parameters(app, ann):
    with app.app_context():
        first = services().classifications.layers(NAME)[0]
    text = ann.get(f"{PAGE}/layers").text
    assert first.name in text
    assert " × ".join(str(side) for side in first.shape) in text


def test_only_the_network_that_reads_digits_has_a_sheet_to_draw_on(ann):
    assert "data-pad" in ann.get(PAGE).text
    assert "data-pad" not in ann.get("/classifier/resnet18.imagenet1k_v1").text


# -- answers -------------------------------------------------------------------------------


def test_an_upload_is_answered_with_classes_and_the_way_to_them(ann):
    page = ann.post(PAGE, data={"image": file()})
    assert page.status_code == 200
    assert page.text.count('class="guess-label"') == 5
    assert page.text.count("<figcaption>") >= 2
    assert "data:image/png;base64," in page.text
    assert "Heat map" not in page.text


def test_an_uploaded_picture_is_not_kept(ann):
    predict(ann, image=file())
    assert "0 pictures" in ann.get("/").text


def test_the_script_of_the_page_gets_the_answer_alone(ann):
    part = ann.post(f"{PAGE}/answer", data={"image": file()})
    assert part.text.lstrip().startswith("<section")
    assert part.text.count('class="guess-label"') == 5


def test_programs_get_probabilities_and_pictures_as_json(ann):
    answer = predict(ann, image=file(), top="3").json
    assert answer["model"] == NAME
    chances = [guess["probability"] for guess in answer["guesses"]]
    assert len(chances) == 3
    assert chances == sorted(chances, reverse=True)
    assert all(guess["label"] in get_classifier(NAME).labels for guess in answer["guesses"])
    assert all(step["text"] for step in answer["steps"])
    kind, _, data = answer["steps"][0]["picture"].partition(";base64,")
    assert kind.startswith("data:image/")
    assert data
    assert answer["explanation"] is None


def test_reasons_come_when_they_are_asked_for(ann):
    why = predict(ann, image=file(), explain="1").json["explanation"]
    assert why["label"] in get_classifier(NAME).labels
    assert why["heat"].startswith("data:image/")
    assert why["maps"]
    assert "Heat map" in ann.post(PAGE, data={"image": file(), "explain": "1"}).text


@pytest.mark.parametrize(("word", "given"), [("yes", True), ("no", False), ("auto", None)])
def test_light_and_dark_are_swapped_as_the_person_chose(ann, asked, word, given):
    page = ann.post(PAGE, data={"image": file(), "invert": word})
    assert [invert for _, invert in asked] == [given]
    assert f'selected value="{word}"' in page.text


def test_one_of_the_own_pictures_is_chosen_by_its_link(ann, upload):
    image_id = upload(ann, name="seven.jpg")
    assert f"{PAGE}?image={image_id}" in ann.get(PAGE).text
    page = ann.get(f"{PAGE}?image={image_id}")
    assert page.text.count('class="guess-label"') == 5
    assert "seven.jpg" in page.text
    assert predict(ann, image_id=image_id).status_code == 200


def test_a_file_wins_over_the_picture_that_was_chosen_before(ann, upload):
    image_id = upload(ann, name="seven.jpg")
    page = ann.post(PAGE, data={"image": file(), "image_id": image_id})
    assert 'name="image_id"' not in page.text


def test_the_picture_page_leads_to_the_networks_with_it_and_with_each_box(app, ann, upload):
    image_id = upload(ann)
    text = ann.get(f"/images/{image_id}").text
    assert f"/classifier/?image={image_id}" in text
    for box in boxes(app, image_id):
        assert f"/classifier/?image={image_id}&amp;box={box}" in text
        assert (
            f"{PAGE}?image={image_id}&amp;box={box}"
            in ann.get(f"/classifier/?image={image_id}&box={box}").text
        )


def test_a_box_is_cut_out_with_as_much_around_it_as_was_asked(app, ann, upload, asked):
    image_id = upload(ann, picture_bytes((100, 100)))
    box = boxes(app, image_id)[0]  # from 10, 10 to 60, 70
    for margin in ("0", "0.1", "1"):
        assert predict(ann, image_id=image_id, box_id=box, margin=margin).status_code == 200
    assert [size for size, _ in asked] == [(50, 60), (62, 72), (100, 100)]
    page = ann.get(f"{PAGE}?image={image_id}&box={box}")
    assert "The box “dog” in" in page.text
    assert asked[-1][0] == (62, 72)


def test_a_large_picture_reaches_the_network_small(ann, asked):
    assert predict(ann, image=file(picture_bytes((3000, 1500)))).status_code == 200
    assert [size for size, _ in asked] == [(1024, 512)]


# -- who may -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/classifier/"), ("GET", PAGE), ("GET", f"{PAGE}/layers")]
    + [("POST", PAGE + ask) for ask in ASKS],
)
def test_visitors_log_in_first(app, method, path):
    answer = app.test_client().open(path, method=method, data={} if method == "POST" else None)
    assert answer.status_code == (401 if path.endswith("/predict") else 302)


@pytest.mark.parametrize("ask", ASKS)
def test_somebody_elses_picture_is_not_there(app, ann, bob, admin, upload, ask):
    image_id = upload(ann)
    box = boxes(app, image_id)[0]
    for client in (bob, admin):
        for fields in ({"image_id": image_id}, {"image_id": image_id, "box_id": box}):
            assert client.post(PAGE + ask, data=fields).status_code == 404
    assert ann.post(PAGE + ask, data={"image_id": image_id, "box_id": box}).status_code == 200


@pytest.mark.parametrize("path", ["/classifier/", PAGE])
def test_a_link_to_somebody_elses_picture_leads_nowhere(app, ann, bob, upload, path):
    image_id = upload(ann)
    box = boxes(app, image_id)[0]
    for query in (f"image={image_id}", f"image={image_id}&box={box}", "image=4711"):
        assert bob.get(f"{path}?{query}").status_code == 404


def test_a_box_belongs_to_its_picture(app, ann, upload):
    first, second = upload(ann), upload(ann)
    answer = predict(ann, image_id=first, box_id=boxes(app, second)[0])
    assert answer.status_code == 404
    assert "There is no such box" in answer.json["error"]["message"]


def test_ones_own_box_does_not_open_somebody_elses_picture(app, ann, bob, upload):
    theirs, mine = upload(ann), upload(bob)
    assert predict(bob, image_id=theirs, box_id=boxes(app, mine)[0]).status_code == 404
    assert predict(bob, image_id=mine, box_id=boxes(app, theirs)[0]).status_code == 404


@pytest.mark.parametrize("ask", ASKS)
def test_a_question_without_a_csrf_token_is_refused(app, ann, ask):
    app.config["WTF_CSRF_ENABLED"] = True
    assert ann.post(PAGE + ask, data={"image": file()}).status_code == 400
    token = re.search(r'csrf-token" content="([^"]+)"', ann.get(PAGE).text)[1]
    good = ann.post(PAGE + ask, data={"image": file()}, headers={"X-CSRFToken": token})
    assert good.status_code == 200


# -- wrong questions -----------------------------------------------------------------------

WRONG = {
    "nothing": ({}, "Choose a picture first."),
    "a text instead of a file": ({"image": "words"}, "Choose a picture first."),
    "an empty file": ({"image": b""}, "The file is empty."),
    "not a picture": ({"image": b"not a picture"}, "not a picture that Sightbox can read"),
    "cut short": ({"image": picture_bytes((200, 200), "PNG")[:-40]}, "cut short or damaged"),
    "too many bytes": ({"image": picture_bytes() + b"\0" * 20_000}, "larger than 0.0 MB"),
    "too many pixels": ({"image": picture_bytes((300, 300), "PNG")}, "megapixels fit"),
    "garbage for a picture": ({"image_id": "abc"}, "not the number of a picture"),
    "NUL in a number": ({"image_id": "1\0"}, "not the number of a picture"),
    "a number beyond all rows": ({"image_id": "9" * 30}, "not the number of a picture"),
    "a negative number": ({"image_id": "-1"}, "not the number of a picture"),
    "garbage for a box": ({"image_id": "1", "box_id": "x"}, "not the number of a picture"),
    "a box of no picture": ({"box_id": "1"}, "in which picture"),
    "no classes": ({"image": picture_bytes(), "top": "0"}, "Between 1 and 100"),
    "too many classes": ({"image": picture_bytes(), "top": "101"}, "Between 1 and 100"),
    "garbage for classes": ({"image": picture_bytes(), "top": "many"}, "Between 1 and 100"),
    "an unknown swap": ({"image": picture_bytes(), "invert": "maybe\0"}, "Not a valid choice"),
    "a margin of no number": ({"image": picture_bytes(), "margin": "nan"}, "from 0 to 1"),
    "a wide margin": ({"image": picture_bytes(), "margin": "2"}, "from 0 to 1"),
}


@pytest.fixture
def strict(app):
    """Limits that are low enough to break."""
    limits = replace(services(app).uploads.limits, file_bytes=20_000, image_pixels=80_000)
    change(app, limits=limits)


def change(app, **values) -> None:
    """Replace parts of the service."""
    container = services(app)
    app.extensions[EXTENSION] = replace(
        container, classifications=replace(container.classifications, **values)
    )


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_question_says_what_is_wrong(ann, strict, what, ask):
    given, reason = WRONG[what]
    fields = {k: file(v) if isinstance(v, bytes) else v for k, v in given.items()}
    answer = ann.post(PAGE + ask, data={"explain": "1"} | fields)
    assert answer.status_code == (413 if "larger than" in reason else 422)
    if ask == "/predict":
        assert reason in answer.json["error"]["message"]
        return
    assert reason in answer.text
    assert 'role="alert"' in answer.text
    if not ask:  # the rest of the form is as it was
        assert re.search(r'<input checked [^>]*name="explain"', answer.text)


def test_the_code_of_an_error_tells_programs_what_to_do(ann):
    assert predict(ann).json["error"]["code"] == "no_file"
    assert predict(ann, image=file(b"x" * 99)).json["error"]["code"] == "not_a_picture"
    assert predict(ann, image=file(), top="x").json["error"]["code"] == "invalid"
    assert predict(ann, "nonsense", image=file()).json["error"]["code"] == "not_found"


@pytest.mark.parametrize("name", ["nonsense", "a%00b", "..%2f..", "%F0%9F%90%88", "x" * 3000])
def test_an_unknown_network_is_404_whatever_is_asked(ann, name):
    assert ann.get(f"/classifier/{name}").status_code == 404
    assert ann.get(f"/classifier/{name}/layers").status_code == 404
    for ask in ASKS:
        assert ann.post(f"/classifier/{name}{ask}", data={"image": file()}).status_code == 404


@pytest.mark.parametrize("name", ["a\0b.png", "../../etc/passwd", "👁\u202e.png", ""])
def test_the_name_of_a_file_plays_no_part(ann, name):
    answer = predict(ann, image=file(name=name or "x"))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "query", ["image=abc", "image=1%00", "image=" + "9" * 30, "box=1", "image=&box=", "image=-1"]
)
def test_garbage_in_a_link_is_told_at_the_form(ann, query):
    page = ann.get(f"{PAGE}?{query}")
    assert page.status_code == 422
    assert 'role="alert"' in page.text
    assert ann.get(f"/classifier/?{query}").status_code == 200


@pytest.mark.parametrize("ask", ASKS)
def test_missing_weights_are_no_crash_and_no_random_answer(ann, ask):
    answer = ann.post(f"/classifier/{AWAY}{ask}", data={"image": file()})
    assert answer.status_code == 422
    assert "not here yet" in answer.text
    assert "guess" not in answer.text


@pytest.mark.parametrize("ask", ASKS)
def test_weights_that_cannot_be_used_say_so(app, ann, monkeypatch, ask):
    error = WeightsError("The weights file %(file)s is not the expected one", file="x.pth")
    monkeypatch.setattr(services(app).classifications.classifier, "error", error)
    answer = ann.post(PAGE + ask, data={"image": file()})
    assert answer.status_code == Unavailable.status
    assert "x.pth is not the expected one" in answer.text


@pytest.mark.parametrize("ask", ASKS)
def test_only_so_many_pictures_are_classified_at_once(app, ann, ask):
    change(app, patience=0)
    slots = services(app).classifications.slots
    for _ in range(AT_ONCE):
        slots.acquire()
    busy = ann.post(PAGE + ask, data={"image": file()})
    assert busy.status_code == 503
    assert busy.headers["Retry-After"] == str(Busy.retry_after)
    assert "Try again in a moment" in busy.text
    slots.release()
    assert ann.post(PAGE + ask, data={"image": file()}).status_code == 200
    assert ann.post(PAGE + ask, data={"image": file()}).status_code == 200  # the slot came back


def test_a_slot_comes_back_after_a_crash(app, ann, monkeypatch):
    app.config["PROPAGATE_EXCEPTIONS"] = False
    change(app, patience=0)
    classifier = services(app).classifications.classifier

    with monkeypatch.context() as broken:
        broken.setattr(classifier, "error", RuntimeError())
        for _ in range(AT_ONCE + 1):
            assert predict(ann, image=file()).status_code == 500
    assert predict(ann, image=file()).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", PAGE),
        ("GET", f"{PAGE}/predict"),
        ("GET", f"{PAGE}/answer"),
        ("POST", "/classifier/"),
    ],
)
def test_the_wrong_method_is_refused(ann, method, path):
    assert ann.open(path, method=method).status_code == 405


def test_json_bodies_are_refused_with_the_right_way(ann):
    answer = ann.post(f"{PAGE}/predict", json={"image_id": 1})
    assert answer.status_code == 415
    assert "as a form" in answer.json["error"]["message"]


def test_a_visitor_cannot_send_a_large_body(app):
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    body = head + b"x" * 3 * 2**20 + b"\r\n--x--\r\n"
    big = {"data": body, "content_type": "multipart/form-data; boundary=x"}
    assert app.test_client().post(f"{PAGE}/predict", **big).status_code in (401, 413)


def test_a_question_takes_no_write_lock(app, ann, upload):
    """Uploads of others go on while a picture is classified."""
    image_id = upload(ann)
    with app.app_context():
        lock = db.engine.raw_connection()
        lock.execute("BEGIN IMMEDIATE")
    try:
        assert predict(ann, image_id=image_id).status_code == 200
    finally:
        lock.rollback()
        lock.close()


def test_a_lost_file_is_told_and_no_crash(app, ann, upload):
    image_id = upload(ann)
    with app.app_context():
        storage = services().storage
        storage.delete(services().classifications.place(1, image_id).image.original_key)
    assert predict(ann, image_id=image_id).status_code == 404


def test_pictures_of_every_mode_are_answered(ann):
    for mode in ("L", "RGBA", "P", "1", "I;16"):
        buffer = io.BytesIO()
        Picture.new(mode, (200, 150)).save(buffer, "PNG")
        assert predict(ann, image=file(buffer.getvalue())).status_code == 200
