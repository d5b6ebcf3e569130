"""Making a connection: resolve the name, then try every address, in a greenlet that can be given up at any time.

The attempts overlap (RFC 8305, section 5): an address that never answers costs a moment, and one that answers late can
still win. Nothing here knows how long anybody will wait; whoever does, gives the whole up.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib
from collections import deque
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.queue import Empty, Queue

from geventnode.errors import ConnectError, ConnectionRefused, NameNotResolved
from geventnode.net.address import is_path, port_number, resolve, unix_family
from geventnode.net.descriptors import new_socket
from geventnode.net.hostnames import ascii_name

__all__ = ['ConnectOwner', 'Connecting', 'connect_error']

WRITE = 2

#: Family, kind, protocol and address, as the resolver says them.
Where = tuple[int, int, int, Any]

#: What ``connect_ex`` says of an attempt that goes on. Windows says EWOULDBLOCK; where that is EAGAIN, none goes on.
GOES_ON = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK}) - {errno.EAGAIN}

#: Seconds after which the next address is tried, too ("Connection Attempt Delay", RFC 8305, section 5).
NEXT_AFTER = 0.25

#: Seconds for which a Unix socket with a full queue is tried: as long as Linux tries for TCP (tcp(7), tcp_syn_retries).
PATIENCE = 127.0

#: Seconds between two of these attempts: the first pause, and the longest.
PAUSE, LONGEST_PAUSE = 0.005, 0.25


def connect_error(failure: OSError, host: str, port: int | None) -> ConnectError:
    """Return what is raised when there is no connection because of ``failure``, its cause."""
    number = failure.errno or errno.ECONNABORTED
    error = (ConnectionRefused if number == errno.ECONNREFUSED else ConnectError)(
        number, os.strerror(number), host, port
    )
    error.__cause__ = failure
    return error


class ConnectOwner(Protocol):
    """What wants to be connected."""

    def _on_connected(self, raw: Any, peer: Any) -> None:
        """There is a connection."""

    def destroy(self, error: BaseException | None = None) -> Any:
        """There is none, and why."""


class Connecting:
    """One attempt, over all addresses."""

    def __init__(
        self, owner: ConnectOwner, port: Any, host: str | None, local_address: str | None, family: int
    ) -> None:
        self._owner = owner
        self._local_address = local_address
        self._family = family
        self._path = port if is_path(port) else None
        self._port = None if self._path is not None else port_number(port)
        self._host = self._path if self._path is not None else ascii_name(host or 'localhost')
        self._greenlet: Any = gevent.spawn(self._run)

    def wait(self, timeout: float | None) -> None:
        """Wait until the attempt is over, at most ``timeout`` seconds; then ``TimeoutError``. May switch."""
        greenlet = self._greenlet
        greenlet.join(timeout)
        if not greenlet.ready():
            raise TimeoutError(f'no connection to {self._host} after {timeout} seconds')

    def cancel(self) -> None:
        """Give up."""
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
            self._owner._on_connected(raw, peer)
        except BaseException as error:
            # a listener failed, and nobody would go on with what it left
            self._owner.destroy(error if isinstance(error, Exception) else None)
            raise

    def _connect(self) -> tuple[Any, Any]:
        try:
            where = self._resolve()
            return self._race(where) if self._path is None else self._queue_up(where)
        except ConnectError:
            raise
        except OSError as error:
            raise connect_error(error, self._host, self._port) from error

    def _resolve(self) -> list[Where]:
        if self._path is not None:
            if unix_family is None:
                raise ConnectError(errno.EAFNOSUPPORT, 'no Unix sockets on this platform', self._path)
            return [(unix_family, stdlib.SOCK_STREAM, 0, self._path)]
        try:
            found = resolve(self._host, self._port or 0, self._family)
        except (stdlib.gaierror, UnicodeError) as error:
            raise NameNotResolved(errno.EHOSTUNREACH, str(error), self._host, self._port) from error
        return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]

    def _race(self, where: list[Where]) -> tuple[Any, Any]:
        """Return the first connection that is made, and its address; raise the last failure."""
        left = deque(where)
        over: Queue[_Attempt] = Queue()
        running: set[_Attempt] = set()
        failure: OSError | None = None
        try:
            while left or running:
                try:
                    if left:
                        running.add(_Attempt(left.popleft(), self._local_address, over))
                    attempt = over.get(timeout=NEXT_AFTER if left else None)
                    running.remove(attempt)
                    return attempt.result(), attempt.address
                except Empty:
                    pass
                except OSError as error:
                    failure = error
        finally:
            for attempt in running:
                attempt.close()
        assert failure is not None
        raise failure

    def _queue_up(self, where: list[Where]) -> tuple[Any, Any]:
        """Connect to a Unix socket, as soon as there is room in its listener's queue."""
        given_up, pause = monotonic() + PATIENCE, PAUSE
        while True:
            try:
                return self._race(where)
            except BlockingIOError:
                # EAGAIN: the queue is full, and nothing goes on that the loop could watch (connect(2)). For TCP the
                # kernel tries again by itself, and a server that is busy for a moment is no error there
                if monotonic() >= given_up:
                    raise
            gevent.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


class _Attempt:
    """A connection to one address, on its way: put into ``over`` when it is made or has failed."""

    def __init__(self, where: Where, local_address: str | None, over: Queue[_Attempt]) -> None:
        family, kind, protocol, self.address = where
        self._over = over
        self._watcher: Any = None
        # the kernel may refuse this already: a family that it was started without, one descriptor too many
        self._raw = new_socket(family, kind, protocol)
        try:
            self._raw.setblocking(False)
            if local_address is not None:
                self._raw.bind((local_address, 0))
            result = self._raw.connect_ex(self.address)
            if result and result not in GOES_ON:
                raise OSError(result, os.strerror(result))
            self._watcher = gevent.get_hub().loop.io(self._raw.fileno(), WRITE)
            self._watcher.start(self._decided)
        except BaseException:
            self.close()
            raise

    def _decided(self) -> None:
        """Runs in the hub."""
        self._watcher.stop()
        self._over.put(self)

    def result(self) -> Any:
        """Return the raw socket, which is the caller's then; raise why there is none."""
        number = self._raw.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ERROR)
        if number:
            self.close()
            raise OSError(number, os.strerror(number))
        self._watcher.close()
        return self._raw

    def close(self) -> None:
        """Give up."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
        self._raw.close()
