"""Label Studio's interface of ML backends: what a real one sends, and what goes wrong."""

import http.server
import json
import threading

import pytest
from sqlalchemy import select

from apps import outbound
from apps.container import services
from apps.extensions import db
from apps.models import ClientCall, LabelStudio, Role
from apps.services.labelstudios import LabelStudioService
from tests.conftest import picture_bytes

CONFIG = (
    '<View><Image name="img" value="$image"/><RectangleLabels name="lab" toName="img">'
    '<Label value="Hound" predicted_values="dog,wolf"/><Label value="CAT"/>'
    "</RectangleLabels></View>"
)
HOST = "http://studio.example.org:8080"
REFRESH = "aaaa.bbbb.cccc"


class Studio(http.server.BaseHTTPRequestHandler):
    """A Label Studio that gives a picture to whoever shows the right token."""

    seen: list[tuple[str, str]] = []

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        self.seen.append((self.path, given))
        good = given in ("Bearer short", "Token old") and self.path.startswith("/data/")
        body = picture_bytes((100, 80)) if good else b"no"
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = self.path == "/api/token/refresh" and sent == {"refresh": REFRESH}
        body = json.dumps({"access": "short"} if good else {"detail": "no"}).encode()
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture
def studio():
    Studio.seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Studio)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def connect(app, make_user, monkeypatch):
    """connect(host, token) -> the path of a new connection of ann."""
    classes = ("a model", ("dog", "cat"))  # of the engine of the tests
    monkeypatch.setattr(LabelStudioService, "classes_of", lambda *_: classes)

    def connect(
        host: str = HOST,
        token: str = "",
        model: str = "fast",
        least: float = 0.2,
        role: Role = Role.ADMIN,
    ) -> str:
        user_id = make_user("ann", role=role)
        with app.app_context():
            made = services(app).labelstudios.connect(user_id, host, token, model, least)
            return f"/labelstudio/{made[1]}"

    return connect


def tasks(*addresses: object, config: str = CONFIG) -> dict[str, object]:
    """As Label Studio 1.23 sends them."""
    return {
        "tasks": [
            {"id": n, "data": {"image": address}, "meta": {}, "annotations": [], "predictions": []}
            for n, address in enumerate(addresses, 1)
        ],
        "project": "1.1795223978",
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }


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


def test_a_picture_that_cannot_be_had_leaves_its_task_empty_and_a_line_in_the_log(
    program, connect, studio, logged
):
    path = connect(studio, "old")
    sent = tasks("/data/a.jpg", "/gone.jpg", "http://127.0.0.1:1/x.jpg", None, "/data/b.jpg")
    answer = program.post(path + "/predict", json=sent)
    assert answer.status_code == 200
    assert [len(one["result"]) for one in answer.json["results"]] == [2, 0, 0, 0, 2]
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
    answer = program.post(path + "/predict", json=tasks("/data/a.jpg"))
    assert answer.json["results"][0]["result"] == []
    assert any("does not accept the token (status 401)" in line[2] for line in logged())


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
    assert len(logged()) == 2


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
    [found] = program.post(f"{path}/predict", json=tasks("/data/1.png")).json["results"]
    assert found["result"] == []
    assert Studio.seen == []
    assert any("OUTBOUND_PRIVATE" in error for _, _, error in logged())
