"""``flask backup`` and ``flask restore``: a whole installation as one file, and back."""

from collections.abc import Callable
from pathlib import Path

import click
from flask.cli import with_appcontext

from apps.config import ROOT
from apps.container import services
from apps.errors import AppError
from apps.extensions import db, reading
from apps.services.backups import BackupService, Report
from apps.services.restores import RestoreService
from apps.services.schema import Revisions
from apps.vision.zoo.own import OwnWeights
from apps.web import megabytes

MIGRATIONS = ROOT / "migrations"


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@with_appcontext
def backup(file: Path) -> None:
    """Write every row and every stored file into the ZIP file FILE, and read it back.

    The server may run meanwhile. FILE holds password hashes and everybody's pictures: keep it as
    safe as the server itself. Weights that administrators added are in it; settings, the secret key
    and weights that can be fetched again are not.
    """
    made = BackupService(db.engine, services().storage, *_rest(), reading)
    report = _run(lambda: made.write(file, _progress))
    _summary(report)
    click.echo(f"{file} is complete: every checksum was compared.")


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Also where there is an installation: it is lost.")
@with_appcontext
def restore(file: Path, replace: bool) -> None:
    """Make the installation of the settings what the backup FILE holds.

    Stop the server and all workers first. FILE may come from another kind of database or storage,
    and from an older version. When something goes wrong, everything is as it was before.
    """
    made = RestoreService(db.engine, services().storage, *_rest(), reading)
    report = _run(lambda: made.read(file, replace=replace, progress=_progress))
    _summary(report)
    click.echo("Everything is restored, and every stored file was compared with its checksum.")


def _rest() -> tuple[Revisions, OwnWeights]:
    return Revisions(MIGRATIONS), services().models.own


def _run(work: Callable[[], Report]) -> Report:
    try:
        report = work()
    except (AppError, OSError) as error:
        click.echo("", err=True)
        raise click.ClickException(str(error)) from error
    click.echo("", err=True)
    return report


def _progress(what: str, number: int, total: int) -> None:
    if number % 50 == 0 or number == total:
        click.echo(f"\r{what}: {number} of {total}   ", nl=False, err=True)


def _summary(report: Report) -> None:
    for key in report.missing:
        click.echo(f"missing from the storage\t{key}")
    for key in report.damaged:
        click.echo(f"not what was uploaded\t{key}")
    rows = ", ".join(f"{count} {name}" for name, count in sorted(report.rows.items()) if count)
    click.echo(f"{report.blobs} files ({megabytes(report.bytes)}); rows: {rows or 'none'}")
    if report.models:
        click.echo(f"models of this installation's own: {report.models}")
