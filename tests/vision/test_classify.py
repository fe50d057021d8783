"""Classifiers with weights that were made in the test."""

import gc
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from apps.errors import Busy, ConfigError, NotFound, WeightsError
from apps.vision import explain
from apps.vision.classify import TorchClassifier
from apps.vision.fake_classifier import FakeClassifier
from apps.vision.types import Classifier
from apps.vision.zoo.classifiers import ClassifierSpec, classifiers, get_classifier
from apps.vision.zoo.store import WeightsFile, WeightsStore
from apps.vision.zoo.vgg import VGG

LENET = get_classifier("lenet5.mnist")
CONVNET = get_classifier("convnet.cats_dogs")
ALL = [pytest.param(spec, id=spec.name) for spec in classifiers()]


def saved(spec: ClassifierSpec, folder: Path, seed: int = 0) -> ClassifierSpec:
    """``spec`` with random weights in a file in ``folder``."""
    torch.manual_seed(seed)
    path = folder / f"{spec.name}.{seed}.safetensors"
    save_file({name: value.half() for name, value in spec.build().state_dict().items()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file = WeightsFile(path.name, digest, path.stat().st_size, folder=folder)
    return replace(spec, weights=file)


def classifier_of(*specs: ClassifierSpec, device: str = "cpu", keep: int = 3) -> TorchClassifier:
    known = {spec.name: spec for spec in specs}

    def lookup(name: str) -> ClassifierSpec:
        return known.get(name) or get_classifier(name)

    return TorchClassifier(WeightsStore(Path()), device, keep, lookup)


@pytest.fixture
def lenet(tmp_path) -> TorchClassifier:
    return classifier_of(saved(LENET, tmp_path))


def digit(size: tuple[int, int] = (280, 280)) -> Image.Image:
    paper = Image.new("RGB", size, "white")
    ImageDraw.Draw(paper).line((size[0] // 3, 9, size[0] // 3, size[1] - 9), "black", 20)
    return paper


@pytest.fixture
def failing(lenet, monkeypatch):
    """failing(error, …) -> the classifier whose device says that, one after the other."""

    def failing(*errors: Exception) -> TorchClassifier:
        left = list(errors)

        def batch(_values: object) -> None:
            raise left.pop(0)

        monkeypatch.setattr(lenet, "_batch", batch)
        lenet._placement._fall_back = True
        return lenet

    return failing


LOST = RuntimeError("CUDA error: unspecified launch failure")
FULL = RuntimeError("DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("errors", [[FULL], [LOST, FULL]])
def test_no_memory_is_told_also_right_after_a_lost_gpu(failing, errors):
    with pytest.raises(Busy, match="no memory left"):
        failing(*errors).classify(digit(), LENET.name)


# -- classes ---------------------------------------------------------------------------------


def test_guesses_are_the_softmax_of_the_network_best_first(lenet):
    found = lenet.classify(digit(), LENET.name, top=10)
    assert found.model == LENET.name
    assert {guess.label for guess in found.guesses} == set("0123456789")
    shares = [guess.probability for guess in found.guesses]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("top", "count"), [(3, 3), (1, 1), (0, 1), (-4, 1), (999, 10)])
def test_as_many_guesses_as_asked_for_and_never_none(lenet, top, count):
    assert len(lenet.classify(digit(), LENET.name, top=top).guesses) == count


def test_a_network_that_learned_two_shapes_tells_them_apart(tmp_path):
    """Lying and standing lines are 0 and 1; the conversion of the drawing is that of training."""
    from apps.vision.conversion import convert

    def line(lying: bool, at: int) -> Image.Image:
        paper = Image.new("RGB", (280, 280), "white")
        ends = (40, at, 240, at + 9) if lying else (at, 40, at + 9, 240)
        ImageDraw.Draw(paper).rectangle(ends, fill="black")
        return paper

    torch.manual_seed(0)
    network = LENET.build()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    batch = torch.stack(
        [
            torch.from_numpy(convert(line(lying, at), LENET.input).values)
            for lying in (True, False)
            for at in (60, 140)
        ]
    )
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(network(batch), torch.tensor([0, 0, 1, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    spec = saved(LENET, tmp_path)
    save_file(network.state_dict(), path := tmp_path / spec.weights.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    classifier = classifier_of(replace(spec, weights=replace(spec.weights, sha256=digest)))
    for lying, label in ((True, "0"), (False, "1")):
        best = classifier.classify(line(lying, 200), LENET.name).guesses[0]
        assert best.label == label
        assert best.probability > 0.8


@pytest.mark.parametrize("size", [(1, 1), (10000, 10), (10, 10000), (28, 28)])
@pytest.mark.parametrize("spec", [LENET, CONVNET])
def test_pictures_of_any_shape_get_an_answer(spec, size, tmp_path):
    classifier = classifier_of(saved(spec, tmp_path))
    for picture in (Image.new("RGB", size, "teal"), Image.new("L", size, 3)):
        assert classifier.classify(picture, spec.name).guesses
        assert classifier.explain(picture, spec.name).heat.mode == "RGB"


def test_unknown_models_and_classes_are_told(lenet):
    for ask in (lenet.classify, lenet.explain):
        with pytest.raises(NotFound, match=r"Known models: .*lenet5\.mnist"):
            ask(digit(), "lenet6.mnist")
    with pytest.raises(NotFound, match="lenet6"):
        lenet.layers("lenet6.mnist")
    with pytest.raises(NotFound, match="no class “ten”"):
        lenet.explain(digit(), LENET.name, label="ten")


# -- weights ---------------------------------------------------------------------------------


def test_missing_weights_are_told_and_never_replaced_by_random_ones(tmp_path):
    published = get_classifier("alexnet.imagenet1k_v1")
    absent = replace(LENET, weights=WeightsFile("lenet.safetensors", "0" * 64, 1, folder=tmp_path))
    classifier = TorchClassifier(
        WeightsStore(tmp_path), "cpu", lookup={"a": published, "b": absent}.__getitem__
    )
    for ask in (classifier.classify, classifier.explain):
        with pytest.raises(WeightsError, match="flask models fetch"):
            ask(digit(), "a")
        with pytest.raises(WeightsError, match="come with Sightbox"):
            ask(digit(), "b")


def test_changed_weights_are_not_used(tmp_path):
    spec = saved(LENET, tmp_path)
    path = tmp_path / spec.weights.name
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(WeightsError, match="checksum differs"):
        classifier_of(spec).classify(digit(), spec.name)


def test_weights_without_a_card_are_not_used(tmp_path):
    """A spec that no card was written for has a checksum that no file has."""
    spec = saved(LENET, tmp_path)
    spec = replace(spec, weights=replace(spec.weights, sha256="-"))
    with pytest.raises(WeightsError, match="checksum differs"):
        classifier_of(spec).classify(digit(), spec.name)


def test_weights_of_another_network_are_not_used(tmp_path):
    other = replace(saved(CONVNET, tmp_path), name=CONVNET.name)
    spec = replace(LENET, weights=other.weights)
    with pytest.raises(WeightsError, match="does not fit its network"):
        classifier_of(spec).classify(digit(), spec.name)


def test_an_unknown_device_is_told(tmp_path):
    classifier = classifier_of(saved(LENET, tmp_path), device="meta")
    with pytest.raises(ConfigError, match="SIGHTBOX_DEVICE"):
        classifier.classify(digit(), LENET.name)


@pytest.mark.parametrize("architecture", ["googlenet", "resnet18"])
def test_published_weights_answer_as_in_torchvision(architecture, tmp_path):
    """With random weights: the published ones cannot be had without a network."""
    from torchvision import models

    torch.manual_seed(0)
    side = {"aux_logits": True, "init_weights": False} if architecture == "googlenet" else {}
    theirs = getattr(models, architecture)(weights=None, **side)
    spec = get_classifier(f"{architecture}.imagenet1k_v1")
    path = tmp_path / spec.weights.name
    torch.save(theirs.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = replace(spec, weights=replace(spec.weights, sha256=digest[:8], folder=tmp_path))
    photo = Image.effect_noise((320, 240), 90).convert("RGB")
    found = classifier_of(spec).classify(photo, spec.name, top=1000)

    transform = models.get_model_weights(architecture).IMAGENET1K_V1.transforms()
    values = transform(photo)[None]
    if architecture == "googlenet":  # its weights expect values from -1 to 1
        theirs.transform_input = True
    with torch.inference_mode():
        wanted = theirs.eval()(values)[0].softmax(0)
    by_label = {guess.label: guess.probability for guess in found.guesses}
    shares = torch.tensor([by_label[label] for label in spec.labels])
    torch.testing.assert_close(shares, wanted, rtol=0.05, atol=1e-4)


def test_a_network_is_loaded_once_and_the_least_recently_used_one_goes(tmp_path, caplog):
    specs = [replace(saved(LENET, tmp_path, seed), name=f"lenet5.{seed}") for seed in range(3)]
    classifier = classifier_of(*specs, keep=2)
    with caplog.at_level("INFO", "apps.vision.cache"):
        for number in (0, 1, 0, 2, 0, 1):
            classifier.classify(digit(), f"lenet5.{number}")
    told = [record.getMessage().split() for record in caplog.records]
    loaded = [words[1] for words in told if words[0] == "loaded"]
    assert loaded == [f"model=lenet5.{number}" for number in (0, 1, 2, 1)]


def test_threads_get_the_answers_that_one_thread_gets(tmp_path):
    """While some explain with hooks and gradients, others classify with the same network."""
    classifier = classifier_of(saved(CONVNET, tmp_path))
    pictures = [Image.effect_noise((60 + n, 50), 20 + 30 * n).convert("RGB") for n in range(4)]
    told = [classifier.classify(picture, CONVNET.name).guesses for picture in pictures]
    heats = [classifier.explain(picture, CONVNET.name).heat.tobytes() for picture in pictures]
    gate = threading.Barrier(8)

    def ask(number: int) -> None:
        gate.wait()
        for place, picture in enumerate(pictures):
            if number % 2:
                again = classifier.classify(picture, CONVNET.name).guesses
                assert [g.label for g in again] == [g.label for g in told[place]]
            else:
                heat = classifier.explain(picture, CONVNET.name).heat
                assert heat.tobytes() == heats[place]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


# -- layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ALL)
def test_every_network_is_told_layer_by_layer_without_its_weights(spec, tmp_path):
    rows = TorchClassifier(WeightsStore(tmp_path), "cpu").layers(spec.name)
    assert rows[0].kind == "Conv2d"
    assert (rows[-1].kind, rows[-1].shape) == ("Linear", (len(spec.labels),))
    assert len({row.name for row in rows}) == len(rows)
    with torch.device("meta"):
        whole = sum(parameter.numel() for parameter in spec.build().parameters())
    assert sum(row.parameters for row in rows) == whole


def test_the_layers_of_lenet():
    rows = TorchClassifier(WeightsStore(Path()), "cpu").layers("lenet5.mnist")
    assert [(row.shape, row.parameters) for row in rows if row.parameters] == [
        ((6, 28, 28), 156),
        ((16, 10, 10), 2416),
        ((120,), 48120),
        ((84,), 10164),
        ((10,), 850),
    ]


# -- explanations ----------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ALL)
def test_every_network_explains_itself(spec):
    torch.manual_seed(0)
    if spec.architecture == "vgg16":  # the same layers, thinner: it takes half a gigabyte
        network = VGG(((4, 4), (8, 8), (8, 8, 8), (8, 8, 8), (8, 8, 8)), 10, 3, 0.5)
    else:
        network = spec.build()
    network = network.eval().requires_grad_(False)
    size = spec.input.size
    seen = Image.effect_noise((size, size), 90).convert("RGB" if spec.input.channels == 3 else "L")
    found = explain.explained(network, torch.rand(1, spec.input.channels, size, size), seen, 1)
    assert found.number == 1
    assert found.heat.mode == "RGB"
    assert found.heat.width == found.heat.height >= explain.HEAT_SIDE
    first = [name for name, part in network.named_modules() if type(part) is torch.nn.Conv2d]
    assert [step.text for step in found.maps] == first[: explain.MAPS]
    assert all(max(step.picture.size) <= 1100 for step in found.maps)


def test_the_heat_is_where_the_class_was_seen(tmp_path):
    """The class is the sum of one map that is bright where the picture is bright."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.AvgPool2d(32), torch.nn.Flatten()
    ).requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    network[0].weight[1, 0, 1, 1] = 1.0
    seen = Image.new("L", (32, 32), 100)
    batch = torch.zeros(1, 1, 32, 32)
    batch[..., 20:30, 2:12] = 1.0
    found = explain.explained(network, batch, seen, 1)
    heat = np.asarray(found.heat).sum(-1)
    hottest = heat == heat.max()
    rows, columns = np.flatnonzero(hottest.any(1)), np.flatnonzero(hottest.any(0))
    scale = found.heat.width / 32
    assert rows.min() >= 19 * scale
    assert columns.max() <= 13 * scale
    cold = explain.explained(network, batch, seen, 0).heat  # no map of its own, no evidence
    assert np.ptp(np.asarray(cold), axis=(0, 1)).max() == 0


def test_a_class_may_be_chosen_and_is_otherwise_the_most_probable(lenet):
    best = lenet.classify(digit(), LENET.name).guesses[0].label
    assert lenet.explain(digit(), LENET.name).label == best
    assert lenet.explain(digit(), LENET.name, label="7").label == "7"


def test_the_heat_lies_on_the_block_that_the_last_convolution_is_part_of():
    with torch.device("meta"):
        layers = {spec.architecture: explain.heat_layer(spec.build()) for spec in classifiers()}
    assert layers == {
        "fashion_cnn": "layer2.0",
        "lenet5": "features.3",
        "convnet": "features.9",
        "alexnet": "features.10",
        "vgg16": "features.28",
        "googlenet": "inception5b",
        "resnet18": "layer4.1",
        "resnet50": "layer4.2",
    }


def test_explaining_leaves_nothing_behind(tmp_path):
    spec = saved(CONVNET, tmp_path)
    classifier = classifier_of(spec)
    before = classifier.classify(digit(), spec.name)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())

    classifier.explain(digit(), spec.name)
    count = tensors()
    for _ in range(3):
        classifier.explain(digit(), spec.name)
    assert tensors() <= count
    network = classifier._networks.get(spec)
    assert not any(part._forward_hooks for part in network.modules())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert classifier.classify(digit(), spec.name).guesses == before.guesses


def test_a_mosaic_shows_at_most_64_maps_side_by_side():
    maps = np.random.default_rng(0).random((100, 8, 8), np.float32)
    picture = explain.mosaic(maps)
    assert picture.size == (8 * 64 + 7, 8 * 64 + 7)
    tile = np.asarray(picture)[:64, :64]
    assert (tile.min(), tile.max()) == (0, 255)
    assert explain.mosaic(np.zeros((1, 1, 1), np.float32)).getextrema() == (0, 0)


# -- the other classifier --------------------------------------------------------------------


def test_the_fake_answers_like_a_real_one_without_weights():
    fake: Classifier = FakeClassifier("7")
    found = fake.classify(digit(), LENET.name, top=3)
    assert [guess.label for guess in found.guesses] == ["7", "0", "1"]
    assert found.guesses[0].probability == 0.9
    assert len(found.steps) > 3
    assert fake.explain(digit(), LENET.name, label="2").label == "2"
    assert fake.layers(LENET.name)[-1].shape == (10,)
    with pytest.raises(NotFound, match="no class"):
        fake.explain(digit(), LENET.name, label="ten")
    with pytest.raises(NotFound, match="Known models"):
        fake.classify(digit(), "x")
    with pytest.raises(WeightsError):
        FakeClassifier(error=WeightsError("gone")).classify(digit(), LENET.name)
