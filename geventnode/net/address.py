"""Addresses: parse the arguments of ``listen`` and ``connect``, resolve names, and describe the ends of sockets."""

from __future__ import annotations

import _socket
import socket as stdlib
from ipaddress import ip_address
from typing import Any, TypeGuard

from gevent.socket import getaddrinfo

from geventnode.net.descriptors import reserve_descriptors

__all__ = [
    'check_connect',
    'check_path',
    'describe',
    'family_name',
    'is_address',
    'is_path',
    'lookup_problem',
    'port_number',
    'resolve',
    'unix_family',
]

#: Descriptors that a lookup can need: the resolver's files and sockets, and the loop of a thread that gevent starts for
#: it. Without them, a lookup reports that there is no such name, or never returns.
FOR_A_LOOKUP = 10

#: Texts for numbers of getaddrinfo(3). Python has them for the system's resolver only.
LOOKUP_PROBLEMS = {
    'EAI_AGAIN': 'Temporary failure in name resolution',
    'EAI_FAIL': 'Non-recoverable failure in name resolution',
    'EAI_NODATA': 'No address associated with hostname',
    'EAI_NONAME': 'Name or service not known',
}

#: None where the platform has no Unix sockets.
unix_family: int | None = getattr(stdlib, 'AF_UNIX', None)


def is_path(value: Any) -> TypeGuard[str]:
    """Return whether ``value`` is the path of a Unix socket: text that is not a number, as in Node."""
    return isinstance(value, str) and not value.isdecimal()


def check_path(path: str, call: str, port: Any = None, *, swapped: bool = False) -> None:
    """Raise ``TypeError`` for a ``path`` that must be a host: an address or ``'localhost'``, with or without a port.

    :param call: the name of the called function, for the message.
    :param port: the next argument, if there is one.
    :param swapped: whether ``port`` can only be a port, so that ``path`` is a host unless it looks like a path.
    """
    host = _host_in(path)
    if host is None:
        if not swapped or '/' in path or '\0' in path:
            return
        host = path
    if port is None:
        port = path[len(host) + 1 :] or 8000
    host = host.strip('[]')
    meant = f'{call}({port}, {host!r})' if host else f'{call}({port})'
    raise TypeError(
        f'{call}() takes the port before the host, and {path!r} would be the path of a Unix socket: '
        f'did you mean {meant}?'
    )


def check_connect(port: Any, host: Any) -> None:
    """Raise ``TypeError`` if ``connect`` got a host before its port."""
    if is_path(port):
        swapped = isinstance(host, int) or (isinstance(host, str) and host.isdecimal())
        check_path(port, 'connect', host if swapped else None, swapped=swapped)


def _host_in(text: str) -> str | None:
    """Return the host in ``text`` without its port.

    It is None if ``text`` can be something else than a host.
    """
    if _is_host(text):
        return text
    host, _, port = text.rpartition(':')
    return host if port.isdecimal() and _is_host(host) else None


def _is_host(text: str) -> bool:
    if text.lower() in ('', 'localhost'):
        return True
    return is_address(text[1:-1] if text.startswith('[') and text.endswith(']') else text)


def is_address(text: str) -> bool:
    """Return whether ``text`` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def port_number(value: Any) -> int:
    """Return ``value`` as a port.

    Raises ``TypeError`` unless it is a number, as int or text, and ``ValueError`` for one outside 0 to 65535.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError(f'a port must be an int, not {type(value).__name__}')
    number = int(value)
    if not 0 <= number <= 65535:
        raise ValueError(f'a port must be from 0 to 65535, not {number}')
    return number


def resolve(host: str | None, port: int, family: int = 0, flags: int = 0) -> list[Any]:
    """Return the results of ``getaddrinfo`` for streams to ``host``.

    Blocks until a name is resolved. An address needs no lookup, and so no thread and no turn of the loop.

    Raises ``socket.gaierror``, ``UnicodeError`` and ``OSError``.
    """
    try:
        return _socket.getaddrinfo(host, port, family, stdlib.SOCK_STREAM, 0, flags | stdlib.AI_NUMERICHOST)
    except stdlib.gaierror:
        reserve_descriptors(FOR_A_LOOKUP)
        found = list(getaddrinfo(host, port, family, stdlib.SOCK_STREAM, 0, flags))
    if not found:
        # the program can have replaced the resolver
        raise stdlib.gaierror(stdlib.EAI_NONAME, 'the resolver has returned no address')
    return found


def lookup_problem(error: Exception) -> str:
    """Return the reason why a name has no address.

    Resolvers in Python hide the exception that they have met behind an error of getaddrinfo(3), and some raise that
    with a number only: gevent's "dnspython" does both.
    """
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and len(error.args) == 1 and isinstance(error.args[0], int):
        number = error.args[0]
        name = next((name for name in dir(stdlib) if name.startswith('EAI_') and getattr(stdlib, name) == number), '')
        text = f'[Errno {number}] {LOOKUP_PROBLEMS.get(name, name)}'.rstrip()
    hidden = error.__cause__ or error.__context__
    # an OSError is that of another attempt
    return text if hidden is None or isinstance(hidden, OSError) else f'{text} ({type(hidden).__name__}: {hidden})'


def family_name(family: int) -> str:
    """Return Node's name for an address family."""
    if family == stdlib.AF_INET:
        return 'IPv4'
    return 'IPv6' if family == stdlib.AF_INET6 else 'Unix'


def describe(family: int, name: Any) -> dict[str, Any] | str:
    """Return the result of ``address()`` for a socket name of the kernel."""
    if family == unix_family:
        return name.decode(errors='surrogateescape') if isinstance(name, bytes) else str(name)
    return {'address': name[0], 'family': family_name(family), 'port': name[1]}
