"""Servers whose connections speak TLS: the handshake comes between accepting and everything that a server does then.

It runs in the hub, with a deadline, on its own connection only: one that stalls in it, or whose SNI callback raises,
does not affect others. The context is chosen by the name in the ClientHello, before OpenSSL sees it: so everything
that a context decides holds for its name, client certificates, versions and session keys among it.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, ClassVar

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
from geventnode.tls.context_source import ContextSource, is_context, own_callback
from geventnode.tls.contexts import SERVER_OPTIONS, check_server_context, server_settings, server_source
from geventnode.tls.failures import PLAIN_HTTP
from geventnode.tls.socket import TLSSocket

__all__ = ['PendingConnection', 'Server', 'TLSServerMixin', 'create_server', 'normalized']

log = logging.getLogger('geventnode.error')

SNICallback = Callable[[str], 'ssl.SSLContext | None']


def normalized(hostname: str) -> str:
    """Return ``hostname`` as names are compared: in ASCII and lower case, without the dot of the root."""
    parent = hostname.removeprefix('*.')
    return hostname[: -len(parent)] + without_root(ascii_name(parent).lower())


class PendingConnection:
    """A stand-in for a connection, which has not begun, for the ``sni_callback`` of an ``ssl.SSLContext``.

    :ivar context: the context to begin with; the callback may set another one.
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
    """What makes a server speak TLS; also in front of another kind of server among the bases of a class."""

    events: ClassVar[frozenset[str]] = NetServer.events | {'secureConnection', 'tlsClientError'}

    handshake_timeout = Option(seconds, 60.0, 'Seconds for the TLS handshake, from accepting; 0: no limit.')

    def _set_up_tls(self, options: dict[str, Any]) -> dict[str, Any]:
        """Take what concerns TLS out of ``options``, and return the others."""
        check_names(self, options, (*SERVER_OPTIONS, 'sni_contexts', 'sni_callback', 'allow_half_open'))
        sni_contexts = options.pop('sni_contexts', None)
        self._sni_callback: SNICallback | None = options.pop('sni_callback', None)
        if self._sni_callback is not None and not callable(self._sni_callback):
            raise TypeError(f'sni_callback must be callable, not {type(self._sni_callback).__name__}')
        mine = {name: options.pop(name) for name in tuple(options) if name in SERVER_OPTIONS}
        self._source = server_source(server_settings(mine))
        self._sni_sources: dict[str, ContextSource] = {}
        self._handshakes: dict[Socket, _Handshake] = {}
        if self._sni_callback is not None:
            self._names_decide()
        for hostname, context in (sni_contexts or {}).items():
            self._add_context(hostname, {'context': context} if is_context(context) else context)
        return options

    # -- names --------------------------------------------------------------------------------------------------------

    def add_context(self, hostname: str, context: Any = None, **options: Any) -> None:
        self._check_thread()
        self._add_context(hostname, options if context is None else {**options, 'context': context})

    def _add_context(self, hostname: str, options: Mapping[str, Any]) -> None:
        if not isinstance(hostname, str) or not hostname.strip('*.') or '*' in hostname.removeprefix('*.'):
            raise InvalidInput(f"hostname must be a host name, or '*.' and the rest of one, not {hostname!r}")
        source = self._sni_sources[normalized(hostname)] = server_source(server_settings(dict(options)))
        if not source.context.verify_mode is self._source.context.verify_mode is ssl.CERT_NONE:
            self._names_decide()

    def _use_source(self, source: ContextSource) -> None:
        """Take the server's own context from ``source`` from now on. For integrations."""
        self._source = source

    def _names_decide(self) -> None:
        """Whether clients must show a certificate depends on the name that they ask for. Overridden where the name is
        given a second time, in each request."""

    def _choose_context(self, servername: str | None) -> ssl.SSLContext | int:
        """Return the context for a client that asks for ``servername``, or the alert to send. Runs in the hub."""
        try:
            found = self._find(servername)
            context = found.current() if isinstance(found, ContextSource) else found
            callback = own_callback(context)
            if callback is None:
                return context
            self._names_decide()
            connection = PendingConnection(context)
            alert = callback(connection, servername, context)
            if alert is not None:
                return int(alert)
            check_server_context('the context that sni_callback has set', connection.context)
            # OpenSSL does not call the callback of such a one, either
            own_callback(connection.context)
            return connection.context
        except BaseException as error:
            # whatever it is, it costs this connection only
            log.error('sni_callback failed for %r', servername, exc_info=error)
            return int(ssl.ALERT_DESCRIPTION_INTERNAL_ERROR)

    def _find(self, servername: str | None) -> ContextSource | ssl.SSLContext:
        """Return the context for clients that ask for ``servername``. Raises as ``sni_callback`` does."""
        if servername is None:
            return self._source
        name = normalized(servername)
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
            at_once=False,
            allow_half_open=self._allow_half_open,
            choose=self._choose_context,
        )

    def _on_connection(self, socket: Socket) -> None:
        assert isinstance(socket, TLSSocket)
        handshake = self._handshakes[socket] = _Handshake(socket, self.handshake_timeout)
        deadlines(self._hub).watch(handshake)
        socket._on_handshake = self._on_handshake
        # what a PROXY header came with
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
            # a connection without a byte is a look whether the port is open
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
    """See :class:`geventnode.interfaces.ITLSServer`."""

    def __init__(self, listener: Callable[[Socket], object] | None = None, **options: Any) -> None:
        super().__init__(listener, **self._set_up_tls(options))


def create_server(listener: Callable[[Socket], object] | None = None, **options: Any) -> Server:
    """Return a :class:`Server`; ``listener`` hears of ``'connection'``, when the handshake is over.

    :param certfile: path of the certificate with its chain, PEM.
    :param keyfile: path of its key, if that is another file.
    :param password: what the key is encrypted with.
    :param ca: authorities of client certificates: paths or PEM text, one or several.
    :param ciphers: OpenSSL's list of cipher suites for TLS 1.2.
    :param minimum_version: ``'TLSv1.2'`` or ``'TLSv1.3'``. TLS 1.2.
    :param alpn_protocols: names of protocols, the preferred first (RFC 7301). ``['http/1.1']``.
    :param request_cert: whether clients are asked for a certificate. False.
    :param reject_unauthorized: whether those without one are refused then; one that is not valid always is. True.
    :param context: an ``ssl.SSLContext`` in place of all these.
    :param sni_contexts: other contexts, or mappings of the options above, by host name.
    :param sni_callback: called with the name that a client asks for when no context is known by it; returns an
        ``ssl.SSLContext``, or None for the default. Runs in the hub: must not wait.
    :param handshake_timeout: seconds for a handshake. 60.
    :param allow_half_open: whether accepted sockets stay open for writing when the peer ends its side. False.
    :param max_connections: connections open at once; None: no limit.

    Raises ``InvalidInput``, ``TypeError``, ``UnknownOption``.
    """
    return Server(listener, **options)
