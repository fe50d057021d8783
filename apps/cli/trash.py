"""``flask trash``: deleting for good what people deleted long enough ago."""

import click
from flask.cli import AppGroup

from apps.container import services

trash = AppGroup("trash", help="Deleted pictures that can still be restored.")


@trash.command("purge")
@click.option("--all", "everything", is_flag=True, help="However short ago they were deleted.")
def purge(everything: bool) -> None:
    """Delete for good what has been in the trash for SIGHTBOX_TRASH_DAYS days, with its files.

    The server does this by itself; the command is for a disk that is full.
    """
    gone = services().trash.purge_old(everything=everything)
    click.echo(f"{gone} picture{'' if gone == 1 else 's'} deleted for good.")
