"""What a search of the gallery is made of; services/search.py reads it from a text."""

from dataclasses import dataclass
from datetime import datetime

from apps.errors import InvalidInput


class SearchError(InvalidInput):
    """A mistake in a search; ``position`` is that of its first character, from 0."""

    code = "search"

    def __init__(self, position: int, message: str, **params: object) -> None:
        super().__init__(message, position=position + 1, **params)
        self.position = position


@dataclass(frozen=True)
class Tagged:
    """Has the tag spelled so, or if the account has none, one that contains it."""

    text: str


@dataclass(frozen=True)
class Counted:
    """So many boxes of a label, as they are shown at the account's threshold."""

    label: str
    op: str
    number: int


@dataclass(frozen=True)
class Scored:
    """The score of the best box, of one label or of any; a person's box counts as 1."""

    label: str | None
    op: str
    score: float


@dataclass(frozen=True)
class Measured:
    """``boxes``, ``width`` and ``height`` in pixels, ``size`` in bytes, ``uncertainty`` 0 to 1."""

    key: str
    op: str
    number: float


@dataclass(frozen=True)
class Named:
    """``model`` or ``title`` contains the text."""

    key: str
    text: str


@dataclass(frozen=True)
class InState:
    """A word of STATUSES; "waiting" is queued or running."""

    status: str


@dataclass(frozen=True)
class Reviewed:
    yes: bool


@dataclass(frozen=True)
class Uploaded:
    """Between two moments: ``since`` belongs to it, ``before`` does not; None is no bound."""

    since: datetime | None
    before: datetime | None


Condition = Tagged | Counted | Scored | Measured | Named | InState | Reviewed | Uploaded


@dataclass(frozen=True)
class Term:
    """One condition and where it stands in the text."""

    text: str
    position: int
    condition: Condition
    negated: bool = False
    key: str = ""  # the word before the operator where that is one of KEYS


@dataclass(frozen=True)
class Search:
    """Every term must hold."""

    terms: tuple[Term, ...] = ()
    sort: str = "newest"

    @property
    def plain(self) -> bool:
        """Whether it is words alone, which may also be one tag with spaces in it."""
        return self.sort == "newest" and all(
            isinstance(term.condition, Tagged) and not term.negated and '"' not in term.text
            for term in self.terms
        )
