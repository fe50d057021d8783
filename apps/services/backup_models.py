"""The models that administrators added, in a backup: ``models/`` and ``models.jsonl``.

Backups of before had neither; they say nothing of such models.
"""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apps.errors import N_, InvalidInput
from apps.vision.zoo.cards import NAME
from apps.vision.zoo.own import KINDS, OwnWeights

LIST, FILES = "models.jsonl", "models/"
BLOCK = 2**20  # bytes read at a time
DAMAGED = N_("The backup is damaged: %(name)s.")


def write_models(archive: zipfile.ZipFile, own: OwnWeights) -> int:
    """Copy every model with its card; one that is taken away meanwhile is left out. How many."""
    entries = []
    for name in own.specs():
        with own.copied(name) as copies:
            if copies is None:
                continue
            for kind, path in copies.items():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                archive.write(path, f"{FILES}{name}.{kind}")
                entries.append({"name": f"{name}.{kind}", "sha256": digest})
    archive.writestr(LIST, "\n".join(map(json.dumps, entries)), zipfile.ZIP_DEFLATED)
    return len(entries) // len(KINDS)


def check_models(archive: zipfile.ZipFile) -> None:
    """Raise InvalidInput unless every file of a model is as it was."""
    for entry in _entries(archive):
        digest = hashlib.sha256()
        with archive.open(FILES + entry["name"]) as file:
            while block := file.read(BLOCK):
                digest.update(block)
        if digest.hexdigest() != entry["sha256"]:
            raise InvalidInput(DAMAGED, name=entry["name"])


@contextmanager
def unpacked_models(archive: zipfile.ZipFile, own: OwnWeights) -> Iterator[dict[str, Path] | None]:
    """The files of the models beside those that are there, by their names, for OwnWeights.become.

    None for a backup of before. Whatever of them was not taken is gone in the end.
    """
    if LIST not in archive.namelist():
        yield None
        return
    drafts: dict[str, Path] = {}
    try:
        for entry in _entries(archive):
            drafts[entry["name"]] = place = own.incoming()
            with archive.open(FILES + entry["name"]) as source, place.open("xb") as target:
                shutil.copyfileobj(source, target, BLOCK)
        yield drafts
    finally:
        for place in drafts.values():
            place.unlink(missing_ok=True)


def _entries(archive: zipfile.ZipFile) -> Iterator[dict[str, Any]]:
    if LIST not in archive.namelist():  # a backup of before
        return
    good = re.compile(rf"{NAME.pattern}\.({'|'.join(KINDS)})")
    for line in archive.read(LIST).splitlines():
        entry = json.loads(line)
        if not isinstance(entry["name"], str) or not good.fullmatch(entry["name"]):
            raise ValueError(f"{entry['name']!r} is no file of a model")
        yield entry
