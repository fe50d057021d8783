"""The real detector with the shipped weights: on a drawn smear, and on photographs."""

import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from apps.config import ROOT
from apps.errors import Busy, ConfigError, DeviceLost, OutOfMemory, WeightsError
from apps.vision.devices import pick_device
from apps.vision.engine import EngineOptions, TorchEngine
from apps.vision.prepare import boxes_of
from apps.vision.types import SCORE_FLOOR, Box, Detections
from apps.vision.zoo.registry import BLOOD_CELLS, DetectorSpec
from apps.vision.zoo.store import WeightsStore
from tests.smear import Corners, smear
from tests.vision.agreement import assert_same, corners, overlap

DATA = Path(os.environ.get("SIGHTBOX_TEST_DATA", Path(ROOT).parent / "shared" / "data"))


EMBEDDED = WeightsStore(Path())  # embedded weights need no folder of downloads
OWN = EMBEDDED.path(BLOOD_CELLS.weights)


def engine_of(spec: DetectorSpec = BLOOD_CELLS, device: str = "cpu") -> TorchEngine:
    """An engine that knows ``spec`` alone."""
    options = EngineOptions(device, cpu_threads=2)
    return TorchEngine(EMBEDDED, spec.name, options, {spec.name: spec}.__getitem__)


def with_file(path: Path, sha256: str = BLOOD_CELLS.weights.sha256) -> DetectorSpec:
    """The shipped detector with another file of weights."""
    file = replace(BLOOD_CELLS.weights, name=path.name, folder=path.parent, sha256=sha256)
    return replace(BLOOD_CELLS, weights=file)


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    return engine_of()


def found_of(truth: Sequence[Corners], boxes: Sequence[Box]) -> int:
    """How many of ``truth`` a box overlaps by half or more; each box counts once."""
    left = list(boxes)
    found = 0
    for wanted in truth:
        best = max(left, key=lambda box: overlap(corners(box), wanted), default=None)
        if best is not None and overlap(corners(best), wanted) >= 0.5:
            left.remove(best)
            found += 1
    return found


def assert_sound(found: Detections, size: tuple[int, int]) -> None:
    scores = [box.score for box in found.boxes]
    assert scores == sorted(scores, reverse=True)
    assert all(SCORE_FLOOR <= score <= 1 for score in scores)
    assert {box.label for box in found.boxes} <= set(BLOOD_CELLS.classes)
    for box in found.boxes:
        assert 0 <= box.x1 < box.x2 <= size[0]
        assert 0 <= box.y1 < box.y2 <= size[1]


# -- what it finds -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_most_red_cells_of_a_drawn_smear_are_found(engine, seed):
    picture, discs = smear(seed)
    found = engine.detect(picture)
    assert found.model == BLOOD_CELLS.name
    assert_sound(found, picture.size)
    red = [box for box in found.boxes if box.label == "RBC" and box.score >= 0.5]
    assert found_of(discs, red) >= 0.8 * len(discs)
    assert len(red) <= len(discs) + 2
    assert any(box.label == "WBC" and box.score >= 0.5 for box in found.boxes)


def test_most_cells_of_real_photographs_are_found(engine):
    folder = DATA / "blood-cells"
    if not (folder / "annotations.json").is_file():
        pytest.skip(f"no photographs at {folder}; set SIGHTBOX_TEST_DATA to the folder around it")
    notes = json.loads((folder / "annotations.json").read_text("utf-8"))
    some = [image for image in notes["images"] if image["split"] == "test"][::12]
    names = {kind["id"]: kind["name"] for kind in notes["categories"]}
    right = total = 0
    with zipfile.ZipFile(folder / "images.zip") as archive:
        for image in some:
            with archive.open(image["file_name"]) as file, Image.open(file) as picture:
                found = engine.detect(picture.convert("RGB"))
            assert_sound(found, (image["width"], image["height"]))
            sure = [box for box in found.boxes if box.score >= 0.5]
            for label in names.values():
                truth = [
                    (x, y, x + width, y + height)
                    for note in notes["annotations"]
                    if note["image_id"] == image["id"] and names[note["category_id"]] == label
                    for x, y, width, height in [note["bbox"]]
                ]
                right += found_of(truth, [box for box in sure if box.label == label])
                total += len(truth)
    assert total > 30
    assert right / total >= 0.6


