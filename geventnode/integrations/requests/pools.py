"""Substitutes for urllib3's pools that send requests through agents.

An :class:`AgentConnectionPool` does for one host what ``HTTPConnectionPool.urlopen`` does: it makes one request, or
several as its ``Retry`` specifies, and returns urllib3's response. Connections, queues and limits belong to the agents.
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

#: Destinations that are remembered.
MAX_POOLS = 256

DEFAULT_PORTS = {'http': 80, 'https': 443}


class Proxy(NamedTuple):
    """A proxy that speaks HTTP."""

    scheme: str
    host: str
    port: int
    #: What to say to it, and to nobody else.
    headers: dict[str, str]
    #: Terms of TLS that hold for it only, as of :func:`split_proxy_kwargs`.
    tls_kwargs: Mapping[str, Any]

    def __str__(self) -> str:
        return f'{self.scheme}://{self.host}:{self.port}'

    @property
    def name(self) -> str:
        """What tells tunnels through it from others, without telling what is said to it."""
        said = hashlib.sha256(repr(self.headers).encode()).hexdigest()[:16] if self.headers else ''
        return f'{self}:{said}'


class RequestLimits(NamedTuple):
    """How far the requests of an adapter may go."""

    #: Seconds in the queue; None: any number.
    queue_timeout: float | None
    #: What is refused in responses.
    parser_limits: Limits


class _AgentPair:
    """The agents that an adapter has made for one thread. When it is gone, or retired, connections are closed as soon
    as nobody uses them."""

    __slots__ = ('__weakref__', 'agents', 'retired')

    def __init__(self, options: dict[str, Any]) -> None:
        self.retired = False
        self.agents = http.Agent(**options), https.Agent(**options)

    def retire(self) -> None:
        """Be used no more."""
        self.retired = True
        for agent in self.agents:
            call_in_hub(agent, partial(setattr, agent, 'keep_alive', False))

    def __del__(self) -> None:
        if not self.retired and hasattr(self, 'agents'):
            self.retire()


class AgentProvider:
    """The agents of one adapter: those that it was given, and in each thread two of its own."""

    def __init__(
        self, options: dict[str, Any], agent: http.Agent | None, https_agent: https.Agent | None, authorities: str
    ) -> None:
        self._options = options
        self._given_agents = agent, https_agent
        #: Whom to trust when nothing is said; None: whom the agent trusts.
        self.ca_file = authorities if https_agent is None else None
        self._agent_pairs: weakref.WeakSet[_AgentPair] = weakref.WeakSet()

    def get(self, secure: bool) -> http.Agent:
        """Return the agent for this thread."""
        given = self._given_agents[secure]
        if given is not None:
            return given
        # kept by the hub, to go with the thread, and by nobody for longer than this object lives
        kept = get_hub().__dict__.setdefault('_geventnode_requests', weakref.WeakKeyDictionary())
        pair: _AgentPair | None = kept.get(self)
        if pair is None or pair.retired:
            pair = kept[self] = _AgentPair(self._options)
            self._agent_pairs.add(pair)
        return pair.agents[secure]

    def clear(self) -> None:
        """Let the agents of our own go; who asks again gets others."""
        for pair in tuple(self._agent_pairs):
            pair.retire()


class AgentPoolManager:
    """In the place of urllib3's ``PoolManager``: what takes the place of its pools, by what they are for."""

    def __init__(
        self, agents: AgentProvider, limits: RequestLimits, pool_kwargs: Mapping[str, Any], proxy: Proxy | None = None
    ) -> None:
        self.agents = agents
        #: On what terms TLS is spoken, unless a request says otherwise. It has urllib3's name, by which others look
        #: into it, and change it.
        self.connection_pool_kw = check_pool_kwargs(pool_kwargs)
        self._limits = limits
        self._proxy = proxy
        self.pools: dict[tuple[Any, ...], AgentConnectionPool] = {}

    def connection_from_host(
        self, host: str | None, port: int | None = None, scheme: str = 'http', pool_kwargs: dict[str, Any] | None = None
    ) -> AgentConnectionPool:
        """See urllib3. Raises ``LocationValueError``, and what :func:`check_pool_kwargs` does."""
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
        """See urllib3: idle connections are closed, those in use when they are given back."""
        self.pools.clear()
        self.agents.clear()


