"""TLS servers: complete the handshake of each accepted connection before the server handles it.

A handshake runs in the hub and has a deadline. One that stalls, or has a failing SNI callback, affects no other
connection. The context is chosen by the name in the ClientHello, before OpenSSL sees it. Therefore all of its settings
apply to that name, also client certificates, versions and session keys.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import gevent
from zope.interface import implementer

from geventnode.errors import InvalidInput, TLSError
from geventnode.interfaces import ITLSServer
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.hostnames import ascii_name, without_root
from geventnode.net.server import DRAIN_TIME
from geventnode.net.server import Server as NetServer
from geventnode.net.socket import Socket
from geventnode.options import Option, check_names, seconds
from geventnode.tls.context_source import ContextSource, is_context, take_sni_callback
from geventnode.tls.contexts import SERVER_OPTIONS, check_server_context, server_settings, server_source
from geventnode.tls.failures import PLAIN_HTTP
from geventnode.tls.socket import TLSSocket

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    'ContextOptions',
    'PendingConnection',
    'Server',
    'ServerOptions',
    'TLSServerMixin',
    'create_server',
    'normalize_hostname',
]

log = logging.getLogger('geventnode.error')

SNICallback = Callable[[str], 'ssl.SSLContext | None']


class ContextOptions(TypedDict, total=False):
    """The options of a server's context."""

    alpn_protocols: Any
    ca: Any
    certfile: Any
    ciphers: str | None
    keyfile: Any
    minimum_version: Any
    password: Any
    reject_unauthorized: bool
    request_cert: bool


class ServerOptions(ContextOptions, total=False):
    """The options of :func:`create_server`."""

    allow_half_open: bool
    context: ssl.SSLContext | None
    handshake_timeout: float
    max_connections: int | None
    proxy_protocol: bool
    sni_callback: SNICallback | None
    sni_contexts: Mapping[str, Any] | None
    trusted_proxies: Any
    wait_when_full: bool


def normalize_hostname(hostname: str) -> str:
    """Return ``hostname`` in the form in which names are compared: ASCII, lower case, without the root's dot."""
    parent = hostname.removeprefix('*.')
    return hostname[: -len(parent)] + without_root(ascii_name(parent).lower())


class PendingConnection:
    """Represent a pending connection to an ``sni_callback``.

    :ivar context: the context to begin with; the callback can set another one.
    """

    server_side = True
    server_hostname = None

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context


