"""Node's HTTP interface on gevent: HTTP/1.1 servers, clients and streams for plain sequential code.

This module imports nothing, so that ``geventnode serve`` can patch the standard library before gevent is loaded.
Import :mod:`geventnode.http`, :mod:`geventnode.net` and the others by name.
"""

from __future__ import annotations

__all__ = ['__version__']

#: The version of this package (PEP 440).
__version__ = '0.1.dev0'
