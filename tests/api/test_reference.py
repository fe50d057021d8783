"""The OpenAPI document, and requests that schemathesis makes up from it."""

import io
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, openapi
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from apps.api.rest import PREFIX
from apps.app import create_app
from apps.container import services
from apps.extensions import db
from apps.models import Role, User
from apps.web import MAX_ID
from tests.conftest import picture_bytes
from tests.labelled import packed, table

DOCUMENT = PREFIX + "/openapi.json"
CHECKS = [
    schemathesis.checks.not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
EXAMPLES = 4  # for each operation
NUMBERS = itertools.count()  # so that no two things have one name


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    """One application for all made-up requests, and the token of an administrator."""
    folder = str(tmp_path_factory.mktemp("instance"))
    app = create_app(
        "testing", INSTANCE_PATH=folder, PROPAGATE_EXCEPTIONS=False, OUTBOUND_PRIVATE=True
    )
    with app.app_context():
        db.create_all()
        user = User(username="root", email="r@example.com", password="-", role=Role.ADMIN)
        db.session.add(user)
        db.session.commit()
        scopes = ("read", "write", "detect", "admin")
        app.config["TEST_TOKEN"] = services(app).tokens.create(user.id, "x", scopes)[1]
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture(params=[False, True], ids=["anything", "what is there"])
def there(request, application) -> Callable[[str], dict[str, Any]]:
    """there(path) -> the parts of the path that lead to something of this account, or none."""

    def there(path: str) -> dict[str, Any]:
        if not request.param:
            return {}
        client, number = application.test_client(), next(NUMBERS)
        data = {"image": (io.BytesIO(picture_bytes()), "x.jpg")}
        uploaded = client.post(f"{PREFIX}/images", data=data, headers=bearer(application))
        name = f"user{number}"
        user = {"username": name, "email": f"{name}@example.com", "password": "plain long words"}
        made = client.post(f"{PREFIX}/users", json=user, headers=bearer(application))
        image_id = uploaded.json["results"][0]["image"]["id"]
        tag = client.get(f"{PREFIX}/images/{image_id}/tags", headers=bearer(application)).json[0]
        boxes = client.get(f"{PREFIX}/images/{image_id}/boxes", headers=bearer(application)).json
        box_id = boxes["boxes"][0]["id"]
        hook, sent = hook_of(application, number)
        return {
            "image_id": image_id,
            "user_id": made.json["id"],
            "tag_id": tag["id"],
            "box_id": box_id,
            "webhook_id": hook.json["id"],
            "delivery_id": sent.json["id"],
            "name": "lenet5.mnist",
        } | (archives_of(application) if "/exports/" in path or "/imports/" in path else {})

    return there


def hook_of(app: Flask, number: int) -> tuple[Any, Any]:
    """The answers to a new webhook and to its test; the one before goes, as there may be few."""
    client, headers = app.test_client(), bearer(app)
    for old in client.get(f"{PREFIX}/webhooks", headers=headers).json["items"]:
        client.delete(f"{PREFIX}/webhooks/{old['id']}", headers=headers)
    address = {"url": f"http://127.0.0.1:9/{number}"}
    hook = client.post(f"{PREFIX}/webhooks", json=address, headers=headers)
    return hook, client.post(f"{PREFIX}/webhooks/{hook.json['id']}/test", headers=headers)


def archives_of(app: Flask) -> dict[str, int]:
    """A ready export and an import that waits for a choice; those before go."""
    client, headers = app.test_client(), bearer(app)
    for old in client.get(f"{PREFIX}/exports", headers=headers).json:
        client.delete(f"{PREFIX}/exports/{old['id']}", headers=headers)
    for old in client.get(f"{PREFIX}/imports", headers=headers).json["items"]:
        client.post(f"{PREFIX}/imports/{old['id']}/cancel", headers=headers)
        client.delete(f"{PREFIX}/imports/{old['id']}", headers=headers)
    wanted = {"format": "csv", "pictures": False}
    made = client.post(f"{PREFIX}/exports", json=wanted, headers=headers).json
    form = {"archive": (io.BytesIO(packed(table())), "set.zip")}
    taken = client.post(f"{PREFIX}/imports", data=form, headers=headers).json
    ready = client.get(f"{PREFIX}/exports/{made['id']}", headers=headers).json
    assert (ready["status"], taken["status"]) == ("ready", "ready")
    return {"export_id": made["id"], "import_id": taken["id"]}


def bearer(app: Flask) -> dict[str, str]:
    return {"Authorization": f"Bearer {app.config['TEST_TOKEN']}"}


def tried(
    operation: Any, real: dict[str, Any], headers: dict[str, str], mode: GenerationMode
) -> None:
    """Send made-up requests; ``real`` replaces parts of the address."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case) -> None:
        for name in real.keys() & case.path_parameters.keys():
            case.path_parameters[name] = real[name]
        case.call_and_validate(headers=headers, checks=CHECKS)

    run()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_comes_the_answer_is_one_that_the_reference_tells_of(application, there, mode):
    schema = openapi.from_wsgi(DOCUMENT, application)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        path, real = operation.path, {}
        if "/file" in path:  # schemathesis leaves the files of answers open: other tests load them
            real = {"image_id": MAX_ID, "export_id": MAX_ID}
        elif "{" in path:
            real = there(path)
        tried(operation, real, bearer(application), mode)


def test_the_document_is_openapi_3_1_and_names_the_scope_of_each_operation(application):
    document = application.test_client().get(DOCUMENT).json
    assert document["openapi"].startswith("3.1")
    assert document["security"] == [{"token": []}]
    for operations in document["paths"].values():
        for name, operation in operations.items():
            if name != "parameters":
                assert "x-scope" in operation
                assert operation["summary"]
    assert "http://" not in json.dumps(document)


def test_the_reference_is_a_page_of_this_site_alone(application):
    page = application.test_client().get("/connect/api")
    assert page.status_code == 200
    assert f'data-document="{DOCUMENT}"' in page.text
    assert "://" not in page.text.replace("http://www.w3.org", "")
