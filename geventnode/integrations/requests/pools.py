"""Substitutes for urllib3's pools that send requests through agents.

An :class:`AgentConnectionPool` replaces ``HTTPConnectionPool.urlopen`` for one host: it makes one request, or several
as its ``Retry`` specifies, and returns urllib3's response. Connections, queues and limits belong to the agents.
"""

from __future__ import annotations

import hashlib
import warnings
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import gevent
from gevent import get_hub
from urllib3.exceptions import (
    HTTPError,
    InsecureRequestWarning,
    LocationValueError,
    MaxRetryError,
    ProxyError,
    SSLError,
)
from urllib3.exceptions import InvalidHeader as InvalidHeaderError
from urllib3.util import Retry, Timeout
from urllib3.util.request import SKIP_HEADER, SKIPPABLE_HEADERS, rewind_body, set_file_position

from geventnode import http, https
from geventnode.errors import GeventnodeError, InvalidHeader, InvalidInput
from geventnode.http.client.origin import Origin, make_origin
from geventnode.http.header_fields import Fields, check_field
from geventnode.integrations.requests.pool_kwargs import (
    POOL_ATTRIBUTES,
    check_pool_kwargs,
    merge_pool_kwargs,
    proxy_tls_settings,
    tls_settings,
    verifies_identity,
)
from geventnode.integrations.requests.response import (
    PHASES_BEFORE_SENDING,
    RawResponse,
    Response,
    UpgradedResponse,
    call_in_hub,
    to_urllib3_error,
)
from geventnode.net.socket import Socket
from geventnode.protocol import Limits, check_method, check_target, is_host
from geventnode.tls.client import TLSSettings
from geventnode.tls.contexts import client_context
from geventnode.tls.socket import TLSSocket

__all__ = ['DEFAULT_PORTS', 'AgentConnectionPool', 'AgentPoolManager', 'AgentProvider', 'Proxy', 'RequestLimits']

#: The number of pools in the cache, each without a connection of its own.
MAX_POOLS = 256

DEFAULT_PORTS = {'http': 80, 'https': 443}


class Proxy(NamedTuple):
    """An HTTP proxy."""

    scheme: str
    host: str
    port: int
    #: Header fields for the proxy only.
    headers: dict[str, str]
    #: Arguments for TLS to the proxy, as returned by :func:`split_proxy_kwargs`.
    tls_kwargs: Mapping[str, Any]

    def __str__(self) -> str:
        return f'{self.scheme}://{self.host}:{self.port}'

    @property
    def name(self) -> str:
        """The identity of its tunnels, with a digest of the secret headers."""
        digest = hashlib.sha256(repr(self.headers).encode()).hexdigest()[:16] if self.headers else ''
        return f'{self}:{digest}'


class RequestLimits(NamedTuple):
    """The limits of an adapter for its requests and responses."""

    #: Seconds in the queue for a connection; None: no limit.
    queue_timeout: float | None
    #: The limits for the head of a response.
    parser_limits: Limits


class _AgentPair:
    """The agents of an adapter for one thread.

    When the pair is retired or collected, idle connections are closed, and active ones after their response.
    """

    __slots__ = ('__weakref__', 'agents', 'retired')

    def __init__(self, options: dict[str, Any]) -> None:
        self.retired = False
        self.agents = http.Agent(**options), https.Agent(**options)

    def retire(self) -> None:
        """Close connections as soon as they are idle."""
        self.retired = True
        for agent in self.agents:
            call_in_hub(agent, partial(setattr, agent, 'keep_alive', False))

    def __del__(self) -> None:
        if not self.retired and hasattr(self, 'agents'):
            self.retire()


