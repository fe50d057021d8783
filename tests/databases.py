"""The databases that a test can run on: SQLite, and PostgreSQL where there is one."""

import os

import pytest
import sqlalchemy as sa

POSTGRES = os.environ.get("SIGHTBOX_TEST_POSTGRES")
DATABASES = [
    "sqlite",
    pytest.param(
        "postgres",
        marks=[
            pytest.mark.postgres,
            pytest.mark.skipif(
                not POSTGRES,
                reason="set SIGHTBOX_TEST_POSTGRES to the address of an empty database",
            ),
        ],
    ),
]


def address(name: str) -> str:
    """What SQLALCHEMY_DATABASE_URI is for one of DATABASES."""
    return "sqlite:///testing.sqlite" if name == "sqlite" else POSTGRES or ""


def clear(engine: sa.Engine) -> None:
    """Drop every table."""
    with engine.begin() as connection:
        found = sa.MetaData()
        found.reflect(connection)
        found.drop_all(connection)


def clear_postgres() -> None:
    """The same of the shared PostgreSQL database."""
    engine = sa.create_engine(POSTGRES or "")
    clear(engine)
    engine.dispose()
