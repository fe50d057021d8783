"""Webhooks: who is told what, signed how, how often, and where nothing is sent to."""

import http.client
import http.server
import json
import re
import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from apps import outbound
from apps.container import services
from apps.extensions import db
from apps.models import Delivery, DeliveryStatus, Token, User, Webhook, utcnow
from apps.services import webhooks
from apps.services.deliveries import OFF_AFTER, PAUSES, SHARE, THREADS
from tests.api.test_boxes import asks_as
from tests.api.test_rest import is_problem, uploaded
from tests.conftest import DATABASES, app_on


class Receiver:
    """Keeps what it is sent, and answers with ``status``."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status, self.headers = 204, {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((dict(self.headers), body))
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if outer.status != 204:
                    self.wfile.write("so\x00 nicht ü".encode())

            def log_message(self, *_: object) -> None:
                """Not in the output of tests."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def app(request):
    if hasattr(request, "param"):
        return app_on(request, OUTBOUND_PRIVATE=True)
    return request.getfixturevalue("make_app")(OUTBOUND_PRIVATE=True)


on_both = pytest.mark.parametrize("app", DATABASES, indirect=True)


@pytest.fixture
def program(app, bearer):
    return asks_as(app, bearer("ann"))


@pytest.fixture
def send(app):
    """send() sends what is due, as the threads of a server would; how many messages."""

    def send() -> int:
        with app.app_context():
            return services(app).deliveries.run_due()

    return send


def later(app) -> None:
    """What waits for its next try is due."""
    with app.app_context():
        db.session.execute(update(Delivery).values(next_at=utcnow()))
        db.session.execute(update(Webhook).values(paused_until=None))
        db.session.commit()


def hooked(program, receiver) -> dict:
    answer = program("POST", "/webhooks", json={"url": receiver.url})
    assert answer.status_code == 201, answer.text
    return answer.json


def log_of(program, hook) -> list[dict]:
    return program("GET", f"/webhooks/{hook['id']}/deliveries").json["items"]


def test_the_end_of_a_detection_is_told_and_verifiers_that_exist_know_who_it_was(
    program, receiver, send
):
    hook = hooked(program, receiver)
    image_id = uploaded(program)
    assert receiver.got == []  # detection never waits for an address
    assert send() == 1
    [(headers, body)] = receiver.got
    told = Verifier(hook["secret"]).verify(body, headers)
    assert told["type"] == "detection.done"
    assert (told["data"]["kind"], told["data"]["id"]) == ("image", image_id)
    assert [box["label"] for box in told["data"]["detections"]] == ["dog", "cat"]
    with pytest.raises(WebhookVerificationError):
        Verifier(hook["secret"]).verify(body.replace(b"dog", b"cow"), headers)
    [one] = log_of(program, hook)
    assert (one["status"], one["answer_status"], one["attempts"]) == ("delivered", 204, 1)
    assert one["message"] == headers["webhook-id"]
    assert send() == 0


def test_a_detection_that_failed_is_told(app, program, receiver, send, monkeypatch):
    hook = hooked(program, receiver)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(services(app).detections.engine, "detect", refuse)
    image_id = uploaded(program)
    with app.app_context():
        for _ in range(2):
            services(app).detections.run(image_id)
    assert send() == 1
    told = Verifier(hook["secret"]).verify(receiver.got[0][1], receiver.got[0][0])
    assert told["type"] == "detection.failed"
    assert "three times" in told["data"]["error"]


def test_only_the_events_that_were_asked_for_and_only_of_ones_own_pictures(
    app, program, receiver, send, bearer
):
    hook = hooked(program, receiver)
    changes = {"events": ["detection.failed"]}
    assert program("PATCH", f"/webhooks/{hook['id']}", json=changes).json["events"] == [
        "detection.failed"
    ]
    uploaded(program)
    uploaded(asks_as(app, bearer("bob")))
    assert send() == 0


def test_a_message_is_tried_again_with_the_same_id_and_given_up_after_about_a_day(
    app, program, receiver, send
):
    assert 24 < sum(PAUSES) / 3600 < 30
    receiver.status = 500
    hook = hooked(program, receiver)
    uploaded(program)
    for _ in range(len(PAUSES)):
        assert send() == 1
        [one] = log_of(program, hook)
        assert (one["status"], one["answer_status"]) == ("waiting", 500)
        assert one["next_at"] > one["tried_at"]
        assert one["answer"] == "so� nicht ü"
        assert send() == 0  # it is not due
        later(app)
    assert send() == 1
    assert log_of(program, hook)[0]["status"] == "failed"
    later(app)
    assert send() == 0
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    receiver.status = 200
    again = f"/webhooks/{hook['id']}/deliveries/{log_of(program, hook)[0]['id']}/again"
    assert program("POST", again).status_code == 202
    assert is_problem(program("POST", again), 409)
    assert send() == 1
    assert log_of(program, hook)[0]["status"] == "delivered"
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert program("GET", f"/webhooks/{hook['id']}").json["failing_since"] is None


