"""``flask users``: the way back in when nobody can log in, and accounts without a browser."""

from typing import Any

import click
from flask.cli import AppGroup, ScriptInfo
from sqlalchemy import inspect, select

from apps.container import services
from apps.errors import AppError
from apps.extensions import db
from apps.models import Role, User


class AccountsGroup(AppGroup):
    """Says what to do when there is no database yet."""

    def invoke(self, ctx: click.Context) -> Any:
        app = ctx.ensure_object(ScriptInfo).load_app()
        with app.app_context():
            if not inspect(db.engine).has_table("users"):
                raise click.ClickException(
                    "The database has no tables yet. Start script/server once, or run: "
                    "flask db upgrade"
                )
        return super().invoke(ctx)


users = AccountsGroup("users", help="Create, list and repair accounts.")


def _find(identity: str) -> User:
    user = services().accounts.find(identity)
    if user is None:
        raise click.ClickException(f"There is no account {identity!r}. Try: flask users list")
    return user


@users.command("create")
@click.argument("username")
@click.argument("email")
@click.option("--admin", is_flag=True, help="Make the account administrator.")
@click.password_option(help="Asked for when not given.")
def create(username: str, email: str, admin: bool, password: str) -> None:
    """Create an account. The first one of all is administrator anyway."""
    try:
        role = Role.ADMIN if admin else Role.USER
        user = services().accounts.create(username, email, password, role=role)
    except AppError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Created {user.username} <{user.email}>, {user.role}.")


@users.command("list")
def list_users() -> None:
    """List every account: id, name, email, role, whether it may log in."""
    for user in db.session.scalars(select(User).order_by(User.id)):
        state = "active" if user.active else "disabled"
        click.echo(f"{user.id}\t{user.username}\t{user.email}\t{user.role}\t{state}")


@users.command("reset-password")
@click.argument("identity")
@click.password_option(help="Asked for when not given.")
def reset_password(identity: str, password: str) -> None:
    """Set a new password for the account with this email or user name; its sessions end."""
    user = _find(identity)
    try:
        services().accounts.set_password(user.id, password)
    except AppError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{user.username} has a new password; every session of the account has ended.")


@users.command("make-admin")
@click.argument("identity")
def make_admin(identity: str) -> None:
    """Make the account with this email or user name administrator."""
    _update(identity, role=Role.ADMIN)


@users.command("disable")
@click.argument("identity")
def disable(identity: str) -> None:
    """Keep the account and its pictures, but let nobody log in with it."""
    _update(identity, active=False)


@users.command("enable")
@click.argument("identity")
def enable(identity: str) -> None:
    """Let a disabled account log in again."""
    _update(identity, active=True)


def _update(identity: str, **changes: object) -> None:
    user = _find(identity)
    try:
        services().accounts.update(user.id, **changes)
    except AppError as error:
        raise click.ClickException(str(error)) from error
    state = "active" if user.active else "disabled"
    click.echo(f"{user.username} is {user.role}, {state}.")