@pytest.mark.parametrize("color", ["white", "black"])
def test_an_empty_picture_gives_an_empty_result_and_no_error(engine, color):
    found = engine.detect(Image.new("RGB", (640, 480), color))
    assert_sound(found, (640, 480))
    assert not [box for box in found.boxes if box.score >= 0.5]


def test_the_boxes_are_those_of_the_plain_torchvision_model(engine):
    import torch
    from torchvision.transforms.v2.functional import pil_to_tensor

    from apps.vision.zoo.weights import load_detector

    picture, _ = smear(5)
    model = load_detector(BLOOD_CELLS, EMBEDDED)
    with torch.inference_mode():
        [plain] = model([pil_to_tensor(picture).float() / 255])
    wanted = [
        (BLOOD_CELLS.classes[label - 1], score, *box)
        for label, score, box in zip(
            plain["labels"].tolist(), plain["scores"].tolist(), plain["boxes"].tolist(), strict=True
        )
        if score >= SCORE_FLOOR
    ]
    found = [(box.label, box.score, *corners(box)) for box in engine.detect(picture).boxes]
    assert len(found) > 5
    assert [row[0] for row in found] == [row[0] for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one[1:] == pytest.approx(other[1:], abs=1e-3)


# -- sizes ---------------------------------------------------------------------------------


def test_boxes_of_a_very_wide_picture_come_back_in_its_own_pixels(engine):
    picture = Image.new("RGB", (9000, 200), "white")
    found = engine.detect(picture)
    assert_sound(found, picture.size)


def test_a_large_picture_has_the_boxes_of_the_plain_torchvision_model(engine):
    """Only the pixels that count are read; nothing else may differ."""
    import torch
    from torchvision.transforms.v2.functional import pil_to_tensor

    from apps.vision.zoo.weights import load_detector

    small, _ = smear(3)
    picture = small.resize((small.width * 5, small.height * 5))
    with torch.inference_mode():
        [plain] = load_detector(BLOOD_CELLS, EMBEDDED)([pil_to_tensor(picture).float() / 255])
    lists = {name: plain[name].tolist() for name in ("boxes", "labels", "scores")}
    wanted = boxes_of(BLOOD_CELLS, lists, (1, 1), picture.size)
    assert len(wanted) > 5
    assert_same(engine.detect(picture).boxes, wanted)


@pytest.mark.parametrize("first", [(800, 100), (1000, 30), (30, 1000)])
def test_a_strip_as_the_first_picture_spoils_no_later_one(engine, first):
    """torchvision's pooling keeps what it infers from the first picture that it sees."""
    fresh = engine_of()
    fresh.detect(Image.effect_noise(first, 90).convert("RGB"))
    picture, _ = smear(0)
    assert_same(fresh.detect(picture).boxes, engine.detect(picture).boxes)


def test_a_thin_picture_takes_no_more_memory_than_its_pixels(engine):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_sound(engine.detect(Image.new("RGB", (1_000_000, 10), "pink")), (1_000_000, 10))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (321, 1), (2, 5000), (7, 3)])
def test_a_thin_or_tiny_picture_is_no_error(engine, size):
    assert_sound(engine.detect(Image.new("RGB", size, "pink")), size)


# -- weights and devices -------------------------------------------------------------------


def test_missing_weights_are_named(tmp_path):
    spec = with_file(tmp_path / "gone.safetensors")
    with pytest.raises(WeightsError, match=r"gone\.safetensors are missing"):
        engine_of(spec).detect(Image.new("RGB", (64, 64)))


def test_changed_weights_are_refused(tmp_path):
    data = bytearray(OWN.read_bytes())
    data[-1] ^= 1
    path = tmp_path / "changed.safetensors"
    path.write_bytes(data)
    spec = with_file(path)
    with pytest.raises(WeightsError, match=r"changed\.safetensors is not the expected one"):
        engine_of(spec).detect(Image.new("RGB", (64, 64)))


@pytest.mark.parametrize("data", [b"", b"no safetensors", b"\xff" * 64, b"\x80\x04K\x01."])
def test_a_file_that_is_no_safetensors_is_refused_even_with_its_checksum(tmp_path, data):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(data)
    spec = with_file(path, hashlib.sha256(data).hexdigest())
    with pytest.raises(WeightsError, match="holds more than tensors"):
        engine_of(spec).detect(Image.new("RGB", (64, 64)))


