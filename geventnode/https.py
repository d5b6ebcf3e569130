"""HTTPS: the server, the client and the agent of :mod:`geventnode.http`, over TLS.

``https.global_agent`` is the agent of requests without one; each hub has its own. If the program patches the standard
library, it must do so before it imports this module, as before any import of ``ssl``.
"""

from __future__ import annotations

import contextlib
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import SplitResult

from geventnode import http
from geventnode.errors import ConnectionClosed
from geventnode.http.client.agent import AgentOptions
from geventnode.http.client.agent import global_agent as _global_agent
from geventnode.http.client.api import NO_OPTIONS, OPTIONS, RequestOptions, Scheme, make_request
from geventnode.http.client.origin import Origin, URLs, origin_from_options, parse_url
from geventnode.http.client.proxy import ProxyEnvironment, check_proxy_env
from geventnode.http.server.error_response import error_response
from geventnode.http.server.server import RequestListener
from geventnode.http.server.server import ServerOptions as HTTPServerOptions
from geventnode.net.socket import Socket
from geventnode.options import Option
from geventnode.tls.client import TLSOptions, TLSSettings, parse_tls_options
from geventnode.tls.contexts import CLIENT_OPTIONS
from geventnode.tls.identity import is_address
from geventnode.tls.server import ContextOptions, TLSServerMixin, normalize_hostname
from geventnode.tls.socket import TLSSocket

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from geventnode.http.client.connection import Connection
    from geventnode.http.incoming import IncomingMessage
    from geventnode.http.server.connection import Connection as ServerConnection
    from geventnode.http.server.response import ServerResponse
    from geventnode.protocol import RequestHead
    from geventnode.tls.server import SNICallback

__all__ = ['Agent', 'Server', 'create_server', 'get', 'request']

DEFAULT_PORT = 443

#: The protocols of a server with HTTP/2, the preferred one first (RFC 7301).
HTTP2_ALPN = ('h2', 'http/1.1')

#: Origins for which an agent keeps a TLS session.
MAX_SESSIONS = 100


class Server(TLSServerMixin, http.Server):
    """An HTTP/1.1 server over TLS.

    It has the events, options and methods of :class:`geventnode.http.Server` and of :class:`geventnode.tls.Server`.

    :param listener: a listener for ``'request'``.
    :param options: those of :class:`geventnode.http.Server`, and the TLS options of
        :func:`geventnode.tls.create_server`.
    """

    events: ClassVar[frozenset[str]] = http.Server.events | TLSServerMixin.events

    #: Whether the Host of a request must match the server name of the handshake.
    _checks_names: bool = False
    #: The protocols of contexts that do not name any; None: those of every TLS server.
    _alpn_protocols: tuple[str, ...] | None = None

    def __init__(self, listener: RequestListener | None = None, **options: Any) -> None:
        if options.get('http2'):
            self._alpn_protocols = HTTP2_ALPN
            if options.get('context') is None:
                # a context has its own protocols
                options.setdefault('alpn_protocols', HTTP2_ALPN)
        super().__init__(listener, **self._take_tls_options(options))

    def _add_context(self, hostname: str, options: Mapping[str, Any]) -> None:
        if self._alpn_protocols is not None and 'context' not in options:
            options = {'alpn_protocols': self._alpn_protocols, **options}
        super()._add_context(hostname, options)

    def _enforce_names(self) -> None:
        self._checks_names = self._all_special = True

    def _on_option_changed(self) -> None:
        """See :class:`geventnode.options.Configurable`."""
        super()._on_option_changed()
        self._all_special = self._all_special or self._checks_names

    def _dispatch_special(
        self, connection: ServerConnection, head: RequestHead, request: IncomingMessage, response: ServerResponse
    ) -> None:
        """Respond 421 to a misdirected request (RFC 9110, section 15.5.20).

        The host of such a request requires a client certificate, for which the handshake did not ask. Blocks until the
        listeners of any other request have returned.
        """
        if self._checks_names and self._is_misdirected(head, connection.socket):
            response.should_keep_alive = False
            response.write_head(421)
            response.end()
        else:
            super()._dispatch_special(connection, head, request, response)

    def _is_misdirected(self, head: RequestHead, socket: Any) -> bool:
        """Return whether the host of a request requires a client certificate.

        That is decided by a TLS context that verifies clients, and is not the one of ``socket``.
        """
        own = None if socket.servername is None else normalize_hostname(socket.servername)
        for asked in (head.requested_host, head.fields.get('host')):
            host = normalize_hostname(_name_in(asked or ''))
            # a handshake has no server name for an address (RFC 6066, section 3)
            name = None if is_address(host) else host
            # even if a callback returns another context for the same name now
            if name in ('', own):
                continue
            wanted = self._choose_context(name)
            if isinstance(wanted, int):
                return True
            if wanted.verify_mode is not ssl.CERT_NONE and wanted is not self._choose_context(socket.servername):
                return True
        return False

    def _new_socket(self) -> Socket:
        socket = super()._new_socket()
        assert isinstance(socket, TLSSocket)
        socket._on_plain_http = self._reject_plain_http
        return socket

    def _reject_plain_http(self, socket: TLSSocket) -> None:
        """Respond 400 to HTTP without TLS, without TLS, and close. Run by the hub."""
        plain = Socket(allow_half_open=True)
        plain._attach(*socket._detach_plain())
        self._sockets.add(plain)
        plain._owner = self
        connection = self._connection_class(self, plain)
        with contextlib.suppress(ConnectionClosed):
            plain._send(error_response(400, detail='Plain HTTP was sent to a port that speaks TLS: use https.'))
        connection.close()


