"""``flask workers``: which processes detect."""

import socket

import click
from flask.cli import AppGroup

from apps.container import services

workers = AppGroup("workers", help="See which processes detect.")


@workers.command("list")
def list_workers() -> None:
    """Every worker of the last day: name, state, device, when it was last seen, its pictures.

    State: alive, lost (silent for long), or "in trouble" (its detector cannot work).
    """
    for worker in services().workers.all():
        state = "lost" if not worker.alive else "in trouble" if worker.trouble else "alive"
        seen = worker.seen_at.isoformat(sep=" ", timespec="seconds")
        pictures = ", ".join(str(number) for number in worker.pictures) or "idle"
        click.echo(f"{worker.name}\t{state}\t{worker.device or '-'}\t{seen}\t{pictures}")


@workers.command("check")
def check() -> None:
    """Exit with status 1 unless workers of this host are alive and can work: for health checks."""
    host = socket.gethostname()[:60]
    here = [worker for worker in services().workers.all() if worker.alive and worker.host == host]
    if not here:
        raise click.ClickException(f"No worker of {host} was seen lately.")
    for worker in here:
        if worker.trouble:
            raise click.ClickException(f"{worker.name} cannot work. {worker.trouble}")
    click.echo("A worker is alive.")
