"""What dropout, batch norm, half precision and several processes do to a training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from apps.config import ROOT
from apps.vision.train import runs
from apps.vision.train.classifier import ClassifierModule, ClassifierRecipe, Pictures, build
from apps.vision.train.data import Part, Source, open_source
from apps.vision.train.fit import fit
from apps.vision.train.make import train_classifier
from tests.train import pictures


def noisy(seed: int, count: int, signal: int) -> Part:
    """Noise, in which one half of a picture is ``signal`` brighter and says its class."""
    array = np.random.default_rng(seed).integers(0, 200, (count, 28, 28), np.uint8)
    labels = [number % 2 for number in range(count)]
    array[0::2, :, :14] += signal
    array[1::2, :, 14:] += signal
    return Part(labels, [str(n) for n in range(count)], lambda n: Image.fromarray(array[n]))


def trained(out: Path, signal: int, **values: object) -> list[dict[str, float]]:
    """The rows of metrics.csv of FashionCNN on 40 noisy pictures."""
    recipe = pictures.recipe(
        network="fashion_cnn", size=28, channels=1, mean="0.5", std="0.25", batch=10,
        **({"dropout": 0} | values),
    )  # fmt: skip
    source = Source(("left", "right"), noisy(1, 40, signal), None, noisy(2, 60, signal))
    torch.manual_seed(0)
    module = ClassifierModule(build(recipe, 2), recipe, 2)
    return runs.read_metrics(fit(module, Pictures(source, recipe), recipe, out).out)


def test_with_dropout_training_and_validation_loss_lie_closer_together(tmp_path):
    gaps = []
    for dropout in (0, 0.8):
        row = trained(tmp_path / f"{dropout}", 4, epochs=12, dropout=dropout)[-1]
        gaps.append(row["val_loss"] - row["train_loss"])
    without, with_dropout = gaps
    assert without > 0.3
    assert with_dropout < without / 2


def test_with_batch_norm_the_loss_falls_faster_at_a_high_learning_rate(tmp_path):
    losses = [
        trained(tmp_path / norm, 50, epochs=2, lr=0.05, optimizer="sgd", batch_norm=norm)
        for norm in ("true", "false")
    ]
    with_norm, without = (rows[-1]["train_loss"] for rows in losses)
    assert with_norm < without / 2


def test_in_mixed_precision_layers_compute_in_bfloat16_and_weights_stay_in_float32(tmp_path):
    source = open_source(pictures.folder(tmp_path / "data"))
    recipe = pictures.recipe(network="lenet5", size=28, epochs=15, lr=3e-3, precision="bf16-mixed")
    torch.manual_seed(0)
    module = ClassifierModule(build(recipe, 2), recipe, 2)
    seen = set()
    layer = next(each for each in module.modules() if isinstance(each, torch.nn.Linear))
    layer.register_forward_hook(lambda _layer, _given, out: seen.add(out.dtype))
    run = fit(module, Pictures(source, recipe), recipe, tmp_path / "run")
    assert seen == {torch.bfloat16}
    state = torch.load(run.last, weights_only=False)["state_dict"]
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert run.score > 0.9


def test_two_processes_train_one_network_together(tmp_path):
    """Each has half of the pictures as one batch, so together they take the steps of one process
    that has all of them."""
    data, out = pictures.folder(tmp_path / "data"), tmp_path / "two"
    values = {
        "network": "lenet5", "size": 28, "batch": "full", "epochs": 3, "lr": 0.1,
        "optimizer": "sgd", "held_out": 0.25, "accelerator": "cpu", "devices": 2,
    }  # fmt: skip
    options = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [
            Path(sys.executable).with_name("flask"), "--app", "apps.app", "train", "classifier",
            "--data", data, "--out", out, *options,
        ],
        cwd=ROOT, env=os.environ | {"SIGHTBOX_INSTANCE_PATH": str(tmp_path / "instance")},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("MEMBER") == 2
    assert done.stdout.count("accuracy on the test part") == 1
    assert {path.name for path in out.glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}
    card = json.loads((out / "card.json").read_text())
    assert (out / card["file"]).stat().st_size == card["size"]
    recipe = ClassifierRecipe.read(out / "recipe.json").changed({"devices": 1})
    alone, _card = train_classifier(recipe, open_source(data), tmp_path / "one")
    ours, theirs, began = (state_of(path) for path in (out, alone.out, None))
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-6)
    assert not any(torch.equal(value, began[name]) for name, value in ours.items())


def state_of(folder: Path | None) -> dict[str, torch.Tensor]:
    """The last weights of the run in ``folder``; without one those that it began with."""
    if folder is None:
        torch.manual_seed(0)
        network = build(pictures.recipe(network="lenet5", size=28), 2)
        return {f"network.{name}": value for name, value in network.state_dict().items()}
    found: dict[str, torch.Tensor] = torch.load(folder / "last.ckpt", weights_only=False)[
        "state_dict"
    ]
    return {name: value for name, value in found.items() if name.startswith("network.")}
