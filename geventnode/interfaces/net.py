"""Contracts of sockets and servers (Node's ``net``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Attribute

from geventnode.interfaces.events import IEventEmitter
from geventnode.interfaces.streams import IDuplex

__all__ = ['IServer', 'ISocket']


class ISocket(IDuplex):
    """A stream connection, TCP or Unix; see :class:`geventnode.net.Socket`."""

    connecting: bool = Attribute('Whether the connection is still being made.')
    encrypted: bool = Attribute('Whether this is a TLS connection.')
    handshaking: bool = Attribute('Whether the TLS handshake is still to come, or under way; False without TLS.')
    truncated: bool = Attribute('Whether the data of a TLS peer ended without close_notify; False without TLS.')
    pending: bool = Attribute('Whether there is no connection yet.')
    remote_address: str | None = Attribute(
        "The peer's IP address, or that of the client that a PROXY header names; None for Unix sockets and before "
        'connecting.'
    )
    remote_port: int | None = Attribute("The peer's port.")
    remote_family: str | None = Attribute("'IPv4', 'IPv6' or 'Unix'.")
    proxy_address: str | None = Attribute(
        'The IP address of the proxy that has named the client in a PROXY header; None without one.'
    )
    proxy_header: Any = Attribute('The PROXY header (:class:`geventnode.protocol.ProxyHeader`); None without one.')
    local_address: str | None = Attribute('The local IP address.')
    local_port: int | None = Attribute('The local port.')
    bytes_read: int = Attribute('Bytes received from the kernel.')
    bytes_written: int = Attribute('Bytes given to the socket to send, queued ones included.')
    buffer_size: int = Attribute("The same as writable_length, under the name of Node's net.Socket.")
    timeout: float | None = Attribute('Seconds of inactivity after which ``timeout`` is emitted; None: never.')
    allow_half_open: bool = Attribute('Whether the socket can still be written to after the peer has ended its side.')
    had_error: bool = Attribute('Whether an error ended the connection.')

    def address() -> dict[str, Any] | Any:
        """Return the local address; see :meth:`geventnode.net.Socket.address`."""

    def set_timeout(seconds: float | None, callback: Callable[..., object] | None = None) -> Any:
        """Set the time of inactivity; see :meth:`geventnode.net.Socket.set_timeout`."""

    def set_no_delay(no_delay: bool = True) -> Any:
        """Set TCP_NODELAY; see :meth:`geventnode.net.Socket.set_no_delay`."""

    def set_keep_alive(enable: bool = False, initial_delay: float = 0) -> Any:
        """Set SO_KEEPALIVE; see :meth:`geventnode.net.Socket.set_keep_alive`."""

    def connect(port: Any, host: str | None = None, callback: Callable[..., object] | None = None) -> Any:
        """Begin to connect; see :meth:`geventnode.net.Socket.connect`."""

    def wait_connected(timeout: float | None = None) -> Any:
        """Block until connected, and return the socket; see :meth:`geventnode.net.Socket.wait_connected`."""

    def ref() -> Any:
        """Let the socket keep the loop alive; see :meth:`geventnode.net.Socket.ref`."""

    def unref() -> Any:
        """Let the loop end although the socket is open; see :meth:`geventnode.net.Socket.unref`."""


class IServer(IEventEmitter):
    """A server that listens and accepts connections; see :class:`geventnode.net.Server`."""

    listening: bool = Attribute('Whether the server accepts connections.')
    listening_socket: Any = Attribute('The listening socket, which another server can share; None unless listening.')
    max_connections: int | None = Attribute(
        'Connections open at the same time; further ones are closed, or wait (wait_when_full). None: no limit.'
    )
    wait_when_full: bool = Attribute(
        'Whether connections beyond max_connections wait in the queue of the kernel instead of being closed. False.'
    )
    trusted_proxies: tuple[str, ...] = Attribute('The proxies that the server believes about their clients. ().')
    proxy_protocol: bool = Attribute(
        'Whether every connection must begin with a PROXY header of one of the trusted_proxies. False.'
    )
    refusals: dict[str, int] = Attribute('The numbers of refused connections and requests, by reason.')

    def listen(
        port: Any = None, hostname: Any = None, backlog: Any = None, callback: Callable[..., object] | None = None
    ) -> Any:
        """Listen, and return the server; see :meth:`geventnode.net.Server.listen`."""

    def also_listen(handle: Any, backlog: int = 511) -> Any:
        """Accept on a further socket, and return the server; see :meth:`geventnode.net.Server.also_listen`."""

    def address() -> dict[str, Any] | Any:
        """Return the listening address; see :meth:`geventnode.net.Server.address`."""

    def close(callback: Callable[..., object] | None = None) -> Any:
        """Stop accepting, and return the server; see :meth:`geventnode.net.Server.close`."""

    def stop(timeout: float | None = None) -> None:
        """Close, and block until every connection has ended; see :meth:`geventnode.net.Server.stop`."""

    def serve_forever() -> None:
        """Block until the server is closed; see :meth:`geventnode.net.Server.serve_forever`."""

    def get_connections(callback: Callable[[Any, int], object] | None = None) -> int:
        """Return the number of open connections; see :meth:`geventnode.net.Server.get_connections`."""

    def ref() -> Any:
        """Let the server keep the loop alive; see :meth:`geventnode.net.Server.ref`."""

    def unref() -> Any:
        """Let the loop end although the server listens; see :meth:`geventnode.net.Server.unref`."""
