"""Make a connection: resolve the name, then try every address, in a greenlet that can be cancelled at any time.

The attempts overlap (RFC 8305, section 5): an address that does not respond costs a quarter of a second, and one that
responds late can still be used. There is no time limit here; the caller cancels the connection attempt.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent.queue import Empty, Queue

from geventnode.errors import ConnectError, ConnectionRefused, NameNotResolved
from geventnode.net.address import is_address, is_path, lookup_problem, port_number, resolve, unix_family
from geventnode.net.descriptors import new_socket
from geventnode.net.hostnames import ascii_name

__all__ = ['ConnectOwner', 'Connecting', 'Lookup', 'connect_error']

WRITE = 2

#: Family, kind, protocol and address, as the resolver returns them.
Address = tuple[int, int, int, Any]

#: Resolves a name: a function of the name and of 4, 6 or 0 (both), which returns one IP address or several.
Lookup = Callable[[str, int], 'str | Iterable[str]']

#: Results of ``connect_ex`` for an attempt in progress. Windows returns EWOULDBLOCK; where that number is EAGAIN, no
#: attempt is in progress.
IN_PROGRESS = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK}) - {errno.EAGAIN}

#: Seconds after which the next address is tried, too ("Connection Attempt Delay", RFC 8305, section 5).
NEXT_AFTER = 0.25

#: Seconds for which a Unix socket with a full queue is tried: as long as Linux tries for TCP (tcp(7), tcp_syn_retries).
UNIX_CONNECT_TIME = 127.0

#: Seconds between two of these attempts: the first pause, and the longest.
MIN_PAUSE, MAX_PAUSE = 0.005, 0.25


def connect_error(failure: OSError, host: str, port: int | None) -> ConnectError:
    """Return the error for a failed connection, with ``failure`` as its cause."""
    number = failure.errno or errno.ECONNABORTED
    # a function of the program can raise an error without a number, which has a text of its own
    text = os.strerror(number) if failure.errno or not str(failure) else str(failure)
    error = (ConnectionRefused if number == errno.ECONNREFUSED else ConnectError)(number, text, host, port)
    error.__cause__ = failure
    return error


class ConnectOwner(Protocol):
    """The object that gets the connection, or the error."""

    def _on_connected(self, raw: Any, peer: Any) -> None:
        """Take the new connection."""

    def destroy(self, error: BaseException | None = None) -> Any:
        """Take the error: there is no connection."""

    def _on_attempt(self, event: str, address: Any, *error: BaseException) -> None:
        """Emit the event of an attempt to connect to ``address``."""


class Connecting:
    """Try all addresses of a host, or a path, in a greenlet."""

    def __init__(
        self,
        owner: ConnectOwner,
        port: Any,
        host: str | None,
        local_address: str | None,
        family: int,
        local_port: int | None = None,
        lookup: Lookup | None = None,
    ) -> None:
        if lookup is not None and not callable(lookup):
            raise TypeError(f'lookup must be callable, not {type(lookup).__name__}')
        self._owner = owner
        self._local_address = local_address
        self._local_port = 0 if local_port is None else port_number(local_port)
        self._family = family
        self._lookup = lookup
        self._path = port if is_path(port) else None
        self._port = None if self._path is not None else port_number(port)
        self._host = self._path if self._path is not None else ascii_name(host or 'localhost')
        self._greenlet: Any = gevent.spawn(self._run)

    def wait(self, timeout: float | None) -> None:
        """Return when there is a connection, or none can be made.

        Blocks until then. Raises ``TimeoutError`` after ``timeout`` seconds.
        """
        greenlet = self._greenlet
        greenlet.join(timeout)
        if not greenlet.ready():
            raise TimeoutError(f'no connection to {self._host} after {timeout} seconds')

    def cancel(self) -> None:
        """Stop trying."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is not None and greenlet is not gevent.getcurrent():
            # a greenlet that has not started and this object would keep each other alive
            greenlet.kill(block=False)

    def _run(self) -> None:
        raw = None
        try:
            raw, peer = self._connect()
        except Exception as error:
            self._owner.destroy(error)
            return
        except BaseException as error:
            # raised by a function of the program, or by a kill: the owner would wait for ever
            self._owner.destroy(self._interrupted_by(error))
            raise
        try:
            self._owner._on_connected(raw, peer)
        except BaseException as error:
            # a listener of the owner has failed: the connection cannot be used
            self._owner.destroy(error if isinstance(error, Exception) else None)
            raise

    def _interrupted_by(self, error: BaseException) -> ConnectError:
        """Return the error for the owner: never one that would end a waiting greenlet, or the process."""
        problem = f'the connect was interrupted by {type(error).__name__}'
        return ConnectError(errno.ECONNABORTED, problem, self._host, self._port)

    def _connect(self) -> tuple[Any, Any]:
        try:
            addresses = self._resolve()
            return self._race(addresses) if self._path is None else self._connect_to_path(addresses)
        except ConnectError:
            raise
        except OSError as error:
            raise connect_error(error, self._host, self._port) from error

    def _resolve(self) -> list[Address]:
        if self._path is not None:
            if unix_family is None:
                raise ConnectError(errno.EAFNOSUPPORT, 'no Unix sockets on this platform', self._path)
            return [(unix_family, stdlib.SOCK_STREAM, 0, self._path)]
        try:
            found = self._look_up(self._port or 0)
        except gevent.Timeout as error:
            problem = f'lookup has raised a timeout ({error})'
            raise NameNotResolved(errno.EHOSTUNREACH, problem, self._host, self._port) from error
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno and not isinstance(error, (stdlib.gaierror, stdlib.herror)):
                # of the system: no descriptor is left, for example
                raise
            raise NameNotResolved(errno.EHOSTUNREACH, lookup_problem(error), self._host, self._port) from error
        return [(family, kind, protocol, address) for family, kind, protocol, _, address in found]

    def _look_up(self, port: int) -> list[Any]:
        """Return the results of ``getaddrinfo``. Blocks as long as the lookup does."""
        lookup = self._lookup
        if lookup is None or is_address(self._host):
            return resolve(self._host, port, self._family)
        kind = 4 if self._family == stdlib.AF_INET else 6 if self._family == stdlib.AF_INET6 else 0
        found = lookup(self._host, kind)
        addresses = [found] if isinstance(found, str) else list(found)
        for address in addresses:
            if not isinstance(address, str) or not is_address(address):
                raise TypeError(f'lookup must return IP addresses, not {address!r}')
        if not addresses:
            raise stdlib.gaierror(stdlib.EAI_NONAME, 'lookup has returned no address')
        return [each for address in addresses for each in resolve(address, port, self._family)]

    def _race(self, addresses: list[Address]) -> tuple[Any, Any]:
        """Return the first connection that is made, and its address.

        Raises the last failure.
        """
        left = deque(addresses)
        done: Queue[_Attempt] = Queue()
        running: set[_Attempt] = set()
        failure: OSError | None = None
        tried: Any = None
        try:
            while left or running:
                try:
                    if left:
                        address = left.popleft()
                        tried = address[3]
                        self._owner._on_attempt('connectionAttempt', tried)
                        running.add(_Attempt(address, (self._local_address, self._local_port), done))
                    attempt = done.get(timeout=NEXT_AFTER if left else None)
                    running.remove(attempt)
                    tried = attempt.address
                    return attempt.result(), attempt.address
                except Empty:
                    pass
                except OSError as error:
                    failure = error
                    self._owner._on_attempt('connectionAttemptFailed', tried, error)
        finally:
            for attempt in running:
                attempt.close()
        assert failure is not None
        raise failure

    def _connect_to_path(self, addresses: list[Address]) -> tuple[Any, Any]:
        """Return a connection to a Unix socket, and its address.

        Blocks until the queue of its listener has room.
        """
        expires, pause = monotonic() + UNIX_CONNECT_TIME, MIN_PAUSE
        while True:
            try:
                return self._race(addresses)
            except BlockingIOError:
                # EAGAIN: the queue is full, and there is no attempt in progress that the loop could watch (connect(2)).
                # For TCP the kernel tries again by itself: a server that is busy for a moment is no error there
                if monotonic() >= expires:
                    raise
            gevent.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)