def test_an_address_can_ask_for_a_longer_pause_and_redirects_are_not_followed(
    program, receiver, send
):
    receiver.status = 503
    receiver.headers = {"Retry-After": "7200"}
    hook = hooked(program, receiver)
    uploaded(program)
    send()
    [one] = log_of(program, hook)
    assert one["next_at"][:13] > one["tried_at"][:13]
    receiver.status, receiver.headers = 302, {"Location": receiver.url}
    program("POST", f"/webhooks/{hook['id']}/test")
    send()
    assert len(receiver.got) == 2
    assert "redirect" in log_of(program, hook)[0]["error"]


@pytest.mark.parametrize(
    "text", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 10000 00:00:00 GMT", "-"]
)
def test_a_date_that_cannot_be_costs_no_try(program, receiver, send, text):
    receiver.status, receiver.headers = 503, {"Retry-After": text}
    hook = hooked(program, receiver)
    uploaded(program)
    assert send() == 1
    [one] = log_of(program, hook)
    assert (one["status"], one["answer_status"]) == ("waiting", 503)


@pytest.fixture
def dead(program, receiver, send):
    """A webhook whose address fails, with three messages."""
    receiver.status = 500
    hook = hooked(program, receiver)
    for _ in range(3):
        uploaded(program)
    assert send() == 1  # the others wait with the webhook
    return hook


@on_both
def test_a_dead_address_is_left_alone_and_one_that_is_well_comes_first(
    app, program, receiver, send, dead
):
    assert [row["attempts"] for row in log_of(program, dead)] == [0, 0, 1]
    well = hooked(program, receiver)
    later(app)
    uploaded(program)
    with app.app_context():
        first = services(app).deliveries.next_due()
        assert db.session.get_one(Delivery, first).webhook_id == well["id"]
    receiver.status = 204
    assert send() == 5


@on_both
def test_dead_addresses_leave_a_thread_to_those_that_are_well(app, program, receiver, send, bearer):
    receiver.status = 500
    for _ in range(THREADS):
        hooked(program, receiver)
    uploaded(program)
    assert send() == THREADS
    later(app)
    with app.app_context():
        deliveries = services(app).deliveries
        for _ in range(SHARE):
            assert deliveries._claim(deliveries.next_due() or 0) is not None
        assert deliveries.next_due() is None
        hooked(program, receiver)
        uploaded(program)
        assert deliveries.next_due() is not None


@on_both
def test_slow_addresses_of_one_account_leave_a_thread_to_others(app, program, receiver, bearer):
    for _ in range(THREADS):
        hooked(program, receiver)
    uploaded(program)
    with app.app_context():
        deliveries = services(app).deliveries
        in_hand: list[int] = []
        for _ in range(SHARE):
            in_hand.append(deliveries.next_due(in_hand) or 0)
            assert deliveries._claim(in_hand[-1]) is not None
        assert deliveries.next_due(in_hand) is None
        assert deliveries.next_due() is not None  # as after a process that was killed with them
        other = asks_as(app, bearer("bob"))
        mine = hooked(other, receiver)
        uploaded(other)
        due = deliveries.next_due(in_hand)
        assert db.session.get_one(Delivery, due).webhook_id == mine["id"]


@on_both
def test_of_an_address_only_one_message_is_on_its_way(app, program, receiver, send):
    hooked(program, receiver)
    uploaded(program)
    uploaded(program)
    with app.app_context():
        deliveries = services(app).deliveries
        first, second = db.session.scalars(select(Delivery.id).order_by(Delivery.id)).all()
        assert deliveries.next_due() == first
        assert deliveries.next_due([first]) is None  # another thread has it, and claims it soon
        assert deliveries._claim(first) is not None
        assert deliveries._claim(second) is None


