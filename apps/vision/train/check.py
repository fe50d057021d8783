"""What spoils a training, found before it begins."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from apps.errors import N_, InvalidInput
from apps.vision.train.data import Part, Source

IMBALANCE = 10.0  # most examples of a class over fewest; beyond, rare classes are hardly learned
SHOWN = 5  # examples of each finding


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault. ``fatal``: a training with it must fail or measure nonsense."""

    what: str
    examples: tuple[str, ...]
    fatal: bool

    def text(self) -> str:
        shown = ", ".join(self.examples[:SHOWN])
        more = len(self.examples) - SHOWN
        tail = f" and {more} more" if more > 0 else ""
        return f"{'error' if self.fatal else 'warning'}: {self.what}: {shown}{tail}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at and what was found."""

    summary: tuple[str, ...]
    findings: tuple[Finding, ...]

    def text(self) -> str:
        """For people, a line for each fact."""
        lines = [*self.summary, *(finding.text() for finding in self.findings)]
        return "\n".join(lines if self.findings else [*lines, "nothing is wrong with it"])

    def refuse_broken(self) -> None:
        """Raises InvalidInput if a training cannot work."""
        fatal = [finding for finding in self.findings if finding.fatal]
        if fatal:
            raise InvalidInput(
                N_("The data cannot be trained on. %(what)s: %(example)s"),
                what=fatal[0].what,
                example=fatal[0].examples[0],
            )


def check_source(source: Source) -> Report:
    """Read every picture of ``source``: broken files, empty classes, imbalance, duplicates.

    A picture is a duplicate if its pixels are the same; between two parts it makes the measured
    accuracy too good.
    """
    given = {"train": source.train, "val": source.val, "test": source.test}
    parts = {name: part for name, part in given.items() if part is not None}
    summary, findings = [], []
    seen: dict[str, dict[bytes, str]] = {}
    for name, part in parts.items():
        counts = Counter(part.labels)
        each = ", ".join(f"{label} {counts[n]}" for n, label in enumerate(source.classes))
        summary.append(f"{name}: {len(part)} pictures in {len(source.classes)} classes: {each}")
        broken, seen[name], twice = _read(part)
        findings += _finding(f"{name}: pictures that cannot be read", broken, fatal=True)
        findings += _finding(f"{name}: the same picture twice", twice)
        findings += _counted(name, counts, source.classes)
    for one, other in (("val", "train"), ("test", "train"), ("test", "val")):
        first, second = seen.get(one, {}), seen.get(other, {})
        shared = [f"{first[each]} = {second[each]}" for each in first.keys() & second.keys()]
        findings += _finding(f"pictures of {one} that are in {other} too", sorted(shared))
    return Report(tuple(summary), tuple(findings))


def _counted(name: str, counts: Counter[int], classes: Sequence[str]) -> list[Finding]:
    empty = [label for number, label in enumerate(classes) if counts[number] == 0]
    findings = _finding(f"{name}: classes without a picture", empty, fatal=name == "train")
    if name != "train" or empty:
        return findings
    if len(classes) < 2:
        findings += _finding("only one class", list(classes), fatal=True)
    single = [label for number, label in enumerate(classes) if counts[number] < 2]
    findings += _finding("classes with one picture, none to validate with", single, fatal=True)
    most, fewest = max(counts.values()), min(counts.values())
    if most > IMBALANCE * fewest:
        rare = [label for n, label in enumerate(classes) if counts[n] * IMBALANCE < most]
        findings += _finding(f"classes with less than 1/{IMBALANCE:g} of the greatest one", rare)
    return findings


def _read(part: Part) -> tuple[list[str], dict[bytes, str], list[str]]:
    """Broken pictures, all others by the digest of their pixels, and those that come again."""
    broken: list[str] = []
    seen: dict[bytes, str] = {}
    twice: list[str] = []
    for index, name in enumerate(part.names):
        try:
            picture = part.read(index).convert("RGB")
        except (OSError, ValueError) as error:
            broken.append(f"{name} ({error})")
            continue
        digest = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).digest()
        if digest in seen:
            twice.append(f"{name} = {seen[digest]}")
        seen.setdefault(digest, name)
    return broken, seen, twice


def _finding(what: str, examples: list[str], *, fatal: bool = False) -> list[Finding]:
    return [Finding(what, tuple(examples), fatal)] if examples else []
