"""The OpenAPI document, and requests that schemathesis makes up from it."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import openapi
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

DOCUMENT = PREFIX + "/openapi.json"
CHECKS = [
    schemathesis.checks.not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
EXAMPLES = 6  # for each operation


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    """One application for all made-up requests, and the token of an administrator."""
    folder = str(tmp_path_factory.mktemp("instance"))
    app = create_app("testing", INSTANCE_PATH=folder, PROPAGATE_EXCEPTIONS=False)
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


def test_whatever_comes_the_answer_is_one_that_the_reference_tells_of(application):
    headers = {"Authorization": f"Bearer {application.config['TEST_TOKEN']}"}
    operations = [
        found.ok() for found in openapi.from_wsgi(DOCUMENT, application).get_all_operations()
    ]
    assert len(operations) > 20
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy())
        def run(case) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        run()


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
