"""``flask storage``: is it there, and moving the files of every picture to it."""

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
