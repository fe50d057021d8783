"""The language of the gallery's search: text to terms and back. Nothing here asks a database."""

import operator
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from apps.errors import N_
from apps.services.terms import (
    Condition,
    Counted,
    InState,
    Measured,
    Named,
    Reviewed,
    Scored,
    Search,
    SearchError,
    Tagged,
    Term,
    Uploaded,
)

MAX_TEXT = 500  # characters
MAX_TERMS = 20

OPERATORS: dict[str, Any] = {  # of numbers, and of columns
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
NUMBERS = ("score", "boxes", "width", "height", "size", "uncertainty")  # keys that compare
WORDS = ("model", "status", "reviewed", "title", "tag", "date", "sort")
KEYS = (*WORDS[:5], "date", *NUMBERS, "sort")
STATUSES = ("queued", "running", "done", "failed", "waiting")
SORTS = ("newest", "oldest", "title", "-title", "largest", "smallest", "boxes", "uncertainty")
_UNITS = {"": 1, "b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30}
_ALIASES = {"bytes": "size", "is": "status"}

_QUOTED = r'"(?:[^"]*)"'
_TERM = re.compile(
    rf'(?P<not>-?)(?P<name>{_QUOTED}|[^\s"<>=:]+)'
    rf"(?:(?P<colon>:)(?=score[<>=:]))?(?P<score>(?<=:)score)?"
    rf'(?:(?P<op>>=|<=|>|<|=|:)(?P<value>{_QUOTED}|[^\s"]*))?'
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?b?)", re.IGNORECASE)
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")


def parse(text: str, today: date | None = None) -> Search:
    """The terms of ``text``.

    Args:
        today: for ``date:today`` and ``date:yesterday``; by default that of UTC.

    Raises:
        SearchError: says where the mistake is and what to write instead.
    """
    if len(text) > MAX_TEXT:
        raise SearchError(
            MAX_TEXT, N_("A search has at most %(limit)s characters."), limit=MAX_TEXT
        )
    terms: list[Term] = []
    sort = "newest"
    for position, negated, name, op, value, written in _pieces(text):
        key = _ALIASES.get(name.lower(), name.lower())
        if key == "sort" and op in (":", "="):
            sort = _sort(position, written, negated, value)
            continue
        condition = _condition(position, name, op, value, written, today)
        known = key if op and key in KEYS else ""
        terms.append(Term(written, position, condition, negated, known))
    if len(terms) > MAX_TERMS:
        raise SearchError(
            terms[MAX_TERMS].position,
            N_("A search has at most %(limit)s terms."),
            limit=MAX_TERMS,
        )
    return Search(tuple(terms), sort)


Piece = tuple[int, bool, str, str, str, str]  # position, negated, name, operator, value, as written


def _pieces(text: str) -> list[Piece]:
    """What stands between spaces, taken apart; a quoted text may hold spaces and operators."""
    found = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TERM.match(text, position)
        if match is None or not _ends(text, match.end()):
            raise _not_a_term(text, position)
        name, op, value = match["name"], match["op"] or "", _unquoted(match["value"] or "")
        if match["score"]:
            name = f"{name}:score"
        quoted = name.startswith('"') and not match["score"]
        if quoted and not _unquoted(name).strip():
            raise SearchError(
                position,
                N_("Character %(position)s: there is nothing between the quotation marks."),
            )
        if op and not value:
            raise SearchError(
                position,
                N_("Character %(position)s: write what shall follow “%(part)s”."),
                part=match[0],
            )
        found.append((position, bool(match["not"]), name, op, value, match[0]))
        position = match.end()
    return found


def _ends(text: str, position: int) -> bool:
    return position >= len(text) or text[position].isspace()


def _not_a_term(text: str, position: int) -> SearchError:
    rest = text[position:].split(maxsplit=1)[0]
    if text.count('"') % 2:
        start = text.rindex('"')
        return SearchError(
            start, N_("Character %(position)s: the quotation mark that opens here is not closed.")
        )
    return SearchError(
        position,
        N_(
            "Character %(position)s: “%(part)s” cannot be understood. "
            'Write a tag (dog, "traffic light") or a condition such as dog>=2 or score>0.8.'
        ),
        part=rest,
    )


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _sort(position: int, written: str, negated: bool, value: str) -> str:
    order = value.lower()
    if order not in SORTS or negated:
        raise SearchError(
            position,
            N_(
                "Character %(position)s: “%(part)s” is no order. Write sort= and one of: %(known)s."
            ),
            part=written,
            known=", ".join(SORTS),
        )
    return order


def _condition(
    position: int, name: str, op: str, value: str, written: str, today: date | None
) -> Condition:
    """One term's meaning. A quoted name is always a label, never a key."""
    if not op:
        return Tagged(_unquoted(name).strip())
    label, _, part = name.rpartition(":")
    if label and part == "score":
        return Scored(_unquoted(label), _compare(op), _fraction(position, written, op, value))
    key = _ALIASES.get(name.lower(), name.lower())
    if key in NUMBERS:
        return _number(position, key, op, value, written)
    if key == "date":
        return _uploaded(position, op, value, written, today or datetime.now(UTC).date())
    if key in KEYS:
        return _word(position, key, op, value, written)
    if op == ":":
        raise SearchError(
            position,
            N_("Character %(position)s: there is no key “%(part)s”. Known are: %(known)s."),
            part=name,
            known=", ".join(KEYS),
        )
    if not value.isdecimal() or len(value) > 6:
        raise SearchError(
            position,
            N_("Character %(position)s: write a whole number after “%(part)s”, as in dog>=2."),
            part=f"{name}{op}",
        )
    return Counted(_unquoted(name), op, int(value))


def _compare(op: str) -> str:
    return "=" if op == ":" else op


def _fraction(position: int, written: str, op: str, value: str) -> float:
    try:
        number = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise SearchError(
            position,
            N_("Character %(position)s: write a number from 0 to 1 after “%(part)s”, such as 0.8."),
            part=f"{written.partition(op)[0]}{op}",
        )
    return number


def _number(position: int, key: str, op: str, value: str, written: str) -> Scored | Measured:
    if key == "score":
        return Scored(None, _compare(op), _fraction(position, written, op, value))
    if key == "uncertainty":
        return Measured(key, _compare(op), _fraction(position, written, op, value))
    match = _SIZE.fullmatch(value) if key == "size" else re.fullmatch(r"(\d{1,9})()", value)
    unit = match[2].lower() if match else ""
    if match is None or len(match[1]) > 15:
        example = "size>1MB" if key == "size" else f"{key}>=2"
        raise SearchError(
            position,
            N_("Character %(position)s: write a number after “%(part)s”, as in %(example)s."),
            part=f"{written.partition(op)[0]}{op}",
            example=example,
        )
    factor = _UNITS.get(unit, _UNITS.get(f"{unit}b", 1))
    return Measured(key, _compare(op), float(match[1]) * factor)


def _word(position: int, key: str, op: str, value: str, written: str) -> Condition:
    if op not in (":", "="):
        raise SearchError(
            position,
            N_("Character %(position)s: after “%(key)s” stands a colon, as in %(key)s:%(value)s."),
            key=key,
            value=value,
        )
    if key == "tag":
        return Tagged(value.strip())
    if key == "status":
        return InState(_one_of(position, value, written, STATUSES))
    if key == "reviewed":
        return Reviewed(_one_of(position, value, written, ("yes", "no")) == "yes")
    return Named(key, value)


def _one_of(position: int, value: str, written: str, known: tuple[str, ...]) -> str:
    word = value.lower()
    if word not in known:
        raise SearchError(
            position,
            N_("Character %(position)s: “%(part)s” is not known. Write one of: %(known)s."),
            part=written,
            known=", ".join(known),
        )
    return word


def _uploaded(position: int, op: str, value: str, written: str, today: date) -> Uploaded:
    """The days of ``value`` as moments of UTC; a year or a month is all of its days."""
    try:
        first, after = _days(value.lower(), today)
    except (ValueError, OverflowError):
        raise SearchError(
            position,
            N_(
                "Character %(position)s: “%(part)s” is no day. "
                "Write one such as date>=2026-11-01, date:2026-11 or date:today."
            ),
            part=written,
        ) from None
    begin, end = (datetime(d.year, d.month, d.day, tzinfo=UTC) for d in (first, after))
    bounds = {
        ">=": (begin, None),
        ">": (end, None),
        "<": (None, begin),
        "<=": (None, end),
    }
    return Uploaded(*bounds.get(op, (begin, end)))


def _days(value: str, today: date) -> tuple[date, date]:
    """The first day that is meant, and the first one after."""
    one = timedelta(days=1)
    if value in ("today", "yesterday"):
        day = today if value == "today" else today - one
        return day, day + one
    match = _DATE.fullmatch(value)
    if match is None:
        raise ValueError(value)
    year, month, day_of = int(match[1]), match[2], match[3]
    if day_of:
        day = date(year, int(month), int(day_of))
        return day, day + one
    if month:
        after = date(year + int(month) // 12, int(month) % 12 + 1, 1)
        return date(year, int(month), 1), after
    return date(year, 1, 1), date(year + 1, 1, 1)


# -- writing ---------------------------------------------------------------------------------


def quoted(value: str) -> str:
    """``value`` so that it is one piece of a search."""
    plain = re.fullmatch(r'[^\s"<>=:-][^\s"<>=:]*', value)
    return value if plain else '"{}"'.format(value.replace('"', ""))


def with_terms(text: str, values: dict[str, list[str]]) -> str:
    """``text`` with other terms of some keys, for forms with a field for each.

    Args:
        values: key to its terms as they shall be written; an empty list takes those of the key out.

    Raises:
        SearchError: as ``parse``.
    """
    keys = {_ALIASES.get(key, key) for key in values}
    kept = []
    for _, negated, name, op, _, written in _pieces(text):
        key = _ALIASES.get(name.lower(), name.lower())
        if negated or not op or key not in keys:
            kept.append(written)
    return " ".join([*kept, *(term for terms in values.values() for term in terms)])
