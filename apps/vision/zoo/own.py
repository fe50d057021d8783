"""Models that administrators added: a folder with a file of weights and a card for each.

The folder is the registry. Whoever can read it (a command, a worker, another machine that mounts
it) knows the models, and a card is written last, so a model is whole as soon as it is there.
Nothing here imports torch.
"""

import fcntl
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from apps.disk import sync_folder
from apps.errors import N_, Conflict, NotFound
from apps.vision.zoo.cards import FOLDER, NAME, card_text, read_card
from apps.vision.zoo.registry import DetectorSpec

logger = logging.getLogger(__name__)

KEEP_REMOVED = timedelta(days=7)
KEEP_INCOMING = timedelta(days=1)  # a file that nobody finished adding
SETTLED = 2.0  # seconds after which the time stamp of a folder tells every change
NOT_OWN = N_("No model of this name was added here.")
KINDS = ("safetensors", "json")  # files of a model; its card last
STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True)
class Removed:
    """A model that was taken away and can still come back."""

    key: str  # name, "@", when
    spec: DetectorSpec
    at: datetime

    @property
    def until(self) -> datetime:
        return self.at + KEEP_REMOVED


class OwnWeights:
    """The models in ``weights/custom``, read again when the folder changed.

    Args:
        weights: the folder of all weights; it need not exist yet.
    """

    def __init__(self, weights: Path) -> None:
        self.folder = weights / FOLDER
        self._seen: tuple[int, dict[str, DetectorSpec]] | None = None

    # -- reading ---------------------------------------------------------------------------

    def specs(self) -> Mapping[str, DetectorSpec]:
        """Every model by its name, in alphabetical order. Cards that cannot be read are left out.

        Renaming a file changes the time stamp of its folder, in steps of some milliseconds: what
        was read within the last step may be old already, so only a settled stamp is believed.
        """
        try:
            stamp = self.folder.stat().st_mtime_ns
        except OSError:
            return {}
        if self._seen is not None and self._seen[0] == stamp:
            return self._seen[1]
        cards = sorted(self.folder.glob("*.json"))
        found = {
            path.stem: spec for path in cards if (spec := read_card(path, path.stem)) is not None
        }
        settled = time.time_ns() - stamp > SETTLED * 1e9
        self._seen = (stamp, found) if settled else None
        return found

    def removed(self) -> list[Removed]:
        """What can still come back, the latest first."""
        found = []
        for path in self._bin.glob("*.json"):
            name, _, when = path.stem.partition("@")
            spec = read_card(path, name)
            with suppress(ValueError):  # a file that somebody put there by hand
                at = datetime.strptime(when, STAMP).replace(tzinfo=UTC)
                if spec is not None:
                    found.append(Removed(path.stem, spec, at))
        return sorted(found, key=lambda model: model.at, reverse=True)

    # -- writing ---------------------------------------------------------------------------

    def incoming(self, key: str | None = None) -> Path:
        """A place for a file that is not a model yet: a new one, or the one called ``key``.

        Raises:
            NotFound: not a key of ours.
        """
        if key is not None and not re.fullmatch("[0-9a-f]{32}", key):
            raise NotFound(N_("The file is not here any more. Choose it again."))
        place = self.folder / ".incoming"
        place.mkdir(parents=True, exist_ok=True)
        return place / (key or secrets.token_hex(16))

    def add(self, spec: DetectorSpec, weights: Path) -> None:
        """Move ``weights`` in and write the card of ``spec``, in one step for those who look.

        Raises:
            Conflict: there is a model of this name.
        """
        with self._alone():
            if self._file(spec.name, "json").exists():
                raise taken(spec.name)
            _sync(weights)
            weights.replace(self._file(spec.name, "safetensors"))
            draft = self.incoming()
            draft.write_text(card_text(spec), encoding="utf-8")
            _sync(draft)
            draft.replace(self._file(spec.name, "json"))
            sync_folder(self.folder)
        logger.info("model added name=%s sha256=%s", spec.name, spec.weights.sha256)

    def remove(self, name: str) -> Removed:
        """Take a model away; it is kept for ``KEEP_REMOVED``.

        Raises:
            NotFound: no own model is called so.
        """
        with self._alone():
            spec = read_card(self._file(name, "json"), name) if NAME.fullmatch(name) else None
            if spec is None:
                raise NotFound(NOT_OWN)
            at = datetime.now(UTC).replace(microsecond=0)
            key = f"{name}@{at:{STAMP}}"
            self._bin.mkdir(exist_ok=True)
            self._move(self.folder, name, self._bin, key)
        logger.info("model removed name=%s kept_as=%s", name, key)
        return Removed(key, spec, at)

    @contextmanager
    def copied(self, name: str) -> Iterator[dict[str, Path] | None]:
        """The files of a model by their kinds, which nobody takes away meanwhile; None: gone."""
        with self._alone():
            files = {kind: self._file(name, kind) for kind in KINDS}
            yield files if all(path.is_file() for path in files.values()) else None

    def become(self, files: Mapping[str, Path]) -> None:
        """Have these models and no others; those that are there are removed, as by ``remove``.

        Args:
            files: by their names: ``name.safetensors`` and ``name.json`` of each model.
        """
        for name in list(self.specs()):
            with suppress(NotFound):
                self.remove(name)
        with self._alone():
            for kind in KINDS:
                for name, file in files.items():
                    if name.endswith(f".{kind}"):
                        _sync(file)
                        file.replace(self.folder / name)
            sync_folder(self.folder)
        self._seen = None

    def restore(self, key: str) -> DetectorSpec:
        """Bring a removed model back.

        Raises:
            NotFound: it is gone for good.
            Conflict: another model has its name now.
        """
        with self._alone():
            model = self._removed(key)
            if self._file(model.spec.name, "json").exists():
                raise taken(model.spec.name)
            self._move(self._bin, key, self.folder, model.spec.name)
        logger.info("model restored name=%s", model.spec.name)
        return model.spec

    def discard(self, key: str) -> None:
        """Delete a removed model for good.

        Raises:
            NotFound: it is gone already.
        """
        with self._alone():
            self._removed(key)
            self._delete(key)

    def sweep(self) -> None:
        """Delete what was removed or left behind too long ago."""
        now = datetime.now(UTC)
        for model in self.removed():
            if model.until < now:
                self._delete(model.key)
        for path in (self.folder / ".incoming").glob("*"):
            with suppress(FileNotFoundError):  # it was added, or swept by somebody else, just now
                age = time.time() - path.stat().st_mtime
                if age > KEEP_INCOMING.total_seconds():
                    path.unlink()

    # -- files -----------------------------------------------------------------------------

    @property
    def _bin(self) -> Path:
        return self.folder / ".removed"

    def _file(self, name: str, kind: str) -> Path:
        return self.folder / f"{name}.{kind}"

    def _removed(self, key: str) -> Removed:
        for model in self.removed():
            if model.key == key:
                return model
        raise NotFound(N_("This model is not kept any more. Add its file again."))

    def _move(self, source: Path, name: str, target: Path, new: str) -> None:
        """Card first when leaving and last when coming, so that no card ever lacks its weights."""
        kinds = ("json", "safetensors") if source == self.folder else ("safetensors", "json")
        for kind in kinds:
            file = source / f"{name}.{kind}"
            if file.exists():  # somebody may have taken the weights away by hand
                file.replace(target / f"{new}.{kind}")

    def _delete(self, key: str) -> None:
        for kind in ("safetensors", "json"):
            (self._bin / f"{key}.{kind}").unlink(missing_ok=True)
        logger.info("model deleted for good key=%s", key)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One change at a time, of all processes that use this folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def taken(name: str) -> Conflict:
    """The refusal of a name that another model has."""
    return Conflict(N_("There is a model “%(name)s” already. Choose another name."), name=name)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
