"""Servers: accept connections, and emit a socket for each.

A server closes in three steps: it stops accepting, the connections end on their own, and ``'close'`` follows the last
one. Subclasses override :meth:`Server._on_connection` to make something else than a plain socket of a connection.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import logging
import os
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, TypeVar

import gevent
from gevent import get_hub
from gevent.event import Event
from zope.interface import implementer

from geventnode.errors import InvalidInput, ServerNotRunning
from geventnode.events import EventEmitter
from geventnode.interfaces import IServer
from geventnode.net.address import describe, unix_family
from geventnode.net.forks import register
from geventnode.net.listen import DEFAULT_BACKLOG, ListenArguments, open_listener, parse_listen
from geventnode.net.proxy_protocol import HEADER_TIME, ProxyHeaderReader, ProxyPolicy, parse_proxies
from geventnode.net.rate_limited_log import RateLimitedLog, log_from_hub
from geventnode.net.socket import Socket
from geventnode.net.threads import check_thread
from geventnode.options import Option, apply_options, check_attribute, flag
from geventnode.protocol import TrustedProxies

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ['DRAIN_TIME', 'Acceptor', 'Server', 'ServerOptions', 'create_server']

Self = TypeVar('Self', bound='Server')

log = logging.getLogger('geventnode.error')

#: Seconds for a connection on which nothing has begun when the server closes.
DRAIN_TIME = 0.5

#: Connections that are accepted in one turn of the loop.
BATCH = 64

#: Seconds of the first and the longest pause of accepting. A waiting client is served within a second after descriptors
#: were freed, on a busy machine, too.
MIN_PAUSE, MAX_PAUSE = 0.01, 0.5

#: Seconds between two log lines about a pause, however often accepting resumes in between.
LOG_INTERVAL = 1.0

#: Errors of one connection, not of accepting (accept(2)): the peer has disconnected, or its network has failed.
CONNECTION_ERRORS = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EOPNOTSUPP,
        errno.ECONNRESET,
    }
)

READ = 1


class Acceptor:
    """Accept on one listening socket until it is closed.

    When descriptors or memory run out, accepting pauses: for 10 ms first, then for twice as long each time, up to half
    a second. The listening socket stays open meanwhile, and clients wait in the kernel's queue.

    :param listener: a non-blocking, listening ``_socket.socket``, which :meth:`close` closes.
    :param on_accept: called in the hub with each new ``_socket.socket`` and the peer's address.
    :param ref: whether this keeps the loop alive.
    :param can_accept: called before each connection, with True if a client is known to wait. If it then returns False,
        accepting pauses until :meth:`resume`; :meth:`drain` does not call it.
    """

    def __init__(
        self,
        loop: Any,
        listener: Any,
        on_accept: Callable[[Any, Any], object],
        *,
        ref: bool = True,
        can_accept: Callable[[bool], bool] | None = None,
    ) -> None:
        self._loop = loop
        self.listener: Any = listener
        self._on_accept = on_accept
        self._can_accept = can_accept
        self._at_capacity = False
        self._pause_time = MIN_PAUSE
        self._logged = -LOG_INTERVAL
        self._timer: Any = None
        self._watcher = loop.io(listener.fileno(), READ, ref=ref)
        self._watcher.start(self._on_acceptable)

    def _on_acceptable(self) -> None:
        self._accept_batch()

    def _accept_batch(self, limited: bool = True) -> bool:
        """Accept a batch; return whether there can be more. Runs in the hub."""
        listener = self.listener
        for place in range(BATCH):
            if limited and self._can_accept is not None and not self._can_accept(place == 0):
                if place == 0:
                    self._at_capacity = True
                    self._watcher.stop()
                return False
            try:
                descriptor, peer = listener._accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in CONNECTION_ERRORS:
                    continue
                self._pause(error)
                return False
            self._pause_time = MIN_PAUSE
            self._on_accept(_socket.socket(listener.family, listener.type, listener.proto, descriptor), peer)
            if self.listener is None:
                return False
        return True

    def drain(self) -> None:
        """Accept the connections in the kernel's queue, which closing would reset."""
        while self.listener is not None and self._timer is None:
            if not self._accept_batch(limited=False):
                break

    def resume(self) -> None:
        """Accept again after ``can_accept`` has returned False."""
        if self._at_capacity:
            self._at_capacity = False
            if self._timer is None:
                self._watcher.start(self._on_acceptable)

    def _pause(self, error: OSError) -> None:
        now = monotonic()
        # when descriptors are scarce, ending connections free one every few milliseconds
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            log_from_hub(log.error, 'accepting pauses for %.2f s: %s', self._pause_time, error)
        self._watcher.stop()
        self._timer = self._loop.timer(self._pause_time)
        self._timer.start(self._on_pause_over)
        self._pause_time = min(self._pause_time * 2, MAX_PAUSE)

    def _on_pause_over(self) -> None:
        self._stop_timer()
        self._watcher.start(self._on_acceptable)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def set_ref(self, ref: bool) -> None:
        """Set whether this keeps the loop alive."""
        self._watcher.ref = ref

    def close(self) -> None:
        """Stop accepting, and close the listening socket."""
        self._stop_timer()
        self._watcher.stop()
        self._watcher.close()
        self.listener.close()
        self.listener = None


