"""The PROXY protocol: connections of a proxy begin with a header that names its client.

The server never guesses from the bytes whether there is a header, because a client could then pretend to be another. A
server that expects headers accepts no connection without one. Until the header is complete, :class:`ProxyHeaderReader`
receives the input. HTTP or TLS then gets the socket as if the client had connected directly.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from geventnode.errors import ParseError, RequestTimeout
from geventnode.net.address import unix_family
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.protocol import TrustedProxies, parse_proxy_header

if TYPE_CHECKING:
    from geventnode.net.socket import Socket

__all__ = ['HEADER_TIME', 'ProxyHeaderReader', 'ProxyPolicy', 'parse_proxies']

#: Seconds for a header, unless a setting specifies others.
HEADER_TIME = 60.0


def parse_proxies(name: str, value: Any) -> tuple[str, ...]:
    """Return ``value`` as addresses and networks of proxies. Raises ``TypeError`` and ``InvalidInput``."""
    return TrustedProxies(value, name).items


class ProxyPolicy:
    """Decide which peers can send a PROXY header, and in which time.

    :param trusted: the proxies.
    :param seconds: the time limit for a complete header; 0: no limit.
    :param setting: the name of the setting with the limit, for errors.
    """

    def __init__(self, trusted: TrustedProxies, seconds: float = HEADER_TIME, setting: str = 'the time limit') -> None:
        self._trusted = trusted
        self.seconds = seconds
        self.setting = setting

    def __bool__(self) -> bool:
        """Return whether there are any proxies."""
        return bool(self._trusted)

    def admits(self, family: int, peer: Any) -> bool:
        """Return whether a peer is one of the proxies.

        :param peer: its address.
        """
        return self._trusted.trusts(None if family == unix_family else peer[0])


class ProxyHeaderReader:
    """Receive the input of a new connection until its header is complete.

    See :class:`geventnode.net.socket.Protocol`.

    :param hub: the hub of ``socket``.
    :param accepted: called with the socket, which knows its client then.
    :param failed: called with the socket and the error; it destroys the socket.
    """

    __slots__ = ('_data', '_deadlines', '_expires', '_on_error', '_on_header', '_policy', '_socket')

    def __init__(
        self,
        policy: ProxyPolicy,
        hub: Any,
        socket: Socket,
        on_header: Callable[[Socket], object],
        on_error: Callable[[Socket, Exception], object],
    ) -> None:
        self._policy = policy
        self._socket = socket
        self._on_header = on_header
        self._on_error = on_error
        self._data = b''
        self._deadlines = deadlines(hub)
        #: See :class:`geventnode.net.deadlines.HasDeadline`.
        self._expires = monotonic() + (policy.seconds or NEVER)
        self._deadlines.watch(self)
        socket._set_protocol(self)

    # -- run by the hub -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            found = parse_proxy_header(self._data)
        except ParseError as error:
            self._on_error(self._socket, error)
            return
        if found is None:
            return
        header, size = found
        self._deadlines.forget(self)
        socket = self._socket
        socket._set_protocol(None)
        socket._set_client(header)
        socket._restore_input(self._data[size:])
        self._on_header(socket)

    def eof_received(self) -> None:
        if self._data:
            self._on_error(
                self._socket,
                ParseError('the connection ended within a PROXY header', code='PROXY_HEADER_INVALID', data=self._data),
            )
        else:
            # a health check, which only connects
            self._socket.destroy()

    def _on_deadline(self, now: float) -> None:
        if self._deadlines.grants_grace(self._socket, now):
            return
        policy = self._policy
        self._on_error(
            self._socket, RequestTimeout(f'no complete PROXY header within {policy.setting} ({policy.seconds} seconds)')
        )

    def shorten_deadline(self, expires: float) -> None:
        """Wait no longer than until ``_expires`` (monotonic)."""
        self._expires = min(self._expires, expires)

    def connection_lost(self, error: BaseException | None) -> None:
        self._deadlines.forget(self)

    def send_failed(self, error: BaseException) -> bool:
        return False

    def queue_drained(self) -> None:
        """Nothing is sent."""
