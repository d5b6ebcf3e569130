"""Making a connection: resolve the name, then try every address, in a greenlet that can be given up at any time."""
from __future__ import annotations

import _socket
import errno
import os
import socket as stdlib
from time import monotonic
from typing import Any, Protocol

import gevent

from geventnode.errors import ConnectError, ConnectionRefused, NameNotResolved
from geventnode.net.address import is_path, port_number, resolve, unix_family

__all__ = ['Connectable', 'Connecting', 'connect_error']

WRITE = 2

#: What ``connect_ex`` says of an attempt that goes on. Windows says EWOULDBLOCK; where that is EAGAIN, none goes on.
GOES_ON = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK}) - {errno.EAGAIN}

#: Seconds for which a Unix socket with a full queue is tried: as long as Linux tries for TCP (tcp(7), tcp_syn_retries).
PATIENCE = 127.0

#: Seconds between two of these attempts: the first pause, and the longest.
PAUSE, LONGEST_PAUSE = 0.005, 0.25


def connect_error(failure: OSError, host: str, port: int | None) -> ConnectError:
    """Return what is raised when there is no connection because of ``failure``, its cause. Never switches."""
    number = failure.errno or errno.ECONNABORTED
    error = (ConnectionRefused if number == errno.ECONNREFUSED else ConnectError)(
        number, os.strerror(number), host, port)
    error.__cause__ = failure
    return error


class Connectable(Protocol):
    """What wants to be connected."""

    def connected(self, raw: Any, peer: Any) -> None:
        """There is a connection."""

    def destroy(self, error: BaseException | None = None) -> Any:
        """There is none, and why."""


class Connecting:
    """One attempt, over all addresses."""

    def __init__(self, owner: Connectable, port: Any, host: str | None, local_address: str | None,
                 family: int) -> None:
        self._owner = owner
        self._local_address = local_address
        self._family = family
        self._path = port if is_path(port) else None
        self._port = None if self._path is not None else port_number(port)
        self._host = self._path if self._path is not None else host or 'localhost'
        self._greenlet: Any = gevent.spawn(self._run)

    def wait(self, timeout: float | None) -> None:
        """Wait until the attempt is over, at most ``timeout`` seconds; then ``TimeoutError``. May switch."""
        greenlet = self._greenlet
        greenlet.join(timeout)
        if not greenlet.ready():
            raise TimeoutError(f'no connection to {self._host} after {timeout} seconds')

    def cancel(self) -> None:
        """Give up. Never switches."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None and greenlet is not gevent.getcurrent():
            # one that has not begun would keep us, and we it
            greenlet.kill(block=False)

    def _run(self) -> None:
        raw = None
        try:
            raw, peer = self._connect()
        except Exception as error:
            self._owner.destroy(error)
            return
        try:
            self._owner.connected(raw, peer)
        except BaseException as error:
            # a listener failed, and nobody would go on with what it left
            self._owner.destroy(error if isinstance(error, Exception) else None)
            raise

    def _connect(self) -> tuple[Any, Any]:
        failure: OSError | None = None
        for family, kind, protocol, address in self._resolve():
            try:
                # the kernel may refuse this already: a family that it was started without, one descriptor too many
                raw = _socket.socket(family, kind, protocol)
                self._attempt(raw, address)
                return raw, address
            except OSError as error:
                failure = error
        assert failure is not None
        raise connect_error(failure, self._host, self._port)

    def _resolve(self) -> list[tuple[int, int, int, Any]]:
        if self._path is not None:
            if unix_family is None:
                raise ConnectError(errno.EAFNOSUPPORT, 'no Unix sockets on this platform', self._path)
            return [(unix_family, stdlib.SOCK_STREAM, 0, self._path)]
        try:
            found = resolve(self._host, self._port or 0, self._family)
        except (stdlib.gaierror, UnicodeError) as error:
            raise NameNotResolved(errno.EHOSTUNREACH, str(error), self._host, self._port) from error
        return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]

    def _attempt(self, raw: Any, address: Any) -> None:
        try:
            raw.setblocking(False)
            if self._local_address is not None:
                raw.bind((self._local_address, 0))
            if self._path is None:
                self._wait_for(raw, raw.connect_ex(address))
            else:
                self._queue_up(raw, address)
        except BaseException:
            raw.close()
            raise

    def _queue_up(self, raw: Any, path: Any) -> None:
        """Connect to a Unix socket, as soon as there is room in its listener's queue."""
        given_up, pause = monotonic() + PATIENCE, PAUSE
        # EAGAIN: the queue is full, and nothing goes on that the loop could watch (connect(2)). For TCP the kernel
        # tries again by itself, and a server that is busy for a moment should be no error here that is none there
        while (result := raw.connect_ex(path)) == errno.EAGAIN and monotonic() < given_up:
            gevent.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._wait_for(raw, result)

    @staticmethod
    def _wait_for(raw: Any, result: int) -> None:
        """Wait for a connection attempt that has just begun."""
        if result in GOES_ON:
            hub = gevent.get_hub()
            watcher = hub.loop.io(raw.fileno(), WRITE)
            try:
                hub.wait(watcher)
            finally:
                watcher.close()
            result = raw.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ERROR)
        if result:
            raise OSError(result, os.strerror(result))
