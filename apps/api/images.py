"""Stored pictures: upload, list, look up, delete, their files and tags."""

import hashlib
from typing import Any, BinaryIO, cast

from flask import Response, jsonify
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage

from apps.api import schemas
from apps.api.access import caller, needs
from apps.api.pages import part_of, pictures_after, read_place
from apps.api.problems import problem
from apps.api.spec import MULTIPART, Blueprint
from apps.api.values import error_json, image_json, twin_json
from apps.container import services
from apps.errors import N_, InvalidInput
from apps.extensions import begin_writing
from apps.files import send_stored
from apps.i18n import error_text
from apps.services.gallery import Asker
from apps.services.pictures import MANY
from apps.services.uploads import Outcome

bp = Blueprint("images", __name__, description="Stored pictures and their tags")
READ_AT_ONCE = 1 << 20  # bytes
BINARY = {"type": "string", "format": "binary"}


@bp.post("/images")
@needs("write", takes_files=True)
@bp.arguments(schemas.UploadHeaders, location="headers")
@bp.arguments(schemas.UploadFiles, location=MULTIPART)
@bp.response(201, schemas.Uploaded)
def upload(headers: dict[str, Any], form: dict[str, Any]) -> ResponseReturnValue:
    """Upload one or many pictures

    Each is looked at as soon as it is its turn: see /jobs. A file that is refused does not stop the
    others; if all are refused the answer is an error. With an Idempotency-Key the same request
    again, for example after a lost connection, gets the same answer and stores nothing twice. The
    error of a `duplicate` has in `image` which picture is there already.
    """
    files, key = only_files(form["image"]), headers.get("idempotency_key", "")
    if not key:
        return _upload(files)
    keeper, owner = services().idempotency, caller().user_id
    kept = keeper.begin(owner, key, _fingerprint(files))
    if kept is not None:
        again = jsonify(kept.body)
        again.headers["Idempotency-Replayed"] = "true"
        return again, kept.status
    try:
        answer = _upload(files)
    except BaseException:
        keeper.drop(owner, key)
        raise
    if answer.status_code == 201:
        keeper.end(owner, key, answer.status_code, answer.get_json())
    else:
        keeper.drop(owner, key)
    return answer


def _upload(files: list[FileStorage]) -> Response:
    pairs = [(file.filename, cast(BinaryIO, file.stream)) for file in files]
    outcomes = services().uploads.upload_many(caller().user_id, pairs)
    results = schemas.Uploaded().dump({"results": [_outcome_json(one) for one in outcomes]})
    good = any(outcome.image is not None for outcome in outcomes)
    if good:
        response = jsonify(results)
        response.status_code = 201
        return response
    error = outcomes[0].error or InvalidInput(N_("Send each picture as a file, with a file name."))
    text, details = error_text(error), results["results"]
    return problem(error.status, text, error.code, details, **twin_json(error))


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    image = None
    if outcome.image is not None:
        image = image_json(services().images.get_owned(caller().user_id, outcome.image.id))
    error = error_json(outcome.error) if outcome.error is not None else None
    return {"file": outcome.title, "image": image, "error": error}


def only_files(found: list[Any]) -> list[FileStorage]:
    """Those of the parts ``image`` that are files.

    Raises:
        InvalidInput: one is not, because it has no file name.
    """
    if not all(isinstance(part, FileStorage) for part in found):
        raise InvalidInput(N_("Send each picture as a file, with a file name."))
    return found


def _fingerprint(files: list[FileStorage]) -> str:
    """The same for the same files under the same names."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(repr(file.filename).encode())
        while block := file.stream.read(READ_AT_ONCE):
            digest.update(block)
        file.stream.seek(0)
    return digest.hexdigest()


@bp.get("/images")
@needs("read")
@bp.arguments(schemas.ImageQuery, location="query")
@bp.response(200, schemas.ImagePage)
def images(query: dict[str, Any]) -> dict[str, Any]:
    """List pictures, the latest upload first

    `search` is that of the gallery, with its orders: `dog>=2 -person score>0.8 sort:largest`. A
    picture whose place changes meanwhile, as by new boxes in `sort:boxes`, may come twice or not.
    """
    asker = Asker(caller().user_id, caller().threshold, MANY)
    search = query["search"].replace("\0", "").strip()
    _, pictures = services().gallery.find(asker, search)
    found, following = pictures_after(pictures, query["cursor"], query["limit"])
    return {"items": [image_json(image) for image in found], "next": following}


@bp.get("/images/<int:image_id>")
@needs("read")
@bp.response(200, schemas.Image)
def image(image_id: int) -> dict[str, Any]:
    """Look up a picture"""
    return image_json(services().images.get_owned(caller().user_id, image_id))


@bp.delete("/images/<int:image_id>")
@needs("write")
@bp.response(204)
def delete(image_id: int) -> None:
    """Move a picture with its boxes, tags and files to the trash

    It can be restored there for as long as the settings say, by its owner in a browser.
    """
    begin_writing()
    services().trash.move_one(caller().user_id, image_id)


@bp.get("/images/<int:image_id>/files/<any(original, display, thumbnail):kind>")
@needs("read")
@bp.response(200, BINARY, content_type="image/*")
@bp.alt_response(206, schema=BINARY, content_type="image/*", success=True)
@bp.alt_response(302, description="Where the storage itself has it", success=True)
def file(image_id: int, kind: str) -> ResponseReturnValue:
    """Download a file of a picture

    The untouched original, or a JPEG without EXIF: `display` of at most 2,048 pixels, `thumbnail`
    of at most 384. Parts are sent on request (`Range`).
    """
    owner = caller().user_id
    found = services().images.get_owned(owner, image_id)
    name: str = getattr(found, f"{kind}_name")
    return send_stored(services().images.open_file(name, owner))


# -- tags ----------------------------------------------------------------------------------


@bp.get("/tags")
@needs("read")
@bp.arguments(schemas.Page, location="query")
@bp.response(200, schemas.TagPage)
def tags(query: dict[str, Any]) -> dict[str, Any]:
    """List the tags of your pictures, the most used first"""
    last = read_place(query["cursor"], int, int) if query["cursor"] else None
    limit = query["limit"]
    found = services().tags.page(caller().user_id, limit + 1, last)
    shown, following = part_of(found, limit, "count", "id")
    items = [{"name": tag.name, "pictures": tag.count} for tag in shown]
    return {"items": items, "next": following}


@bp.get("/images/<int:image_id>/tags")
@needs("read")
@bp.response(200, schemas.ImageTag(many=True))
def image_tags(image_id: int) -> list[dict[str, Any]]:
    """List the tags of a picture"""
    found = services().images.get_owned(caller().user_id, image_id)
    links = [link for link in found.tag_links if link.source != "removed"]
    return [
        {"id": link.tag_id, "name": link.tag.name, "source": link.source.value} for link in links
    ]


@bp.post("/images/<int:image_id>/tags")
@needs("write")
@bp.arguments(schemas.NewTag)
@bp.response(201, schemas.Tag)
def add_tag(body: dict[str, Any], image_id: int) -> dict[str, Any]:
    """Put a tag on a picture; again is no error"""
    begin_writing()
    tag = services().tags.add(caller().user_id, image_id, body["name"])
    return {"id": tag.id, "name": tag.name}


@bp.delete("/images/<int:image_id>/tags/<int:tag_id>")
@needs("write")
@bp.response(204)
def remove_tag(image_id: int, tag_id: int) -> None:
    """Take a tag off a picture

    One that a model put there stays off when the picture is looked at again.
    """
    begin_writing()
    services().tags.remove(caller().user_id, image_id, tag_id)