class _Attempt:
    """Connect to one address. The attempt is put into ``done`` when it has succeeded or failed."""

    def __init__(self, address: Address, local: tuple[str | None, int], done: Queue[_Attempt]) -> None:
        family, kind, protocol, self.address = address
        self._done = done
        self._watcher: Any = None
        # the kernel can refuse this already: a disabled address family, or no descriptor left
        self._raw = new_socket(family, kind, protocol)
        try:
            self._raw.setblocking(False)
            local_address, local_port = local
            if local_address is not None or local_port:
                self._raw.bind((local_address or ('::' if family == stdlib.AF_INET6 else '0.0.0.0'), local_port))
            result = self._raw.connect_ex(self.address)
            if result and result not in IN_PROGRESS:
                raise OSError(result, os.strerror(result))
            self._watcher = gevent.get_hub().loop.io(self._raw.fileno(), WRITE)
            self._watcher.start(self._on_decided)
        except BaseException:
            self.close()
            raise

    def _on_decided(self) -> None:
        """Report the end of the attempt. Runs in the hub."""
        self._watcher.stop()
        self._done.put(self)

    def result(self) -> Any:
        """Return the raw socket, or raise the failure.

        The raw socket belongs to the caller then.
        """
        number = self._raw.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_ERROR)
        if number:
            self.close()
            raise OSError(number, os.strerror(number))
        self._watcher.close()
        return self._raw

    def close(self) -> None:
        """Close the raw socket."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
        self._raw.close()
