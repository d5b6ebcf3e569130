"""The server's side of HTTP/1.1; applications import its names from :mod:`geventnode.http`."""

from __future__ import annotations

__all__: list[str] = []