class _AgentOptions(AgentOptions, TLSOptions, total=False):
    """The options of :class:`Agent`."""


class _RequestOptions(RequestOptions, TLSOptions, total=False):
    """The options of :func:`request`."""


class Agent(http.Agent):
    """A pool of TLS connections; see :class:`geventnode.http.Agent`.

    :param options: those of :class:`geventnode.http.Agent`, and the TLS options of :func:`geventnode.tls.connect`,
        which are the defaults for requests: ``ca``, ``certfile``, ``keyfile``, ``password``, ``reject_unauthorized``,
        ``ciphers``, ``minimum_version``, ``alpn_protocols``, ``context`` and ``servername``.
    """

    protocol: ClassVar[str] = 'https:'
    _hub_attribute: ClassVar[str] = '_geventnode_global_https_agent'

    proxy_env: Option[bool | Mapping[str, str] | ProxyEnvironment | None] = Option(
        partial(check_proxy_env, 'https:'), None, 'The environment that names the proxy.'
    )

    def __init__(self, **options: Unpack[_AgentOptions]) -> None:
        given: dict[str, Any] = {**options}
        self._tls = {name: given.pop(name) for name in options if name in CLIENT_OPTIONS}
        self._default_tls_settings = parse_tls_options(self._tls)
        #: For each origin, the session to resume, and the certificates of the connection that it was unverified on.
        self._sessions: OrderedDict[str, tuple[Any, list[bytes] | None]] = OrderedDict()
        super().__init__(**given)

    def _tls_settings(self, options: Mapping[str, Any]) -> TLSSettings:
        """Return the TLS settings for a request with ``options``."""
        own = {name: options[name] for name in CLIENT_OPTIONS & options.keys()}
        if not own:
            return self._default_tls_settings
        # a context of the caller replaces every setting of the agent
        return parse_tls_options(own if 'context' in own else {**self._tls, **own})

    def _origin_of(self, url_or_options: str | Mapping[str, Any]) -> Origin:
        if isinstance(url_or_options, str):
            url = parse_url(url_or_options, 'https', DEFAULT_PORT)
            url_or_options = {'host': url.host, 'port': url.port}
        return origin_from_options(url_or_options, DEFAULT_PORT, self._tls_settings(url_or_options))

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), **self._tls}

    def create_connection(self, options: Mapping[str, Any]) -> TLSSocket:
        settings = options.get('tls_settings') or self._tls_settings(options)
        name = options.get('name') or self.get_name(options)
        session, chain = self._sessions.get(name, (None, None))
        socket: TLSSocket = settings.make_socket(options.get('host') or 'localhost', session, known_chain=chain)
        self._watch_session(socket, name, session)
        self._set_keep_alive_probes(socket)
        path = options.get('socket_path')
        if path is not None:
            socket.connect(path)
        else:
            socket.connect(
                options['port'],
                options['host'],
                local_address=options.get('local_address'),
                family=options.get('family') or 0,
                local_port=options.get('local_port'),
                lookup=options.get('lookup'),
            )
        return socket

    #: Never blocks.
    _nonblocking_factories: ClassVar[tuple[Any, ...]] = (create_connection,)

    def _start_tls(self, socket: Socket, origin: Origin) -> TLSSocket:
        assert origin.tls_settings is not None
        session, chain = self._sessions.get(origin.name, (None, None))
        made = origin.tls_settings.wrap(socket, origin.host, session=session, known_chain=chain)
        self._watch_session(made, origin.name, session)
        return made

    def _watch_session(self, socket: TLSSocket, name: str, session: Any) -> None:
        if session is not None:
            socket._on_handshake = partial(self._on_handshake, name)

    def _on_handshake(self, name: str, socket: TLSSocket, error: BaseException | None) -> None:
        """Forget a session that the server has not resumed."""
        if error is not None or not socket.session_reused:
            self._sessions.pop(name, None)

    def _put_idle(self, connection: Connection) -> None:
        name = connection.bucket.name
        # Only once for each connection, because ``ssl`` does not free the session that it returns; and not earlier,
        # because a server sends its tickets after the handshake (RFC 8446, section 4.6.1).
        if connection.exchange_number == 1 and name not in self._sessions:
            session = getattr(connection.socket, 'session', None)
            if session is not None:
                self._sessions[name] = session, getattr(connection.socket, '_unverified_chain', None)
                if len(self._sessions) > MAX_SESSIONS:
                    self._sessions.popitem(last=False)
        super()._put_idle(connection)

    def _after_fork_in_child(self) -> None:
        self._sessions.clear()
        super()._after_fork_in_child()