class AgentProvider:
    """Provide the agents of an adapter: the given ones, or two in each thread."""

    def __init__(
        self, options: dict[str, Any], agent: http.Agent | None, https_agent: https.Agent | None, authorities: str
    ) -> None:
        self._options = options
        self._given_agents = agent, https_agent
        #: The file of trusted authorities for requests that name none; None: the agent's own authorities.
        self.ca_file = authorities if https_agent is None else None
        self._agent_pairs: weakref.WeakSet[_AgentPair] = weakref.WeakSet()

    def get(self, secure: bool) -> http.Agent:
        """Return the agent of this thread for ``https:`` (``secure``) or ``http:`` URLs."""
        given = self._given_agents[secure]
        if given is not None:
            return given
        # the hub keeps the pair until the thread ends or this object is collected
        pairs = get_hub().__dict__.setdefault('_geventnode_requests', weakref.WeakKeyDictionary())
        pair: _AgentPair | None = pairs.get(self)
        if pair is None or pair.retired:
            pair = pairs[self] = _AgentPair(self._options)
            self._agent_pairs.add(pair)
        return pair.agents[secure]

    def clear(self) -> None:
        """Retire the adapter's own agents; later requests use new ones."""
        for pair in tuple(self._agent_pairs):
            pair.retire()


class AgentPoolManager:
    """Substitute for urllib3's ``PoolManager``: the pools by their arguments."""

    def __init__(
        self, agents: AgentProvider, limits: RequestLimits, pool_kwargs: Mapping[str, Any], proxy: Proxy | None = None
    ) -> None:
        self.agents = agents
        #: Default arguments of the pools. Other libraries read and change this attribute of urllib3.
        self.connection_pool_kw = check_pool_kwargs(pool_kwargs)
        self._limits = limits
        self._proxy = proxy
        self.pools: dict[tuple[Any, ...], AgentConnectionPool] = {}

    def connection_from_host(
        self, host: str | None, port: int | None = None, scheme: str = 'http', pool_kwargs: dict[str, Any] | None = None
    ) -> AgentConnectionPool:
        """Return the pool of a scheme, host and port; see urllib3.

        Raises ``LocationValueError`` for a wrong host, and as :func:`check_pool_kwargs` does.
        """
        key = scheme, host, port, *(pool_kwargs or {}).items(), *self.connection_pool_kw.items()
        found = self.pools.get(key)
        if found is None:
            if len(self.pools) >= MAX_POOLS:
                del self.pools[next(iter(self.pools))]
            merged = merge_pool_kwargs(self.connection_pool_kw, pool_kwargs or {})
            try:
                found = self.pools[key] = AgentConnectionPool(
                    self.agents, self._limits, scheme, host or '', port, merged, self._proxy
                )
            except InvalidInput as error:
                raise LocationValueError(str(error)) from error
        return found

    def clear(self) -> None:
        """Close idle connections now, and active ones after their response; see urllib3."""
        self.pools.clear()
        self.agents.clear()


