"""``flask storage``: is it there, moving the files of every picture to it, and leftovers."""

import json
from typing import NoReturn

import click
from flask import current_app
from flask.cli import AppGroup

from apps.container import copy_from, services
from apps.errors import ConfigError
from apps.services.blob_copy import Fate, Report

storage = AppGroup("storage", help="Check where pictures are kept, and move them there.")


@storage.command("check")
def check() -> None:
    """Write a small file to the storage of the settings, and delete it again."""
    try:
        services().storage.check()
    except OSError as error:
        _unreachable(error)
    click.echo(f"The storage ({current_app.config['STORAGE']}) can be written.")


@storage.command("copy")
@click.option("--from", "place", required=True, help="A folder or an address like s3://bucket/dir.")
@click.option("--from-options", default="{}", help="JSON for that address, as STORAGE_OPTIONS.")
def copy(place: str, from_options: str) -> None:
    """Copy the files of every picture into the storage of the settings.

    What is there with the right size is not sent again, so the command can be repeated, for example
    after it was interrupted. Nothing is deleted. Originals are compared with their checksum.
    """
    try:
        options = json.loads(from_options)
    except ValueError:
        raise click.BadParameter("is not JSON", param_hint="--from-options") from None
    try:
        report = copy_from(place, options, setting="--from").run(_progress)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        _unreachable(error)
    _summary(report)


@storage.command("sweep")
@click.option("--yes", is_flag=True, help="Delete them; without it they are only listed.")
def sweep(*, yes: bool) -> None:
    """List files older than a day that no row names: what killed processes left behind."""
    try:
        found = list(services().sweeping.orphans())
        for file in found:
            click.echo(f"{file.modified:%Y-%m-%d %H:%M}\t{file.bytes}\t{file.key}")
        size = sum(file.bytes for file in found)
        if not yes or not found:
            more = ". Nothing was deleted; --yes does it." if found else "."
            click.echo(f"{len(found)} files, {size} bytes{more}")
            return
        if not services().sweeping.any_named():
            raise click.ClickException(
                "No file of this storage belongs to this database. Do they belong together? "
                "Nothing was deleted."
            )
        services().sweeping.delete(found)
    except OSError as error:
        raise click.ClickException(f"The storage does not answer: {error}") from error
    click.echo(f"{len(found)} files, {size} bytes deleted.")


def _unreachable(error: OSError) -> NoReturn:
    raise click.ClickException(f"The storage of the settings cannot be written: {error}") from error


def _progress(report: Report) -> None:
    click.echo(f"\r{report.seen} of {report.pictures} pictures", nl=False, err=True)


def _summary(report: Report) -> None:
    """One line for each file that did not arrive, then the counts; fails unless all did."""
    click.echo("", err=True)
    for fate, image_id, key in report.bad:
        click.echo(f"{fate}\tpicture {image_id}\t{key}")
    click.echo(", ".join(f"{report.counts[fate]} {fate}" for fate in Fate))
    if report.stopped:
        raise click.ClickException(
            "A storage went away. Run the same command again to go on where it stopped."
        )
    if not report.complete:
        raise click.ClickException(
            "The files above did not arrive. Missing and damaged ones are so in the source; "
            "for failed ones, see the log and run the same command again."
        )
    click.echo("Every file of every picture is there.")