def _name_in(asked: str) -> str:
    """Return the host in a Host field, without its port."""
    return asked.partition(']')[0][1:] if asked.startswith('[') else asked.partition(':')[0]


class _ServerOptions(HTTPServerOptions, ContextOptions, total=False):
    """The options of :func:`create_server`."""

    context: ssl.SSLContext | None
    handshake_timeout: float
    sni_callback: SNICallback | None
    sni_contexts: Mapping[str, Any] | None


def create_server(listener: RequestListener | None = None, **options: Unpack[_ServerOptions]) -> Server:
    """Return a new :class:`Server`.

    :param listener: a listener for ``'request'``, a function of the request and the response.
    :param options: those of :func:`geventnode.http.create_server`, and the TLS options of
        :func:`geventnode.tls.create_server`.
    :raises UnknownOption: an option does not exist; the error names the nearest one.
    :raises TypeError: an option or the listener has the wrong type.
    :raises InvalidInput: an option has a value that is not allowed, or a certificate file cannot be used.
    """
    return Server(listener, **options)


def request(
    url_or_options: str | SplitResult | Mapping[str, Any] = NO_OPTIONS,
    callback: Callable[..., object] | None = None,
    **options: Unpack[_RequestOptions],
) -> http.ClientRequest:
    """Return a request over TLS, to port 443 unless another is given.

    If the certificate of the server is not valid for the host, the error of the request is ``CertificateError``.

    :param url_or_options: as for :func:`geventnode.http.request`, with the scheme ``https``.
    :param callback: a one-time ``'response'`` listener.
    :param options: those of :func:`geventnode.http.request`, and the TLS options of :func:`geventnode.tls.connect`.
    :param servername: the name to send (SNI) and to find in the certificate; the host by default.
    :raises InvalidInput: a value cannot be sent, or a certificate file cannot be used.
    :raises UnknownOption: an option does not exist; the error names the nearest one.
    :raises QueueFull: a ``body`` was given, and ``max_queued`` requests wait for the server already.
    """
    return make_request(HTTPS, url_or_options, callback, options)


def get(
    url_or_options: str | SplitResult | Mapping[str, Any] = NO_OPTIONS,
    callback: Callable[..., object] | None = None,
    **options: Unpack[_RequestOptions],
) -> http.ClientRequest:
    """Return a request over TLS that was ended: a GET, unless ``method`` is given.

    The parameters and errors are those of :func:`request`.
    """
    made = make_request(HTTPS, url_or_options, callback, options)
    if 'body' not in options or options['body'] is None:
        made.end()
    return made


HTTPS = Scheme(
    'https',
    DEFAULT_PORT,
    OPTIONS | CLIENT_OPTIONS,
    Agent,
    partial(_global_agent, Agent),
    URLs('https', DEFAULT_PORT),
    lambda options, agent: agent._tls_settings(options) if isinstance(agent, Agent) else parse_tls_options({}),
)


def __getattr__(name: str) -> Any:
    if name == 'global_agent':
        return _global_agent(Agent)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
