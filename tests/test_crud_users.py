"""Administrators' pages about accounts."""

import io
import re

import pytest
from sqlalchemy import select, update

from apps.extensions import db
from apps.models import Detection, Image, ImageTag, Role, User
from tests.conftest import HASH, PASSWORD, picture_bytes, stored_files

NEW = {
    "username": "carol",
    "email": "carol@example.com",
    "password": PASSWORD,
    "role": "user",
    "active": "y",
    "quota": "",
}


@pytest.fixture
def ann_id(ann, upload, make_user) -> int:
    """An account with one picture."""
    upload(ann)
    account: int = make_user("ann")
    return account


def user_of(app, name: str) -> User | None:
    with app.app_context():
        return db.session.scalar(select(User).where(User.username == name))


def edit(**changes: str | None) -> dict[str, str]:
    """What the edit form of ann sends, with ``changes``; None leaves a field out."""
    sent = {"username": "ann", "email": "ann@example.com", "role": "user", "active": "y"}
    return {name: text for name, text in (sent | changes).items() if text is not None}


# -- list ----------------------------------------------------------------------------------


def test_the_list_shows_name_email_role_state_and_pictures(ann_id, make_user, admin):
    make_user("zoe", active=False)
    page = admin.get("/crud/users").text
    assert "ann@example.com" in page
    assert "Disabled" in page
    assert "Administrator" in page
    assert "3 accounts" in page
    assert f'href="/crud/images?owner={ann_id}">1<' in page


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("search=zo", {"zoe"}),
        ("search=ANN%40", {"ann"}),
        ("search=%25", set()),
        ("role=admin", {"root"}),
        ("state=disabled", {"zoe"}),
        ("role=user&state=active", {"ann"}),
        ("role=nonsense&state=%00&sort=x&page=abc", {"ann", "zoe", "root"}),
    ],
)
def test_search_and_filters_narrow_the_list(query, shown, make_user, admin):
    make_user("ann")
    make_user("zoe", active=False)
    page = admin.get(f"/crud/users?{query}").text
    found = {name for name in ("ann", "zoe", "root") if f"{name}@example.com" in page}
    assert found == shown
    if not shown:
        assert "Nothing matches." in page
        assert "Show all" in page


def test_a_heading_sorts_and_turns_the_order_and_keeps_the_search(make_user, admin):
    make_user("ann")
    make_user("zoe")
    page = admin.get("/crud/users?search=example&sort=username").text
    assert page.index("ann@example") < page.index("root@example") < page.index("zoe@example")
    assert 'aria-sort="ascending"' in page
    assert "/crud/users?search=example&amp;sort=-username" in page
    page = admin.get("/crud/users?search=example&sort=-username").text
    assert page.index("zoe@example") < page.index("root@example") < page.index("ann@example")
    assert 'aria-sort="descending"' in page


def test_paging_keeps_search_and_order(app, make_user, admin):
    app.config["ADMIN_PAGE_SIZE"] = 2
    for name in ("ann", "bob", "zoe"):
        make_user(name)
    page = admin.get("/crud/users?search=example&sort=username").text
    assert "4 accounts" in page
    assert "zoe@example" not in page
    link = re.search(r'class="page-link" href="([^"]*page=2[^"]*)"', page)
    assert link is not None
    second = admin.get(link[1].replace("&amp;", "&")).text
    assert "zoe@example" in second
    assert "ann@example" not in second
    assert admin.get("/crud/users?page=9").status_code == 404


# -- create --------------------------------------------------------------------------------


def test_no_transaction_is_open_while_a_password_is_hashed(app, admin, make_user, monkeypatch):
    seen = []

    def hash_password(_password: str) -> str:
        seen.append(db.session.registry().in_transaction())
        return HASH

    monkeypatch.setattr("apps.services.accounts.hash_password", hash_password)
    assert admin.post("/crud/users/new", data=NEW).status_code == 303
    form = {"username": "ann", "email": "ann@example.com", "role": "user", "password": PASSWORD}
    assert admin.post(f"/crud/users/{make_user('ann')}", data=form).status_code == 303
    assert seen == [False, False]


def test_a_new_account_can_log_in(app, admin):
    answer = admin.post("/crud/users/new", data=NEW | {"role": "admin", "quota": "7"})
    assert answer.status_code == 303
    assert "carol can log in now." in admin.get(answer.location).text
    carol = user_of(app, "carol")
    assert carol is not None
    assert (carol.role, carol.active, carol.quota_bytes) == (Role.ADMIN, True, 7 * 2**20)
    client = app.test_client()
    login = client.post("/auth/login", data={"email": "carol", "password": PASSWORD})
    assert login.status_code == 302
    assert client.get("/crud/users").status_code == 200


