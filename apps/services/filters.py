"""Searches of the gallery that people keep under a name."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session

from apps.errors import N_, Conflict, InvalidInput, NotFound
from apps.models import SavedFilter, fold
from apps.services.search import MAX_TEXT

MAX_FILTERS = 100  # of one account
MAX_NAME = 60  # characters
MAX_ADDRESS = 1000  # characters, percent signs and all


def search_of(kept: SavedFilter) -> str:
    """The text of a kept search."""
    return parse_qs(kept.address).get("search", [""])[0]


@dataclass(frozen=True)
class FilterService:
    session: scoped_session[Session]

    def all(self, owner_id: int) -> Sequence[SavedFilter]:
        """An account's kept searches, by name."""
        mine = select(SavedFilter).where(SavedFilter.owner_id == owner_id)
        return self.session.scalars(mine.order_by(SavedFilter.folded)).all()

    def save(self, owner_id: int, name: str, search: str) -> SavedFilter:
        """Keep ``search`` under ``name``.

        Raises:
            InvalidInput: no usable name, nothing to keep, or MAX_FILTERS are kept already.
            Conflict: the name is taken.
        """
        text = search.strip()
        if not text or len(text) > MAX_TEXT:
            raise InvalidInput(N_("Search for something first, then keep it under a name."))
        name = _clean(name)
        mine = select(func.count()).where(SavedFilter.owner_id == owner_id)
        if (self.session.scalar(mine) or 0) >= MAX_FILTERS:
            raise InvalidInput(
                N_("You have %(limit)s kept searches. Delete one first."), limit=MAX_FILTERS
            )
        self._require_free(owner_id, name)
        kept = SavedFilter(owner_id=owner_id, name=name, address=_address(text))
        self.session.add(kept)
        self._commit(name)
        return kept

    def rename(self, owner_id: int, filter_id: int, name: str) -> SavedFilter:
        """Another name for a kept search.

        Raises:
            NotFound: no such search of this account.
            InvalidInput: no usable name.
            Conflict: another one has it.
        """
        kept = self.get(owner_id, filter_id)
        name = _clean(name)
        self._require_free(owner_id, name, but=filter_id)
        kept.name = name
        self._commit(name)
        return kept

    def delete(self, owner_id: int, filter_id: int) -> str:
        """Forget a kept search; its name.

        Raises:
            NotFound: no such search of this account.
        """
        kept = self.get(owner_id, filter_id)
        name = kept.name
        self.session.delete(kept)
        self.session.commit()
        return name

    def get(self, owner_id: int, filter_id: int) -> SavedFilter:
        """Raises NotFound if the account has no such search."""
        query = select(SavedFilter).where(
            SavedFilter.id == filter_id, SavedFilter.owner_id == owner_id
        )
        kept = self.session.scalar(query)
        if kept is None:
            raise NotFound(N_("There is no such search."))
        return kept

    def _require_free(self, owner_id: int, name: str, but: int | None = None) -> None:
        query = select(SavedFilter.id).where(
            SavedFilter.owner_id == owner_id, SavedFilter.folded == fold(name)
        )
        if self.session.scalar(query) not in (None, but):
            raise _taken(name)

    def _commit(self, name: str) -> None:
        try:
            self.session.commit()
        except IntegrityError:  # twice at the same moment
            self.session.rollback()
            raise _taken(name) from None


def _clean(text: str) -> str:
    """One line of NFC text.

    Raises:
        InvalidInput: nothing is left, it is too long, or it has control characters.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name:
        raise InvalidInput(N_("Write a name first."))
    if len(name) > MAX_NAME:
        raise InvalidInput(N_("A name has at most %(limit)s characters."), limit=MAX_NAME)
    if any(unicodedata.category(c) in ("Cc", "Cs", "Cf") for c in name):
        raise InvalidInput(N_("A name cannot hold control characters."))
    return name


def _address(search: str) -> str:
    address = urlencode({"search": search})
    if len(address) > MAX_ADDRESS:
        raise InvalidInput(N_("This search is too long to be kept."))
    return address


def _taken(name: str) -> Conflict:
    return Conflict(N_("You have kept a search as “%(name)s” already."), name=name)
