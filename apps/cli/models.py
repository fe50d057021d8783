"""``flask models``: what the registry holds, and the weights on this machine."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, TypeVar

import click
from flask.cli import AppGroup

from apps.container import services
from apps.errors import AppError
from apps.services.bench import ROUNDS
from apps.services.own_models import NewModel
from apps.vision.zoo.architectures import BUILDERS, Origin
from apps.vision.zoo.classifiers import ClassifierSpec, get_classifier, is_classifier
from apps.vision.zoo.registry import DetectorSpec, ModelCard
from apps.vision.zoo.store import Progress
from apps.web import MB, megabytes

models = AppGroup(
    "models",
    help="List, fetch, add, check and remove detectors and classifiers, and measure detectors.",
)

Spec = TypeVar("Spec", bound=DetectorSpec | ClassifierSpec)


def _stop(error: AppError) -> NoReturn:
    raise click.ClickException(str(error)) from error


def _spec(name: str) -> DetectorSpec:
    try:
        return services().models.registry.get(name)
    except AppError as error:
        _stop(error)


def _each(specs: Iterable[Spec], work: Callable[[Spec], str]) -> None:
    """Print what ``work`` says of each; one that fails keeps none from its turn.

    Raises:
        SystemExit: with 1, in the end, if any failed.
    """
    failed = False
    for spec in specs:
        try:
            click.echo(work(spec))
        except AppError as error:
            failed = True
            click.echo(f"{spec.name}: {error}", err=True)
    if failed:
        raise SystemExit(1)


def _any_spec(name: str) -> DetectorSpec | ClassifierSpec:
    return get_classifier(name) if is_classifier(name) else _spec(name)


@models.command("list")
def list_models() -> None:
    """Every detector and classifier: name, box AP or accuracy, size of the weights, their state."""
    for model in services().models.all():
        used = "in use" if model.in_use else ""
        card, weights = model.spec.card, model.spec.weights
        size = f"{weights.size / MB:.0f} MB"
        row = (model.spec.name, f"AP {_ap(card)}", size, model.state, used)
        click.echo("\t".join(row).rstrip())
    for other in services().classifications.all():
        spec = other.spec
        size = megabytes(spec.weights.size)
        click.echo("\t".join((spec.name, f"accuracy {_accuracy(spec)}", size, other.state)))


def _accuracy(spec: ClassifierSpec) -> str:
    accuracy = spec.card.accuracy
    return "not measured" if accuracy is None else f"{accuracy:.3f}"


def _ap(card: ModelCard) -> str:
    return "not measured" if card.ap is None else f"{card.ap:.3f}"


@models.command("show")
@click.argument("name")
def show(name: str) -> None:
    """What is known about the model NAME."""
    spec = _any_spec(name)
    rows = _classifier_rows(spec) if isinstance(spec, ClassifierSpec) else _detector_rows(spec)
    for key, value in rows.items():
        click.echo(f"{key:<11}{value}")


def _detector_rows(spec: DetectorSpec) -> dict[str, str]:
    card, weights, added = spec.card, spec.weights, spec.added
    source = weights.url or "comes with Sightbox"
    if added is not None:
        source = f"{added.file}, added {added.at:%Y-%m-%d %H:%M} UTC by {added.by or 'a command'}"
    rows = {
        "name": spec.name,
        "summary": card.summary,
        "classes": ", ".join(spec.labels),
        "box AP": _ap(card),
        "parameters": f"{card.parameters / 1e6:.1f} M",
        "size": megabytes(weights.size),
        "licence": card.licence,
        "data": card.data,
        "source": source,
        "sha256": weights.sha256,
        "file": str(services().models.store.path(weights)),
        "state": services().models.get(spec.name).state.value,
        "speed here": _speeds(spec),
    }
    if added is not None:
        rows |= {"network": added.architecture, "began with": added.origin.value}
    return rows


def _speeds(spec: DetectorSpec) -> str:
    rows = [
        f"{speed.median_ms:.0f} ms a picture ({speed.device}, {speed.at:%Y-%m-%d %H:%M} UTC)"
        for speed in services().bench.of(spec)
    ]
    return "; ".join(rows) or "not measured"


def _classifier_rows(spec: ClassifierSpec) -> dict[str, str]:
    card, weights = spec.card, spec.weights
    return {
        "name": spec.name,
        "summary": card.summary,
        "classes": ", ".join(spec.labels),
        "accuracy": _accuracy(spec),
        "parameters": f"{card.parameters:,}" if card.parameters else "not known",
        "size": megabytes(weights.size) if weights.size else "not known",
        "licence": card.licence,
        "data": card.data,
        "source": weights.url or "comes with Sightbox",
        "sha256": weights.sha256,
        "file": str(services().models.store.path(weights)),
        "state": services().classifications.get(spec.name).state.value,
    }


@models.command("fetch")
@click.argument("name")
def fetch(name: str) -> None:
    """Download the weights of NAME; an interrupted download goes on where it stopped."""
    spec = _any_spec(name)
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
    """Compare the checksum of NAME, or of all weights that are here.

    Ends with 1 after the last one if any is missing or damaged.
    """
    _each([_any_spec(name)] if name else _here(), _verified)


def _verified(spec: DetectorSpec | ClassifierSpec) -> str:
    services().models.store.verify(spec.weights)
    return f"{spec.name}: the checksum is right."


def _here() -> list[DetectorSpec | ClassifierSpec]:
    """The models whose files are here, whatever is in them."""
    detectors = [model.spec for model in services().models.all() if model.state.is_present]
    others = [model.spec for model in services().classifications.all() if model.state.is_present]
    return [*detectors, *others]


@models.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Delete the downloaded weights of NAME, or take an added model away for 7 days, then for good.

    Until then, "flask models restore NAME" brings it back.
    """
    spec = _any_spec(name)
    try:
        if isinstance(spec, ClassifierSpec):
            found = services().models.store.remove(spec.weights)
        else:
            found = services().models.remove(name)
    except AppError as error:
        _stop(error)
    click.echo("Removed." if found else "There was nothing to remove.")


