"""How uploads are kept: room for them, and files and row together or not at all."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, InvalidImage, NotFound, TooLargeImage
from apps.models import Image, User, Video
from apps.services.pictures import bytes_of
from apps.storage import Storage

logger = logging.getLogger(__name__)


def require_small(size: int, most: int) -> None:
    """Raise TooLargeImage, code ``too_large``, if a file has more than ``most`` bytes."""
    if size > most:
        raise TooLargeImage(
            N_("The file is larger than %(limit)s MB."), limit=round(most / 2**20, 1)
        )


@dataclass(frozen=True)
class Keeper:
    """Keeps pictures and clips.

    Args:
        quota_bytes: that an account may keep, if it has no quota of its own; 0 is no limit.
        writing: entered around what writes to the database.
    """

    session: scoped_session[Session]
    storage: Storage
    quota_bytes: int
    writing: Callable[[], AbstractContextManager[object]] = nullcontext

    def quota(self, owner_id: int) -> int:
        """Bytes that the account may keep; 0 is no limit."""
        own = self.session.scalar(select(User.quota_bytes).where(User.id == owner_id))
        return self.quota_bytes if own is None else own

    def require_room(self, owner_id: int, size: int, quota: int | None = None) -> None:
        """Raise InvalidImage, code ``over_quota``, unless ``size`` more bytes fit.

        Args:
            quota: of the account, where it is known already.
        """
        if quota is None:
            quota = self.quota(owner_id)
        if quota and bytes_of(self.session, owner_id) + size > quota:
            raise InvalidImage(
                "over_quota",
                N_(
                    "Your space of %(quota)s MB is full. "
                    "Delete some pictures and empty the trash, or ask for more."
                ),
                quota=round(quota / 2**20, 1),
            )

    def keep(self, row: Image | Video, put: Callable[[], None]) -> None:
        """Put the files of ``row`` into the storage, then the row into the database; commits.

        ``row`` keeps what it has, its id too, and belongs to no session afterwards. Whatever goes
        wrong, neither files nor row are left.

        Args:
            put: puts the files of all ``row.storage_keys``.

        Raises:
            InvalidImage: code ``over_quota`` or ``not_stored``.
            NotFound: the account was deleted meanwhile.
            IntegrityError: the account has the same file already.
        """
        with self.all_or_none(*row.storage_keys):
            put()
            with self.writing():
                self._insert(row)

    @contextmanager
    def all_or_none(self, *keys: str) -> Iterator[None]:
        """Around what stores files and then their row: if it ends badly, the files ``keys`` go.

        Raises:
            InvalidImage: code ``not_stored``, in place of an OSError.
        """
        try:
            yield
        except BaseException as error:
            self.session.rollback()
            self.storage.delete(*keys)
            if isinstance(error, OSError):
                logger.exception("storage failed")
                raise InvalidImage(
                    "not_stored",
                    N_(
                        "The server could not keep this file: its storage is full or does not "
                        "answer. Try again later."
                    ),
                ) from error
            raise

    def _insert(self, row: Image | Video) -> None:
        """The quota once more, alone now: several uploads at once each saw room for themselves."""
        owner = select(User.quota_bytes).where(User.id == row.owner_id).with_for_update()
        found = self.session.execute(owner).one_or_none()
        if found is None:
            raise NotFound(N_("There is no such account."))
        own = found.quota_bytes
        self.require_room(row.owner_id, row.bytes, self.quota_bytes if own is None else own)
        self.session.add(row)
        self.session.flush()
        self.session.expunge(row)  # else its attributes would be read again after the commit
        self.session.commit()