@on_both
def test_a_test_and_what_is_sent_again_wait_for_no_pause(app, program, receiver, send, dead):
    path = f"/webhooks/{dead['id']}"
    program("POST", f"{path}/test")
    assert send() == 1
    assert log_of(program, dead)[0]["attempts"] == 1
    again = f"{path}/deliveries/{log_of(program, dead)[-1]['id']}/again"
    assert program("POST", again).status_code == 202
    assert send() == 1
    later(app)
    with app.app_context():
        deliveries = services(app).deliveries
        taken = deliveries._claim(deliveries.next_due() or 0)
        assert taken is not None
    again = f"{path}/deliveries/{taken.delivery_id}/again"
    answer = program("POST", again)
    assert is_problem(answer, 409)
    assert "on its way" in answer.json["detail"]


@on_both
def test_of_too_many_messages_the_oldest_are_given_up_and_the_log_says_so(
    program, receiver, send, dead, monkeypatch
):
    monkeypatch.setattr(webhooks, "MOST_WAITING", 2)
    uploaded(program)
    *waiting, third, fourth = log_of(program, dead)
    assert [row["status"] for row in waiting] == ["waiting"] * 2
    for row in (third, fourth):
        assert row["status"] == "failed"
        assert "too many messages waited" in row["error"]
    again = f"/webhooks/{dead['id']}/deliveries/{third['id']}/again"  # which was never tried
    assert program("POST", again).status_code == 202
    assert send() == 1
    assert log_of(program, dead)[2]["attempts"] == 1


def test_what_a_killed_process_had_in_hand_is_sent_by_another(app, program, receiver, send):
    hooked(program, receiver)
    uploaded(program)
    with app.app_context():
        in_hand = services(app).deliveries.next_due() or 0
        assert services(app).deliveries._claim(in_hand) is not None
    assert send() == 0  # it may still be on its way
    with app.app_context():
        db.session.execute(update(Delivery).values(claimed_until=utcnow()))
        db.session.commit()
    assert send() == 1


def test_an_address_that_fails_for_days_is_switched_off_and_its_owner_is_told(
    app, program, receiver, send, ann
):
    receiver.status = 500
    hook = hooked(program, receiver)
    uploaded(program)
    send()
    assert "switched a webhook off" not in ann.get("/auth/account").text
    with app.app_context():
        long_ago = utcnow() - OFF_AFTER - timedelta(minutes=1)
        db.session.execute(update(Webhook).values(failing_since=long_ago))
        db.session.commit()
    later(app)
    send()
    state = program("GET", f"/webhooks/{hook['id']}").json
    assert (state["active"], state["off_reason"]) == (False, "failing")
    assert log_of(program, hook)[0]["status"] == "failed"
    assert "switched a webhook off" in ann.get("/auth/account").text
    uploaded(program)
    assert send() == 0
    assert is_problem(program("POST", f"/webhooks/{hook['id']}/test"), 409)
    on = program("PATCH", f"/webhooks/{hook['id']}", json={"active": True}).json
    assert (on["active"], on["failing_since"]) == (True, None)


def test_an_address_that_says_it_is_gone_is_not_asked_again(program, receiver, send):
    receiver.status = 410
    hook = hooked(program, receiver)
    uploaded(program)
    send()
    assert program("GET", f"/webhooks/{hook['id']}").json["off_reason"] == "gone"


def test_a_new_secret_signs_beside_the_old_one_for_a_day(app, program, receiver, send):
    hook = hooked(program, receiver)
    new = program("POST", f"/webhooks/{hook['id']}/secret").json["secret"]
    assert "secret" not in program("GET", f"/webhooks/{hook['id']}").json
    program("POST", f"/webhooks/{hook['id']}/test")
    send()
    headers, body = receiver.got[0]
    for secret in (hook["secret"], new):
        assert Verifier(secret).verify(body, headers)["type"] == "webhook.test"
    with app.app_context():
        db.session.execute(update(Webhook).values(old_until=utcnow()))
        db.session.commit()
    program("POST", f"/webhooks/{hook['id']}/test")
    send()
    headers, body = receiver.got[1]
    with pytest.raises(WebhookVerificationError):
        Verifier(hook["secret"]).verify(body, headers)


def test_nothing_is_sent_for_an_account_that_is_disabled(app, program, receiver, send):
    hooked(program, receiver)
    uploaded(program)
    with app.app_context():
        db.session.execute(update(User).values(active=False))
        db.session.commit()
    send()
    assert receiver.got == []
    with app.app_context():
        assert db.session.scalar(select(Delivery.status)) is DeliveryStatus.FAILED


