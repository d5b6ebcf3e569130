"""What other libraries can use this package through: one file per ecosystem, each the only importer of its library.

Nothing is imported by itself: import :mod:`geventnode.integrations.wsgi` and its siblings by name.
"""

from __future__ import annotations

__all__: list[str] = []
