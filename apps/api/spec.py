"""flask-smorest, with problem details for errors and forms that hold files beside fields."""

from http import HTTPStatus
from typing import Any

from flask import Request
from flask_smorest import Api as BaseApi
from flask_smorest import Blueprint as BaseBlueprint
from webargs.flaskparser import FlaskParser
from webargs.multidictproxy import MultiDictProxy
from werkzeug.datastructures import MultiDict
from werkzeug.routing import AnyConverter

from apps.api.problems import MEDIA_TYPE
from apps.api.schemas import Problem
from apps.errors import N_, UnsupportedBody
from apps.web import MAX_ID, RowIdConverter

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
MULTIPART = "multipart"  # the location of files and fields in one form
DESCRIPTION = """
Every request shows a token of the account: `Authorization: Bearer sb_…`. Cookies let nobody in.
The scopes that an operation needs are in its `x-scope`, with a space between two.

Errors are problem details (RFC 9457, `application/problem+json`): `detail` is a sentence for
people, `code` a stable word for programs. Lists have `next`, the `cursor` of their next page.
"""


class Parser(FlaskParser):
    """Knows the location ``multipart`` too."""

    __location_map__ = {MULTIPART: "load_multipart"} | FlaskParser.__location_map__

    def load_json(self, req: Request, schema: Any) -> Any:
        """Raises UnsupportedBody: something is sent that does not say that it is JSON."""
        if not req.is_json and _has_body(req):
            raise UnsupportedBody(N_("Send JSON, with “Content-Type: application/json”."))
        return super().load_json(req, schema)

    def load_multipart(self, req: Request, schema: Any) -> Any:
        """Fields and files of a form together.

        Raises:
            UnsupportedBody: something is sent that does not say that it is a form.
        """
        if req.mimetype not in FORMS and _has_body(req):
            raise UnsupportedBody(N_("Send a form, with “Content-Type: multipart/form-data”."))
        together = MultiDict([*req.form.items(multi=True), *req.files.items(multi=True)])
        return MultiDictProxy(together, schema)


def _has_body(req: Request) -> bool:
    return bool(req.content_length) or "Transfer-Encoding" in req.headers


class Blueprint(BaseBlueprint):
    """Of operations that the reference describes."""

    ARGUMENTS_PARSER = Parser()
    DEFAULT_LOCATION_CONTENT_TYPE_MAPPING = {
        **BaseBlueprint.DEFAULT_LOCATION_CONTENT_TYPE_MAPPING,
        MULTIPART: "multipart/form-data",
    }


class Api(BaseApi):
    """Errors are those of apps/errorpages, and no command is added."""

    ERROR_SCHEMA = Problem

    def _register_error_handlers(self) -> None:
        """None: the application has handlers for everything."""

    def _register_responses(self) -> None:
        """One response for each status, and the default one: problem details."""
        content = {MEDIA_TYPE: {"schema": Problem}}
        for status in HTTPStatus:
            response = {"description": status.phrase, "content": content}
            self.spec.components.response(status.name, response, lazy=True)
        response = {"description": "What went wrong", "content": content}
        self.spec.components.response("DEFAULT_ERROR", response, lazy=True)


def new_api() -> Api:
    """The reference of one application, still without operations."""
    api = Api(
        spec_kwargs={
            "title": "Sightbox",
            "version": "1",
            "openapi_version": "3.1.0",
            "info": {"description": DESCRIPTION.strip()},
            "security": [{"token": []}],
            "servers": [{"url": "/"}],
        }
    )
    api.register_converter(RowIdConverter, _row_id)
    api.register_converter(AnyConverter, _one_of)
    return api


def _one_of(converter: AnyConverter) -> dict[str, Any]:
    return {"type": "string", "enum": sorted(converter.items)}


def _row_id(_converter: RowIdConverter) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": MAX_ID}
