"""The files of an archive by name, and which of them a label means."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from apps.errors import N_, AppError
from apps.vision.formats.dataset import is_safe
from apps.vision.formats.incoming.found import Problems
from apps.vision.formats.yolo import ENDINGS

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an upload
TOO_LONG = N_("This label file is larger than %(limit)s MB. It is left out.")
NOT_JSON = N_("This file is not readable as JSON: %(reason)s. It is left out.")
NOT_TEXT = N_("This label file is not text in UTF-8. It is left out.")
NO_PICTURE = N_("The labels name the picture “%(name)s”, which is not in the archive.")
SEVERAL = N_("The labels name “%(name)s”, and several pictures could be meant. None is taken.")
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
    """

    def __init__(self, files: Files, problems: Problems, most: int) -> None:
        self.files = files
        self.problems = problems
        self.most = most
        self.pictures = tuple(name for name in files.names if is_picture(name))
        self._exact = frozenset(self.pictures)
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.pictures:
            self._by_name[PurePosixPath(name).name.casefold()].append(name)
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.pictures:
            self._by_stem[PurePosixPath(name).stem.casefold()].append(name)

    def named(self, *endings: str) -> list[str]:
        """Names of files with one of these endings, in order."""
        return [name for name in self.files.names if name.casefold().endswith(endings)]

    def text(self, name: str) -> str | None:
        """A label file as text; None after a problem, which is noted."""
        data = self.data(name)
        if data is None:
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            self.problems.add(name, NOT_TEXT)
            return None

    def data(self, name: str) -> bytes | None:
        """The bytes of a label file; None after a problem, which is noted."""
        try:
            return self.files.read(name, self.most)
        except AppError as error:
            message, params = error.message, dict[str, Any](error.params)
            if error.code == "too_large":
                message, params = TOO_LONG, {"limit": round(self.most / 2**20, 1)}
            self.problems.add(name, message, **params)
            self.problems.reasons.append((message, params))
            return None

    def json(self, name: str) -> Any:
        """A JSON file; None after a problem, which is noted."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return json.loads(text)
        except RecursionError:
            reason = "nested too deeply"
        except ValueError as error:
            reason = str(error)
        self.problems.add(name, NOT_JSON, reason=reason)
        self.problems.reasons.append((NOT_JSON, {"reason": reason}))
        return None

    def find(self, said: str, beside: str = "", *, loose: bool = False) -> str | None:
        """The picture that a label file calls ``said``; None after a problem, which is noted.

        Args:
            beside: the name of the label file.
            loose: its folders may be those of another machine.
        """
        name = said.replace("\\", "/").strip()
        if loose:
            name = name.split(":", 1)[-1].lstrip("/")
            parts = PurePosixPath(name).parts
            name = "/".join(part for part in parts if part not in ("..", "."))
        name = name.removeprefix("./")
        if not is_safe(name):
            self.problems.add(beside, UNSAFE, name=said)
            return None
        path = PurePosixPath(name)
        found = self._near(path, PurePosixPath(beside).parent) or self._ending(path)
        if not found:
            self.problems.add(beside, NO_PICTURE, name=said)
            return None
        if len(found) > 1:
            self.problems.add(beside, SEVERAL, name=said)
            return None
        return found[0]

    def find_address(self, said: str, beside: str) -> str | None:
        """The same of an address, as Label Studio writes them."""
        parts = urlsplit(said)
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

    def _near(self, path: PurePosixPath, folder: PurePosixPath) -> list[str]:
        """Relative to the label file's folder, the folders above it, and "images" there."""
        for place in (folder, *folder.parents):
            for below in ("", "images", "JPEGImages"):
                name = str(place / below / path)
                if name in self._exact:
                    return [name]
        return []

    def _ending(self, path: PurePosixPath) -> list[str]:
        """Pictures whose names end like ``path``; as few of its folders as tell them apart."""
        same = self._by_name.get(path.name.casefold(), [])
        for count in range(len(path.parts), 0, -1):
            end = "/".join(path.parts[-count:])
            for fold in (str, str.casefold):
                found = [name for name in same if f"/{fold(name)}".endswith(f"/{fold(end)}")]
                if found:
                    return found
        return []


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
