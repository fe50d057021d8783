"""Label Studio's interface of ML backends: what a real one sends, and what goes wrong."""

import base64
from urllib.parse import quote

import pytest
from sqlalchemy import select

from apps import outbound
from apps.extensions import db
from apps.models import ClientCall, LabelStudio, Role
from apps.services import labelstudios
from tests.api.studio import CONFIG, HOST, REFRESH, Studio, tasks
from tests.conftest import picture_bytes


@pytest.fixture
def program(app):
    return app.test_client()


@pytest.fixture
def logged(app):
    def logged() -> list[tuple[str, int, str]]:
        with app.app_context():
            rows = db.session.scalars(select(ClientCall).order_by(ClientCall.id)).all()
            return [(row.path, row.status, row.error) for row in rows]

    return logged


def test_a_label_studio_connects(program, connect):
    path = connect()
    for where in ("/", "/health"):
        assert program.get(path + where).json["status"] == "UP"
    body = {"project": "1.1", "schema": CONFIG, "hostname": HOST, "access_token": "x"}
    version = program.post(path + "/setup", json=body).json["model_version"]
    assert version in program.get(path + "/versions").json["versions"]
    event = program.post(path + "/webhook", json={"action": "ANNOTATION_CREATED"})
    assert (event.status_code, event.json) == (201, {"status": "ok"})


@pytest.mark.parametrize("token", [REFRESH, "old"])
def test_pictures_are_fetched_with_the_token_and_boxes_are_percent(program, connect, studio, token):
    path = connect(studio, token)
    body = program.post(path + "/predict", json=tasks("/data/upload/1/a.jpg")).json
    [prediction] = body["results"]
    assert prediction["score"] == 0.9
    assert prediction["model_version"]
    dog, cat = prediction["result"]
    assert (dog["from_name"], dog["to_name"], dog["type"]) == ("lab", "img", "rectanglelabels")
    assert (dog["original_width"], dog["original_height"]) == (100, 80)
    assert dog["value"] == {
        "x": 10, "y": 10, "width": 50, "height": 60, "rotation": 0, "rectanglelabels": ["Hound"]
    }  # fmt: skip
    assert cat["value"]["rectanglelabels"] == ["CAT"]
    given = "Token old" if token == "old" else "Bearer short"
    assert Studio.seen == [("/data/upload/1/a.jpg", given)]


def test_a_picture_that_cannot_be_had_gets_no_prediction_and_a_line_in_the_log(
    program, connect, studio, logged
):
    path = connect(studio, "old")
    sent = tasks("/data/a.jpg", "/gone.jpg", "http://127.0.0.1:1/x.jpg", None, "/data/b.jpg")
    answer = program.post(path + "/predict", json=sent)
    assert answer.status_code == 200
    first, *failed, last = answer.json["results"]
    assert failed == [[], [], []]  # of which Label Studio keeps nothing, and asks again
    assert [len(one["result"]) for one in (first, last)] == [2, 2]
    lines = {line[0]: line[2] for line in logged()}
    assert "answered with status 401" in lines["/labelstudio/…/predict, task 2"]
    assert "inside this server’s network" in lines["/labelstudio/…/predict, task 3"]
    assert "no picture in “image”" in lines["/labelstudio/…/predict, task 4"]


def test_the_token_goes_to_the_registered_server_alone(program, connect, monkeypatch):
    asked: list[tuple[str, bool, dict[str, str]]] = []

    def fetch(url, *, most_bytes, timeout, allow_private, headers):
        asked.append((url, allow_private, dict(headers)))
        return picture_bytes()

    monkeypatch.setattr(outbound, "fetch", fetch)
    urls = [f"{HOST}/data/x", "/y", "//other/z", "http://studio.example.org/p", "https://x.org/q"]
    program.post(connect(HOST, "old") + "/predict", json=tasks(*urls))
    home = {"Authorization": "Token old"}
    assert sorted(asked, key=lambda one: one[0]) == sorted(
        [
            (f"{HOST}/data/x", True, home),
            (f"{HOST}/y", True, home),
            ("//other/z", False, {}),
            ("http://studio.example.org/p", False, {}),
            ("https://x.org/q", False, {}),
        ],
        key=lambda one: one[0],
    )


def test_a_token_that_label_studio_refuses_is_named_in_the_log(program, connect, studio, logged):
    path = connect(studio, "x.y.z")
    answer = program.post(path + "/predict", json=tasks("/data/a.jpg", "/data/b.jpg"))
    assert answer.status_code == 422
    assert "does not accept the token (status 401)" in answer.json["detail"]
    assert any("does not accept the token (status 401)" in line[2] for line in logged())


