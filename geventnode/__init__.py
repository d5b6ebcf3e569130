"""Node's HTTP interface on gevent: servers, clients and streams.

This module imports nothing, so that ``geventnode serve`` can patch the standard library before gevent is loaded.
Import :mod:`geventnode.http`, :mod:`geventnode.net` and the others by name.
"""

from __future__ import annotations

__all__ = ['__version__']

#: The version of this package (PEP 440).
__version__ = '0.1.dev0'
