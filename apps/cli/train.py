"""``flask train``: make the networks again that come with Sightbox, or train one of your own.

Nothing here touches the application's database or its pictures. torch and Lightning are imported
by the commands that need them.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from flask.cli import AppGroup

from apps.errors import AppError
from apps.web import megabytes

if TYPE_CHECKING:
    from apps.vision.train.classifier import ClassifierRecipe
    from apps.vision.train.data import Source

train = AppGroup("train", help="Train, search, cross-validate and check data.")

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
CHECK = click.option(
    "--check/--no-check", default=True, show_default=True, help="Check the data first."
)
DATASETS = ("FashionMNIST", "MNIST", "CIFAR10", "OxfordIIITPet")


def _stop(error: AppError) -> NoReturn:
    raise click.ClickException(str(error)) from error


def pairs(items: tuple[str, ...]) -> dict[str, str]:
    """``key=value`` texts of the command line."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise click.ClickException(f"--set {item}: write it as key=value, for example lr=0.01")
        found[key] = value
    return found


class Counted:
    """Says how many pictures are read, once that takes long."""

    EVERY = 2.0  # seconds

    def __init__(self) -> None:
        self.due = time.monotonic() + self.EVERY
        self.shown = False

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self.due:
            click.echo(f"\r{done} of {total} pictures", nl=False, err=True)
            self.due, self.shown = time.monotonic() + self.EVERY, True
        if done == total and self.shown:
            click.echo("", err=True)


def data_options(command: Any) -> Any:
    """Where the pictures are, and which recipe."""
    for option in (
        click.option(
            "--name", default="", help="A shipped model (flask train list), or a new one."
        ),
        click.option("--data", "folder", type=FOLDER, required=True, help="Folder of pictures."),
        click.option("--dataset", type=click.Choice(DATASETS), help="torchvision's, in --data."),
        click.option("--download", is_flag=True, help="Let torchvision fetch it."),
        click.option("--recipe", "file", type=FILE, help="A recipe.json to begin with."),
        click.option("--seed", type=int, help="Of everything that is drawn."),
        click.option("--epochs", type=int),
        click.option("--minutes", type=float, help="Of the whole training."),
        click.option("--set", "items", multiple=True, help="key=value of the recipe, repeatable."),
    ):
        command = option(command)
    return command


def _prepare(
    name: str,
    folder: Path,
    dataset: str | None,
    download: bool,
    file: Path | None,
    items: tuple[str, ...],
    **values: Any,
) -> "tuple[ClassifierRecipe, Source, str]":
    """The recipe, the pictures, and what the card says of them."""
    from apps.vision.train.classifier import ClassifierRecipe
    from apps.vision.train.data import open_source, ordered
    from apps.vision.train.shipped import SHIPPED

    changes = {key: value for key, value in values.items() if value is not None} | pairs(items)
    shipped = SHIPPED.get(name)
    if file is not None:
        recipe = ClassifierRecipe.read(file)
    elif shipped is not None:
        recipe = shipped.recipe
    else:
        recipe = ClassifierRecipe()
    recipe = recipe.changed(({"name": name} if name else {}) | changes)
    said = str(folder.name) if dataset is None else dataset
    if shipped is None:
        return recipe, open_source(folder, dataset, download=download), said
    if dataset is None and (folder / shipped.folder).is_dir():
        folder = folder / shipped.folder
    source = open_source(folder, dataset, download=download)
    return recipe, ordered(source, shipped.labels), shipped.data


def _look_at(source: "Source") -> None:
    """Raises InvalidInput if a training cannot work."""
    from apps.vision.train.check import check_source

    report = check_source(source)
    click.echo(report.text(), err=True)
    report.refuse_broken()


@train.command("list")
def list_recipes() -> None:
    """The recipes of the models that come with Sightbox."""
    from apps.vision.train.shipped import SHIPPED

    for name, shipped in SHIPPED.items():
        recipe = shipped.recipe
        how = f"{recipe.epochs} epochs of batches of {recipe.batch}, {recipe.optimizer}"
        click.echo(f"{name}\t{shipped.folder}\t{how}, lr {recipe.lr:g}, {recipe.schedule}")


