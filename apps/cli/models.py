"""``flask models``: what the registry holds, and the weights on this machine."""

import statistics
import time
from typing import NoReturn

import click
from flask.cli import AppGroup
from PIL import Image

from apps.container import services
from apps.errors import AppError
from apps.vision.zoo.registry import DetectorSpec, get_detector
from apps.vision.zoo.store import Progress

models = AppGroup("models", help="List, fetch, check and measure detectors.")
MB = 1e6  # bytes


def _stop(error: AppError) -> NoReturn:
    raise click.ClickException(str(error)) from error


def _spec(name: str) -> DetectorSpec:
    try:
        return get_detector(name)
    except AppError as error:
        _stop(error)


@models.command("list")
def list_models() -> None:
    """Every detector: name, box AP, size of the weights, whether they are here."""
    for model in services().models.all():
        used = "in use" if model.in_use else ""
        card, weights = model.spec.card, model.spec.weights
        size = f"{weights.size / MB:.0f} MB"
        click.echo(f"{model.spec.name}\tAP {card.ap:.3f}\t{size}\t{model.state}\t{used}".rstrip())


@models.command("show")
@click.argument("name")
def show(name: str) -> None:
    """What is known about the model NAME."""
    spec = _spec(name)
    card, weights = spec.card, spec.weights
    rows = {
        "name": spec.name,
        "summary": card.summary,
        "classes": ", ".join(spec.labels),
        "box AP": f"{card.ap:.3f}",
        "parameters": f"{card.parameters / 1e6:.1f} M",
        "licence": card.licence,
        "data": card.data,
        "source": weights.url or "comes with Sightbox",
        "sha256": weights.sha256,
        "file": str(services().models.store.path(weights)),
        "state": services().models.get(name).state.value,
    }
    for key, value in rows.items():
        click.echo(f"{key:<11}{value}")


@models.command("fetch")
@click.argument("name")
def fetch(name: str) -> None:
    """Download the weights of NAME; an interrupted download goes on where it stopped."""
    spec = _spec(name)
    try:
        path = services().models.store.fetch(spec.weights, _report)
        services().models.store.verify(spec.weights)
    except AppError as error:
        click.echo("", err=True)
        _stop(error)
    click.echo(f"\n{path} is there and its checksum is right.")


def _report(progress: Progress) -> None:
    left = progress.seconds_left
    total = f" of {progress.total / MB:.1f}" if progress.total else ""
    text = f"\r{progress.done / MB:.1f}{total} MB, {progress.rate / MB:.1f} MB/s"
    click.echo(f"{text}, {left:.0f} s left   " if left is not None else text, nl=False, err=True)


@models.command("verify")
@click.argument("name", required=False)
def verify(name: str | None) -> None:
    """Compare the checksum of NAME, or of all weights that are here."""
    specs = [_spec(name)] if name else services().models.ready()
    for spec in specs:
        try:
            services().models.store.verify(spec.weights)
        except AppError as error:
            _stop(error)
        click.echo(f"{spec.name}: the checksum is right.")


@models.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Delete the downloaded weights of NAME."""
    try:
        found = services().models.store.remove(_spec(name).weights)
    except AppError as error:
        _stop(error)
    click.echo("Removed." if found else "There was nothing to remove.")


@models.command("bench")
@click.argument("names", nargs=-1)
@click.option("--rounds", default=10, show_default=True, help="Pictures measured for each model.")
def bench(names: tuple[str, ...], rounds: int) -> None:
    """Milliseconds a picture (640 x 480) here, of NAMES or of every model that is ready."""
    engine = services().detections.engine
    picture = Image.effect_noise((640, 480), 80).convert("RGB")
    for spec in [_spec(name) for name in names] or services().models.ready():
        times = []
        try:
            engine.detect(picture, spec.name)  # loads it
            for _ in range(rounds):
                started = time.perf_counter()
                engine.detect(picture, spec.name)
                times.append((time.perf_counter() - started) * 1000)
        except AppError as error:
            _stop(error)
        worst = sorted(times)[min(rounds - 1, round(rounds * 0.95))]
        click.echo(f"{spec.name}\tmedian {statistics.median(times):.0f} ms\tp95 {worst:.0f} ms")