def test_an_account_can_be_made_disabled_with_the_default_space(app, admin):
    form = {name: text for name, text in NEW.items() if name != "active"}
    assert admin.post("/crud/users/new", data=form).status_code == 303
    carol = user_of(app, "carol")
    assert carol is not None
    assert (carol.active, carol.quota_bytes) == (False, None)


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("username", "", "required"),
        ("username", "x", "2 to 32 characters"),
        ("username", "a\0b", "letters and digits"),
        ("username", "ROOT", "is taken"),
        ("email", "nonsense", "not an email address"),
        ("email", "Root@Example.com", "belongs to an account already"),
        ("password", "", "required"),
        ("password", "short", "at least 8 characters"),
        ("password", "password1", "most common"),
        ("password", "x" * 1025, "at most 1024 characters"),
        ("role", "emperor", "Not a valid choice"),
        ("quota", "-1", "between 0 and"),
        ("quota", "much", "Not a valid integer"),
        ("quota", "9" * 30, "between 0 and"),
        ("quota", "9" * 9000, "Not a valid integer"),
    ],
)
def test_a_wrong_field_of_a_new_account_says_why_and_keeps_the_rest(
    field, text, reason, app, admin
):
    answer = admin.post("/crud/users/new", data=NEW | {field: text})
    assert answer.status_code == 422
    assert reason in answer.text
    for name in {"username", "email"} - {field}:
        assert f'value="{NEW[name]}"' in answer.text
    assert PASSWORD not in answer.text
    assert user_of(app, "carol") is None


# -- edit ----------------------------------------------------------------------------------


def test_the_edit_page_links_to_the_accounts_pictures(ann_id, admin):
    page = admin.get(f"/crud/users/{ann_id}").text
    assert f'href="/crud/images?owner={ann_id}">1 picture<' in page
    assert 'value="ann@example.com"' in page


def test_an_edit_changes_name_email_role_state_and_space(app, make_user, admin):
    user_id = make_user("ann")
    form = {"username": "anna", "email": "Anna@example.com", "role": "admin", "quota": "0"}
    assert admin.post(f"/crud/users/{user_id}", data=form).status_code == 303
    anna = user_of(app, "anna")
    assert anna is not None
    assert (anna.id, anna.email, anna.role) == (user_id, "anna@example.com", Role.ADMIN)
    assert (anna.active, anna.quota_bytes) == (False, 0)


def test_an_edit_without_a_new_password_keeps_the_old_one_and_its_sessions(app, ann, admin):
    before = user_of(app, "ann")
    assert before is not None
    for form in (edit(), edit(password="")):
        assert admin.post(f"/crud/users/{before.id}", data=form).status_code == 303
    after = user_of(app, "ann")
    assert after is not None
    assert (after.password, after.fs_uniquifier) == (before.password, before.fs_uniquifier)
    assert ann.get("/auth/account").status_code == 200


def test_a_new_password_ends_the_sessions_of_the_account(app, ann, make_user, admin):
    user_id = make_user("ann")
    answer = admin.post(f"/crud/users/{user_id}", data=edit(password="an unusual new one"))
    assert answer.status_code == 303
    assert ann.get("/auth/account").status_code == 302
    login = app.test_client().post(
        "/auth/login", data={"email": "ann", "password": "an unusual new one"}
    )
    assert login.status_code == 302


def test_a_new_password_of_ones_own_keeps_the_session_in_use(make_user, client_of, admin):
    other = client_of("root")
    form = edit(
        username="root", email="root@example.com", role="admin", password="an unusual new one"
    )
    assert admin.post(f"/crud/users/{make_user('root')}", data=form).status_code == 303
    assert admin.get("/crud/users").status_code == 200
    assert other.get("/crud/users").status_code == 302


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"username": "Root"}, "is taken"),
        ({"email": "root@example.com"}, "belongs to an account already"),
        ({"password": "short"}, "at least 8 characters"),
        ({"quota": "x"}, "Not a valid integer"),
        ({"role": "x"}, "Not a valid choice"),
    ],
)
def test_a_wrong_edit_says_why_and_changes_nothing(changes, reason, app, make_user, admin):
    form = edit(username="typed", email="typed@example.com") | changes
    answer = admin.post(f"/crud/users/{make_user('ann')}", data=form)
    assert answer.status_code == 422
    assert reason in answer.text
    for name in ("username", "email"):
        assert f'value="{form[name]}"' in answer.text
    assert user_of(app, "ann") is not None


def test_an_account_may_keep_its_own_name_in_other_capitals(app, make_user, admin):
    answer = admin.post(f"/crud/users/{make_user('ann')}", data=edit(username="Ann"))
    assert answer.status_code == 303
    assert user_of(app, "Ann") is not None