class _Handshake:
    """The deadline of a handshake."""

    __slots__ = ('_expires', 'limit', 'socket')

    def __init__(self, socket: TLSSocket, limit: float) -> None:
        self.socket = socket
        self.limit = limit
        self._expires = monotonic() + limit if limit else NEVER

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`."""
        if deadlines(self.socket._hub).grants_grace(self.socket, now):
            return
        self.socket.destroy(
            TLSError(
                f'no complete TLS handshake within handshake_timeout ({self.limit:g} seconds)',
                'ERR_TLS_HANDSHAKE_TIMEOUT',
            )
        )


@implementer(ITLSServer)
class TLSServerMixin(NetServer):
    """Make a server speak TLS: a base of :class:`Server`, or of a class before another kind of server."""

    events: ClassVar[frozenset[str]] = NetServer.events | {'secureConnection', 'tlsClientError'}

    handshake_timeout = Option(seconds, 60.0, 'Seconds for the TLS handshake, from accepting; 0: no limit. 60.')

    def _take_tls_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Remove the TLS options from ``options``, apply them, and return the others."""
        check_names(self, options, (*SERVER_OPTIONS, 'sni_contexts', 'sni_callback', 'allow_half_open'))
        sni_contexts = options.pop('sni_contexts', None)
        self._sni_callback: SNICallback | None = options.pop('sni_callback', None)
        if self._sni_callback is not None and not callable(self._sni_callback):
            raise TypeError(f'sni_callback must be callable, not {type(self._sni_callback).__name__}')
        own = {name: options.pop(name) for name in tuple(options) if name in SERVER_OPTIONS}
        self._source = server_source(server_settings(own))
        self._sni_sources: dict[str, ContextSource] = {}
        self._handshakes: dict[Socket, _Handshake] = {}
        if self._sni_callback is not None:
            self._enforce_names()
        for hostname, context in (sni_contexts or {}).items():
            self._add_context(hostname, {'context': context} if is_context(context) else context)
        return options

    # -- names --------------------------------------------------------------------------------------------------------

    def add_context(self, hostname: str, context: Any = None, **options: Any) -> None:
        """Use another context for clients that request ``hostname``.

        :param hostname: a host name, or ``'*.example.org'`` for the names one level below.
        :param context: an ``ssl.SSLContext``; or pass the options of one, ``certfile`` and the others of
            :func:`create_server` up to ``reject_unauthorized``. All of them apply to these clients.

        Raises ``InvalidInput`` for anything else than a host name, and as the constructor does.
        """
        self._check_thread()
        self._add_context(hostname, options if context is None else {**options, 'context': context})

    def _add_context(self, hostname: str, options: Mapping[str, Any]) -> None:
        if not isinstance(hostname, str) or not hostname.strip('*.') or '*' in hostname.removeprefix('*.'):
            raise InvalidInput(f"hostname must be a host name, or '*.' and the rest of one, not {hostname!r}")
        source = self._sni_sources[normalize_hostname(hostname)] = server_source(server_settings(dict(options)))
        if not source.context.verify_mode is self._source.context.verify_mode is ssl.CERT_NONE:
            self._enforce_names()

    def _use_source(self, source: ContextSource) -> None:
        """Take the server's own context from ``source`` from now on; for integrations."""
        self._source = source

    def _enforce_names(self) -> None:
        """Note that the requested name decides whether clients must show a certificate.

        Overridden by servers of protocols with a name in each request.
        """

    def _choose_context(self, servername: str | None) -> ssl.SSLContext | int:
        """Return the context for ``servername``, or the alert to send.

        Runs in the hub.
        """
        try:
            found = self._find_context(servername)
            context = found.current() if isinstance(found, ContextSource) else found
            callback = take_sni_callback(context)
            if callback is None:
                return context
            self._enforce_names()
            connection = PendingConnection(context)
            alert = callback(connection, servername, context)
            if alert is not None:
                return int(alert)
            check_server_context('the context that sni_callback has set', connection.context)
            # OpenSSL does not call the callback of that context, either
            take_sni_callback(connection.context)
            return connection.context
        except BaseException as error:
            # any failure ends this connection only
            log.error('sni_callback failed for %r', servername, exc_info=error)
            return int(ssl.ALERT_DESCRIPTION_INTERNAL_ERROR)

    def _find_context(self, servername: str | None) -> ContextSource | ssl.SSLContext:
        """Return the context for clients that request ``servername``. Raises as ``sni_callback`` does."""
        if servername is None:
            return self._source
        name = normalize_hostname(servername)
        found = self._sni_sources.get(name) or self._sni_sources.get(f'*.{name.partition(".")[2]}')
        if found is not None:
            return found
        chosen = None if self._sni_callback is None else self._sni_callback(name)
        if chosen is None:
            return self._source
        if not is_context(chosen):
            raise TypeError(f'sni_callback must return an ssl.SSLContext or None, not {type(chosen).__name__}')
        check_server_context('the result of sni_callback', chosen)
        return chosen

    # -- connections: run by the hub ----------------------------------------------------------------------------------

    def _new_socket(self) -> Socket:
        return TLSSocket(
            self._source.context,
            server_side=True,
            handshake_on_connect=False,
            allow_half_open=self._allow_half_open,
            choose_context=self._choose_context,
        )

    def _on_connection(self, socket: Socket) -> None:
        assert isinstance(socket, TLSSocket)
        handshake = self._handshakes[socket] = _Handshake(socket, self.handshake_timeout)
        deadlines(self._hub).watch(handshake)
        socket._on_handshake = self._on_handshake
        # the bytes after a PROXY header
        socket._start_handshake(socket._take_input())

    def _on_handshake(self, socket: TLSSocket, error: BaseException | None) -> None:
        socket._on_handshake = None
        deadlines(self._hub).forget(self._handshakes.pop(socket))
        if error is None:
            if self.listener_count('secureConnection'):
                gevent.spawn(self.emit, 'secureConnection', socket)
            super()._on_connection(socket)
            return
        if not socket._peer_silent:
            # a client that connects without sending a byte checks whether the port is open
            reason = 'http_on_tls_port' if getattr(error, 'code', None) == PLAIN_HTTP else 'tls_handshake'
            self._peer_log.log_refusal(reason, '%s: %s', socket.remote_address or 'a Unix socket', error)
        if self.listener_count('tlsClientError'):
            gevent.spawn(self.emit, 'tlsClientError', error, socket)

    def _after_fork_in_child(self) -> None:
        for handshake in self._handshakes.values():
            deadlines(self._hub).forget(handshake)
        self._handshakes.clear()
        super()._after_fork_in_child()

    def _drain(self) -> None:
        super()._drain()
        for handshake in self._handshakes.values():
            handshake._expires = min(handshake._expires, monotonic() + DRAIN_TIME)


class Server(TLSServerMixin):
    """A server for TLS connections, as Node's ``tls.Server``.

    :func:`create_server` makes one.

    A connection is emitted when its handshake is over; one that stalls or fails in it affects no other connection.

    Events, beside those of :class:`geventnode.net.Server`: ``'secureConnection'`` (socket) together with
    ``'connection'``, and ``'tlsClientError'`` (exception, socket) for a handshake that failed.

    :param listener: a listener for ``'connection'``.
    :param options: those of :func:`create_server`.
    """

    def __init__(self, listener: Callable[[Socket], object] | None = None, **options: Any) -> None:
        super().__init__(listener, **self._take_tls_options(options))


def create_server(listener: Callable[[Socket], object] | None = None, **options: Unpack[ServerOptions]) -> Server:
    """Return a new :class:`Server`.

    :param listener: a listener for ``'connection'``, called with each new socket when its handshake is over.
    :param certfile: the path of the certificate with its chain (PEM).
    :param keyfile: the path of its key, if that is another file.
    :param password: the password of the key, if it is encrypted.
    :param ca: authorities of client certificates: paths or PEM text, one or several. Those of the system.
    :param ciphers: OpenSSL's list of cipher suites for TLS 1.2.
    :param minimum_version: ``'TLSv1.2'`` or ``'TLSv1.3'``. TLS 1.2.
    :param alpn_protocols: names of protocols, the preferred first (RFC 7301). ``['http/1.1']``.
    :param request_cert: whether clients are asked for a certificate. False.
    :param reject_unauthorized: whether clients without one are then refused. An invalid certificate is always refused.
        True.
    :param context: an ``ssl.SSLContext`` instead of all these.
    :param sni_contexts: other contexts, or mappings of the options above, by host name.
    :param sni_callback: a function that returns an ``ssl.SSLContext`` for the requested name, or None for the default.
        It is called for names without a context. It runs in the hub and must not block.
    :param handshake_timeout: seconds for a handshake; 0: no limit. 60.
    :param allow_half_open: as of :func:`geventnode.net.create_server`, and so are the other options.

    Raises ``InvalidInput``, ``TypeError`` and ``UnknownOption``.
    """
    return Server(listener, **options)
