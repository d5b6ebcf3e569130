"""Parse the arguments of ``listen``, and open the listening socket."""

from __future__ import annotations

import _socket
import os
import socket as stdlib
import stat
from collections.abc import Callable
from typing import Any, NamedTuple

from geventnode.errors import NameNotResolved
from geventnode.net.address import check_path, is_path, lookup_problem, port_number, resolve, unix_family
from geventnode.net.hostnames import ascii_name

__all__ = ['DEFAULT_BACKLOG', 'ListenArguments', 'is_in_use', 'listen_fds', 'open_listener', 'parse_listen']

DEFAULT_BACKLOG = 511

#: The default limit of Linux (listen(2)): a larger number after a name must be a port.
MAX_BACKLOG = 4096

#: The first descriptor that systemd passes (sd_listen_fds(3)).
LISTEN_FDS_START = 3


class ListenArguments(NamedTuple):
    """The arguments of a ``listen`` call.

    ``handle`` and ``path`` have precedence over ``port``.
    """

    port: int = 0
    hostname: str | None = None
    path: str | None = None
    handle: Any = None
    backlog: int = DEFAULT_BACKLOG
    callback: Callable[..., object] | None = None
    reuse_port: bool = False


def parse_listen(
    args: tuple[Any, ...], *, path: str | None = None, handle: Any = None, reuse_port: bool = False
) -> ListenArguments:
    """Return the arguments of ``listen``.

    :param args: a port (None: any), a path or a handle; then host name, backlog and callback, in any order. None is
        ignored.

    Raises ``TypeError`` or ``ValueError`` for other arguments.
    """
    callbacks = [argument for argument in args if callable(argument) and not _is_handle(argument)]
    rest = [argument for argument in args if argument not in callbacks]
    if len(callbacks) > 1:
        raise TypeError('listen() takes one callback')
    fields: dict[str, Any] = {'callback': callbacks[0]} if callbacks else {}
    first = rest.pop(0) if rest else None
    if _is_handle(first):
        fields['handle'] = first
    elif is_path(first):
        fields['path'] = first
    elif first is not None:
        fields['port'] = port_number(first)
    for argument in rest:
        if isinstance(argument, str) and 'hostname' not in fields and 'path' not in fields:
            fields['hostname'] = argument
        elif isinstance(argument, int) and 'backlog' not in fields:
            fields['backlog'] = argument
        elif argument is not None:
            raise TypeError(f'listen() takes a port, a host name, a backlog and a callback, not {argument!r}')
    if 'path' in fields:
        backlog = fields.get('backlog')
        check_path(fields['path'], 'listen', backlog, swapped=backlog is not None and backlog > MAX_BACKLOG)
    if path is not None:
        fields['path'] = path
    if handle is not None:
        fields['handle'] = handle
    return ListenArguments(reuse_port=reuse_port, **fields)


def _is_handle(value: Any) -> bool:
    return isinstance(value, dict) or hasattr(value, 'fileno') or hasattr(value, 'listening_socket')


def open_listener(arguments: ListenArguments) -> Any:
    """Return a listening, non-blocking ``_socket.socket``.

    Blocks only until a host name is resolved.

    Raises ``OSError``, such as EADDRINUSE, and ``NameNotResolved``.
    """
    if arguments.handle is not None:
        listener = _duplicate(arguments.handle)
    elif arguments.path is not None:
        listener = _bind_path(arguments.path)
    else:
        listener = _bind_port(arguments)
    try:
        listener.setblocking(False)
        listener.listen(arguments.backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _duplicate(handle: Any) -> Any:
    if isinstance(handle, dict):
        descriptor = handle.get('fd')
        if not isinstance(descriptor, int):
            raise TypeError(f"a handle that is a mapping must be {{'fd': number}}, not {handle!r}")
    elif hasattr(handle, 'listening_socket'):
        if handle.listening_socket is None:
            raise ValueError('the server to share a socket with is not listening')
        descriptor = handle.listening_socket.fileno()
    else:
        descriptor = handle.fileno()
    duplicate = os.dup(descriptor)
    try:
        return _socket.socket(fileno=duplicate)
    except BaseException:
        os.close(duplicate)
        raise


def _bind_path(path: str) -> Any:
    if unix_family is None:
        raise OSError('no Unix sockets on this platform')
    listener = _socket.socket(unix_family, stdlib.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(path)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket file of a dead server: no process accepts on it."""
    if is_in_use(path) is False:
        os.unlink(path)


def is_in_use(path: str) -> bool | None:
    """Return whether a server must not use ``path``.

    It is None if there is no such file.

    It is in use if it is another kind of file, or a socket on which a process accepts.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return True
    except (OSError, ValueError):
        # there is no such file, or it is a name of the abstract namespace (unix(7))
        return None
    assert unix_family is not None
    probe = _socket.socket(unix_family, stdlib.SOCK_STREAM)
    try:
        probe.setblocking(False)
        return not isinstance(_try_connect(probe, path), ConnectionRefusedError)
    finally:
        probe.close()


def _try_connect(probe: Any, path: str) -> OSError | None:
    try:
        probe.connect(path)
    except OSError as error:
        return error
    return None


def _bind_port(arguments: ListenArguments) -> Any:
    hostname = ascii_name(arguments.hostname or '0.0.0.0')
    try:
        found = resolve(hostname, arguments.port, 0, stdlib.AI_PASSIVE)
    except (stdlib.gaierror, UnicodeError) as error:
        raise NameNotResolved(0, lookup_problem(error), hostname, arguments.port) from error
    family, kind, protocol, _, address = found[0]
    listener = _socket.socket(family, kind, protocol)
    try:
        if os.name == 'posix':
            listener.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_REUSEADDR, 1)
        if arguments.reuse_port:
            listener.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_REUSEPORT, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def listen_fds() -> list[int]:
    """Return the descriptors of systemd's socket activation (sd_listen_fds(3)), each for ``listen({'fd': n})``.

    The list is empty if systemd has passed none to this process.
    """
    if os.environ.get('LISTEN_PID') != str(os.getpid()):
        return []
    count = os.environ.get('LISTEN_FDS', '0')
    return list(range(LISTEN_FDS_START, LISTEN_FDS_START + int(count))) if count.isdecimal() else []