def test_weights_of_another_network_are_refused():
    spec = replace(BLOOD_CELLS, classes=("cat", "dog"))
    with pytest.raises(WeightsError, match="does not fit its network"):
        engine_of(spec).detect(Image.new("RGB", (64, 64)))


@pytest.mark.parametrize("choice", ["banana", "", "cuda:99", "meta", "hpu", "CPU"])
def test_a_device_that_is_not_there_is_named(choice):
    with pytest.raises(ConfigError, match=f"SIGHTBOX_DEVICE is {choice}"):
        pick_device(choice)


def test_an_engine_without_its_device_is_in_trouble_until_it_is_there(monkeypatch):
    engine = engine_of(device="cuda:99")
    picture = Image.new("RGB", (64, 64))
    assert engine.trouble is None
    with pytest.raises(ConfigError, match="cuda:99"):
        engine.detect(picture)
    assert not engine.try_device()
    status = engine.status()
    assert status.trouble == "SIGHTBOX_DEVICE is cuda:99, which this machine does not have."
    assert (status.device, status.lost) == ("cuda:99 (not found)", False)
    monkeypatch.setattr("apps.vision.devices.pick_device", lambda _: pick_device("cpu"))
    assert engine.try_device()
    assert engine.trouble is None
    assert_sound(engine.detect(picture), picture.size)


def test_with_the_fallback_the_cpu_stands_in_for_a_device_that_is_not_there(caplog):
    options = EngineOptions("cuda:99", fall_back=True)
    engine = TorchEngine(EMBEDDED, BLOOD_CELLS.name, options)
    picture = Image.new("RGB", (64, 64))
    assert_sound(engine.detect(picture), picture.size)
    assert engine.trouble is None
    assert engine.status().device == "cpu (cuda:99 was not found)"
    assert [one.levelname for one in caplog.records if "cuda:99" in one.message] == ["WARNING"]


def test_auto_is_cuda_where_there_is_one_and_else_the_cpu():
    import torch

    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"


def test_an_engine_that_failed_works_once_its_weights_are_back(tmp_path):
    path = tmp_path / "w.safetensors"
    engine = engine_of(with_file(path))
    picture = Image.new("RGB", (64, 64))
    with pytest.raises(WeightsError):
        engine.detect(picture)
    path.write_bytes(OWN.read_bytes())
    assert_sound(engine.detect(picture), picture.size)


# -- threads -------------------------------------------------------------------------------


def test_threads_that_start_together_load_the_model_once_and_agree(monkeypatch):
    built = []
    build = type(BLOOD_CELLS).build

    def counted(spec):
        built.append(spec.name)
        return build(spec)

    monkeypatch.setattr(type(BLOOD_CELLS), "build", counted)
    engine = engine_of()
    picture, _ = smear(1)
    barrier = threading.Barrier(3)
    results: list[Detections] = []

    def work() -> None:
        barrier.wait(timeout=60)
        results.append(engine.detect(picture))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert built == [BLOOD_CELLS.name]
    assert len(results) == 3
    assert results[0].boxes
    for result in results[1:]:  # a batch of another size rounds its last digits differently
        assert_same(result.boxes, results[0].boxes)


# -- many at once --------------------------------------------------------------------------


def crowd(engine: TorchEngine, pictures: Sequence[Image.Image]) -> list[Detections | Exception]:
    """What each of as many threads gets, all at the same time."""
    barrier = threading.Barrier(len(pictures))
    results: dict[int, Detections | Exception] = {}

    def work(number: int) -> None:
        barrier.wait(timeout=60)
        try:
            results[number] = engine.detect(pictures[number])
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return [results[number] for number in range(len(pictures))]


