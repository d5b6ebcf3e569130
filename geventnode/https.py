"""HTTPS: the server, the client and its agent of :mod:`geventnode.http` with TLS in between.

``https.global_agent`` is the agent of requests that name none, one for each hub. Import this after the standard
library was patched, if it is to be: like everything that imports ``ssl``.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from geventnode import http
from geventnode.http.agent import global_agent as _global_agent
from geventnode.http.client import NO_OPTIONS, OPTIONS, Scheme, make_request
from geventnode.http.server import RequestListener
from geventnode.http.target import destination_of
from geventnode.tls.client import Peer, peer_of
from geventnode.tls.contexts import CLIENT_OPTIONS
from geventnode.tls.server import TLSAcceptor

if TYPE_CHECKING:
    from geventnode.http.client_connection import ClientConnection
    from geventnode.tls.socket import TLSSocket

__all__ = ['Agent', 'Server', 'create_server', 'get', 'request']

DEFAULT_PORT = 443

#: Destinations whose TLS sessions an agent remembers.
MAX_SESSIONS = 100


class Server(TLSAcceptor, http.Server):
    """An HTTP server whose connections speak TLS: see :class:`geventnode.interfaces.IHTTPServer` and
    :class:`geventnode.interfaces.ITLSServer`.

    :param listener: a listener for ``'request'``.
    :param options: those of ``http.Server``, and those of TLS that :func:`geventnode.tls.create_server` names.
    """

    events: ClassVar[frozenset[str]] = http.Server.events | TLSAcceptor.events

    def __init__(self, listener: RequestListener | None = None, **options: Any) -> None:
        super().__init__(listener, **self._set_up_tls(options))


class Agent(http.Agent):
    """A pool of TLS connections: see :class:`geventnode.interfaces.IAgent`.

    :param options: those of ``http.Agent``, and those of TLS that :func:`geventnode.tls.connect` names, for requests
        that do not say otherwise.
    """

    protocol: ClassVar[str] = 'https:'
    _kept_as: ClassVar[str] = '_geventnode_global_https_agent'

    def __init__(self, **options: Any) -> None:
        self._tls = {name: options.pop(name) for name in tuple(options) if name in CLIENT_OPTIONS}
        self._peer = peer_of(self._tls)
        self._sessions: OrderedDict[str, Any] = OrderedDict()
        super().__init__(**options)

    def peer(self, options: Mapping[str, Any]) -> Peer:
        """Return on what terms a request with ``options`` speaks TLS. Never switches."""
        own = {name: options[name] for name in CLIENT_OPTIONS & options.keys()}
        if not own:
            return self._peer
        # a context of the user's own decides about everything
        return peer_of(own if 'context' in own else {**self._tls, **own})

    def get_name(self, options: Mapping[str, Any]) -> str:
        return destination_of(options, DEFAULT_PORT, self.peer(options)).name

    def create_connection(self, options: Mapping[str, Any]) -> TLSSocket:
        peer = options.get('peer') or self.peer(options)
        name = options.get('name') or self.get_name(options)
        session = self._sessions.get(name)
        socket: TLSSocket = peer.make_socket(options.get('host') or 'localhost', session)
        if session is not None:
            socket.on_handshake = partial(self._handshake_over, name)
        path = options.get('socket_path')
        if path is not None:
            socket.connect(path)
        else:
            socket.connect(options['port'], options['host'], local_address=options.get('local_address'),
                           family=options.get('family') or 0)
        return socket

    #: Never waits.
    own_ways: ClassVar[tuple[Any, ...]] = (create_connection,)

    def _handshake_over(self, name: str, socket: TLSSocket, error: BaseException | None) -> None:
        if error is not None or not socket.session_reused:
            self._sessions.pop(name, None)

    def released(self, connection: ClientConnection) -> None:
        name = connection.bucket.name
        if name not in self._sessions:
            # not before: a server sends its tickets after the handshake (RFC 8446, section 4.6.1)
            session = getattr(connection.socket, 'session', None)
            if session is not None:
                self._sessions[name] = session
                if len(self._sessions) > MAX_SESSIONS:
                    self._sessions.popitem(last=False)
        super().released(connection)

    def forget_after_fork(self) -> None:
        self._sessions.clear()
        super().forget_after_fork()


def create_server(listener: RequestListener | None = None, **options: Any) -> Server:
    """Return a :class:`Server`; ``listener`` hears of ``'request'``. Never switches.

    :param options: ``certfile``, ``keyfile`` and the others of :func:`geventnode.tls.create_server`, and all of
        :func:`geventnode.http.create_server`.

    Raises ``InvalidInput``, ``TypeError``, ``UnknownOption``.
    """
    return Server(listener, **options)


def request(url_or_options: Any = NO_OPTIONS, callback: Callable[..., object] | None = None,
            **options: Any) -> http.ClientRequest:
    """As :func:`geventnode.http.request`, over TLS, to port 443 unless told otherwise. Never switches.

    :param servername: the name to ask for (SNI) and to find in the certificate; the host, unless given.
    :param options: those of ``http.request``, and those of TLS that :func:`geventnode.tls.connect` names.

    What is wrong with the server's certificate is a ``CertificateError`` of the request.
    """
    return make_request(HTTPS, url_or_options, callback, options)


def get(url_or_options: Any = NO_OPTIONS, callback: Callable[..., object] | None = None,
        **options: Any) -> http.ClientRequest:
    """As :func:`request`, and ended: a GET, unless told otherwise. Never switches."""
    made = request(url_or_options, callback, **options)
    if 'body' not in options or options['body'] is None:
        made.end()
    return made


HTTPS = Scheme('https', DEFAULT_PORT, OPTIONS | CLIENT_OPTIONS, Agent, partial(_global_agent, Agent),
               lambda options, agent: agent.peer(options) if isinstance(agent, Agent) else peer_of({}))


def __getattr__(name: str) -> Any:
    if name == 'global_agent':
        return _global_agent(Agent)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
