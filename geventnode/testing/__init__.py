"""Servers on free ports, connections in memory and raw exchanges, for tests.

Every name is imported on first use. pytest loads :mod:`geventnode.testing.pytest` before the tests' ``conftest.py``,
which may be the place where the standard library is patched, and gevent must not be imported earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geventnode.testing.memory import MemoryEnd, memory_pair, memory_socket
    from geventnode.testing.raw import RawConnection, RawResponse, raw_request
    from geventnode.testing.sites import ListeningSite, MemorySite, Site, serving, serving_in_memory
    from geventnode.testing.websockets import websocket_pair

__all__ = [
    'ListeningSite',
    'MemoryEnd',
    'MemorySite',
    'RawConnection',
    'RawResponse',
    'Site',
    'memory_pair',
    'memory_socket',
    'raw_request',
    'serving',
    'serving_in_memory',
    'websocket_pair',
]

_MODULES = {
    'MemoryEnd': 'memory',
    'memory_pair': 'memory',
    'memory_socket': 'memory',
    'RawConnection': 'raw',
    'RawResponse': 'raw',
    'raw_request': 'raw',
    'websocket_pair': 'websockets',
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    return getattr(import_module(f'{__name__}.{_MODULES.get(name, "sites")}'), name)