@pytest.mark.parametrize("changes", [{"role": "user"}, {"active": None}])
def test_the_last_administrator_stays_one(changes, app, make_user, admin):
    form = edit(**({"username": "typed", "email": "root@example.com", "role": "admin"} | changes))
    answer = admin.post(f"/crud/users/{make_user('root')}", data=form)
    assert answer.status_code == 409
    assert "This is the last administrator." in answer.text
    assert 'value="typed"' in answer.text
    root = user_of(app, "root")
    assert root is not None
    assert root.is_admin
    assert root.active


def test_an_administrator_who_steps_down_lands_on_the_start_page(make_user, admin):
    make_user("second", role=Role.ADMIN)
    form = edit(username="root", email="root@example.com", role="user")
    answer = admin.post(f"/crud/users/{make_user('root')}", data=form)
    assert (answer.status_code, answer.location) == (303, "/")
    assert admin.get("/crud/users").status_code == 403


# -- delete --------------------------------------------------------------------------------


def test_deleting_asks_first_and_says_what_goes(app, ann_id, ann, upload, admin):
    upload(ann)
    page = admin.get(f"/crud/users/{ann_id}/delete").text
    for part in ("ann@example.com", "2 pictures", "4 boxes", "2 tags on them", "KB", "Keep"):
        assert part in page
    assert user_of(app, "ann") is not None


def test_deleting_an_account_removes_everything_it_has(app, ann_id, bob, upload, admin):
    kept = upload(bob)
    assert len(stored_files(app)) == 6
    answer = admin.post(f"/crud/users/{ann_id}/delete")
    assert answer.status_code == 303
    assert "1 account deleted." in admin.get(answer.location).text
    assert len(stored_files(app)) == 3
    with app.app_context():
        assert db.session.scalars(select(Image.id)).all() == [kept]
        assert set(db.session.scalars(select(Detection.image_id))) == {kept}
        assert set(db.session.scalars(select(ImageTag.image_id))) == {kept}
    assert user_of(app, "ann") is None


def test_deleting_many_asks_first_and_then_deletes_those(app, make_user, admin):
    ids = [str(make_user(name)) for name in ("ann", "bob")]
    make_user("zoe")
    form = {"ids": [*ids, "4711", "abc"]}
    question = admin.post("/crud/users/delete?search=example", data=form)
    assert question.status_code == 200
    assert "Delete these 2 accounts?" in question.text
    assert "ann@example.com" in question.text
    assert user_of(app, "ann") is not None
    sent = re.findall(r'name="ids" value="(\d+)"', question.text)
    assert sorted(sent) == sorted(ids)
    answer = admin.post("/crud/users/delete?search=example", data={"ids": sent, "confirmed": "1"})
    assert (answer.status_code, answer.location) == (303, "/crud/users?search=example")
    assert "2 accounts deleted." in admin.get(answer.location).text
    assert user_of(app, "ann") is None
    assert user_of(app, "zoe") is not None


def test_ones_own_account_is_deleted_on_the_account_page_only(app, make_user, admin):
    own, ann = make_user("root"), make_user("ann")
    make_user("second", role=Role.ADMIN)
    page = admin.get(f"/crud/users/{own}/delete")
    assert page.status_code == 200
    assert 'href="/auth/delete"' in page.text
    assert "Delete for good" not in page.text
    for address, form in (
        (f"/crud/users/{own}/delete", {}),
        ("/crud/users/delete", {"ids": [own, ann], "confirmed": "1"}),
    ):
        answer = admin.post(address, data=form)
        assert answer.status_code == 409
        assert 'href="/auth/delete"' in answer.text
    assert user_of(app, "root") is not None
    assert user_of(app, "ann") is not None


def test_a_disabled_account_cannot_go_on(make_user, ann, admin):
    form = edit(active=None)
    assert admin.post(f"/crud/users/{make_user('ann')}", data=form).status_code == 303
    assert ann.get("/auth/account").status_code == 302


def test_the_space_of_an_account_binds_it(app, make_user, ann, upload, admin):
    image_id = upload(ann)
    with app.app_context():
        db.session.execute(update(Image).where(Image.id == image_id).values(bytes=2**20))
        db.session.commit()
    file = {"image": [(io.BytesIO(picture_bytes()), "more.jpg")]}
    admin.post(f"/crud/users/{make_user('ann')}", data=edit(quota="1"))
    refused = ann.post("/upload", data=file)
    assert refused.status_code == 422
    assert "Your space of 1.0 MB is full." in refused.text
    admin.post(f"/crud/users/{make_user('ann')}", data=edit(quota="0"))
    upload(ann)
