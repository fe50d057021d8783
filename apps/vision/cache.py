"""Networks that stay in memory: how many, how long, and which goes first."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from apps.vision.types import LoadedModel
from apps.vision.zoo.store import WeightsFile

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

# Free memory that a network is given beside its weights: activations of one large picture.
WORKING_BYTES = 512 * 2**20
# File to memory: shipped files are float16 and networks float32.
GROWTH = 2


class Spec(Protocol):
    """What is asked of a detector or a classifier; two of the same name may differ."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> WeightsFile: ...


S = TypeVar("S", bound=Spec)


@dataclass
class _Entry(Generic[S]):
    network: "nn.Module"
    spec: S  # a name may be given again, even with the same file built otherwise
    bytes: int
    used: float  # on the clock


class Networks(Generic[S]):
    """Loaded on first use; the least recently used one goes when there are too many.

    Args:
        load: makes the network of a model, ready to run; slow.
        free: bytes of memory that are free where networks live.
        dropped: called after networks were let go.
        keep: networks in memory at most.
        idle: seconds after which one that nobody used goes; 0 is never.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        load: Callable[[S], "nn.Module"],
        free: Callable[[], int],
        dropped: Callable[[], None],
        keep: int,
        idle: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._free = free
        self._dropped = dropped
        self.keep = keep
        self.idle = idle
        self._clock = clock
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry[S]] = {}  # least recently used first
        self._watched = False

    def get(self, spec: S) -> "nn.Module":
        """The network of ``spec``, loaded if it is not there."""
        with self._lock:
            present = self._entries.get(spec.name)
            if present and present.spec != spec:  # the name stands for another model now
                self._drop([spec.name], "replaced")
            entry = self._entries.pop(spec.name, None) or self._loaded(spec)
            entry.used = self._clock()
            self._entries[spec.name] = entry
            self._watch()
        return entry.network

    def peek(self, name: str) -> "nn.Module | None":
        """The network if it is in memory; no use of it."""
        entry = self._entries.get(name)
        return entry.network if entry else None

    def status(self) -> tuple[LoadedModel, ...]:
        """What is in memory, most recently used first; never waits for a network to load."""
        now = self._clock()
        entries = list(self._entries.items())
        return tuple(
            LoadedModel(name, entry.bytes, max(now - entry.used, 0.0))
            for name, entry in reversed(entries)
        )

    def clear(self, but: str | None = None) -> int:
        """Let every network go except ``but``; how many went."""
        with self._lock:
            names = [name for name in self._entries if name != but]
            self._drop(names, "asked")
        return len(names)

    def drop_idle(self) -> None:
        """Let go what nobody has used for ``idle`` seconds."""
        with self._lock:
            now = self._clock()
            old = [name for name, e in self._entries.items() if now - e.used >= self.idle]
            self._drop(old, "idle")

    def _loaded(self, spec: S) -> _Entry[S]:
        started = time.perf_counter()
        needed = GROWTH * spec.weights.size + WORKING_BYTES
        while self._entries and (len(self._entries) >= self.keep or self._free() < needed):
            self._drop([next(iter(self._entries))], "room is needed")
        network = self._load(spec)
        tensors = (*network.parameters(), *network.buffers())
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        seconds = time.perf_counter() - started
        logger.info("loaded model=%s bytes=%d seconds=%.1f", spec.name, size, seconds)
        return _Entry(network, spec, size, self._clock())

    def _drop(self, names: list[str], why: str) -> None:
        for name in names:
            del self._entries[name]
            logger.info("unloaded model=%s reason=%s", name, why)
        if names:
            self._dropped()

    def _watch(self) -> None:
        """A thread that lives as long as there is something to let go; none without ``idle``."""
        if self.idle > 0 and not self._watched:
            self._watched = True
            threading.Thread(target=self._watch_idle, name="idle-models", daemon=True).start()

    def _watch_idle(self) -> None:
        while True:
            time.sleep(self.idle / 4)
            with self._lock:
                try:
                    self.drop_idle()
                except Exception:  # a lost device; the thread must live on
                    logger.exception("unloading idle models failed")
                if not self._entries:
                    self._watched = False
                    return
