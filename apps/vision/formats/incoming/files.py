"""The files of an archive by name, and which of them a label means."""

import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from apps.errors import N_, AppError
from apps.vision.formats.dataset import is_safe
from apps.vision.formats.incoming.found import Problems
from apps.vision.formats.yolo import ENDINGS

MAX_NAME = 400  # characters of a file's name
SMALL = 2**20  # bytes of a file that lists classes: YAML takes seconds for each
# Of a JSON text. 500,000 boxes of COCO have less, and a list or an object of Python takes a hundred
# bytes though it needs only two here.
MAX_PARTS = 5_000_000
# What PyYAML raises, the last three for tags like “!!int ''” and “!!timestamp x”.
BAD_YAML = (
    *(yaml.YAMLError, ValueError, RecursionError),
    *(LookupError, AttributeError, TypeError),
)
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it is there
_FOLDS: tuple[Callable[[str], str], ...] = (str, str.casefold)  # exactly, and by any case
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an upload
TOO_LONG = N_("This label file is larger than %(limit)s MB. It is left out.")
NOT_JSON = N_("This file is not readable as JSON: %(reason)s. It is left out.")
TOO_MANY = N_("This file has more than %(limit)s lists and fields. Split it. It is left out.")
NOT_YAML = N_("This file is not readable as YAML: %(reason)s. It is left out.")
NOT_TEXT = N_("This label file is not text in UTF-8. It is left out.")
NO_PICTURE = N_("The labels name the picture “%(name)s”, which is not in the archive.")
SEVERAL = N_("The labels name “%(name)s”, and several pictures could be meant. None is taken.")
NO_ADDRESS = N_("The labels name “%(name)s”, which is no address. It is left out.")
LONG_NAME = N_("The labels name “%(name)s”, which is longer than any name here. It is left out.")
UNSAFE = N_("The labels name “%(name)s”, which leads out of the archive. It is left out.")


