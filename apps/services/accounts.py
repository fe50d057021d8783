"""Accounts: rules, the first administrator, and what goes when somebody leaves."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from email_validator import EmailNotValidError, validate_email
from flask_security.utils import hash_password
from sqlalchemy import Select, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased, scoped_session

from apps.errors import N_, Conflict, InvalidInput, NotFound
from apps.models import (
    Export,
    Image,
    Import,
    ImportedPicture,
    PictureCount,
    Role,
    TrashedImage,
    User,
    Video,
    fold,
    new_session_key,
    utcnow,
)
from apps.services.pictures import Holdings, delete_pictures, holdings_of
from apps.storage import Storage

USERNAME = re.compile(r"[^\W_](?:[\w .-]*[\w])?")
USERNAME_MIN, USERNAME_MAX = 2, 32
FIRST_ADMIN_LOCK = 0x51647  # any number that nothing else locks
PASSWORD_MIN, PASSWORD_MAX = 8, 1024


def clean_username(text: str) -> str:
    """NFKC text of 2 to 32 letters, digits, space, dot, dash and underscore.

    Raises:
        InvalidInput: says which rule was broken.
    """
    name = unicodedata.normalize("NFKC", text).strip()
    if not USERNAME_MIN <= len(name) <= USERNAME_MAX:
        raise InvalidInput(
            N_("A user name has %(least)s to %(most)s characters."),
            least=USERNAME_MIN,
            most=USERNAME_MAX,
        )
    if not USERNAME.fullmatch(name):
        raise InvalidInput(
            N_("A user name is made of letters and digits, with space . - _ between them.")
        )
    return name


def clean_email(text: str) -> str:
    """A well-formed address in lower case; nothing is looked up on the network.

    Raises:
        InvalidInput: not an address.
    """
    try:
        found = validate_email(text.strip(), check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise InvalidInput(N_("This is not an email address.")) from error
    return found.normalized.lower()


def check_password(password: str) -> None:
    """At least 8 characters and not among the 30,000 most common: nothing else is demanded.

    Length and a list of common passwords are what NIST SP 800-63B asks for; rules about digits
    and symbols are what it advises against.

    Raises:
        InvalidInput: too short, too long or too common.
    """
    if len(password) < PASSWORD_MIN:
        raise InvalidInput(N_("A password has at least %(least)s characters."), least=PASSWORD_MIN)
    if len(password) > PASSWORD_MAX:
        raise InvalidInput(N_("A password has at most %(most)s characters."), most=PASSWORD_MAX)
    if password.casefold() in _common_passwords():
        raise InvalidInput(
            N_("This password is on the list of the most common ones, which are tried first.")
        )


@cache
def _common_passwords() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # a large module, needed at sign-up only

    return frozenset(FREQUENCY_LISTS["passwords"])


def normalize_password(password: str) -> str:
    """NFKC, so that the same password typed on two keyboards is the same."""
    return unicodedata.normalize("NFKC", password)


@dataclass(frozen=True)
class AccountService:
    session: scoped_session[Session]
    storage: Storage

    # -- look up ---------------------------------------------------------------------------

    def get(self, user_id: int) -> User:
        """Raises NotFound if there is no such account."""
        user = self.session.get(User, user_id)
        if user is None:
            raise NotFound(N_("There is no such account."))
        return user

    def find(self, identity: str) -> User | None:
        """The account with this email or user name, whatever their case."""
        text = unicodedata.normalize("NFKC", identity).strip().replace("\0", "\ufffd")
        query = select(User).where(or_(User.email == text.lower(), User.folded == fold(text)))
        return self.session.scalars(query.limit(1)).first()  # no user name has an @

    def several(self, user_ids: Iterable[int]) -> list[tuple[User, int]]:
        """(account, number of pictures) of those of ``user_ids`` that exist, by name."""
        query = self.all_query(sort="username").where(User.id.in_(list(user_ids)))
        return [(row[0], row[1]) for row in self.session.execute(query)]

    def holdings(self, *user_ids: int) -> Holdings:
        """What these accounts own, all together."""
        return holdings_of(self.session, Image.owner_id.in_(user_ids))

    def all_query(
        self, search: str = "", sort: str = "-created", role: str = "", state: str = ""
    ) -> Select[User, int]:
        """Rows (account, number of pictures) for administrators."""
        pictures = func.coalesce(func.sum(PictureCount.pictures), 0)
        query = select(User, pictures.label("pictures"))
        query = query.outerjoin(PictureCount, PictureCount.owner_id == User.id).group_by(User.id)
        if search:
            query = query.where(
                or_(
                    User.folded.contains(fold(search), autoescape=True),
                    User.email.icontains(search, autoescape=True),
                )
            )
        if role in {member.value for member in Role}:
            query = query.where(User.role == Role(role))
        if state in ("active", "disabled"):
            query = query.where(User.active.is_(state == "active"))
        columns: dict[str, Any] = {
            "username": User.folded,
            "email": User.email,
            "pictures": pictures,
            "created": User.created_at,
        }
        column = columns.get(sort.lstrip("-"), User.created_at)
        order = column.desc() if sort.startswith("-") else column.asc()
        return query.order_by(order, User.id)

    # -- make and change -------------------------------------------------------------------

    def create(
        self,
        username: str,
        email: str,
        password: str,
        *,
        role: Role = Role.USER,
        active: bool = True,
        quota_bytes: int | None = None,
    ) -> User:
        """A new account; the very first becomes administrator.

        Raises:
            InvalidInput: a rule is broken.
            Conflict: the name or the email is taken.
        """
        password = normalize_password(password)
        check_password(password)
        self.session.commit()  # hashing takes a third of a second: no transaction is open meanwhile
        user = User(
            username=clean_username(username),
            email=clean_email(email),
            password=hash_password(password),
            role=role,
            active=active,
            quota_bytes=quota_bytes,
            confirmed_at=utcnow(),  # an administrator vouches for the address
        )
        self.require_free(username=user.username, email=user.email)
        self.session.add(user)
        self.session.commit()
        self.promote_first()
        return user

    def require_free(
        self, *, username: str | None = None, email: str | None = None, but: int | None = None
    ) -> None:
        """Raise Conflict if another account than ``but`` has this name or email."""
        others = select(User.id).where(User.id != but) if but is not None else select(User.id)
        if username is not None:
            taken = others.where(User.folded == fold(username))
            if self.session.scalar(taken.limit(1)) is not None:
                raise Conflict(N_("The user name “%(name)s” is taken."), name=username)
        if email is not None:
            taken = others.where(User.email == email.lower())
            if self.session.scalar(taken.limit(1)) is not None:
                raise Conflict(N_("%(email)s belongs to an account already."), email=email)

    def promote_first(self) -> None:
        """Make the oldest account administrator if there is none. Commits.

        One statement decides, so that two people who sign up at the same moment cannot both win.
        """
        if self.session.get_bind().dialect.name == "postgresql":  # SQLite writes one at a time
            self.session.execute(select(func.pg_advisory_xact_lock(FIRST_ADMIN_LOCK)))
        another = aliased(User)
        oldest = select(func.min(another.id)).scalar_subquery()
        boss = aliased(User)
        self.session.execute(
            update(User)
            .where(User.id == oldest, ~exists().where(boss.role == Role.ADMIN))
            .values(role=Role.ADMIN)
            .execution_options(synchronize_session=False)
        )
        self.session.commit()

    def set_password(self, user_id: int, password: str) -> None:
        """A new password; every session of the account ends.

        Raises:
            InvalidInput: the password breaks a rule.
        """
        password = normalize_password(password)
        check_password(password)
        self.session.commit()  # as in create()
        hashed = hash_password(password)
        user = self.get(user_id)
        user.password = hashed
        user.fs_uniquifier = new_session_key()
        self.session.commit()

    def update(self, user_id: int, **changes: Any) -> User:
        """Change ``username``, ``email``, ``role``, ``active``, ``threshold``, ``quota_bytes``.

        Raises:
            InvalidInput: a rule is broken.
            Conflict: the name or email is taken, or this is the last administrator.
        """
        user = self.get(user_id)
        if "username" in changes:
            changes["username"] = clean_username(changes["username"])
            self.require_free(username=changes["username"], but=user_id)
        if "email" in changes:
            changes["email"] = clean_email(changes["email"])
            self.require_free(email=changes["email"], but=user_id)
        stays = changes.get("role", user.role) is Role.ADMIN and changes.get("active", user.active)
        if not stays:
            self._keep_an_admin([user_id])
        if user.active and changes.get("active") is False:
            user.fs_uniquifier = new_session_key()  # enabling it later revives no old session
        for name, value in changes.items():
            setattr(user, name, value)
        self.session.commit()
        return user

    def delete(self, user_ids: Iterable[int]) -> int:
        """Delete accounts with pictures, trash, boxes, tag links and files; how many there were.

        Raises:
            Conflict: no administrator would be left.
        """
        ids = list(user_ids)
        self._keep_an_admin(ids)
        images = self.session.scalars(select(Image).where(Image.owner_id.in_(ids))).all()
        trashed = self.session.scalars(select(TrashedImage).where(TrashedImage.owner_id.in_(ids)))
        clips = self.session.scalars(select(Video).where(Video.owner_id.in_(ids)))
        coming = self.session.scalars(  # with imports that have not ended
            select(ImportedPicture).join(Import).where(Import.owner_id.in_(ids))
        )
        exports = self.session.scalars(select(Export).where(Export.owner_id.in_(ids)))
        rows = (*images, *trashed, *clips, *coming, *exports)
        keys = [key for row in rows for key in row.storage_keys]
        archives = self.session.scalars(select(Import).where(Import.owner_id.in_(ids)))
        keys += [row.file_key for row in archives]
        delete_pictures(self.session, Image.owner_id.in_(ids))
        users = self.session.scalars(select(User).where(User.id.in_(ids))).all()
        for user in users:
            self.session.delete(user)
        self.session.commit()
        self.storage.delete(*keys)  # last: an orphan file is harmless, a dead link is not
        return len(users)

    def _keep_an_admin(self, leaving: list[int]) -> None:
        """Raise Conflict if ``leaving`` holds every active administrator.

        The rows are locked until the end of the transaction, so that two administrators cannot
        remove each other at the same moment.
        """
        admins = set(
            self.session.scalars(
                select(User.id)
                .where(User.role == Role.ADMIN, User.active.is_(True))
                .with_for_update()
            )
        )
        if admins and admins <= set(leaving):
            raise Conflict(
                N_("This is the last administrator. Make somebody else administrator first.")
            )