class ServerOptions(TypedDict, total=False):
    """The options of :func:`create_server`."""

    allow_half_open: bool
    max_connections: int | None
    proxy_protocol: bool
    trusted_proxies: Any
    wait_when_full: bool


@implementer(IServer)
class Server(EventEmitter):
    """A server for TCP or Unix connections, as Node's ``net.Server``.

    :func:`create_server` makes one.

    It belongs to the thread that made it; a method that is called in another thread raises ``WrongThread``. As a
    context manager it is stopped at once at the end of the block.

    Events: ``'listening'`` (), ``'connection'`` (socket), ``'close'`` () after the last connection has ended,
    ``'error'`` (exception) if listening fails, ``'drop'`` ({'remote_address', 'remote_port'}) for a connection that
    :attr:`max_connections` refuses. Each connection is emitted in its own greenlet, so a listener can block.

    :param listener: a listener for ``'connection'``.
    :param allow_half_open: whether accepted sockets can still be written to after the peer has ended its side.
    :param options: :attr:`max_connections`, :attr:`wait_when_full`, :attr:`trusted_proxies` and
        :attr:`proxy_protocol`.
    """

    events: ClassVar[frozenset[str]] = EventEmitter.events | {'listening', 'connection', 'close', 'error', 'drop'}

    #: Names of plain attributes that are options, too.
    _plain_options: ClassVar[tuple[str, ...]] = ('max_connections',)

    trusted_proxies: Option[Sequence[Any]] = Option(
        parse_proxies,
        (),
        'The proxies that the server believes about their clients: IP addresses and networks (CIDR), as text or '
        "objects of :mod:`!ipaddress`, and ``'unix'`` for Unix sockets. ().",
    )
    proxy_protocol = Option(
        flag,
        False,
        'Whether every connection must begin with a PROXY header, version 1 or 2, within 60 seconds (of an HTTP '
        'server: headers_timeout), before TLS. Other connections, and those that do not come from trusted_proxies, are '
        'closed. False.',
    )
    wait_when_full = Option(
        flag,
        False,
        'Whether connections beyond max_connections wait in the queue of the kernel instead of being closed. Another '
        'process that listens on the same socket can accept them; an HTTP server closes idle connections to make room. '
        'False.',
    )

    #: Connections open at the same time; None: no limit. Further ones are closed, or wait (:attr:`wait_when_full`).
    max_connections: int | None = None

    _acceptor: Acceptor | None = None
    #: The path of the Unix socket to remove in the end.
    _path: str | None = None
    _unref: bool = False
    _proxy_policy: ProxyPolicy | None = None

    def __init__(
        self, listener: Callable[[Socket], object] | None = None, *, allow_half_open: bool = False, **options: Any
    ) -> None:
        self._hub = get_hub()
        #: Whether a client waits because max_connections are open.
        self._at_capacity = False
        #: The listening sockets of :meth:`also_listen`.
        self._further_acceptors: list[Acceptor] = []
        #: Log lines that peers cause, and the numbers of refused connections.
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
        # with it mypy would accept any attribute
        def __setattr__(self, name: str, value: Any) -> None:
            check_attribute(self, name)
            super().__setattr__(name, value)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.stop(0)

    def __repr__(self) -> str:
        state = 'closing' if self._started else 'not listening'
        if self.listening:
            state = f'listening on {self.address()!r}'
        return f'<{type(self).__name__} {state}, {len(self._sockets)} connections>'

    def _on_option_changed(self) -> None:
        """See :class:`geventnode.options.Configurable`."""
        self._proxy_policy = None
        if self.proxy_protocol:
            self._proxy_policy = ProxyPolicy(TrustedProxies(self.trusted_proxies), *self._header_limit())

    def _header_limit(self) -> tuple[float, str]:
        """Return the seconds for a PROXY header, and their setting."""
        return HEADER_TIME, 'its time limit'

    def _check_thread(self) -> None:
        check_thread(self._hub, self)

    # -- listening ----------------------------------------------------------------------------------------------------

    def listen(
        self: Self,
        port: Any = None,
        hostname: Any = None,
        backlog: Any = None,
        callback: Callable[..., object] | None = None,
        *,
        path: str | None = None,
        handle: Any = None,
        reuse_port: bool = False,
    ) -> Self:
        """Listen, accept connections, and return the server.

        ``'listening'`` follows in the next turn of the loop.

        As in Node, the first argument can also be a path or a handle, and a callable argument is the callback. Blocks
        only until a host name is resolved.

        :param port: a port, also as text; 0 or None: any free one.
        :param hostname: a host name or an IP address of this machine. ``'0.0.0.0'``.
        :param backlog: the length of the kernel's queue of connections. 511.
        :param callback: a one-time listener for ``'listening'``.
        :param path: the path of a Unix socket, which is removed when the server closes.
        :param handle: a listening or bound socket, a server, or ``{'fd': number}``; its descriptor is duplicated.
        :param reuse_port: whether other processes can listen on the same port (SO_REUSEPORT).

        A failure is raised as ``OSError``, or emitted as ``'error'`` if there is a listener for it. Raises
        ``TypeError`` for other arguments and for a host instead of the port, ``ValueError`` for a port that does not
        exist, ``InvalidInput`` for settings that exclude each other, and ``RuntimeError`` if the server listens
        already.
        """
        self._check_thread()
        arguments = parse_listen((port, hostname, backlog, callback), path=path, handle=handle, reuse_port=reuse_port)
        if self._acceptor is not None:
            raise RuntimeError('this server is listening already')
        self._check_settings()
        try:
            listener = open_listener(arguments)
        except OSError as error:
            if self.listener_count('error'):
                gevent.spawn(self.emit, 'error', error)
                return self
            raise
        return self._listen_on(listener, arguments)

    def _check_settings(self) -> None:
        """Raise ``InvalidInput`` for settings that exclude each other."""
        if self._proxy_policy is not None and not self._proxy_policy:
            raise InvalidInput('proxy_protocol without trusted_proxies would refuse every connection')

    def _listen_on(self: Self, listener: Any, arguments: ListenArguments) -> Self:
        if arguments.callback is not None:
            self.once('listening', arguments.callback)
        self._path = arguments.path
        self._closed.clear()
        self._started = True
        self._acceptor = self._accept_on(listener)
        gevent.spawn(self._emit_listening, self._acceptor)
        return self

    def _accept_on(self, listener: Any) -> Acceptor:
        return Acceptor(self._hub.loop, listener, self._on_accept, ref=not self._unref, can_accept=self._can_accept)

    def also_listen(self: Self, handle: Any, backlog: int = DEFAULT_BACKLOG) -> Self:
        """Accept on a further socket, too, and return the server.

        It is closed together with the server.

        :param handle: a listening or bound socket, a server, or ``{'fd': number}``; its descriptor is duplicated.
        :param backlog: the length of the kernel's queue of connections.

        Raises ``ServerNotRunning`` before :meth:`listen`, ``OSError``, and ``TypeError`` for something else than a
        handle.
        """
        self._check_thread()
        if self._acceptor is None:
            raise ServerNotRunning('also_listen() before listen()')
        arguments = parse_listen((handle, None, backlog))
        if arguments.handle is None:
            raise TypeError(f"also_listen() takes a socket, a server or {{'fd': number}}, not {type(handle).__name__}")
        self._further_acceptors.append(self._accept_on(open_listener(arguments)))
        return self

    def _emit_listening(self, acceptor: Acceptor) -> None:
        if self._acceptor is acceptor:
            self.emit('listening')

    @property
    def listening(self) -> bool:
        """Whether the server accepts connections."""
        return self._acceptor is not None

    @property
    def listening_socket(self) -> Any:
        """The listening socket, which another server can share (:meth:`listen`); None unless listening."""
        return None if self._acceptor is None else self._acceptor.listener

    def address(self) -> dict[str, Any] | Any:
        """Return the listening address; None unless listening.

        It is ``{'address', 'family', 'port'}``, or the path of a Unix socket.
        """
        listener = self.listening_socket
        return None if listener is None else describe(listener.family, listener.getsockname())

    def ref(self: Self) -> Self:
        """Let the server keep the loop alive, and return the server.

        This is the default.
        """
        return self._set_ref(True)

    def unref(self: Self) -> Self:
        """Let the loop end although the server listens, and return the server."""
        return self._set_ref(False)

    def _set_ref(self: Self, ref: bool) -> Self:
        self._check_thread()
        self._unref = not ref
        for acceptor in self._acceptors():
            acceptor.set_ref(ref)
        return self

    def _acceptors(self) -> list[Acceptor]:
        return [] if self._acceptor is None else [self._acceptor, *self._further_acceptors]

    # -- connections: run by the hub ----------------------------------------------------------------------------------

    def _can_accept(self, waiting: bool) -> bool:
        """Return whether another connection is allowed.

        :param waiting: whether a client is known to wait for it.
        """
        limit = self.max_connections
        if limit is None or len(self._sockets) < limit or not self.wait_when_full:
            return True
        if waiting and not self._make_room():
            self._at_capacity = True
        return waiting and not self._at_capacity

    def _make_room(self) -> bool:
        """Close a connection in favour of a waiting client.

        Return whether there was one to close.
        """
        return False

    def _on_accept(self, raw: Any, peer: Any) -> None:
        policy = self._proxy_policy
        if policy is not None and not policy.admits(raw.family, peer):
            raw.close()
            self._peer_log.log_refusal(
                'untrusted_peer',
                '%s: refused, because it is not one of the trusted proxies',
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
        socket._owner = self
        if policy is None:
            self._on_connection(socket)
        else:
            ProxyHeaderReader(policy, self._hub, socket, self._on_connection, self._on_proxy_header_error)

    def _new_socket(self) -> Socket:
        return Socket(allow_half_open=self._allow_half_open)

    def _drop(self, raw: Any, peer: Any) -> None:
        raw.close()
        self._peer_log.log_refusal(
            'max_connections',
            '%s: refused, because max_connections (%d) are open',
            'a Unix socket' if raw.family == unix_family else peer[0],
            len(self._sockets),
        )
        if self.listener_count('drop'):
            details = {} if raw.family == unix_family else {'remote_address': peer[0], 'remote_port': peer[1]}
            gevent.spawn(self.emit, 'drop', details)

    def _on_connection(self, socket: Socket) -> None:
        """Handle a new connection; for subclasses to override.

        Its PROXY header was read, if there is one.
        """
        gevent.spawn(self._emit_connection, socket)

    def _on_proxy_header_error(self, socket: Socket, error: Exception) -> None:
        """Destroy a proxy's connection without a valid PROXY header."""
        self._peer_log.log_refusal('proxy_header', '%s: %s', socket.remote_address or 'a Unix socket', error)
        socket.destroy(error)

    def _emit_connection(self, socket: Socket) -> None:
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
                acceptor.resume()
        if not self._sockets and self._acceptor is None:
            self._on_all_closed()

    @property
    def refusals(self) -> dict[str, int]:
        """The numbers of refused connections and requests, by reason.

        They are counted from the creation of the server on.

        The reasons are ``untrusted_peer``, ``proxy_header`` (missing or malformed) and ``max_connections``; with TLS
        ``tls_handshake`` and ``http_on_tls_port``; of an HTTP server ``tls_on_plain_port``, ``malformed``, ``host``
        (missing, twice or malformed), ``head_too_large``, ``body_too_large``, ``http_version``, ``not_implemented``
        (a transfer coding), ``timeout``, ``incomplete`` (the client ended the connection within a message), and
        ``websocket`` (a handshake); with HTTP/2 ``http2_protocol``, ``max_buffered`` (an unread body), and the
        names of the options that limit HTTP/2.
        """
        return dict(self._peer_log.refusals)

    def get_connections(self, callback: Callable[[Any, int], object] | None = None) -> int:
        """Return the number of open connections.

        :param callback: called with ``(None, number)`` before this returns, as in Node.
        """
        count = len(self._sockets)
        if callback is not None:
            callback(None, count)
        return count

    # -- closing ------------------------------------------------------------------------------------------------------

    def close(self: Self, callback: Callable[..., object] | None = None) -> Self:
        """Stop accepting, and return the server.

        ``'close'`` follows when the last connection has ended.

        :param callback: a one-time listener for ``'close'``. If the server is not listening, it is called with
            ``ServerNotRunning``.

        Raises ``ServerNotRunning`` if the server is not listening and there is no callback.
        """
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
            self._on_all_closed()
        return self

    def _stop_accepting(self) -> None:
        if self._acceptor is not None:
            for acceptor in self._acceptors():
                acceptor.close()
            self._acceptor = None
            self._further_acceptors.clear()
            if self._path is not None:
                # another process can have removed it before, or it is an abstract name (unix(7)) without a file
                with contextlib.suppress(OSError, ValueError):
                    os.unlink(self._path)

    def _drain(self) -> None:
        """Shorten the deadlines of connections on which nothing has begun."""
        expires = monotonic() + DRAIN_TIME
        for socket in self._sockets:
            if isinstance(socket._protocol, ProxyHeaderReader):
                socket._protocol.shorten_deadline(expires)

    def _on_all_closed(self) -> None:
        if not self._closed.is_set() and self._started:
            self._started = False
            self._closed.set()
            gevent.spawn(self.emit, 'close')

    def stop(self, timeout: float | None = None) -> None:
        """Close the server and, after a time, its connections.

        Blocks until every connection has ended. It returns at once if the server is not running.

        :param timeout: seconds after which open connections are destroyed; None: never.
        """
        self._check_thread()
        if self._acceptor is not None:
            self.close()
        elif not self._started:
            return
        if not self._closed.wait(timeout):
            self._destroy_connections()
            self._closed.wait()

    def _destroy_connections(self) -> None:
        for socket in tuple(self._sockets):
            socket.destroy()

    def serve_forever(self) -> None:
        """Wait for the end of the server.

        Blocks until the server is closed and its connections have ended.

        Raises ``ServerNotRunning`` before :meth:`listen`.
        """
        self._check_thread()
        if not self._started:
            raise ServerNotRunning('serve_forever() before listen()')
        self._closed.wait()

    # -- forks and threads --------------------------------------------------------------------------------------------

    def _after_fork_in_child(self) -> None:
        """Close the child's descriptors, so that the server can listen again.

        See :mod:`geventnode.net.forks`.
        """
        self._path = None
        for acceptor in self._acceptors():
            # before its watcher is stopped: see geventnode.net.forks
            acceptor.listener.close()
        self._stop_accepting()
        for socket in tuple(self._sockets):
            socket._owner = None
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
        self._acceptor = None
        self._further_acceptors.clear()
        self._started = False
        for socket in self._sockets:
            socket._close_descriptors()


def create_server(listener: Callable[[Socket], object] | None = None, **options: Unpack[ServerOptions]) -> Server:
    """Return a new :class:`Server`.

    :param listener: a listener for ``'connection'``, called with each new socket.
    :param allow_half_open: whether accepted sockets can still be written to after the peer has ended its side. False.
    :param max_connections: connections open at the same time. None: no limit.
    :param wait_when_full: whether further connections wait in the kernel's queue instead of being closed. False.
    :param trusted_proxies: the proxies that the server believes about their clients. ().
    :param proxy_protocol: whether every connection must begin with a PROXY header of a trusted proxy. False.

    Raises ``UnknownOption``, and ``TypeError`` or ``InvalidInput`` for a bad value.
    """
    return Server(listener, **options)
