"""A figure of a card beside what was measured now."""

from dataclasses import dataclass


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

    def text(self) -> str:
        verdict = "" if self.good else "  DIFFERS"
        return f"{self.name:<40} card {self.said:.4f}  measured {self.measured:.4f}{verdict}"
