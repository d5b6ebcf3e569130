"""Addresses: what ``listen`` and ``connect`` take, and what sockets report."""
from __future__ import annotations

import _socket
import socket as stdlib
from typing import Any

from gevent.socket import getaddrinfo

__all__ = ['describe', 'family_name', 'is_path', 'port_number', 'resolve', 'unix_family']

#: None where the platform has no Unix sockets.
unix_family: int | None = getattr(stdlib, 'AF_UNIX', None)


def is_path(value: Any) -> bool:
    """Return whether ``value`` is the path of a Unix socket: text that is no number (as in Node). Never switches."""
    return isinstance(value, str) and not value.isdecimal()


def port_number(value: Any) -> int:
    """Return ``value`` as a port. Never switches. Raises ``TypeError`` for what is no number, ``ValueError`` for a
    number outside 0-65535."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f'a port must be an int, not {type(value).__name__}')
    number = int(value)
    if not 0 <= number <= 65535:
        raise ValueError(f'a port must be from 0 to 65535, not {number}')
    return number


def resolve(host: str | None, port: int, family: int = 0, flags: int = 0) -> list[Any]:
    """Return what ``getaddrinfo`` says of streams to ``host``. May switch, for a name: an address needs nobody to be
    asked, and neither a thread nor a turn of the loop. Raises ``socket.gaierror``, ``UnicodeError``."""
    try:
        return _socket.getaddrinfo(host, port, family, stdlib.SOCK_STREAM, 0, flags | stdlib.AI_NUMERICHOST)
    except (stdlib.gaierror, UnicodeError):
        return list(getaddrinfo(host, port, family, stdlib.SOCK_STREAM, 0, flags))


def family_name(family: int) -> str:
    """Return Node's name for an address family. Never switches."""
    if family == stdlib.AF_INET:
        return 'IPv4'
    return 'IPv6' if family == stdlib.AF_INET6 else 'Unix'


def describe(family: int, name: Any) -> dict[str, Any] | str:
    """Return what ``address()`` returns for a name that the kernel gave. Never switches."""
    if family == unix_family:
        return name.decode(errors='surrogateescape') if isinstance(name, bytes) else str(name)
    return {'address': name[0], 'family': family_name(family), 'port': name[1]}
