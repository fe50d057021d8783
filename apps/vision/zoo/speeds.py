"""How fast models were when somebody measured them: a small file beside the weights."""

import fcntl
import json
import logging
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from apps.errors import N_, Conflict
from apps.vision.zoo.registry import DetectorSpec
from apps.vision.zoo.store import usable

logger = logging.getLogger(__name__)

FILE = "speeds.json"
BUSY = N_("A model is being measured already. Try again when that is done.")


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one model on one device."""

    median_ms: float  # a picture
    p95_ms: float
    device: str  # "cpu", "cuda:0 (NVIDIA H200)"
    at: datetime  # with its time zone


@dataclass(frozen=True)
class SpeedFile:
    """The latest measurement of each model on each device, of all machines that share a folder.

    {name: [{"weights", "median_ms", "p95_ms", "device", "at"}]}, the latest first.
    """

    folder: Path  # of all weights; it need not exist yet

    def of(self, spec: DetectorSpec) -> list[Speed]:
        """What was measured of these very weights, the latest first."""
        return [
            speed
            for entry in self._read().get(spec.name, [])
            if (speed := _parse(entry, spec)) is not None
        ]

    def keep(self, spec: DetectorSpec, speed: Speed) -> None:
        """In place of an earlier one on the same device; call it under :meth:`lock`.

        Raises:
            WeightsError: the folder cannot be written.
        """
        others = [earlier for earlier in self.of(spec) if earlier.device != speed.device]
        entries = [_entry(spec, one) for one in (speed, *others)]
        draft = self.folder / f".{FILE}.{os.getpid()}"
        with usable(self.folder):
            draft.write_text(json.dumps(self._read() | {spec.name: entries}, indent=1), "utf-8")
            draft.replace(self.folder / FILE)

    def lock(self) -> IO[str]:
        """A file that is locked until it is closed: one measurement at a time, of all processes.

        Raises:
            Conflict: a model is being measured.
            WeightsError: the folder cannot be written or locked.
        """
        with usable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            held = (self.folder / f".{FILE}.lock").open("w")
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.close()
                raise Conflict(BUSY) from None
            except OSError:
                held.close()
                raise
        return held

    def _read(self) -> dict[str, list[Any]]:
        try:
            found = json.loads((self.folder / FILE).read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("no speeds file=%s reason=%s", self.folder / FILE, error)
            return {}
        entries = found.items() if isinstance(found, dict) else ()
        return {name: some for name, some in entries if isinstance(some, list)}


def _entry(spec: DetectorSpec, speed: Speed) -> dict[str, Any]:
    return {
        "weights": spec.weights.sha256,
        "median_ms": round(speed.median_ms, 1),
        "p95_ms": round(speed.p95_ms, 1),
        "device": speed.device,
        "at": speed.at.isoformat(),
    }


def _parse(entry: Any, spec: DetectorSpec) -> Speed | None:
    """None for what :func:`_entry` would not have written of ``spec``."""
    try:
        if entry["weights"] != spec.weights.sha256:  # another model had this name
            return None
        at = datetime.fromisoformat(entry["at"])
        return Speed(float(entry["median_ms"]), float(entry["p95_ms"]), str(entry["device"]), at)
    except (KeyError, TypeError, ValueError):
        return None