class Files(Protocol):
    """Named files; names are relative and safe, and no two are the same."""

    names: tuple[str, ...]

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a file.

        Raises:
            InvalidImage: it is longer than ``most`` bytes, locked or damaged.
        """
        ...


class Shelf:
    """The files of one archive, and what readers ask of them.

    Args:
        most: bytes of one label file.
        tick: called often while labels are read; what it raises ends that.

    Attributes:
        at: the label file that was read last.
    """

    def __init__(
        self, files: Files, problems: Problems, most: int, tick: Callable[[], object] = lambda: None
    ) -> None:
        self.files = files
        self.problems = problems
        self.most = most
        self.tick = tick
        self.at = ""
        self.pictures = tuple(name for name in files.names if is_picture(name))
        self._exact = frozenset(self.pictures)
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.pictures:
            self._by_name[PurePosixPath(name).name.casefold()].append(name)
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.pictures:
            self._by_stem[PurePosixPath(name).stem.casefold()].append(name)
        self._backwards = [sorted((_backwards(fold(name)), name) for name in self.pictures)
                           for fold in _FOLDS]  # fmt: skip
        self._yaml: dict[str, Any] = {}

    def named(self, *endings: str) -> list[str]:
        """Names of files with one of these endings, in order."""
        return [name for name in self.files.names if name.casefold().endswith(endings)]

    def text(self, name: str, most: int | None = None) -> str | None:
        """A label file as text; None after a problem, which is noted. ``most`` as of ``data``."""
        data = self.data(name, most)
        if data is None:
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            self.problems.add(name, NOT_TEXT)
            return None

    def data(self, name: str, most: int | None = None) -> bytes | None:
        """The bytes of a label file; None after a problem, which is noted.

        Args:
            most: bytes of it, if that is less than of any.
        """
        self.tick()
        self.at = name
        most = self.most if most is None else min(most, self.most)
        try:
            return self.files.read(name, most)
        except AppError as error:
            message, params = error.message, dict[str, Any](error.params)
            if error.code == "too_large":
                message, params = TOO_LONG, {"limit": round(most / 2**20, 1)}
            self.refuse(name, message, **params)
            return None

    def json(self, name: str) -> Any:
        """A JSON file; None after a problem, which is noted."""
        text = self.text(name)
        if text is None:
            return None
        if sum(map(text.count, "[{:")) > MAX_PARTS:
            self.refuse(name, TOO_MANY, limit=MAX_PARTS)
            return None
        try:
            return json.loads(text)
        except RecursionError:
            reason = "nested too deeply"
        except ValueError as error:
            reason = str(error)
        self.refuse(name, NOT_JSON, reason=reason)
        return None

    def yaml(self, name: str) -> Any:
        """A YAML file of at most SMALL bytes; None after a problem, which is noted once.

        Aliases are refused: a few lines of them can stand for billions of words.
        """
        if name not in self._yaml:
            self._yaml[name] = self._read_yaml(name)
        return self._yaml[name]

    def _read_yaml(self, name: str) -> Any:
        text = self.text(name, SMALL)
        if text is None:
            return None
        try:
            if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=_YAML)):
                raise yaml.YAMLError("it uses aliases")
            return yaml.load(text, Loader=_YAML)  # noqa: S506 (a safe one)
        except BAD_YAML as error:
            self.problems.add(name, NOT_YAML, reason=str(error).partition("\n")[0])
            return None

    def refuse(self, name: str, message: str, **params: Any) -> None:
        """Note why a label file is left out; it is why the archive is, if nothing else is there."""
        self.problems.add(name, message, **params)
        self.problems.reasons.append((message, params))

    def find(self, said: str, beside: str = "", *, loose: bool = False) -> str | None:
        """The picture that a label file calls ``said``; None after a problem, which is noted.

        Args:
            beside: the name of the label file.
            loose: its folders may be those of another machine.
        """
        self.tick()
        name = said.replace("\\", "/").strip()
        if len(name) > MAX_NAME:
            self.problems.add(beside, LONG_NAME, name=said)
            return None
        if loose:
            name = name.split(":", 1)[-1].lstrip("/")
            parts = PurePosixPath(name).parts
            name = "/".join(part for part in parts if part not in ("..", "."))
        name = name.removeprefix("./")
        if not is_safe(name):
            self.problems.add(beside, UNSAFE, name=said)
            return None
        path = PurePosixPath(name)
        found = self._near(path, beside) or self._ending(path)
        if not found:
            self.problems.add(beside, NO_PICTURE, name=said)
            return None
        if len(found) > 1:
            self.problems.add(beside, SEVERAL, name=said)
            return None
        return found[0]

    def find_address(self, said: str, beside: str) -> str | None:
        """The same of an address, as Label Studio writes them."""
        try:
            parts = urlsplit(said)
        except ValueError:  # brackets that hold no address
            self.problems.add(beside, NO_ADDRESS, name=said)
            return None
        asked = parse_qs(parts.query).get("d", [""])[0]
        name = unquote(asked or parts.path or said)
        last = PurePosixPath(name).name
        if last and not self._by_name.get(last.casefold()) and _UPLOADED.match(last):
            bare = _UPLOADED.sub("", last)
            if self._by_name.get(bare.casefold()):
                name = bare
        return self.find(name, beside, loose=True)

    def find_stem(self, stem: str) -> list[str]:
        """Pictures of that name, whatever their ending."""
        return self._by_stem.get(stem.casefold(), [])

    def _near(self, path: PurePosixPath, beside: str) -> list[str]:
        """Relative to the label file's folder, the folders above it, and "images" there."""
        name = str(path)
        return next(
            ([start + name] for start in _starts(beside) if start + name in self._exact), []
        )

    def _ending(self, path: PurePosixPath) -> list[str]:
        """Pictures whose names end like ``path``, at most two; as few of its folders as tell them
        apart."""
        if path.name.casefold() not in self._by_name:
            return []
        for count in range(len(path.parts), 0, -1):
            end = "/".join(path.parts[-count:])
            for fold, names in zip(_FOLDS, self._backwards, strict=True):
                start = _backwards(fold(end))
                first = bisect_left(names, (start,))
                like = names[first : first + 2]
                if found := [name for said, name in like if said.startswith(start)]:
                    return found
        return []


@lru_cache(maxsize=64)
def _starts(beside: str) -> tuple[str, ...]:
    """What comes before the names that a label file says, the likeliest first."""
    folder = PurePosixPath(beside).parent
    places = [place / below for place in (folder, *folder.parents)
              for below in ("", "images", "JPEGImages")]  # fmt: skip
    return tuple("" if place == PurePosixPath() else f"{place}/" for place in places)


def _backwards(name: str) -> str:
    """``name`` with its parts in reverse: names that end alike begin alike, and sort together."""
    return "/".join(reversed(name.split("/"))) + "/"


def is_picture(name: str) -> bool:
    """Whether a file is called like a picture."""
    return PurePosixPath(name).suffix.casefold() in ENDINGS


def numbers(values: Iterable[Any]) -> list[float] | None:
    """Each of ``values`` as a number, in whatever way it was written; None if one is none."""
    found = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            found.append(float(value))
        except (ValueError, OverflowError):
            return None
    return found
