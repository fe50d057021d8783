"""What a list shows, as its address says it: search, filters and order."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import request, url_for

from apps.web import row_ids

MAX_SEARCH = 100  # characters
MAX_CHOSEN = 1000  # rows of one bulk action; a page has far fewer, and SQL has limits


@dataclass(frozen=True)
class Listing:
    """A list's state. What the address says and the list does not know is left out."""

    endpoint: str
    default: str
    sort: str
    search: str = ""
    filters: Mapping[str, str] = field(default_factory=dict)

    @property
    def narrowed(self) -> bool:
        """Whether rows may be missing because of the search or a filter."""
        return bool(self.search or any(self.filters.values()))

    def address(self, endpoint: str = "", **changes: str) -> str:
        """The list's own address, or another endpoint's that comes back to this state."""
        state: dict[str, Any] = {
            "search": self.search,
            "sort": self.sort,
            **self.filters,
            **changes,
        }
        if state["sort"] == self.default:
            del state["sort"]
        kept = {name: value for name, value in state.items() if value}
        return url_for(endpoint or self.endpoint, **kept)

    def sorted_by(self, column: str) -> str:
        """The address of this list ordered by ``column``; the other way round if it is already."""
        return self.address(sort=f"-{column}" if self.sort == column else column)

    def direction(self, column: str) -> str:
        """``ascending`` or ``descending`` (the words of aria-sort); empty for other columns."""
        if self.sort.lstrip("-") != column:
            return ""
        return "descending" if self.sort.startswith("-") else "ascending"


def read_listing(
    endpoint: str, columns: Collection[str], default: str, **filters: Collection[str]
) -> Listing:
    """The state in the present address.

    Args:
        columns: what the list can be sorted by.
        filters: the values that each filter knows.
    """
    sort = request.args.get("sort", default)
    chosen = {name: request.args.get(name, "") for name in filters}
    return Listing(
        endpoint,
        default,
        sort if sort.removeprefix("-") in columns else default,
        request.args.get("search", "").replace("\0", "").strip()[:MAX_SEARCH],
        {name: value if value in filters[name] else "" for name, value in chosen.items()},
    )


def chosen_ids() -> list[int]:
    """The rows that the posted form names as ``ids``; what is no id is left out."""
    return row_ids(request.form.getlist("ids")[:MAX_CHOSEN])
