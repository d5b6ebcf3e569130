"""The command ``geventnode``. Its entry point is :func:`geventnode.cli.main.main`."""

from __future__ import annotations

__all__: list[str] = []
