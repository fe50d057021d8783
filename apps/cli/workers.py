"""``flask workers``: which processes detect."""

import socket

import click
from flask.cli import AppGroup

from apps.container import services

workers = AppGroup("workers", help="See which processes detect.")


@workers.command("list")
def list_workers() -> None:
    """Every worker of the last day: name, state, device, when it was last seen, its pictures."""
    for worker in services().workers.all():
        state = "alive" if worker.alive else "lost"
        seen = worker.seen_at.isoformat(sep=" ", timespec="seconds")
        pictures = ", ".join(str(number) for number in worker.pictures) or "idle"
        click.echo(f"{worker.name}\t{state}\t{worker.device or '-'}\t{seen}\t{pictures}")


@workers.command("check")
def check() -> None:
    """Exit with status 1 unless a worker of this host is alive: for health checks."""
    host = socket.gethostname()[:60]
    if not any(worker.alive and worker.host == host for worker in services().workers.all()):
        raise click.ClickException(f"No worker of {host} was seen lately.")
    click.echo("A worker is alive.")
