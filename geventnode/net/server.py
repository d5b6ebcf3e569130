"""Servers: what listens, the connections that it accepted, and how it comes to an end.

A server closes in three steps: the acceptor goes, connections end on their own, and with the last of them ``'close'``
is emitted. Subclasses override :meth:`Server._accepted` to make something else than a plain socket of a connection.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

import gevent
from gevent import get_hub
from gevent.event import Event
from zope.interface import implementer

from geventnode.errors import InvalidInput, ServerNotRunning
from geventnode.events import EventEmitter
from geventnode.interfaces import IServer
from geventnode.net.accept import Acceptor
from geventnode.net.address import describe, unix_family
from geventnode.net.forks import register
from geventnode.net.listen import DEFAULT_BACKLOG, Listening, open_listener, parse_listen
from geventnode.net.proxy_protocol import HEADER_TIME, ProxyHeaderReader, ProxyPolicy, proxies
from geventnode.net.rate_limited_log import RateLimitedLog
from geventnode.net.socket import Socket
from geventnode.net.threads import check_thread
from geventnode.options import Option, apply_options, check_attribute, flag
from geventnode.protocol import TrustedProxies

__all__ = ['DRAIN_TIME', 'Server', 'create_server']

#: Seconds that a connection on which nothing has begun is given when the server closes.
DRAIN_TIME = 0.5


@implementer(IServer)
class Server(EventEmitter):
    """See :class:`geventnode.interfaces.IServer`.

    :param listener: a listener for ``'connection'``; each runs in a greenlet of its own.
    :param allow_half_open: whether accepted sockets stay open for writing when the peer ends its side.
    :param options: any of ``max_connections``, ``wait_when_full``, ``trusted_proxies`` and ``proxy_protocol``.
    """

    events: ClassVar[frozenset[str]] = EventEmitter.events | {'listening', 'connection', 'close', 'error', 'drop'}

    #: Names of plain attributes that count as options.
    _plain_options: ClassVar[tuple[str, ...]] = ('max_connections',)

    trusted_proxies: Option[tuple[str, ...]] = Option(
        proxies, (), "IP addresses, networks (CIDR) and 'unix', whose word about clients is taken."
    )
    proxy_protocol = Option(flag, False, 'Every connection must begin with a PROXY header, of a trusted proxy.')
    wait_when_full = Option(flag, False, 'Connections beyond max_connections wait to be accepted, and are not closed.')

    max_connections: int | None = None
    _acceptor: Acceptor | None = None
    _path: str | None = None
    _unref: bool = False
    _proxy_policy: ProxyPolicy | None = None

    def __init__(
        self, listener: Callable[[Socket], object] | None = None, *, allow_half_open: bool = False, **options: Any
    ) -> None:
        self._hub = get_hub()
        #: Whether somebody waits because there are as many connections as there may be.
        self._at_capacity = False
        #: What :meth:`also_listen` was called for.
        self._further: list[Acceptor] = []
        self._peer_log = RateLimitedLog()
        self._allow_half_open = allow_half_open
        self._sockets: set[Socket] = set()
        self._closed = Event()
        self._started = False
        apply_options(self, options)
        if listener is not None:
            self.on('connection', listener)
        register(self, self._hub)

    if not TYPE_CHECKING:
        # mypy would allow any attribute then
        def __setattr__(self, name: str, value: Any) -> None:
            check_attribute(self, name)
            super().__setattr__(name, value)

    def _on_option_changed(self) -> None:
        """See :class:`geventnode.options.Configurable`."""
        self._proxy_policy = None
        if self.proxy_protocol:
            self._proxy_policy = ProxyPolicy(TrustedProxies(self.trusted_proxies), *self._header_limit())

    def _header_limit(self) -> tuple[float, str]:
        """Return how many seconds a PROXY header may take, and what decides that."""
        return HEADER_TIME, 'its time limit'

    def _check_thread(self) -> None:
        check_thread(self._hub, self)

    # -- listening ------------------------------------------------------------------------------------------------

    def listen(self, *args: Any, **options: Any) -> Any:
        self._check_thread()
        what = parse_listen(args, options)
        if self._acceptor is not None:
            raise RuntimeError('this server is listening already')
        self._check_settings()
        try:
            listener = open_listener(what)
        except OSError as error:
            if self.listener_count('error'):
                gevent.spawn(self.emit, 'error', error)
                return self
            raise
        return self._listen_on(listener, what)

    def _check_settings(self) -> None:
        """Raise ``InvalidInput`` for settings that do not go together."""
        if self._proxy_policy is not None and not self._proxy_policy:
            raise InvalidInput('proxy_protocol without trusted_proxies would refuse every connection')

    def _listen_on(self, listener: Any, what: Listening) -> Any:
        if what.callback is not None:
            self.once('listening', what.callback)
        self._path = what.path
        self._closed.clear()
        self._started = True
        self._acceptor = self._accept_on(listener)
        gevent.spawn(self._emit_listening, self._acceptor)
        return self

    def _accept_on(self, listener: Any) -> Acceptor:
        return Acceptor(self._hub.loop, listener, self._on_accepted, ref=not self._unref, may_accept=self._may_accept)

    def also_listen(self, handle: Any, backlog: int = DEFAULT_BACKLOG) -> Any:
        self._check_thread()
        if self._acceptor is None:
            raise ServerNotRunning('also_listen() before listen()')
        what = parse_listen((handle, backlog), {})
        if what.handle is None:
            raise TypeError(f"also_listen() takes a socket, a server or {{'fd': number}}, not {type(handle).__name__}")
        self._further.append(self._accept_on(open_listener(what)))
        return self

    def _emit_listening(self, acceptor: Acceptor) -> None:
        if self._acceptor is acceptor:
            self.emit('listening')

    @property
    def listening(self) -> bool:
        return self._acceptor is not None

    @property
    def listening_socket(self) -> Any:
        """The listening socket, for another server to share; None unless listening."""
        return None if self._acceptor is None else self._acceptor.listener

    def address(self) -> dict[str, Any] | str | None:
        listener = self.listening_socket
        return None if listener is None else describe(listener.family, listener.getsockname())

    def ref(self) -> Any:
        return self._set_ref(True)

    def unref(self) -> Any:
        return self._set_ref(False)

    def _set_ref(self, ref: bool) -> Any:
        self._check_thread()
        self._unref = not ref
        for acceptor in self._acceptors():
            acceptor.set_ref(ref)
        return self

    def _acceptors(self) -> list[Acceptor]:
        return [] if self._acceptor is None else [self._acceptor, *self._further]

    # -- connections: run by the hub ------------------------------------------------------------------------------

    def _may_accept(self, waiting: bool) -> bool:
        limit = self.max_connections
        if limit is None or len(self._sockets) < limit or not self.wait_when_full:
            return True
        if waiting and not self._make_room():
            self._at_capacity = True
        return waiting and not self._at_capacity

    def _make_room(self) -> bool:
        """Return whether some connection could be closed in favour of one that waits."""
        return False

    def _on_accepted(self, raw: Any, peer: Any) -> None:
        policy = self._proxy_policy
        if policy is not None and not policy.admits(raw.family, peer):
            raw.close()
            self._peer_log.refused(
                'untrusted_peer',
                '%s: refused, because it is none of the trusted proxies',
                'a Unix socket' if raw.family == unix_family else peer[0],
            )
            return
        limit = self.max_connections
        if limit is not None and len(self._sockets) >= limit and not self.wait_when_full:
            self._drop(raw, peer)
            return
        socket = self._new_socket()
        try:
            socket._attach(raw, peer)
        except OSError:
            # the peer has reset it meanwhile
            raw.close()
            return
        self._sockets.add(socket)
        socket._on_destroyed = self._on_destroyed
        if policy is None:
            self._accepted(socket)
        else:
            ProxyHeaderReader(policy, self._hub, socket, self._accepted, self._unproxied)

    def _new_socket(self) -> Socket:
        return Socket(allow_half_open=self._allow_half_open)

    def _drop(self, raw: Any, peer: Any) -> None:
        raw.close()
        self._peer_log.refused(
            'max_connections',
            '%s: refused, because max_connections (%d) are open',
            'a Unix socket' if raw.family == unix_family else peer[0],
            len(self._sockets),
        )
        if self.listener_count('drop'):
            details = {} if raw.family == unix_family else {'remote_address': peer[0], 'remote_port': peer[1]}
            gevent.spawn(self.emit, 'drop', details)

    def _accepted(self, socket: Socket) -> None:
        gevent.spawn(self._serve, socket)

    def _unproxied(self, socket: Socket, error: Exception) -> None:
        """A trusted proxy sent no PROXY header."""
        self._peer_log.refused('proxy_header', '%s: %s', socket.remote_address or 'a Unix socket', error)
        socket.destroy(error)

    def _serve(self, socket: Socket) -> None:
        try:
            self.emit('connection', socket)
        except BaseException as error:
            socket.destroy(error if isinstance(error, Exception) else None)
            raise

    def _on_destroyed(self, socket: Socket) -> None:
        self._sockets.discard(socket)
        if self._at_capacity:
            self._at_capacity = False
            for acceptor in self._acceptors():
                acceptor.go_on()
        if not self._sockets and self._acceptor is None:
            self._all_closed()

    @property
    def refusals(self) -> dict[str, int]:
        return dict(self._peer_log.refusals)

    def get_connections(self, callback: Callable[[Any, int], object] | None = None) -> int:
        count = len(self._sockets)
        if callback is not None:
            callback(None, count)
        return count

    # -- closing --------------------------------------------------------------------------------------------------

    def close(self, callback: Callable[..., object] | None = None) -> Any:
        self._check_thread()
        if self._acceptor is None:
            error = ServerNotRunning('this server is not listening')
            if callback is None:
                raise error
            gevent.spawn(callback, error)
            return self
        if callback is not None:
            self.once('close', callback)
        for acceptor in self._acceptors():
            acceptor.drain()
        self._stop_accepting()
        self._drain()
        if not self._sockets:
            self._all_closed()
        return self

    def _stop_accepting(self) -> None:
        if self._acceptor is not None:
            for acceptor in self._acceptors():
                acceptor.close()
            self._acceptor = None
            self._further.clear()
            if self._path is not None:
                # somebody else may have been faster, which is as good, or the name never was that of a file
                with contextlib.suppress(OSError, ValueError):
                    os.unlink(self._path)

    def _drain(self) -> None:
        """Let connections come to an end."""
        expires = monotonic() + DRAIN_TIME
        for socket in self._sockets:
            if isinstance(socket._protocol, ProxyHeaderReader):
                socket._protocol.shorten_deadline(expires)

    def _all_closed(self) -> None:
        if not self._closed.is_set() and self._started:
            self._started = False
            self._closed.set()
            gevent.spawn(self.emit, 'close')

    def stop(self, timeout: float | None = None) -> None:
        self._check_thread()
        if self._acceptor is not None:
            self.close()
        elif not self._started:
            return
        if not self._closed.wait(timeout):
            for socket in tuple(self._sockets):
                socket.destroy()
            self._closed.wait()

    def serve_forever(self) -> None:
        self._check_thread()
        if not self._started:
            raise ServerNotRunning('serve_forever() before listen()')
        self._closed.wait()

    def _after_fork_in_child(self) -> None:
        """See :class:`geventnode.net.forks.Forkable`."""
        self._path = None
        for acceptor in self._acceptors():
            # before its watcher is stopped: see geventnode.net.forks
            acceptor.listener.close()
        self._stop_accepting()
        for socket in tuple(self._sockets):
            socket._on_destroyed = None
            socket._discard_after_fork()
        self._sockets.clear()
        self._started = False
        self._closed.set()

    def _on_thread_exit(self) -> None:
        """See :class:`geventnode.net.threads.ThreadBound`."""
        self._stop_accepting()
        for socket in tuple(self._sockets):
            socket.destroy()

    def _close_descriptors(self) -> None:
        """See :class:`geventnode.net.threads.ThreadBound`."""
        for acceptor in self._acceptors():
            acceptor.listener.close()
        for socket in self._sockets:
            socket._close_descriptors()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: object) -> None:
        self.stop(0)

    def __repr__(self) -> str:
        state = 'closing' if self._started else 'not listening'
        if self.listening:
            state = f'listening on {self.address()!r}'
        return f'<{type(self).__name__} {state}, {len(self._sockets)} connections>'


def create_server(listener: Callable[[Socket], object] | None = None, **options: Any) -> Server:
    """Return a :class:`Server`; ``listener`` hears of ``'connection'``."""
    return Server(listener, **options)
