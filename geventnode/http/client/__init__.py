"""The client's side of HTTP/1.1; :mod:`geventnode.http` has what applications import."""

from __future__ import annotations

__all__: list[str] = []