@train.command("classifier")
@data_options
@click.option("--out", type=FOLDER, required=True, help="Folder of the run, made if missing.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@click.option("--pause-after", type=float, help="Minutes of this call; go on with --resume.")
@CHECK
def classifier(
    out: Path, resume: bool, pause_after: float | None, check: bool, **options: Any
) -> None:
    """Train a classifier and measure it on pictures that it has not seen."""
    from apps.vision.train.make import train_classifier

    try:
        recipe, source, said = _prepare(**options)
        if check and not resume:
            _look_at(source)
        run, card = train_classifier(
            recipe, source, out, said={"data": said}, resume=resume, pause_after=pause_after
        )
    except AppError as error:
        _stop(error)
    if card is None and run.ended != "paused":
        return  # a process that only lent a device
    if card is None:
        click.echo(f"Paused after {run.epochs} epochs. Go on with --resume.")
        return
    click.echo(f"{run.epochs} epochs, ended by {run.ended}, best {recipe.monitor} {run.score:.4f}")
    if "strategy" in card["trained"]:
        click.echo(f"strategy {card['trained']['strategy']}")
    click.echo(f"accuracy on the test part {card['accuracy']:.4f}")
    click.echo(f"{out / card['file']}\t{megabytes(card['size'])}\t{card['sha256']}")


@train.command("crossvalidate")
@data_options
@click.option("--out", type=FOLDER, required=True, help="Folder of the runs.")
@click.option("--folds", default=5, show_default=True)
@CHECK
def crossvalidate(out: Path, folds: int, check: bool, **options: Any) -> None:
    """k-fold cross validation: train on all folds but one, validate on that one, k times."""
    from apps.vision.train.crossvalidation import cross_validate

    try:
        recipe, source, _said = _prepare(**options)
        if check:
            _look_at(source)
        result = cross_validate(recipe, source, out, folds=folds, report=click.echo)
    except AppError as error:
        _stop(error)
    click.echo(f"{recipe.monitor} {result.mean:.4f} ± {result.deviation:.4f} over {folds} folds")


@train.command("search")
@data_options
@click.option("--out", type=FOLDER, required=True, help="Folder of the runs.")
@click.option("--method", type=click.Choice(["grid", "random", "bayesian"]), default="random")
@click.option("--trials", default=10, show_default=True, help="Of random and bayesian.")
@click.option(
    "--over",
    "spaces",
    multiple=True,
    required=True,
    help="lr=0.001,0.01,0.1 tries these values; lr=1e-4..1e-1 a range, even in the logarithm.",
)
@CHECK
def search(
    out: Path,
    method: str,
    trials: int,
    spaces: tuple[str, ...],
    check: bool,
    **options: Any,
) -> None:
    """Try recipes; the best one is OUT/best.json, which --recipe takes."""
    from apps.vision.train.search import Method, search_recipes

    try:
        recipe, source, _said = _prepare(**options)
        if check:
            _look_at(source)
        best = search_recipes(
            recipe, source, out, pairs(spaces), Method(method), trials=trials, report=click.echo
        )
    except AppError as error:
        _stop(error)
    click.echo(f"best: {json.dumps(best.values)}, {recipe.monitor} {best.score:.4f}")


@train.command("check")
@click.argument("folder", type=FOLDER)
@click.option("--dataset", type=click.Choice(DATASETS), help="torchvision's, in FOLDER.")
def check(folder: Path, dataset: str | None) -> None:
    """Look for what spoils a training in the pictures in FOLDER; exit status 1 if it must fail.

    FOLDER holds a folder of pictures for each class, or pictures with boxes (COCO, VOC, YOLO).
    """
    from apps.vision.formats import folders
    from apps.vision.train.check import check_source
    from apps.vision.train.data import open_source
    from apps.vision.train.detection.check import check_detection, read_files

    try:
        if dataset is None and folders.has_boxes(folder):
            data = folders.read(folder)
            report = check_detection(data, read_files(data, Counted()))
        else:
            report = check_source(open_source(folder, dataset))
        click.echo(report.text())
        report.refuse_broken()
    except AppError as error:
        _stop(error)