def test_webhooks_of_somebody_else_are_not_there(app, program, receiver, bearer, bob):
    hook = hooked(program, receiver)
    sent = program("POST", f"/webhooks/{hook['id']}/test").json["id"]
    stranger, reader = asks_as(app, bearer("bob")), asks_as(app, bearer("ann", "read"))
    here = f"/webhooks/{hook['id']}"
    for method, path, options in (
        ("GET", here, {}),
        ("PATCH", here, {"json": {"active": False}}),
        ("DELETE", here, {}),
        ("POST", f"{here}/secret", {}),
        ("POST", f"{here}/test", {}),
        ("GET", f"{here}/deliveries", {}),
        ("POST", f"{here}/deliveries/{sent}/again", {}),
    ):
        assert is_problem(stranger(method, path, **options), 404)
        if method != "GET":
            assert is_problem(reader(method, path, **options), 403)
    assert stranger("GET", "/webhooks").json == {"items": []}
    assert bob.get(f"/account{here}").status_code == 404
    for action in ("secret", "off", "delete", "test", f"deliveries/{sent}/again"):
        assert bob.post(f"/account{here}/{action}").status_code == 404
    assert program("DELETE", here).status_code == 204
    assert program("GET", "/webhooks").json == {"items": []}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:8080/x",
        "http://[::1]/",
        "http://10.1.2.3/",
        "http://192.168.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[fec0::1]/",
        "http://[feff:0:0:ffff::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[2002:a00:1::]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "ftp://example.org/",
        "http://user:word@example.org/",
        "http://exa mple.org/",
        "http://example.org:0/",
        "http://[/",
        "x",
    ],
)
def test_addresses_inside_of_this_network_and_what_is_no_address_are_refused(make_app, url):
    app = make_app()
    with app.app_context(), pytest.raises(outbound.AddressRefused):
        services(app).webhooks.check_address(url)
    with pytest.raises(outbound.AddressRefused):
        outbound.post(url, b"", {}, timeout=1, allow_private=False)


def test_a_name_that_turns_into_a_private_address_later_is_refused_when_it_is_asked(
    monkeypatch, receiver
):
    answers = iter(["93.184.215.14", "127.0.0.1"])
    port = receiver.server.server_port

    def resolve(*_: object, **__: object) -> list:
        return [(2, 1, 6, "", (next(answers), port))]

    monkeypatch.setattr(outbound.socket, "getaddrinfo", resolve)
    url = f"http://rebind.example:{port}/"
    assert outbound.resolve("rebind.example", port, allow_private=False) == ["93.184.215.14"]
    with pytest.raises(outbound.AddressRefused):
        outbound.post(url, b"", {}, timeout=1, allow_private=False)
    assert receiver.got == []


def test_the_page_makes_shows_tests_and_deletes_a_webhook(ann, receiver, send):
    made = ann.post("/account/webhooks", data={"url": receiver.url, "events": ["detection.done"]})
    assert made.status_code == 201
    secret = re.search(r'id="new-secret">([^<]+)<', made.text)[1]
    here = "/account" + re.search(r'action="/account(/webhooks/\d+)"', made.text)[1]
    assert secret not in ann.get(here).text
    assert receiver.url in ann.get("/account/webhooks").text
    assert ann.post(f"{here}/test").status_code == 303
    waits = ann.get(here).text
    assert "waiting" in waits
    assert "data-live" in waits  # its script looks again
    send()
    page = ann.get(here).text
    assert "data-live" not in page
    assert "delivered" in page
    assert json.loads(receiver.got[0][1])["type"] == "webhook.test"
    again = re.search(r'action="([^"]+/again)"', page)[1]
    assert ann.post(again).status_code == 303
    assert send() == 1
    other = {"url": receiver.url + "2", "events": ["detection.failed"]}
    assert ann.post(here, data=other).status_code == 303
    assert "/hook2" in ann.get(here).text
    assert secret not in ann.post(f"{here}/secret").text
    assert ann.post(f"{here}/off").status_code == 303
    assert "This webhook is off" in ann.get(here).text
    assert ann.post(f"{here}/on").status_code == 303
    assert ann.post(f"{here}/delete").status_code == 303
    assert ann.get(here).status_code == 404


def test_the_page_says_what_is_wrong(app, ann):
    for data, says in (
        ({"url": "", "events": ["detection.done"]}, "required"),
        ({"url": "x", "events": ["detection.done"]}, "whole address"),
        ({"url": "http://127.0.0.1/", "events": []}, "at least one event"),
    ):
        answer = ann.post("/account/webhooks", data=data)
        assert answer.status_code == 422
        assert says in answer.text
    assert app.test_client().get("/account/webhooks").status_code == 302