class AgentConnectionPool:
    """Substitute for urllib3's ``HTTPConnectionPool`` that uses an agent.

    It has a scheme, a host, a port, arguments for TLS, and optionally a proxy.
    """

    def __init__(
        self,
        agents: AgentProvider,
        limits: RequestLimits,
        scheme: str,
        host: str,
        port: int | None,
        pool_kwargs: dict[str, Any],
        proxy: Proxy | None,
    ) -> None:
        self._agents = agents
        self._limits = limits
        self._pool_kwargs = pool_kwargs
        self._proxy = proxy
        self.scheme = scheme
        default_port = DEFAULT_PORTS[scheme]
        #: The origin of the URL, checked before the arguments for TLS.
        self._url_origin = make_origin(host, default_port if port is None else port, default_port=default_port)
        self.host, self.port = self._url_origin.host, self._url_origin.port
        #: Whether the proxy forwards requests (http:), or opens a tunnel for TLS from end to end (https:).
        self._forwarded = proxy is not None and scheme == 'http'
        self._tunneled = proxy is not None and scheme == 'https'
        self._secure = (proxy.scheme if proxy is not None and self._forwarded else scheme) == 'https'
        #: The warning of every request, None if the other end is verified.
        self._warning = self._make_warning()
        #: The origin of connections, which can be the proxy; made for the first request.
        self._origin: Origin | None = None
        #: The TLS settings of the connection to the proxy of a tunnel; None without TLS. Made with the origin.
        self._proxy_settings: TLSSettings | None = None

    def __str__(self) -> str:
        return f'{self.scheme}://{self.host}:{self.port}'

    def __repr__(self) -> str:
        return repr(str(self))

    def __reduce__(self) -> Any:
        # exceptions refer to the pool: their copies have its text, since connections belong to their process
        return str, (str(self),)

    @property
    def _source(self) -> str | None:
        """The local address of connections; None: any."""
        found: str = self._pool_kwargs.get('source_address', ('',))[0]
        return found or None

    def _make_warning(self) -> str | None:
        """Return the warning for connections without verification, None otherwise."""
        if not self._secure:
            return None
        proxy = self._proxy
        if not self._forwarded and not verifies_identity(self._pool_kwargs):
            host = self.host
        elif (
            proxy is not None and proxy.scheme == 'https' and not verifies_identity(self._pool_kwargs, proxy.tls_kwargs)
        ):
            host = proxy.host
        else:
            return None
        return (
            f'Unverified HTTPS request is being made to host {host!r}. Adding certificate verification is strongly '
            'advised.'
        )

    # -- one request --------------------------------------------------------------------------------------------------

    def _make_origin(self) -> Origin:
        """Return the origin of connections. Raises ``SSLError`` for unusable certificates."""
        host, port = self.host, self.port
        if self._forwarded and self._proxy is not None:
            host, port = self._proxy.host, self._proxy.port
        if not self._secure:
            return make_origin(host, port, self._source)
        via = None
        try:
            settings = self._tls_settings()
            client_context(settings.settings)
            if self._tunneled and self._proxy is not None:
                via = self._proxy.name
                if self._proxy.scheme == 'https':
                    found = self._proxy_settings = self._proxy_tls_settings(self._proxy)
                    client_context(found.settings)
                    via += f':{found.digest(self._proxy.host)}'
        except InvalidInput as error:
            raise SSLError(str(error)) from error
        return make_origin(
            host,
            port,
            self._source,
            default_port=DEFAULT_PORTS['https'],
            tls_settings=settings,
            via=via,
        )

    def _tls_settings(self) -> TLSSettings:
        """Return the TLS settings of connections."""
        # subclasses of the adapter get this object in cert_verify(), and set attributes on it
        attributes = {name: value for name, value in vars(self).items() if name in POOL_ATTRIBUTES}
        if attributes:
            self._pool_kwargs = merge_pool_kwargs(self._pool_kwargs, attributes)
            self._warning = self._make_warning()
        if self._forwarded and self._proxy is not None:
            return self._proxy_tls_settings(self._proxy)
        return tls_settings(cast(https.Agent, self._agents.get(True)), self._pool_kwargs, self._agents.ca_file)

    def _proxy_tls_settings(self, proxy: Proxy) -> TLSSettings:
        """Return the TLS settings of connections to ``proxy``."""
        agent = cast(https.Agent, self._agents.get(True))
        return proxy_tls_settings(agent, self._pool_kwargs, self._agents.ca_file, proxy.tls_kwargs)

    def _fields(self, headers: Mapping[Any, Any]) -> tuple[Fields, frozenset[str]]:
        """Return the header fields, and the names of removed default fields."""
        fields: Fields = {'host': self._url_origin.host_pair}
        # requests drops headers that are None
        removed = frozenset({'connection'})
        for name, value in headers.items():
            if type(name) is not str or type(value) is not str:
                name, value = _text(name), _text(value)
            lower, checked = check_field(name, value)
            if checked == SKIP_HEADER:
                if lower not in SKIPPABLE_HEADERS:
                    raise ValueError(f'SKIP_HEADER is for {", ".join(sorted(SKIPPABLE_HEADERS))}, not for {name!r}')
                fields.pop(lower, None)
                continue
            if lower == 'host' and not is_host(checked):
                raise InvalidHeader(
                    f'Host is not a host with an optional port: {checked!r}', 'ERR_HTTP_INVALID_HEADER_VALUE'
                )
            if lower == 'connection':
                removed = frozenset()
                # the agent sets it
                if checked == 'keep-alive':
                    continue
            fields[lower] = name, checked
        if self._forwarded and self._proxy is not None:
            for name, value in self._proxy.headers.items():
                fields.setdefault(name.lower(), (name, value))
        return fields, removed

    def _exchange(
        self, method: str, url: str, body: Any, headers: Mapping[Any, Any], connect: float | None, read: float | None
    ) -> Response:
        """Make one request. Blocks until the head of its response has arrived.

        Raises the errors that :meth:`urlopen` translates.
        """
        origin = self._origin
        if origin is None:
            origin = self._origin = self._make_origin()
        fields, removed = self._fields(headers)
        agent = self._agents.get(self._secure)
        request = agent._new_request(agent, origin, check_method(method).upper(), check_target(url), fields, True)
        if removed:
            request._removed_fields = removed
        # the read timeout begins when the request has a connection
        late = read if read is not None and (connect is None or read < connect) else None
        request._set_time_limits(read if late is None else None, connect, self._limits.queue_timeout, None)
        request._limits = self._limits.parser_limits
        request._keeps_chunks = True
        if self._tunneled and origin.tls_settings is not None:
            request._create_connection = partial(self._tunnel, origin.tls_settings)
        request.end(body)
        if late is not None:
            if request.reused_socket:
                request.set_timeout(late)
            else:
                request.once('socket', partial(_start_read_timeout, request, late))
        message = request.get_response()
        body = (UpgradedResponse if message.upgrade else RawResponse)(self, request, message, url)
        return Response(body, method, url)

    def _tunnel(self, settings: TLSSettings, options: Mapping[str, Any]) -> TLSSocket:
        """Return a new connection through the proxy.

        Blocks until the tunnel is open; the connect timeout of the waiting request limits it.
        """
        proxy = self._proxy
        assert proxy is not None
        target = f'[{self.host}]:{self.port}' if ':' in self.host else f'{self.host}:{self.port}'
        # a subclass of the plain agent can override create_connection()
        create: Callable[..., Socket] = self._agents.get(False).create_connection
        if self._proxy_settings is not None:
            create = partial(_connect_with_tls, create, self._proxy_settings, proxy.host)
        request = http.request(
            hostname=proxy.host,
            port=proxy.port,
            method='CONNECT',
            path=target,
            agent=False,
            create_connection=create,
            local_address=self._source,
            headers={'Host': target, **proxy.headers},
            timeout=None,
            connect_timeout=None,
            max_header_size=self._limits.parser_limits.max_header_size,
        )
        try:
            response = request.end().get_response()
        except GeventnodeError as error:
            raise ProxyError('Cannot connect to proxy.', to_urllib3_error(error, self, target)) from error
        if not response.upgrade:
            request.destroy()
            raise ProxyError(
                f'Tunnel connection failed: {response.status_code} {response.status_message}',
                OSError(f'{proxy} answered {response.status_code}'),
            )
        socket = settings.wrap(response.socket, self.host, response.head)
        self._agents.get(True)._set_keep_alive_probes(socket)
        return socket

    # -- called by requests -------------------------------------------------------------------------------------------

    def urlopen(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[Any, Any] | None = None,
        retries: Retry = Retry.DEFAULT,
        timeout: Timeout | None = None,
        **others: Any,
    ) -> Response:
        """Make a request, with retries, and return the unread response.

        See urllib3. Blocks until the head of the response has arrived. Raises urllib3's exceptions. Errors of the
        caller and exceptions of ``body`` propagate unchanged.
        """
        if self._warning is not None:
            warnings.warn(self._warning, InsecureRequestWarning, stacklevel=2)
        timeout = timeout or Timeout()
        if timeout.total is not None:
            # the total includes connecting and reading
            timeout = timeout.clone()
            timeout.start_connect()
        connect = Timeout.resolve_default_timeout(timeout.connect_timeout)
        read = timeout.read_timeout
        position = None if body is None else set_file_position(body, None)
        # an iterator or a pipe can be sent only once
        repeatable = body is None or isinstance(position, int) or isinstance(body, (bytes, bytearray, memoryview, str))
        while True:
            try:
                response = self._exchange(method, url, body, headers or {}, connect, read)
            except (GeventnodeError, HTTPError) as error:
                failure = error if isinstance(error, HTTPError) else self._to_urllib3_error(error, url)
                if isinstance(failure, InvalidHeaderError):
                    raise failure from error
                if not repeatable:
                    retries = retries.new(total=0, read=False)
                retries = retries.increment(
                    method, url, error=failure, _pool=cast(Any, self), _stacktrace=error.__traceback__
                )
                _sleep_before_retry(retries)
            else:
                response.retries = retries
                if not repeatable or not retries.is_retry(
                    method, response.status, bool(response.headers.get('Retry-After'))
                ):
                    return response
                try:
                    retries = retries.increment(method, url, response=response, _pool=cast(Any, self))
                except MaxRetryError:
                    if retries.raise_on_status:
                        response.drain_conn()
                        raise
                    return response
                response.drain_conn()
                _sleep_before_retry(retries, response)
            if body is not None and position is not None:
                rewind_body(cast(Any, body), position)

    def _to_urllib3_error(self, error: GeventnodeError, url: str) -> Exception:
        """Return urllib3's exception for ``error``, with ``error`` as its cause.

        Raises ``error`` itself if it is the caller's.
        """
        failure = to_urllib3_error(error, self, url)
        if failure is error:
            raise error
        failure.__cause__ = error
        if (self._forwarded and error.phase in PHASES_BEFORE_SENDING and error.phase != 'queue') or (
            self._tunneled and error.phase == 'connect'
        ):
            failure = ProxyError('Cannot connect to proxy.', failure)
            failure.__cause__ = error
        return failure