def test_more_tasks_than_the_log_has_lines_are_answered_one_by_one(
    program, connect, studio, logged
):
    path = connect(studio, "old")
    addresses = ["/data/a.jpg" if number % 2 else "/gone.jpg" for number in range(150)]
    results = program.post(path + "/predict", json=tasks(*addresses)).json["results"]
    assert [bool(one) for one in results] == [number % 2 == 1 for number in range(150)]
    lines = [line[0] for line in logged() if "task" in line[0]]
    assert len(lines) == 21
    assert lines[-1] == "/labelstudio/…/predict, 55 other tasks"


def test_tasks_that_there_is_no_time_for_are_left_for_the_next_question(
    program, connect, studio, logged, monkeypatch
):
    monkeypatch.setattr(labelstudios, "PATIENCE", -1.0)
    path = connect(studio, "old")
    answer = program.post(path + "/predict", json=tasks("/data/a.jpg", "/data/b.jpg"))
    assert answer.status_code == 422
    assert "no time left" in answer.json["detail"]
    assert Studio.seen == []


def test_a_picture_in_a_cloud_comes_through_label_studio(program, connect, studio, monkeypatch):
    name = quote(base64.urlsafe_b64encode(b"s3://bucket/a.jpg").decode())
    asked = f"/tasks/1/presign/?fileuri={name}"
    monkeypatch.setattr(Studio, "moved", {asked: "/storage/data/a.jpg"})
    sent = tasks("s3://bucket/a.jpg")
    [found] = program.post(connect(studio, "old") + "/predict", json=sent).json["results"]
    assert len(found["result"]) == 2
    assert [path for path, _ in Studio.seen] == [asked, "/storage/data/a.jpg"]


def test_the_token_does_not_follow_a_picture_to_its_cloud(program, connect, monkeypatch):
    asked: list[tuple[str, bool, dict[str, str]]] = []

    def fetch(url, *, most_bytes, timeout, allow_private, headers):
        asked.append((url, allow_private, dict(headers)))
        if len(asked) > 1:
            return picture_bytes()
        moved = outbound.Redirected("elsewhere")
        moved.address = "https://bucket.example.org/a.jpg?signature=x"
        raise moved

    monkeypatch.setattr(outbound, "fetch", fetch)
    program.post(connect(HOST, "old") + "/predict", json=tasks("/data/a.jpg"))
    assert asked == [
        (f"{HOST}/data/a.jpg", True, {"Authorization": "Token old"}),
        ("https://bucket.example.org/a.jpg?signature=x", False, {}),
    ]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("http://127.0.0.1:1/x", "inside this server’s network"),
        ("http://[", "answered with status 303"),
        ("file:///etc/passwd", "begins with http:// or https://"),
    ],
)
def test_a_redirect_leads_nowhere_inside_this_network(
    program, connect, studio, monkeypatch, target, text
):
    monkeypatch.setattr(Studio, "moved", {"/data/a.jpg": target})
    answer = program.post(connect(studio, "old") + "/predict", json=tasks("/data/a.jpg"))
    assert answer.status_code == 422
    assert text in answer.json["detail"]


def test_a_server_that_sends_on_to_itself_is_to_be_connected_by_that_address(
    program, connect, studio, monkeypatch
):
    monkeypatch.setattr(Studio, "moved", {"/data/a.jpg": "https://127.0.0.1/data/a.jpg"})
    answer = program.post(connect(studio, "old") + "/predict", json=tasks("/data/a.jpg"))
    assert "Connect it with that address" in answer.json["detail"]
    assert "https://127.0.0.1." in answer.json["detail"]


def test_too_many_tasks_are_refused_whole(program, connect, monkeypatch):
    monkeypatch.setattr(labelstudios, "MOST_TASKS", 2)
    sent = tasks("/data/a.jpg", "/data/b.jpg", "/data/c.jpg")
    answer = program.post(connect() + "/predict", json=sent)
    assert answer.status_code == 422
    assert "at most 2 tasks" in answer.json["detail"]


def test_a_redirect_from_another_server_is_not_followed(program, connect, monkeypatch):
    def fetch(url, **_options):
        moved = outbound.Redirected("elsewhere")
        moved.address = f"{HOST}/secret"
        asked.append(url)
        raise moved

    asked: list[str] = []
    monkeypatch.setattr(outbound, "fetch", fetch)
    answer = program.post(
        connect(HOST, "old") + "/predict", json=tasks("https://x.example.org/a.jpg")
    )
    assert answer.status_code == 422
    assert asked == ["https://x.example.org/a.jpg"]


