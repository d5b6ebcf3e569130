"""The contracts of sockets and of what accepts them (Node's ``net``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Attribute

from geventnode.interfaces.events import IEventEmitter
from geventnode.interfaces.streams import IDuplex

__all__ = ['IServer', 'ISocket']


class ISocket(IDuplex):
    """A stream connection, TCP or Unix.

    It belongs to the hub of the thread that made it: use from another thread raises ``WrongThread``. Nobody reads and
    nobody listens: no greenlet is spent on it. A context manager: leaving it destroys the socket.

    Events, beside those of a stream: ``'connect'`` (), ``'timeout'`` () after inactivity, ``'close'`` (had_error)
    once, last.
    """

    connecting: bool = Attribute('Whether the connection is still being made.')
    encrypted: bool = Attribute('Whether this is a TLS connection.')
    handshaking: bool = Attribute('Whether the TLS handshake is still to come, or under way; False without TLS.')
    truncated: bool = Attribute('Whether the data of a TLS peer ended without close_notify; False without TLS.')
    pending: bool = Attribute('Whether there is no connection yet.')
    remote_address: str | None = Attribute(
        'The peer’s IP address, or that of the client whom a PROXY header names; None for Unix sockets and before '
        'connecting.'
    )
    remote_port: int | None = Attribute('The peer’s port.')
    remote_family: str | None = Attribute("'IPv4', 'IPv6' or 'Unix'.")
    proxy_address: str | None = Attribute(
        'The IP address of the proxy whose PROXY header has named the client; None without one.'
    )
    proxy_header: Any = Attribute(
        'What the PROXY header said (:class:`geventnode.protocol.ProxyHeader`); None without one.'
    )
    local_address: str | None = Attribute('Our own IP address.')
    local_port: int | None = Attribute('Our own port.')
    bytes_read: int = Attribute('How many bytes came from the kernel.')
    bytes_written: int = Attribute('How many bytes were handed in for sending, queued ones included.')
    buffer_size: int = Attribute('The same as writable_length, under the name of the reference document.')
    timeout: float | None = Attribute('Seconds of inactivity after which ``timeout`` is emitted; None for never.')
    allow_half_open: bool = Attribute('Whether our side stays open when the peer ends its own.')
    had_error: bool = Attribute('Whether an error ended the connection.')

    def address() -> dict[str, Any] | str | None:
        """Return our own ``{'address', 'family', 'port'}``, or the path of a Unix socket."""

    def set_timeout(seconds: float | None, callback: Callable[..., object] | None = None) -> Any:
        """Emit ``'timeout'`` after so many seconds without traffic, at most half a second late, never early; 0 or None:
        never. Nothing is closed. ``callback`` is a one-time listener. Return the socket.

        Raises ``ValueError`` for a negative or not finite number.
        """

    def set_no_delay(no_delay: bool = True) -> Any:
        """Set TCP_NODELAY (on by default here); return the socket."""

    def set_keep_alive(enable: bool = False, initial_delay: float = 0) -> Any:
        """Set SO_KEEPALIVE, with the first probe after ``initial_delay`` seconds if not 0; return the socket."""

    def connect(port: Any, host: str | None = None, callback: Callable[..., object] | None = None) -> Any:
        """Begin to connect to ``port`` on ``host`` ('localhost'), or to the Unix socket at a path; return the socket.
        Never switches: ``'connect'`` or ``'error'`` follows, and reads and writes wait for it.

        Every resolved address is tried, in the order of the resolver: the next one as soon as one has failed, and after
        a quarter of a second while those before go on. The first connection that is made is kept (RFC 8305, section 5).
        A Unix socket whose listener has a full queue is tried again, for 127 seconds at most: as long as the kernel
        does it for TCP. Raises ``TypeError`` where host and port were swapped.
        """

    def wait_connected(timeout: float | None = None) -> Any:
        """Return the socket when it is connected, raise why it cannot be. May switch."""

    def ref() -> Any:
        """Let the socket keep the loop alive (the default); return it."""

    def unref() -> Any:
        """Let the loop end although the socket is open; return it."""


class IServer(IEventEmitter):
    """Something that listens and accepts. A context manager: leaving it stops the server at once.

    Events: ``'listening'`` (), ``'connection'`` (socket), ``'close'`` () after the last connection ended, ``'error'``
    (exception), ``'drop'`` (address mapping) for a connection refused by ``max_connections``.
    """

    listening: bool = Attribute('Whether connections are accepted.')
    listening_socket: Any = Attribute('The listening socket, which another server can share; None unless listening.')
    max_connections: int | None = Attribute(
        'Connections open at once; more are closed at once, unless wait_when_full. None: no limit.'
    )
    wait_when_full: bool = Attribute(
        'Connections beyond max_connections stay in the queue of the kernel, where another process that listens on the '
        'same socket finds them; an HTTP server closes idle ones to make room. False.'
    )
    trusted_proxies: tuple[str, ...] = Attribute(
        "Whose word about clients is taken: IP addresses and networks (CIDR) as text or objects of :mod:`!ipaddress`, "
        "and ``'unix'`` for Unix sockets. ()."
    )
    proxy_protocol: bool = Attribute(
        'Every connection must begin with a PROXY header, version 1 or 2, within 60 seconds (of an HTTP server: '
        'headers_timeout), also one with TLS; those that do not come from trusted_proxies are closed. False.'
    )

    def listen(
        port: Any = None, hostname: Any = None, backlog: Any = None, callback: Callable[..., object] | None = None
    ) -> Any:
        """Bind and accept: ``listen(port=0, hostname=None, backlog=511, callback=None)``, ``listen(path)`` for a Unix
        socket, ``listen(handle)`` for a socket, a server, or ``{'fd': n}``, whose descriptor is duplicated. Return the
        server, bound; ``'listening'`` is emitted on the next turn of the loop. Never switches, unless a host name has
        to be resolved.

        A callable among the positional arguments is the callback. A failure is raised, or emitted as ``'error'`` when
        somebody listens for it. A number is a port also as text; a host or an address in place of a path, where the two
        were swapped, is a ``TypeError``, unless it is named, as in ``listen(path='localhost')``.
        """

    def also_listen(handle: Any, backlog: int = 511) -> Any:
        """Accept on a further socket, too, until the server closes: ``handle`` is a socket, a server or ``{'fd': n}``,
        whose descriptor is duplicated. Return the server.

        Raises ``ServerNotRunning`` before :meth:`listen`, ``OSError``, ``TypeError``.
        """

    def address() -> dict[str, Any] | str | None:
        """Return ``{'address', 'family', 'port'}``, or the path of a Unix socket; None unless listening."""

    def close(callback: Callable[..., object] | None = None) -> Any:
        """Accept no more; ``'close'`` follows when the last connection has ended. Return the server.

        ``callback`` is called then, with a ``ServerNotRunning`` when the server was not listening; without a callback
        that is raised.
        """

    def stop(timeout: float | None = None) -> None:
        """Close, wait until every connection has ended, and destroy those that have not after ``timeout`` seconds
        (None: wait as long as it takes). Returns at once when not running. May switch."""

    def serve_forever() -> None:
        """Wait until the server is closed. Raises ``ServerNotRunning`` before :meth:`listen`. May switch."""

    refusals: dict[str, int] = Attribute(
        'How many connections and requests were refused since the server was made, by reason: ``untrusted_peer``, '
        '``proxy_header`` (missing or malformed), ``max_connections``; with TLS ``tls_handshake`` and '
        '``http_on_tls_port``; of an HTTP server ``tls_on_plain_port``, ``malformed``, ``host`` (missing, twice or '
        'malformed), ``head_too_large``, ``body_too_large``, ``http_version``, ``not_implemented`` (a transfer '
        'coding), ``timeout``, and ``incomplete`` (the client ended the connection within a message).'
    )

    def get_connections(callback: Callable[[Any, int], object] | None = None) -> int:
        """Return how many connections are open; hand ``(None, count)`` to ``callback``, if given."""

    def ref() -> Any:
        """Let the server keep the loop alive (the default); return it."""

    def unref() -> Any:
        """Let the loop end although the server listens; return it."""
