"""Integrations with other libraries, each in a module of its own.

Only that module imports the library. This package imports no module: import :mod:`geventnode.integrations.wsgi` and
its siblings by name.
"""

from __future__ import annotations

__all__: list[str] = []