@models.command("restore")
@click.argument("name")
def restore(name: str) -> None:
    """Bring the added model NAME back, as it was when it was removed last."""
    keys = [model.key for model in services().own_models.removed() if model.spec.name == name]
    try:
        spec = services().own_models.restore(keys[0] if keys else name)
    except AppError as error:
        _stop(error)
    click.echo(f"{spec.name} is back.")


@models.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="What it is called here: street-signs.v2")
@click.option(
    "--builder", required=True, type=click.Choice(list(BUILDERS)), help="Network that was trained."
)
@click.option(
    "--classes", required=True, help="A file with one label a line, or labels and commas."
)
@click.option(
    "--origin",
    default=Origin.COCO.value,
    show_default=True,
    type=click.Choice([origin.value for origin in Origin]),
    help="What its training began with: weights=DEFAULT, weights_backbone=DEFAULT, or neither.",
)
@click.option(
    "--background/--no-background",
    default=True,
    show_default=True,
    help="Whether label number 0 is the background; RetinaNet and FCOS can be without.",
)
@click.option("--description", default="", help="What it is for.")
@click.option("--licence", default="", help="Licence and source of the weights.")
def add(file: Path, builder: str, classes: str, origin: str, **said: str) -> None:
    """Check the weights in FILE and make them a model.

    FILE is safetensors, or what torch.save(model.state_dict(), ...) wrote. It is read without
    running code, compared with the network, tried, and copied into the folder of weights.
    """
    try:
        labels = classes if "," in classes else Path(classes).read_text(encoding="utf-8")
    except FileNotFoundError:
        labels = classes  # a single one
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{classes}: {error}") from error
    new = NewModel(
        architecture=builder,
        classes=labels,
        by="",
        origin=Origin(origin),
        **said,  # type: ignore[arg-type]
    )
    try:
        spec = services().own_models.add(new, file)
    except AppError as error:
        _stop(error)
    click.echo(f"{spec.name} is there and can be used: {len(spec.classes)} classes.")


@models.command("bench")
@click.argument("names", nargs=-1)
@click.option(
    "--rounds",
    default=ROUNDS,
    show_default=True,
    type=click.IntRange(1),
    help="Pictures measured for each model.",
)
def bench(names: tuple[str, ...], rounds: int) -> None:
    """Milliseconds a picture (640 x 480) here, of the detectors NAMES or of all that are ready.

    The results are kept for "flask models show" and the pages of models. Ends with 1 after the
    last one if any could not be measured.
    """
    _refuse_classifiers(names)

    def measured(spec: DetectorSpec) -> str:
        speed = services().bench.measure(spec, rounds)
        return f"{spec.name}\tmedian {speed.median_ms:.0f} ms\tp95 {speed.p95_ms:.0f} ms"

    _each([_spec(name) for name in names] or services().models.ready(), measured)


def _refuse_classifiers(names: Iterable[str]) -> None:
    for name in filter(is_classifier, names):
        raise click.ClickException(f"{name} is a classifier; only detectors are measured.")
