"""``flask detect``: the embedded detector on files, without accounts or a browser."""

from pathlib import Path

import click
from flask.cli import AppGroup

from apps.container import services
from apps.errors import AppError
from apps.vision.decode import decode
from apps.vision.prepare import DETAIL_SIDE

detect = AppGroup("detect", help="Run the detector on files.")


@detect.command("files")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--threshold", default=0.5, show_default=True, help="Lowest score that is shown.")
def files(paths: tuple[Path, ...], threshold: float) -> None:
    """Print label, score and corners (pixels) of every box in PATHS, tab-separated."""
    for path in paths:
        try:
            decoded = decode(path.read_bytes(), side=DETAIL_SIDE)
            found = services().detections.engine.detect(decoded.picture, size=decoded.size)
        except AppError as error:
            raise click.ClickException(f"{path}: {error}") from error
        for box in found.boxes:
            if box.score >= threshold:
                corners = "\t".join(f"{value:.1f}" for value in (box.x1, box.y1, box.x2, box.y2))
                click.echo(f"{path}\t{box.label}\t{box.score:.3f}\t{corners}")