def test_a_connection_ends_though_not_all_of_its_answer_was_read(receiver, monkeypatch):
    answers: list[http.client.HTTPResponse] = []
    real = http.client.HTTPConnection.getresponse

    def kept(connection):
        answers.append(real(connection))
        return answers[-1]

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", kept)
    receiver.status = 500
    sent = outbound.post(receiver.url, b"x", {"Content-Length": "1"}, timeout=9, allow_private=True)
    assert sent.status == 500
    with pytest.raises(outbound.Unanswered, match="501"):  # it knows no GET
        outbound.fetch(receiver.url, most_bytes=9, timeout=9, allow_private=True)
    assert [answer.isclosed() for answer in answers] == [True, True]


# -- the tokens that give addresses ----------------------------------------------------------


def token_id_of(app, prefix: str) -> int:
    with app.app_context():
        return db.session.execute(select(Token.id).where(Token.prefix == prefix)).scalar_one()


def test_a_token_that_may_not_read_makes_and_bends_no_webhook(app, program, receiver, bearer):
    hook = hooked(program, receiver)
    path = f"/webhooks/{hook['id']}"
    for scope in ("write", "read"):
        weak = asks_as(app, bearer("ann", scope))
        for method, address, body in (
            ("POST", "/webhooks", {"url": receiver.url}),
            ("PATCH", path, {"url": f"{receiver.url}/other"}),
            ("POST", f"{path}/secret", None),
        ):
            answer = weak(method, address, json=body)
            is_problem(answer, 403, "forbidden")
            assert {"write": "read", "read": "write"}[scope] in answer.json["detail"]
    assert len(program("GET", "/webhooks").json["items"]) == 1


def test_a_webhook_ends_with_the_token_that_made_it(app, ann, program, receiver, send):
    hook = hooked(program, receiver)
    uploaded(program)  # waits to be told
    ann.post(f"/account/tokens/{token_id_of(app, hook['token'])}/revoke")
    assert send() == 0
    assert receiver.got == []
    page = ann.get("/account/webhooks").text
    assert hook["token"] in page
    assert "was revoked or has expired" in page
    detail = f"/account/webhooks/{hook['id']}"
    assert "no longer depends on a token" in ann.get(detail).text
    assert ann.post(f"{detail}/on").status_code == 303
    assert "Switch off" in ann.get(detail).text
    assert hook["token"] not in ann.get(detail).text


def test_a_webhook_ends_when_its_token_expires(app, receiver, send, bearer):
    short = asks_as(app, bearer("ann", days=1))
    hook = hooked(short, receiver)
    assert hook["ends_at"]
    with app.app_context():
        db.session.execute(update(Webhook).values(ends_at=utcnow()))
        db.session.commit()
    other = asks_as(app, bearer("ann"))
    uploaded(other)
    assert send() == 0
    found = other("GET", f"/webhooks/{hook['id']}").json
    assert (found["active"], found["off_reason"]) == (False, "token")
    is_problem(other("POST", f"/webhooks/{hook['id']}/test"), 409, "conflict")
    taken = other("PATCH", f"/webhooks/{hook['id']}", json={"active": True}).json
    assert taken["active"] is True
    assert taken["token"] not in (None, hook["token"])
    assert taken["ends_at"] is None


def test_what_waits_when_the_token_expires_is_not_sent(app, program, receiver, send):
    hook = hooked(program, receiver)
    uploaded(program)
    with app.app_context():
        db.session.execute(update(Webhook).values(ends_at=utcnow()))
        db.session.commit()
    send()
    assert receiver.got == []
    assert [row["status"] for row in log_of(program, hook)] == ["failed"]


def test_a_webhook_that_starts_anew_is_judged_anew(app, program, receiver, send, dead):
    path = f"/webhooks/{dead['id']}"
    with app.app_context():
        db.session.execute(update(Webhook).values(ends_at=utcnow()))
        db.session.commit()
    assert program("PATCH", path, json={"active": True}).json["failing_since"] is None
    with app.app_context():
        assert db.session.get_one(Webhook, dead["id"]).paused_until is None


def test_another_address_by_a_token_ends_with_that_token(app, ann, program, receiver):
    ann.post("/account/webhooks", data={"url": receiver.url, "events": ["detection.done"]})
    [hook] = program("GET", "/webhooks").json["items"]
    assert hook["token"] is None
    path = f"/webhooks/{hook['id']}"
    assert program("PATCH", path, json={"events": ["detection.failed"]}).json["token"] is None
    bent = program("PATCH", path, json={"url": f"{receiver.url}/other"}).json
    ann.post(f"/account/tokens/{token_id_of(app, bent['token'])}/revoke")
    assert "no longer depends on a token" in ann.get(f"/account{path}").text
