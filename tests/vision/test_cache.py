import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import torch
from torch import nn

from apps.vision.cache import GROWTH, WORKING_BYTES, Networks
from apps.vision.zoo.architectures import SMALL, Origin
from apps.vision.zoo.registry import BLOOD_CELLS, Added, DetectorSpec

PATIENCE = 20
PLENTY = 1 << 40  # bytes


def spec_of(name: str) -> DetectorSpec:
    return replace(BLOOD_CELLS, name=name)


class Shelf:
    """Networks of one layer on a clock that a test turns."""

    def __init__(self, keep: int = 2, idle: float = 0.0, free: int = PLENTY) -> None:
        self.now = 0.0
        self.free = free
        self.loads: list[str] = []
        self.dropped = 0
        self.networks = Networks(
            self.load, lambda: self.free, self.drop, keep, idle, lambda: self.now
        )

    def load(self, spec: DetectorSpec) -> nn.Module:
        self.loads.append(spec.name)
        return nn.Linear(10, 4)

    def drop(self) -> None:
        self.dropped += 1
        self.free = PLENTY

    def names(self) -> list[str]:
        return [model.name for model in self.networks.status()]


def test_a_network_is_loaded_once_and_known_by_its_size():
    shelf = Shelf()
    assert shelf.networks.get(spec_of("a")) is shelf.networks.get(spec_of("a"))
    assert shelf.loads == ["a"]
    shelf.now = 5.0
    [model] = shelf.networks.status()
    assert (model.name, model.bytes, model.idle_seconds) == ("a", 4 * 44, 5.0)


def test_the_least_recently_used_one_goes():
    shelf = Shelf(keep=2)
    for name in ("a", "b", "a", "c"):
        shelf.networks.get(spec_of(name))
    assert shelf.names() == ["c", "a"]
    assert shelf.dropped == 1


def test_another_model_under_the_same_name_takes_the_place_of_the_first():
    """An administrator may remove an own model and add a better one."""
    shelf = Shelf()
    first = shelf.networks.get(spec_of("a"))
    changed = replace(spec_of("a"), weights=replace(BLOOD_CELLS.weights, sha256="0" * 64))
    assert shelf.networks.get(changed) is not first
    assert shelf.networks.get(changed) is shelf.networks.get(changed)
    assert shelf.names() == ["a"]
    assert shelf.dropped == 1


def test_the_same_file_said_to_be_of_another_origin_is_another_model():
    """Its checksum is the same, its batch norms are not."""
    shelf = Shelf()
    now = datetime.now(UTC)
    specs = [
        replace(spec_of("a"), added=Added(SMALL, origin, now, "ann", "w.pth")) for origin in Origin
    ]
    for spec in (*specs, specs[-1]):
        shelf.networks.get(spec)
    assert shelf.loads == ["a"] * len(specs)


def test_one_goes_when_memory_is_short_even_if_there_is_a_place():
    shelf = Shelf(keep=5)
    shelf.networks.get(spec_of("a"))
    shelf.networks.get(spec_of("b"))
    shelf.free = GROWTH * BLOOD_CELLS.weights.size + WORKING_BYTES - 1
    shelf.networks.get(spec_of("c"))
    assert shelf.names() == ["c", "b"]


def test_the_first_network_is_loaded_even_if_memory_is_short():
    shelf = Shelf(free=0)
    shelf.networks.get(spec_of("a"))
    assert shelf.names() == ["a"]


def test_what_nobody_uses_goes_after_its_time():
    shelf = Shelf(idle=60)
    shelf.networks._watched = True  # the test calls, not the thread
    shelf.networks.get(spec_of("a"))
    shelf.now = 30
    shelf.networks.get(spec_of("b"))
    shelf.now = 61
    shelf.networks.drop_idle()
    assert shelf.names() == ["b"]
    shelf.networks.get(spec_of("a"))
    assert shelf.loads == ["a", "b", "a"]


def test_a_thread_lets_it_go_by_itself_and_ends():
    gone = threading.Event()
    networks = Networks(lambda spec: nn.Linear(1, 1), lambda: PLENTY, gone.set, 2, idle=0.05)
    networks.get(spec_of("a"))
    assert gone.wait(PATIENCE)
    assert networks.status() == ()
    deadline = time.monotonic() + PATIENCE
    while any(thread.name == "idle-models" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
    networks.get(spec_of("a"))  # and again
    assert torch.is_tensor(networks.get(spec_of("a")).weight)


def test_a_name_with_other_weights_is_another_network():
    shelf = Shelf()
    old = shelf.networks.get(spec_of("a"))
    again = replace(spec_of("a"), weights=replace(BLOOD_CELLS.weights, sha256="0" * 64))
    assert shelf.networks.get(again) is not old
    assert shelf.loads == ["a", "a"]
    assert shelf.names() == ["a"]


def test_all_but_one_can_be_let_go():
    shelf = Shelf(keep=3)
    for name in ("a", "b", "c"):
        shelf.networks.get(spec_of(name))
    assert shelf.networks.clear(but="b") == 2
    assert shelf.names() == ["b"]
    assert shelf.networks.clear() == 1
    assert shelf.networks.clear() == 0