class AgentConnectionPool:
    """In the place of urllib3's ``HTTPConnectionPool``: a scheme, a host and a port, on certain terms of TLS, maybe
    through a proxy."""

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
        usual = DEFAULT_PORTS[scheme]
        #: Where the URL leads; checked here, before terms of TLS are.
        self._url_origin = make_origin(host, usual if port is None else port, default_port=usual)
        self.host, self.port = self._url_origin.host, self._url_origin.port
        #: Whether the connection leads to the proxy and no further, and whether it is TLS from end to end.
        self._forwarded = proxy is not None and scheme == 'http'
        self._tunneled = proxy is not None and scheme == 'https'
        if self._tunneled and proxy is not None and proxy.scheme == 'https':
            raise LocationValueError(
                f'{proxy}: a tunnel within TLS is not supported; for https: URLs, the URL of the '
                'proxy must begin with http:'
            )
        self._secure = (proxy.scheme if proxy is not None and self._forwarded else scheme) == 'https'
        #: The warning that every request gives; None: none.
        self._warning = self._make_warning()
        #: Where connections lead; worked out when first asked for.
        self._origin: Origin | None = None

    def __str__(self) -> str:
        return f'{self.scheme}://{self.host}:{self.port}'

    def __repr__(self) -> str:
        return repr(str(self))

    def __reduce__(self) -> Any:
        # exceptions refer to it: a copy of one has the text instead, since connections belong to their process
        return str, (str(self),)

    @property
    def _source(self) -> str | None:
        """The address where connections begin; None: any."""
        found: str = self._pool_kwargs.get('source_address', ('',))[0]
        return found or None

    def _make_warning(self) -> str | None:
        """Return the warning of a connection whose other end is not verified."""
        if not self._secure:
            return None
        proxy = self._proxy if self._forwarded else None
        if verifies_identity(self._pool_kwargs, None if proxy is None else proxy.tls_kwargs):
            return None
        host = self.host if proxy is None else proxy.host
        return (
            f'Unverified HTTPS request is being made to host {host!r}. Adding certificate verification is strongly '
            'advised.'
        )

    # -- one attempt --------------------------------------------------------------------------------------------------

    def _make_origin(self) -> Origin:
        """Return where connections lead. Raises ``SSLError`` for certificates that cannot be used."""
        host, port = self.host, self.port
        if self._forwarded and self._proxy is not None:
            host, port = self._proxy.host, self._proxy.port
        if not self._secure:
            return make_origin(host, port, self._source)
        try:
            peer = self._tls_settings()
            client_context(peer.settings)
        except InvalidInput as error:
            raise SSLError(str(error)) from error
        return make_origin(
            host,
            port,
            self._source,
            default_port=DEFAULT_PORTS['https'],
            peer=peer,
            via=self._proxy.name if self._tunneled and self._proxy is not None else None,
        )

    def _tls_settings(self) -> TLSSettings:
        """Return on what terms TLS is spoken."""
        # subclasses of the adapter are handed this object, and set on it what they want
        said_since = {name: value for name, value in vars(self).items() if name in POOL_ATTRIBUTES}
        if said_since:
            self._pool_kwargs = merge_pool_kwargs(self._pool_kwargs, said_since)
            self._warning = self._make_warning()
        agent = cast(https.Agent, self._agents.get(True))
        if self._forwarded and self._proxy is not None:
            return proxy_tls_settings(agent, self._pool_kwargs, self._agents.ca_file, self._proxy.tls_kwargs)
        return tls_settings(agent, self._pool_kwargs, self._agents.ca_file)

    def _fields(self, headers: Mapping[Any, Any]) -> tuple[Fields, frozenset[str]]:
        """Return the header fields of a request, and the names of those that are not to be added."""
        fields: Fields = {'host': self._url_origin.host_pair}
        # a header that is None is not here at all
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
                # that is ours to say
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
        """Make one request. May switch. Raises what :meth:`urlopen` translates."""
        origin = self._origin
        if origin is None:
            origin = self._origin = self._make_origin()
        fields, removed = self._fields(headers)
        request = http.ClientRequest(
            self._agents.get(self._secure), origin, check_method(method).upper(), check_target(url), fields, True
        )
        if removed:
            request._removed_fields = removed
        # the time for reading begins when there is a connection
        late = read if read is not None and (connect is None or read < connect) else None
        request._set_time_limits(read if late is None else None, connect, self._limits.queue_timeout, None)
        request._limits = self._limits.parser_limits
        request._keeps_chunks = True
        if self._tunneled and origin.peer is not None:
            request._create_connection = partial(self._tunnel, origin.peer)
        request.end(body)
        if late is not None:
            if request.reused_socket:
                request.set_timeout(late)
            else:
                request.once('socket', partial(_start_read_timeout, request, late))
        message = request.get_response()
        body = (UpgradedResponse if message.upgrade else RawResponse)(self, request, message, url)
        return Response(body, method, url)

    def _tunnel(self, peer: TLSSettings, options: Mapping[str, Any]) -> TLSSocket:
        """Return a new connection through the proxy, within the time for connecting of the request that wants it. May
        switch."""
        proxy = self._proxy
        assert proxy is not None
        target = f'[{self.host}]:{self.port}' if ':' in self.host else f'{self.host}:{self.port}'
        # the agent for plain connections may have a way of its own to make one
        create = self._agents.get(False).create_connection
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
        socket = peer.wrap(response.socket, self.host, response.head)
        self._agents.get(True)._set_keep_alive_probes(socket)
        return socket

    # -- what requests calls ------------------------------------------------------------------------------------------

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
        """See urllib3: make a request, again if ``retries`` says so, and return the response, unread. May switch.
        Raises urllib3's exceptions; what the caller has done wrong, and what ``body`` raises, is left as it is."""
        if self._warning is not None:
            warnings.warn(self._warning, InsecureRequestWarning, stacklevel=2)
        timeout = timeout or Timeout()
        if timeout.total is not None:
            # from now on, both together
            timeout = timeout.clone()
            timeout.start_connect()
        connect = Timeout.resolve_default_timeout(timeout.connect_timeout)
        read = timeout.read_timeout
        position = None if body is None else set_file_position(body, None)
        # what comes from elsewhere is gone when it was sent
        again = body is None or isinstance(position, int) or isinstance(body, (bytes, bytearray, memoryview, str))
        while True:
            try:
                response = self._exchange(method, url, body, headers or {}, connect, read)
            except (GeventnodeError, HTTPError) as error:
                failure = error if isinstance(error, HTTPError) else self._to_urllib3_error(error, url)
                if isinstance(failure, InvalidHeaderError):
                    raise failure from error
                if not again:
                    retries = retries.new(total=0, read=False)
                retries = retries.increment(
                    method, url, error=failure, _pool=cast(Any, self), _stacktrace=error.__traceback__
                )
                _sleep_before_retry(retries)
            else:
                response.retries = retries
                if not again or not retries.is_retry(
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
        """Return the exception of urllib3's for ``error``, which it names as its cause. Raises ``error`` when it is the
        caller's fault."""
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


def _sleep_before_retry(retries: Retry, response: Response | None = None) -> None:
    """Wait before the next attempt, as ``retries`` has it. May switch.

    Its methods that a subclass overrides are called. The others would stop the whole thread in a program that is not
    patched: their waiting is replaced.
    """
    kind = type(retries)
    for name, cooperative in _SLEEP_METHODS:
        if getattr(kind, name) is getattr(Retry, name):
            setattr(retries, name, partial(cooperative, retries))
    retries.sleep(response)


def _sleep_for_retry(retries: Retry, response: Response) -> bool:
    """In place of ``Retry.sleep_for_retry``."""
    seconds = retries.get_retry_after(response)
    if seconds:
        gevent.sleep(seconds)
    return bool(seconds)


def _sleep_backoff(retries: Retry) -> None:
    """In place of ``Retry._sleep_backoff``."""
    seconds = retries.get_backoff_time()
    if seconds > 0:
        gevent.sleep(seconds)


_SLEEP_METHODS: tuple[tuple[str, Callable[..., object]], ...] = (
    ('sleep_for_retry', _sleep_for_retry),
    ('_sleep_backoff', _sleep_backoff),
)


def _text(value: Any) -> Any:
    """Return a name or a value, which may be bytes, as text."""
    return value.decode('latin-1') if isinstance(value, bytes) else value


def _start_read_timeout(request: http.ClientRequest, seconds: float, socket: Socket) -> None:
    """``'socket'``: there is a connection for ``request``, or will be."""

    def begin() -> None:
        request.set_timeout(seconds)

    if socket.connecting or socket.handshaking:
        socket.once('secureConnect' if socket.encrypted else 'connect', begin)
    else:
        begin()
