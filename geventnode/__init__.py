"""Node's HTTP interface on gevent: an HTTP/1.1 server and the streams beneath it, for plain sequential code.

Nothing is imported here, so that ``geventnode serve`` can patch the standard library before anything of gevent is
loaded: import :mod:`geventnode.http`, :mod:`geventnode.net` and the others by name.
"""

from __future__ import annotations

__all__ = ['__version__']

#: The version of this package (PEP 440).
__version__ = '0.1.dev0'
