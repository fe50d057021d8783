"""Choices that administrators make in the browser; they win over the settings of the process."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from apps.extensions import Model

DETECTOR = "detector"  # name of the default model, or "auto"


class Setting(Model):
    """One choice by its name."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[str] = mapped_column(String(200))