def _connect_with_tls(
    create: Callable[..., Socket], settings: TLSSettings, host: str, options: Mapping[str, Any]
) -> TLSSocket:
    """Return a connection that ``create`` makes, with TLS to ``host``. Blocks until the handshake is over."""
    socket = create(options)
    if not isinstance(socket, Socket):
        raise TypeError(f'create_connection must return a net.Socket, not {type(socket).__name__}')
    try:
        socket = made = settings.wrap(socket.wait_connected(), host)
        made.wait_connected()
        return made
    except BaseException:
        socket.destroy()
        raise


def _sleep_before_retry(retries: Retry, response: Response | None = None) -> None:
    """Sleep before the next attempt, as ``retries`` specifies.

    In a program that is not patched, urllib3's own methods would block the whole thread, so they are replaced. The
    methods of a subclass are called.
    """
    kind = type(retries)
    for name, cooperative in _SLEEP_METHODS:
        if getattr(kind, name) is getattr(Retry, name):
            setattr(retries, name, partial(cooperative, retries))
    retries.sleep(response)


def _sleep_for_retry(retries: Retry, response: Response) -> bool:
    """Replace ``Retry.sleep_for_retry``."""
    seconds = retries.get_retry_after(response)
    if seconds:
        gevent.sleep(seconds)
    return bool(seconds)


def _sleep_backoff(retries: Retry) -> None:
    """Replace ``Retry._sleep_backoff``."""
    seconds = retries.get_backoff_time()
    if seconds > 0:
        gevent.sleep(seconds)


_SLEEP_METHODS: tuple[tuple[str, Callable[..., object]], ...] = (
    ('sleep_for_retry', _sleep_for_retry),
    ('_sleep_backoff', _sleep_backoff),
)


def _text(value: Any) -> Any:
    """Return a field's name or value, str or bytes, as text."""
    return value.decode('latin-1') if isinstance(value, bytes) else value


def _start_read_timeout(request: http.ClientRequest, seconds: float, socket: Socket) -> None:
    """Set the read timeout of ``request`` when its ``socket`` is connected."""

    def begin() -> None:
        request.set_timeout(seconds)

    if socket.connecting or socket.handshaking:
        socket.once('secureConnect' if socket.encrypted else 'connect', begin)
    else:
        begin()
