"""The account of the token, and for administrators all accounts."""

from typing import Any

from apps.api import schemas
from apps.api.access import caller, needs
from apps.api.pages import make_cursor, read_cursor
from apps.api.spec import Blueprint
from apps.container import services
from apps.errors import N_, Conflict
from apps.extensions import begin_writing, db
from apps.models import Role, User
from apps.services.tokens import SCOPES

bp = Blueprint("accounts", __name__, description="Your account; for administrators all accounts")


@bp.get("/me")
@needs("")
@bp.response(200, schemas.Me)
def me() -> dict[str, Any]:
    """Tell whose token this is and what it may do

    Works with every scope.
    """
    asked = caller()
    totals = services().images.totals(asked.user_id)
    return {
        "id": asked.user_id,
        "username": asked.name,
        "admin": asked.is_admin,
        "scopes": [scope for scope in SCOPES if asked.may(scope)],
        "threshold": asked.threshold,
        "pictures": totals.pictures,
        "waiting": totals.waiting,
        "bytes": totals.bytes,
        "quota_bytes": services().uploads.keeper.quota(asked.user_id),
    }


@bp.get("/users")
@needs("admin")
@bp.arguments(schemas.UserQuery, location="query")
@bp.response(200, schemas.UserPage)
def users(query: dict[str, Any]) -> dict[str, Any]:
    """List accounts, oldest first"""
    last = read_cursor(query["cursor"]) or 0
    search = query["search"].replace("\0", "")
    rows = db.session.execute(
        services()
        .accounts.all_query(search)
        .where(User.id > last)
        .order_by(None)
        .order_by(User.id)
        .limit(query["limit"] + 1)
    ).all()
    shown = rows[: query["limit"]]
    following = make_cursor(shown[-1][0].id) if len(rows) > len(shown) else None
    return {"items": [_user_json(row[0], row[1]) for row in shown], "next": following}


@bp.post("/users")
@needs("admin")
@bp.arguments(schemas.NewUser)
@bp.response(201, schemas.User)
def new_user(body: dict[str, Any]) -> dict[str, Any]:
    """Make an account"""
    begin_writing()
    body["role"] = Role(body["role"])
    return _user_json(services().accounts.create(**body), 0)


@bp.get("/users/<int:user_id>")
@needs("admin")
@bp.response(200, schemas.User)
def user(user_id: int) -> dict[str, Any]:
    """Look up an account"""
    return _looked_up(user_id)


@bp.patch("/users/<int:user_id>")
@needs("admin")
@bp.arguments(schemas.UserChanges)
@bp.response(200, schemas.User)
def change_user(body: dict[str, Any], user_id: int) -> dict[str, Any]:
    """Change an account

    Disabling it ends its sessions and stops its tokens. The last administrator stays one.
    """
    begin_writing()
    if "role" in body:
        body["role"] = Role(body["role"])
    services().accounts.update(user_id, **body)
    return _looked_up(user_id)


@bp.delete("/users/<int:user_id>")
@needs("admin")
@bp.response(204)
def delete_user(user_id: int) -> None:
    """Delete an account with everything in it"""
    begin_writing()
    if user_id == caller().user_id:
        raise Conflict(N_("This is your own account. Its page deletes it."))
    services().accounts.get(user_id)
    services().accounts.delete([user_id])


def _looked_up(user_id: int) -> dict[str, Any]:
    found = services().accounts.get(user_id)
    return _user_json(found, services().images.totals(user_id).pictures)


def _user_json(user: User, pictures: int) -> dict[str, Any]:
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "role": user.role.value,
        "active": user.active,
        "quota_bytes": user.quota_bytes,
        "pictures": pictures,
        "created_at": user.created_at,
    }
