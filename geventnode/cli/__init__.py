"""The command ``geventnode``: :mod:`geventnode.cli.main.main` is where it starts."""

from __future__ import annotations

__all__: list[str] = []
