"""A figure of a card beside what was measured now."""

from dataclasses import dataclass

from benchmarks.report import Row


@dataclass(frozen=True)
class Compared:
    """One figure of a card and what was measured now."""

    name: str
    said: float
    measured: float
    within: float

    @property
    def good(self) -> bool:
        return abs(self.said - self.measured) <= self.within

    def row(self) -> Row:
        note = f"card {self.said:.4f}, measured {self.measured:.4f}, within {self.within:.4f}"
        return Row(self.name, abs(self.said - self.measured) / self.within, most=1.0, note=note)
