"""``flask train detector`` and ``flask train evaluate``: networks that find boxes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from flask.cli import with_appcontext

from apps.cli.train import CHECK, FILE, FOLDER, Counted, pairs
from apps.errors import AppError
from apps.vision.zoo.architectures import BUILDERS
from apps.web import megabytes

if TYPE_CHECKING:
    from apps.vision.formats.dataset import DetectionData
    from apps.vision.train.detection.measure import Score
    from apps.vision.train.detection.recipe import DetectorRecipe

# recipe: folder below --data
SHIPPED = {"blood_cells": "blood-cells", "everyday": "everyday", "everyday_cpu": "everyday"}
# Their answers are outlines too, and what learns them needs outlines.
NETWORKS = [name for name in BUILDERS if not name.startswith("maskrcnn")]


def _stop(error: AppError) -> NoReturn:
    raise click.ClickException(str(error)) from error


def _options(command: Any) -> Any:
    """Where the pictures are, and which recipe."""
    for option in (
        click.option(
            "--recipe", "chosen", help=f"{' or '.join(SHIPPED)}, or a recipe.json to begin with."
        ),
        click.option(
            "--data",
            "folder",
            type=FOLDER,
            required=True,
            help="COCO, VOC or YOLO folder, or the one above.",
        ),
        click.option("--builder", type=click.Choice(NETWORKS), help="Network to train."),
        click.option("--set", "items", multiple=True, help="key=value of the recipe, repeatable."),
    ):
        command = option(command)
    return command


def _recipe(chosen: str | None, items: tuple[str, ...], **values: Any) -> "DetectorRecipe":
    from apps.vision.train.detection.recipe import RECIPES, DetectorRecipe

    changes = {key: value for key, value in values.items() if value is not None} | pairs(items)
    if chosen in RECIPES:
        recipe = RECIPES[chosen]
    else:
        recipe = DetectorRecipe.read(Path(chosen)) if chosen else DetectorRecipe()
    return recipe.changed(changes)


def _data(chosen: str | None, folder: Path) -> "DetectionData":
    from apps.vision.formats import folders

    below = folder / SHIPPED.get(chosen or "", "")
    return folders.read(below if chosen in SHIPPED and below.is_dir() else folder)


def _length(epochs: int | None, minutes: float | None) -> dict[str, Any]:
    """What the recipe says of its length, where one is given: the clock comes first."""
    if minutes is not None:
        return {"minutes": minutes, "epochs": epochs}
    return {} if epochs is None else {"epochs": epochs, "minutes": None}


def _looked_at(data: "DetectionData", *, check: bool, repair: bool) -> "DetectionData":
    """The pictures, repaired where wanted. Raises InvalidInput if a training cannot work."""
    from apps.vision.train.detection.check import check_detection, read_files, repaired

    files = read_files(data, Counted()) if repair or check else {}
    data = repaired(data, files) if repair else data
    if check:
        report = check_detection(data, files)
        click.echo(report.text(), err=True)
        report.refuse_broken()
    return data


@click.command("detector")
@_options
@click.option("--out", type=FOLDER, required=True, help="Folder of the run, made if missing.")
@click.option("--weights", help="Begin with these: a model's name, or a file of weights.")
@click.option("--name", "title", help="Of the model that is made.")
@click.option("--seed", type=int, help="Of everything that is drawn.")
@click.option("--epochs", type=int, help="Instead of minutes.")
@click.option("--total", type=float, help="Minutes of the whole training; its schedule follows.")
@click.option("--minutes", type=float, help="Minutes of this call; go on with --resume.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@CHECK
@click.option("--repair", is_flag=True, help="Leave out pictures and boxes that cannot be used.")
@with_appcontext  # a registered model may be what it begins with
def detector(
    chosen: str | None,
    folder: Path,
    out: Path,
    weights: str | None,
    title: str | None,
    epochs: int | None,
    total: float | None,
    minutes: float | None,
    resume: bool,
    check: bool,
    repair: bool,
    **options: Any,
) -> None:
    """Train a detector and measure it on pictures that it has not seen.

    A training that --minutes paused, or that was stopped, goes on with the same command and
    --resume.
    """
    from apps.vision.train.detection.make import train_detector

    try:
        recipe = _recipe(chosen, name=title, **options).changed(_length(epochs, total))
        data = _looked_at(_data(chosen, folder), check=check and not resume, repair=repair)
        start, said = (None, {}) if weights is None else _start(weights)
        run, card = train_detector(
            recipe, data, out, said=said, start=start, resume=resume, pause_after=minutes
        )
    except AppError as error:
        _stop(error)
    if card is None and run.ended != "paused":
        return  # a process that only lent a device
    if card is None:
        click.echo(f"Paused after {run.epochs} epochs. Go on with --resume.")
        return
    click.echo(f"{run.epochs} epochs, ended by {run.ended}, best {recipe.monitor} {run.score:.4f}")
    click.echo(f"on the test part AP50 {card['ap50']:.4f}, AP {card['ap']:.4f}")
    click.echo(f"{out / card['file']}\t{megabytes(card['size'])}\t{card['sha256']}")


@click.command("evaluate")
@_options
@click.option("--weights", required=True, type=FILE, help="What flask train detector wrote.")
@click.option(
    "--part", default="test", show_default=True, type=click.Choice(["train", "val", "test"])
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def evaluate(
    chosen: str | None, folder: Path, weights: Path, part: str, as_json: bool, **options: Any
) -> None:
    """AP and AP50 of a file of weights on a part of the data, for each class."""
    from apps.vision.train.detection.make import figures, measure_file
    from apps.vision.train.detection.parts import part_of

    try:
        recipe = _recipe(chosen, **options)
        pictures = part_of(_data(chosen, folder), recipe, part)
        score = measure_file(weights, recipe, pictures)
    except AppError as error:
        _stop(error)
    if as_json:
        click.echo(json.dumps(figures(score)))
        return
    for line in _rows(score):
        click.echo(line)


def _rows(score: "Score") -> list[str]:
    rows = [("all", score.ap50, score.ap, sum(each.boxes for each in score.classes))]
    rows += [(each.label, each.ap50, each.ap, each.boxes) for each in score.classes]
    lines = [f"{label}\tAP50 {ap50:.4f}\tAP {ap:.4f}\t{n} boxes" for label, ap50, ap, n in rows]
    return [f"{score.pictures} pictures", *lines]


def _start(weights: str) -> tuple[Any, dict[str, Any]]:
    """Tensors of a file, or of a registered model whose weights are here; what the card says."""
    from apps.container import services
    from apps.vision.zoo.store import sha256_of
    from apps.vision.zoo.weights import read_state

    path = Path(weights)
    if not path.is_file():
        spec = services().models.registry.get(weights)
        store = services().models.store
        store.verify(spec.weights)
        path = store.path(spec.weights)
    name = path.name if path == Path(weights) else weights
    return read_state(path), {"begins_with": {"name": name, "sha256": sha256_of(path)}}