def test_a_label_studio_below_a_path_names_its_pictures_with_or_without_it(
    program, connect, studio
):
    path = connect(f"{studio}/ls", "old")
    sent = tasks("/ls/data/upload/a.jpg", "/data/upload/b.jpg", "/lsd/data/c.jpg")
    program.post(path + "/predict", json=sent)
    assert sorted(path for path, _ in Studio.seen) == [
        "/ls/data/upload/a.jpg", "/ls/data/upload/b.jpg", "/ls/lsd/data/c.jpg"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "body"), [("/train", {}), ("/webhook", {"action": "START_TRAINING"})]
)
def test_a_training_that_label_studio_asks_for_is_not_passed_over_in_silence(
    program, connect, logged, where, body
):
    assert program.post(connect() + where, json=body).status_code == 201
    assert any("cannot start here" in error for _, _, error in logged())


def test_several_control_tags_get_their_own_boxes(program, connect, studio):
    config = (
        '<View><Image name="a" value="$image"/>'
        '<RectangleLabels name="one" toName="a" model_score_threshold="0.5">'
        '<Label value="dog"/><Label value="cat"/></RectangleLabels>'
        '<RectangleLabels name="two" toName="a"><Label value="Kitty" alias="cat"/>'
        '</RectangleLabels><RectangleLabels name="three" toName="nothing"/></View>'
    )
    sent = tasks("/data/a.jpg", config=config)
    found = program.post(connect(studio, "old") + "/predict", json=sent).json["results"][0]
    assert [(one["from_name"], one["value"]["rectanglelabels"]) for one in found["result"]] == [
        ("one", ["dog"]),
        ("two", ["cat"]),  # what Label Studio keeps for a label with an alias
    ]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("", "not XML"),
        ("<View>", "not XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "document type"),
        ('<View><Image name="img" value="$image"/></View>', "no RectangleLabels"),
        (CONFIG.replace("dog,wolf", "").replace("CAT", "Zebrafish"), "None of the project’s"),
    ],
)
def test_a_project_without_anything_to_answer_is_told_so(program, connect, logged, config, text):
    answer = program.post(connect() + "/predict", json=tasks("/data/a.jpg", config=config))
    assert answer.status_code == 422
    assert text in answer.json["detail"]
    assert text in logged()[-1][2]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"tasks": 1}', b'{"tasks": [1]}', b'{"tasks": [], "x": "\\ud800"}']
)
def test_garbage_is_refused_as_json(program, connect, body):
    answer = program.post(connect() + "/predict", data=body)
    assert answer.status_code == 422
    assert answer.is_json


def test_an_address_that_is_none_is_refused_and_its_secret_is_not_logged(program, logged):
    answer = program.get("/labelstudio/guessed-secret/health")
    assert (answer.status_code, answer.is_json) == (401, True)
    program.get("/labelstudio/guessed-secret/nothing")
    assert "guessed" not in str(logged())
    assert len(logged()) == 1


def test_a_removed_connection_answers_no_more(app, program, connect, make_user, ann, bob):
    path = connect(token="old")
    with app.app_context():
        row = db.session.scalars(select(LabelStudio)).one()
        assert "old" not in row.token
        number = row.id
    assert bob.post(f"/connect/labelstudio/{number}/remove").status_code == 404
    assert program.get(path + "/health").status_code == 200
    assert ann.post(f"/connect/labelstudio/{number}/remove").status_code == 303
    assert program.get(path + "/health").status_code == 401


def test_a_connection_is_made_on_the_page_and_its_secret_is_shown_once(app, ann, program):
    data = {"host": HOST, "studio_token": "secret-token", "model": "", "min_score": "0.5"}
    answer = ann.post("/connect/labelstudio", data=data)
    assert answer.status_code == 201
    path = answer.text.partition("http://localhost/labelstudio/")[2].partition("<")[0]
    assert program.get(f"/labelstudio/{path}/health").status_code == 200
    page = ann.get("/connect").text
    assert path not in page
    assert "secret-token" not in page + answer.text
    assert HOST in page
    for wrong in ({"host": "nas"}, {"min_score": "7"}, {"model": "nothing"}, {"min_score": "x"}):
        answer = ann.post("/connect/labelstudio", data=data | wrong)
        assert answer.status_code in (404, 422)
    assert app.test_client().post("/connect/labelstudio", data=data).status_code == 302
    app.config["WTF_CSRF_ENABLED"] = True
    assert ann.post("/connect/labelstudio", data=data).status_code == 400


@pytest.mark.parametrize("token", ["old", REFRESH])
def test_only_administrators_reach_a_label_studio_inside_this_network(
    app, program, connect, studio, logged, token
):
    path = connect(studio, token, role=Role.USER)
    assert program.post(f"{path}/predict", json=tasks("/data/1.png")).status_code == 422
    assert Studio.seen == []
    assert any("OUTBOUND_PRIVATE" in error for _, _, error in logged())