class Spy:
    """Stands before the network of an engine and sees, or spoils, each batch."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine
        self.real = engine._forward
        self.sizes: list[int] = []
        engine._forward = self  # type: ignore[method-assign]

    def before(self, batch: Sequence[Any]) -> None:
        """What goes wrong, if anything."""

    def __call__(self, batch: Sequence[Any]) -> list[dict[str, Any]]:
        self.sizes.append(len(batch))
        self.before(batch)
        return self.real(batch)


def test_sixteen_threads_share_batches_and_each_gets_its_own_boxes(engine):
    pictures = [smear(seed)[0].resize((640, 480)) for seed in range(4)]
    pictures += [smear(seed)[0].resize((480, 640)) for seed in range(4)]
    alone = [engine.detect(picture) for picture in pictures]
    crowded = engine_of()
    crowded.warm()
    spy = Spy(crowded)
    together = crowd(crowded, pictures * 2)
    assert sum(spy.sizes) == 16
    assert max(spy.sizes) > 1
    for result, wanted in zip(together, alone * 2, strict=True):
        assert isinstance(result, Detections)
        assert wanted.boxes
        assert_same(result.boxes, wanted.boxes)


def test_pictures_run_side_by_side_on_the_cores_of_a_cpu(engine):
    wide = TorchEngine(EMBEDDED, BLOOD_CELLS.name, EngineOptions("cpu", cpu_threads=2))
    wide.warm()
    spy = Spy(wide)
    together = threading.Barrier(2, timeout=60)

    def before(batch):
        together.wait()  # nobody passes alone

    spy.before = before  # type: ignore[method-assign]
    pictures = [smear(seed)[0] for seed in range(2)]
    found = crowd(wide, pictures)
    for picture, one in zip(pictures, found, strict=True):
        assert_same(one.boxes, engine.detect(picture).boxes)


def test_a_picture_that_breaks_the_network_fails_alone():
    engine = engine_of()
    engine.warm()
    spy = Spy(engine)

    def before(batch):
        if any(0 < request.tensor[0, 0, 0] < 0.01 for request in batch):  # shade 1
            raise ValueError("this one")

    spy.before = before  # type: ignore[method-assign]
    pictures = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in (9, 1, 7, 5)]
    results = crowd(engine, pictures)
    assert [isinstance(result, Detections) for result in results] == [True, False, True, True]
    assert str(results[1]) == "this one"


def test_out_of_memory_halves_the_batch_and_goes_on(caplog):
    import torch

    engine = engine_of()
    engine.warm()
    spy = Spy(engine)

    kinds = set()

    def before(batch):
        kinds.add(batch[0].kind)
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    spy.before = before  # type: ignore[method-assign]
    pictures = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in range(8)]
    for _ in range(3):
        assert all(isinstance(result, Detections) for result in crowd(engine, pictures))
    if max(spy.sizes) > 2:  # nearly always: eight threads wait for one
        assert "out of memory" in caplog.text
        assert all(engine._limits.of(kind) < max(spy.sizes) for kind in kinds)


def test_out_of_memory_unloads_other_models_first():
    import torch

    specs = {name: replace(BLOOD_CELLS, name=name) for name in ("a.x", "b.x")}
    engine = TorchEngine(EMBEDDED, "a.x", EngineOptions("cpu", keep=3), specs.__getitem__)
    engine.warm("a.x")
    engine.warm("b.x")
    failures = [torch.OutOfMemoryError("CUDA out of memory.")]
    spy = Spy(engine)

    def before(batch):
        if failures:
            raise failures.pop()

    spy.before = before  # type: ignore[method-assign]
    assert engine.detect(Image.new("RGB", (64, 64)), "b.x").model == "b.x"
    assert [model.name for model in engine.status().models] == ["b.x"]


@pytest.mark.parametrize("place", ["load_file", "nn.Module.load_state_dict"])
def test_no_memory_for_the_weights_is_not_the_fault_of_their_file(monkeypatch, place):
    def refuse(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(f"apps.vision.zoo.weights.{place}", refuse)
    with pytest.raises(OutOfMemory, match="not enough memory"):
        engine_of().detect(Image.new("RGB", (64, 64)))


def test_a_picture_that_does_not_fit_even_alone_is_told_to_come_later():
    import torch

    engine = engine_of()
    engine.warm()
    spy = Spy(engine)
    failures = [torch.OutOfMemoryError("CUDA out of memory.")]

    def before(batch):
        if failures:
            raise failures.pop()

    spy.before = before  # type: ignore[method-assign]
    picture = Image.new("RGB", (64, 64))
    with pytest.raises(OutOfMemory, match="not enough memory") as caught:
        engine.detect(picture)
    assert (caught.value.status, caught.value.retry_after) == (503, 5)
    assert caught.value.__context__ is None  # its traceback would keep the tensors of the run
    assert_sound(engine.detect(picture), picture.size)


def test_a_full_engine_says_busy(engine):
    small = TorchEngine(EMBEDDED, BLOOD_CELLS.name, EngineOptions("cpu", capacity=1, cpu_threads=1))
    small.warm()
    spy = Spy(small)
    inside, go = threading.Event(), threading.Event()

    def before(batch):
        inside.set()
        go.wait(60)

    spy.before = before  # type: ignore[method-assign]
    picture = Image.new("RGB", (64, 64))
    threads = [threading.Thread(target=small.detect, args=(picture,)) for _ in range(2)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    while small.status().waiting == 0:
        pass
    with pytest.raises(Busy):
        small.detect(picture)
    go.set()
    for thread in threads:
        thread.join(timeout=60)
    assert small.status().waiting == 0


# -- state ---------------------------------------------------------------------------------


def test_the_status_before_and_after_the_first_picture():
    engine = engine_of()
    before = engine.status()
    assert before.device is None
    assert before.memory_used is None
    assert before.models == ()
    assert before.trouble is None
    assert engine.warm() == BLOOD_CELLS.name
    after = engine.status()
    assert after.device == "cpu"
    assert after.memory_used
    assert after.memory_free
    [model] = after.models
    assert model.name == BLOOD_CELLS.name
    assert 25e6 < model.bytes < 35e6  # 7.2 M parameters in float32
    assert engine.unload() == 1
    assert engine.status().models == ()


def lost_gpu(*, fall_back: bool) -> TorchEngine:
    """An engine whose device stops working with the first picture."""
    engine = TorchEngine(EMBEDDED, BLOOD_CELLS.name, EngineOptions("cpu", fall_back=fall_back))
    failures = [RuntimeError("CUDA error: unspecified launch failure")]
    spy = Spy(engine)

    def before(batch):
        if failures:
            raise failures.pop()

    spy.before = before  # type: ignore[method-assign]
    return engine


def test_a_lost_gpu_fails_cleanly_and_is_reported():
    engine = lost_gpu(fall_back=False)
    picture, _ = smear(0)
    for _ in range(2):
        with pytest.raises(DeviceLost, match="stopped working"):
            engine.detect(picture)
    status = engine.status()
    assert "stopped working" in str(status.trouble)
    assert status.lost
    assert status.models == ()


def test_all_pictures_of_a_batch_that_lost_the_gpu_fail_alike():
    engine = lost_gpu(fall_back=False)
    pictures = [smear(seed)[0] for seed in range(4)]
    results = crowd(engine, pictures)
    assert [type(result) for result in results] == [DeviceLost] * 4
    assert engine.status().models == ()


def test_with_the_fallback_a_lost_gpu_costs_time_and_no_picture(engine):
    other = lost_gpu(fall_back=True)
    picture, _ = smear(0)
    assert_same(other.detect(picture).boxes, engine.detect(picture).boxes)
    assert_same(other.detect(picture).boxes, engine.detect(picture).boxes)
    status = other.status()
    assert status.trouble is None
    assert "was lost" in str(status.device)


def test_two_threads_that_find_the_gpu_lost_leave_it_once(engine, caplog):
    options = EngineOptions("cpu", cpu_threads=2, fall_back=True)
    other = TorchEngine(EMBEDDED, BLOOD_CELLS.name, options)
    other.warm()
    together, failed = threading.Barrier(2, timeout=60), set()
    spy = Spy(other)

    def before(batch):
        if threading.get_ident() not in failed:
            failed.add(threading.get_ident())
            together.wait()
            raise RuntimeError("CUDA error: unspecified launch failure")

    spy.before = before  # type: ignore[method-assign]
    found = crowd(other, [smear(seed)[0] for seed in range(2)])
    assert all(isinstance(one, Detections) for one in found)
    assert caplog.text.count("device lost") == 1


# -- GPU -----------------------------------------------------------------------------------


@pytest.mark.gpu
def test_the_gpu_finds_what_the_cpu_finds(engine):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    picture, discs = smear(0)
    on_gpu = engine_of(device="cuda").detect(picture)
    assert_sound(on_gpu, picture.size)
    on_cpu = engine.detect(picture)
    sure = [box for box in on_cpu.boxes if box.score >= 0.5]
    same = [box for box in on_gpu.boxes if box.score >= 0.45]
    assert found_of([corners(box) for box in sure], same) == len(sure)
    red = [box for box in on_gpu.boxes if box.label == "RBC" and box.score >= 0.5]
    assert found_of(discs, red) >= 0.8 * len(discs)
