"""The agent: a pool of connections, and the requests that wait for one.

:mod:`geventnode.http.client.pool` decides which request gets which connection; the agent applies the decisions, and
reports the content of the pool.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from gevent import get_hub
from zope.interface import implementer

from geventnode.errors import GeventnodeError, InvalidInput, QueueFull, SocketHangUp, copy_for_raising
from geventnode.http.client.connection import Connection, ConnectionState
from geventnode.http.client.dial import Dial
from geventnode.http.client.origin import Origin, origin_from_options, parse_url
from geventnode.http.client.pool import Action, Bucket, Decision, Pool
from geventnode.http.client.proxied_request import ProxiedRequest
from geventnode.http.client.proxy import (
    Proxies,
    Proxy,
    ProxyEnvironment,
    check_no_proxy,
    check_proxy,
    check_proxy_env,
    check_proxy_tls,
    find_proxies,
    proxy_variables,
)
from geventnode.http.client.request import ClientRequest
from geventnode.http.client.reservation import Reservation
from geventnode.http.client.trace import TracedConnection
from geventnode.http.connection_log import ConnectionLog
from geventnode.interfaces import IAgent
from geventnode.net.connecting import connect_error
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.descriptors import register_pool
from geventnode.net.forks import inherited_error, register, registered
from geventnode.net.socket import Socket
from geventnode.net.threads import check_thread, is_alive
from geventnode.options import Option, apply_options, count, flag
from geventnode.options import seconds as checked_seconds

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from geventnode.http.client.no_proxy import NoProxy

__all__ = ['Agent', 'AgentOptions', 'global_agent', 'set_global_proxy_from_env']

log = logging.getLogger('geventnode.error')

# a look-up in the class costs more than the comparison
_IDLE = ConnectionState.IDLE

#: Seconds for which a queue waits behind unread responses before a warning is logged.
WARNING_INTERVAL = 5.0

DEFAULT_MAX_SOCKETS = 5
#: A quarter of the descriptors that most systems allow a process.
DEFAULT_MAX_TOTAL_FREE_SOCKETS = 256

AgentBucket = Bucket[Any, Connection]


def _check_max_sockets(name: str, value: Any) -> float:
    """Return ``value`` as a limit; 0 and None mean the default."""
    if value == inf:
        return inf
    return DEFAULT_MAX_SOCKETS if value is None else count(name, value) or DEFAULT_MAX_SOCKETS


def _check_max_total_sockets(name: str, value: Any) -> float:
    """Return ``value`` as a limit; None means no limit."""
    if value is None or value == inf:
        return inf
    number = count(name, value)
    if not number:
        raise InvalidInput(f'{name} must be at least 1, not 0: with None there is no limit')
    return number


def _check_max_total_free_sockets(name: str, value: Any) -> float:
    """Return ``value`` as a limit; None means no limit."""
    return inf if value is None or value == inf else count(name, value)


def _check_max_queued(name: str, value: Any) -> int | None:
    return None if value is None else count(name, value)


def _check_scheduling(name: str, value: Any) -> str:
    if value not in ('lifo', 'fifo'):
        raise InvalidInput(f"{name} must be 'lifo' or 'fifo', not {value!r}")
    return str(value)


def _check_seconds_or_none(name: str, value: Any) -> float | None:
    return None if value is None else checked_seconds(name, value) or None


class AgentOptions(TypedDict, total=False):
    """The options of :class:`Agent`."""

    max_sockets: float | None
    max_total_sockets: float | None
    max_free_sockets: int
    max_total_free_sockets: float | None
    max_queued: int | None
    keep_alive: bool
    scheduling: str
    timeout: float | None
    agent_keep_alive_timeout_buffer: float
    keep_alive_initial_delay: float | None
    debug_connections: bool
    proxy: str | Proxy | None
    no_proxy: str | Iterable[str] | NoProxy | None
    proxy_env: bool | Mapping[str, str] | ProxyEnvironment | None
    proxy_tls: Mapping[str, Any] | None


@implementer(IAgent)
class Agent:
    """A pool of connections, and of the requests that wait for one.

    It belongs to the hub of the thread that made it. Each origin has one queue, first come, first served; under
    ``max_total_sockets``, an origin without any connection gets the next one that another origin gives back.

    Give it to :func:`geventnode.http.request` and :func:`geventnode.http.get` as ``agent``. Every option can be set as
    an attribute at any time. ``with Agent() as agent:`` destroys the connections at the end of the block.

    :param max_sockets: connections to one origin; ``math.inf`` for no limit; 0 and None for the default. 5.
    :param max_total_sockets: connections to all origins together; None for no limit. None.
    :param max_free_sockets: idle connections to one origin that are kept. 256.
    :param max_total_free_sockets: idle connections to all origins together that are kept; None for no limit. Above it,
        a connection of the origin that has been unused for longest is closed. 256.
    :param max_queued: requests that can wait for one origin; more raise ``QueueFull``. None for no limit. None.
    :param keep_alive: whether a connection is kept that no request waits for. False.
    :param scheduling: the idle connection that is used first: ``'lifo'``, the last one used, or ``'fifo'``. ``'lifo'``.
    :param timeout: seconds for which an idle connection is kept; a shorter hint of the server wins. None for no limit.
        None.
    :param agent_keep_alive_timeout_buffer: seconds by which a server's hint is shortened, so that a request does not
        meet the end of the connection. 1.
    :param keep_alive_initial_delay: seconds without traffic before the system probes a connection (SO_KEEPALIVE), with
        ``keep_alive`` only; None for no probes. 60.
    :param debug_connections: whether the events of each connection are logged at level DEBUG by the logger
        ``geventnode.connection``. False.
    :param proxy: the URL of an HTTP proxy for all requests, ``http://user:password@host:port`` or ``https://...``. Text
        of the value has no credentials. None.
    :param no_proxy: the origins that are reached without the proxy, as the text of ``NO_PROXY`` or its entries; None
        for those of ``proxy_env``. None.
    :param proxy_env: True to take the proxy from the variables of the process (``http_proxy``, ``https_proxy``,
        ``all_proxy``, ``no_proxy``), or a mapping that has them. ``proxy`` and ``no_proxy`` have precedence, each for
        itself. False.
    :param proxy_tls: TLS options of :func:`geventnode.tls.connect` for the connection to an ``https:`` proxy. None.
    :raises UnknownOption: an option does not exist; the error names the nearest one.
    :raises InvalidInput: the value of an option is out of range; ``TypeError`` if its type is wrong.
    """

    #: ``'http:'`` or ``'https:'``, the protocol of its requests.
    protocol: ClassVar[str] = 'http:'
    #: The attribute of a hub that holds its global agent.
    _hub_attribute: ClassVar[str] = '_geventnode_global_agent'
    _plain_options: ClassVar[tuple[str, ...]] = ()

    max_sockets = Option(_check_max_sockets, float(DEFAULT_MAX_SOCKETS), 'Connections to one origin.')
    max_total_sockets = Option(_check_max_total_sockets, inf, 'Connections to all origins together.')
    max_free_sockets = Option(count, 256, 'Idle connections to one origin that are kept.')
    max_total_free_sockets: Option[float] = Option(
        _check_max_total_free_sockets,
        DEFAULT_MAX_TOTAL_FREE_SOCKETS,
        'Idle connections to all origins together that are kept.',
    )
    max_queued = Option(_check_max_queued, None, 'Requests that can wait for one origin; None: no limit.')
    keep_alive = Option(flag, False, 'Whether a connection is kept that no request waits for.')
    scheduling = Option(_check_scheduling, 'lifo', "The idle connection that is used first: 'lifo' or 'fifo'.")
    timeout = Option(_check_seconds_or_none, None, 'Seconds for which an idle connection is kept; None: no limit.')
    agent_keep_alive_timeout_buffer = Option(
        checked_seconds, 1.0, "Seconds by which a server's hint for idle connections is shortened."
    )
    keep_alive_initial_delay: Option[float | None] = Option(
        _check_seconds_or_none, 60.0, 'Seconds before an idle connection is probed; None: never.'
    )
    debug_connections = Option(flag, False, 'Log the events of each connection.')
    proxy: Option[str | Proxy | None] = Option(check_proxy, None, 'The proxy of all requests; None: none.')
    no_proxy: Option[str | Iterable[str] | NoProxy | None] = Option(
        check_no_proxy, None, 'The origins that are reached without the proxy.'
    )
    proxy_env: Option[bool | Mapping[str, str] | ProxyEnvironment | None] = Option(
        partial(check_proxy_env, 'http:'), None, 'The environment that names the proxy.'
    )
    proxy_tls: Option[Mapping[str, Any] | None] = Option(
        check_proxy_tls, None, 'TLS options for the connection to the proxy.'
    )

    #: Makes a request of this agent: the class of requests, or with a proxy a function.
    _new_request: Callable[..., ClientRequest] = ClientRequest
    _proxies: Proxies | None = None
    #: See :func:`geventnode.http.observe_requests`. The function returns the observed class of a class of requests,
    #: and makes it once.
    _observers: tuple[Any, ...] = ()
    _observed_class: Callable[[type[ClientRequest]], type[ClientRequest]]
    _connection_class: type[Connection] = Connection
    #: The reservation in another agent for the only connection of this one.
    _reservation: Reservation | None = None

    def __init__(self, **options: Unpack[AgentOptions]) -> None:
        self._hub = get_hub()
        #: See :class:`geventnode.net.deadlines.HasDeadline`; set while requests are queued.
        self._expires = NEVER
        self._pool: Pool[Any, Connection] = Pool()
        #: Whether :meth:`_process_queue` is running, and the origins that it has still to process.
        self._processing = False
        self._unprocessed: OrderedDict[AgentBucket, None] = OrderedDict()
        #: The request that is being added, and the error of its connection, which :meth:`_add_request` raises.
        self._adding: ClientRequest | None = None
        self._adding_error: Exception | None = None
        self._counts = dict.fromkeys(('requests', 'opened', 'closed', 'reused', 'retried', 'failed', 'waited'), 0)
        self._wait_time = 0.0
        #: The names of the origins for which a warning was logged.
        self._warned: set[str] = set()
        #: Connections that are kept for the listeners of a complete exchange.
        self._delivering: set[Connection] = set()
        self._connection_log = ConnectionLog()
        apply_options(self, options)
        self._on_option_changed()
        register(self, self._hub)
        register_pool(self, self._hub)

    def _on_option_changed(self) -> None:
        """See :class:`geventnode.options.Configurable`."""
        pool = self._pool
        pool.max_sockets = self.max_sockets
        pool.max_total_sockets = self.max_total_sockets
        # a connection above a limit that was lowered is not kept
        pool.max_free_sockets = min(self.max_free_sockets, self.max_sockets)
        pool.max_total_free_sockets = min(self.max_total_free_sockets, self.max_total_sockets)
        pool.keep_alive = self.keep_alive
        pool.lifo = self.scheduling == 'lifo'
        self._idle_limit = self.timeout
        self._hint_margin = self.agent_keep_alive_timeout_buffer
        self._max_queued = self.max_queued
        self._set_proxies()
        connection_class = TracedConnection if self.debug_connections else Connection
        if self._connection_class is not connection_class:
            self._connection_class = connection_class
            # open connections, too: both classes have the same slots
            for connection in self._connections():
                connection.__class__ = connection_class
        for bucket in self._buckets():
            self._process_queue(bucket)

    def _set_proxies(self) -> None:
        """Apply the options for proxies to new requests."""
        settings: Any = self.proxy, self.proxy_env, self.no_proxy, self.proxy_tls
        proxies = find_proxies(*settings)
        if proxies is not self._proxies:
            self._proxies = proxies
            self._set_request_class()

    def _set_request_class(self) -> None:
        """Choose the class of new requests, by the proxies and the observers."""
        proxies = self._proxies
        made: Any = ClientRequest if proxies is None else ProxiedRequest
        if self._observers:
            made = self._observed_class(made)
        self._new_request = made if proxies is None else partial(made, proxies)

    def get_name(self, options: Mapping[str, Any]) -> str:
        """Return the name of an origin: the key of ``sockets``, ``free_sockets`` and ``requests``.

        It is ``'host:port'``, followed by the local address, the family and the socket path if they are given. TLS
        settings other than the default ones add a digest, and a proxy its URL without credentials. Requests of one name
        share connections.

        :param options: request options, such as ``host`` and ``port``.
        """
        return self._way_to(self._origin_of(options)).name

    def _way_to(self, origin: Origin) -> Origin:
        """Return the origin of connections for requests to ``origin``."""
        return origin if self._proxies is None else self._proxies.way_to(origin)

    def _origin_of(self, url_or_options: str | Mapping[str, Any]) -> Origin:
        """Return the origin of a URL, or of a mapping of options."""
        if isinstance(url_or_options, str):
            return parse_url(url_or_options).origin
        return origin_from_options(url_or_options)

    def create_connection(self, options: Mapping[str, Any]) -> Any:
        """Return a :class:`geventnode.net.Socket` for a new connection.

        It is connecting, or connected already. Replace this method, by a subclass or an attribute, to make connections
        in another way. The replacement can block, within the ``connect_timeout`` and ``deadline`` of the request. After
        these, and when the request is given up, ``GreenletExit`` is raised in it.

        :param options: ``host``, ``port``, ``local_address``, ``family`` and ``socket_path``; None where not given. If
            the request has them, ``local_port`` and ``lookup``, as of :meth:`geventnode.net.Socket.connect`.
        """
        socket = Socket()
        self._set_keep_alive_probes(socket)
        path = options.get('socket_path')
        if path is not None:
            return socket.connect(path)
        return socket.connect(
            options['port'],
            options['host'],
            local_address=options.get('local_address'),
            family=options.get('family') or 0,
            local_port=options.get('local_port'),
            lookup=options.get('lookup'),
        )

    #: Implementations of :meth:`create_connection` that never block; any other one gets a greenlet.
    _nonblocking_factories: ClassVar[tuple[Any, ...]] = (create_connection,)

    def _start_tls(self, socket: Socket, origin: Origin) -> Socket:
        """Return the TLS connection to ``origin`` that continues ``socket``, a tunnel."""
        assert origin.tls_settings is not None
        return origin.tls_settings.wrap(socket, origin.host)

    def _set_keep_alive_probes(self, socket: Socket) -> None:
        """Enable SO_KEEPALIVE on ``socket`` if this agent keeps idle connections."""
        delay = self.keep_alive_initial_delay
        if self.keep_alive and delay is not None:
            socket.set_keep_alive(True, delay)
        elif not socket.pending:
            socket.set_keep_alive()

    # -- requests -------------------------------------------------------------------------------------------------

    def _add_request(self, request: ClientRequest) -> None:
        """Send ``request`` as soon as there is a connection for it. The request has checked the thread.

        Raises ``QueueFull``, and ``InvalidInput`` for files of the TLS settings that cannot be used.
        """
        self._counts['requests'] += 1
        pool = self._pool
        bucket = pool.buckets.get(request._origin.name)
        if bucket is not None and (connection := pool.take_idle(bucket)) is not None:
            self._reuse(bucket, connection, request)
            return
        if bucket is None:
            bucket = pool.bucket(request._origin.name)
        limit = self._max_queued
        if limit is not None and len(bucket.queue) >= limit and pool.must_wait(bucket):
            self._counts['failed'] += 1
            full = self._queue_full(request._origin)
            request._on_refused(full)
            # a raised exception refers to the request, which keeps the other one
            raise copy_for_raising(full)
        bucket.queue[request] = False
        self._adding = request
        self._process_queue(bucket)
        self._adding = None
        if self._adding_error is not None:
            error, self._adding_error = self._adding_error, None
            self._counts['failed'] += 1
            request._on_refused(error)
            raise error
        if request in bucket.queue:
            self._watch_queued(request)

    def _has_queued(self, bucket: AgentBucket) -> bool:
        """Return whether a request waits for a place that ``bucket`` has."""
        return bool(bucket.queue or self._pool.starving or self._pool.blocked)

    def _watch_queued(self, request: ClientRequest | Reservation) -> None:
        request._enter_queue()
        for connection in self._delivering:
            connection.release_soon()
        if self._expires is NEVER:
            self._expires = monotonic() + WARNING_INTERVAL
            deadlines(self._hub).watch(self)

    def reserve(self, url_or_options: str | Mapping[str, Any], timeout: float | None = None) -> Agent:
        """Return an agent that has one connection of its own.

        Blocks until this agent has a free place for the connection, in the order of the queue. No other request gets
        the connection, so that it can be authenticated itself (RFC 4559, section 6). It counts as one of this agent's
        connections.

        The returned agent has the class and the options of this one, except that ``max_sockets`` and
        ``max_total_sockets`` are 1 and ``keep_alive`` is true. Use it in a ``with`` block: ``destroy()`` closes the
        connection, which can be authenticated, and gives the place back. If the program forgets the returned agent, the
        place is free again only after the connection has ended, and a warning is logged.

        :param url_or_options: a URL, or a mapping of request options.
        :param timeout: seconds to wait for the place; None for no limit.
        :raises RequestTimeout: no place was free within ``timeout``.
        :raises QueueFull: ``max_queued`` requests wait for the origin already.
        """
        check_thread(self._hub, self)
        reservation = Reservation(self, self._way_to(self._origin_of(url_or_options)))
        bucket = self._pool.bucket(reservation._origin.name)
        # a used connection can be authenticated for another user
        bucket.queue[reservation] = True
        self._process_queue(bucket)
        if reservation in bucket.queue:
            self._watch_queued(reservation)
            limit = self._max_queued
            if limit is not None and len(bucket.queue) > limit:
                self._cancel(reservation)
                raise self._queue_full(reservation._origin)
        return reservation.wait(timeout)

    def _queue_full(self, origin: Origin) -> QueueFull:
        error = QueueFull(f'{self._max_queued} requests wait for {origin} already (max_queued)')
        origin.locate(error, 'queue')
        return error

    def _make_reserved_agent(self, reservation: Reservation) -> Agent:
        """Return the agent for the connection of ``reservation``."""
        settings: dict[str, Any] = {**self._settings(), 'max_sockets': 1, 'max_total_sockets': 1, 'keep_alive': True}
        agent = type(self)(**settings)
        if 'create_connection' in vars(self):
            vars(agent)['create_connection'] = self.create_connection
        agent._reservation = reservation
        if self._observers:
            agent._observers, agent._observed_class = self._observers, self._observed_class
            agent._set_request_class()
        return agent

    def _settings(self) -> dict[str, Any]:
        """Return the options of this agent."""
        return {name: getattr(self, name) for name, value in vars(Agent).items() if isinstance(value, Option)}

    def _cancel(self, request: ClientRequest | Reservation) -> None:
        """Take ``request`` out of its queue, or end its pending connect."""
        bucket = self._pool.buckets.get(request._origin.name)
        if bucket is not None:
            if request in bucket.connecting:
                if not isinstance(request, Reservation):
                    assert request._dial is not None
                    request._dial.cancel()
                    request._dial = None
                self._pool.connect_failed(bucket, request)
            self._pool.dequeue(bucket, request)
            self._process_queue(bucket)

    def _on_connection_lost(self, connection: Connection, request: ClientRequest, error: BaseException | None) -> None:
        """Send ``request`` again, or fail it: ``connection`` was lost before the response began."""
        if connection.reused and not connection.received_any and request._prepare_retry(error):
            # RFC 9110, section 9.2.2: the server had closed the idle connection; the request is sent again, once
            self._counts['retried'] += 1
            bucket = self._pool.bucket(request._origin.name)
            bucket.requeue(request, True)
            self._pool.remove(connection.bucket, connection)
            # the connection can have left the pool before, and the empty bucket with it
            self._process_queue(bucket)
            if request in bucket.queue:
                self._watch_queued(request)
            return
        socket = connection.socket
        if error is None or (isinstance(error, OSError) and not isinstance(error, GeventnodeError)):
            origin = request._origin
            if error is not None and socket.pending:
                # a connection that was never made cannot have hung up
                error = (
                    connect_error(error, origin.host, origin.port)
                    if origin.socket_path is None
                    else connect_error(error, origin.socket_path, None)
                )
            else:
                hang_up = SocketHangUp(f'socket hang up: {origin} closed the connection without a response')
                hang_up.__cause__ = error
                error = hang_up
        request._fail(error)
        self._remove(connection)

    def _on_request_forgotten(self, connection: Connection) -> None:
        """Report a request that was forgotten, and remove its connection."""
        self._counts['failed'] += 1
        log.error('%s: a request was forgotten before its end(): call end(), destroy() or abort()', connection.origin)
        self._remove(connection)

    def _on_request_failed(self) -> None:
        """Count a request that failed."""
        self._counts['failed'] += 1

    # -- connections ----------------------------------------------------------------------------------------------

    def _put_idle(self, connection: Connection) -> None:
        """Use ``connection`` for the next request, keep it idle, or close it."""
        bucket = connection.bucket
        limit = connection.idle_limit
        if limit is not None:
            limit -= self._hint_margin
        if connection not in bucket.active or (limit is not None and limit <= 0):
            connection.close()
            return
        if not self._pool.put_idle(bucket, connection):
            self._process_queue(bucket)
        own = self._idle_limit
        if (own is not None or limit is not None) and connection.state is _IDLE:
            connection.set_idle_deadline(own if limit is None else limit if own is None else min(own, limit))

    def _close_longest_idle(self, count: int) -> int:
        """See :class:`geventnode.net.descriptors.ConnectionPool`."""
        closed = 0
        while closed < count and (decision := self._pool.close_idle()) is not None:
            self._apply(decision)
            closed += 1
        return closed

    def _remove(self, connection: Connection) -> None:
        """Remove ``connection`` from the pool: it was closed, or has left HTTP."""
        self._pool.remove(connection.bucket, connection)
        self._process_queue(connection.bucket)

    def _process_queue(self, bucket: AgentBucket) -> None:
        """Apply the pool's decisions for ``bucket``, and those that depend on it.

        A nested call leaves the work to the running one.
        """
        if self._processing:
            # each connection that is closed calls this; hundreds of nested calls would exceed the recursion limit
            self._unprocessed[bucket] = None
            return
        self._processing = True
        pool = self._pool
        try:
            while True:
                for each in pool.affected(bucket):
                    while (decision := pool.decide(each)) is not None:
                        self._apply(decision)
                if not self._unprocessed:
                    break
                bucket, _ = self._unprocessed.popitem(last=False)
        finally:
            self._processing = False

    def _apply(self, decision: Decision) -> None:
        action, bucket, connection, request = decision
        if action is Action.REUSE:
            self._reuse(bucket, connection, request)
        elif action is Action.OPEN:
            assert request is not None
            self._open(bucket, request)
        else:
            assert connection is not None
            connection.close()

    def _reuse(self, bucket: AgentBucket, connection: Connection, request: ClientRequest) -> None:
        """Send ``request`` on an idle connection, unless the server has closed it."""
        now = monotonic()
        socket = connection.socket
        # The loop may not have run since the server closed the connection, so only the kernel knows. Early bytes would
        # be taken for the response (RFC 9112, section 9.2).
        if socket.destroyed or socket._has_input():
            # the check itself can have closed a TLS connection, and its empty bucket was removed then
            bucket = self._pool.bucket(request._origin.name)
            bucket.requeue(request, False)
            connection.close()
            self._process_queue(bucket)
            if request in bucket.queue and not request._queued_at:
                self._watch_queued(request)
            return
        self._counts['reused'] += 1
        if request._queued_at:
            self._has_waited(bucket, request, now)
        connection.start(request, True, now)
        request._assign(connection)

    def _has_waited(self, bucket: AgentBucket, request: ClientRequest | Reservation, now: float) -> None:
        waited = now - request._queued_at
        bucket.waited += 1
        bucket.wait_time += waited
        self._counts['waited'] += 1
        self._wait_time += waited
        request._queued_at = 0.0
        if request._expires is not NEVER and not isinstance(request, Reservation):
            request._expires = NEVER
            deadlines(self._hub).forget(request)

    def _open(self, bucket: AgentBucket, request: ClientRequest | Reservation) -> None:
        """Make a connection for ``request``."""
        if request._queued_at:
            self._has_waited(bucket, request, monotonic())
        if isinstance(request, Reservation):
            request._on_granted(self._make_reserved_agent(request))
            return
        create = request._create_connection or self.create_connection
        if getattr(create, '__func__', None) in self._nonblocking_factories:
            try:
                socket = create(request._connect_options())
            except Exception as error:
                # for instance, a certificate file cannot be read
                if request is self._adding:
                    self._pool.connect_failed(bucket, request)
                    self._adding_error = error
                else:
                    self._on_dial_failed(bucket, request, error)
                return
            self._add_connection(bucket, request, socket)
        else:
            # a user's function can block
            request._dial = Dial(
                request,
                create,
                partial(self._on_dialed, bucket, request),
                partial(self._on_dial_failed, bucket, request),
            )

    def _on_dialed(self, bucket: AgentBucket, request: ClientRequest, socket: Socket) -> None:
        request._dial = None
        self._add_connection(bucket, request, socket)

    def _on_dial_failed(self, bucket: AgentBucket, request: ClientRequest, error: BaseException) -> None:
        request._dial = None
        self._pool.connect_failed(bucket, request)
        request._fail(error)
        self._process_queue(bucket)

    def _add_connection(self, bucket: AgentBucket, request: ClientRequest, socket: Socket) -> None:
        self._counts['opened'] += 1
        connection = self._connection_class(self, bucket, request._origin, socket, self._counts['opened'])
        self._pool.connected(bucket, connection, request)
        connection.start(request, False, monotonic())
        if socket.destroyed:
            connection.connection_lost(socket._error)
        else:
            request._assign(connection)

    def _on_connection_closed(self) -> None:
        """Count a connection that was closed."""
        self._counts['closed'] += 1

    # -- queues behind unread responses ---------------------------------------------------------------------------

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`: warn of requests that wait behind unread responses."""
        waiting = [bucket for bucket in self._pool.buckets.values() if bucket.queue]
        if not waiting:
            self._expires = NEVER
            self._warned.clear()
            deadlines(self._hub).forget(self)
            return
        self._expires = now + WARNING_INTERVAL
        for bucket in waiting:
            oldest = next(iter(bucket.queue))
            unread = sum(connection.is_unread_since(now - WARNING_INTERVAL) for connection in bucket.active)
            if unread and oldest._queued_at <= now - WARNING_INTERVAL and bucket.name not in self._warned:
                self._warned.add(bucket.name)
                log.warning(
                    '%d requests to %s wait behind %d unread responses: read, resume() or destroy these',
                    len(bucket.queue),
                    bucket.name,
                    unread,
                )

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def sockets(self) -> dict[str, list[Any]]:
        """A copy of the active connections, by the name of their origin."""
        return {
            name: [connection.socket for connection in bucket.active]
            for name, bucket in self._pool.buckets.items()
            if bucket.active
        }

    @property
    def free_sockets(self) -> dict[str, list[Any]]:
        """A copy of the idle connections, by the name of their origin."""
        return {
            name: [connection.socket for connection in bucket.idle]
            for name, bucket in self._pool.buckets.items()
            if bucket.idle
        }

    @property
    def requests(self) -> dict[str, list[Any]]:
        """A copy of the queued requests, by the name of their origin."""
        return {name: list(bucket.queue) for name, bucket in self._pool.buckets.items() if bucket.queue}

    @property
    def total_socket_count(self) -> int:
        """The number of connections, idle ones included."""
        return self._pool.total

    def _buckets(self) -> tuple[AgentBucket, ...]:
        """Return the connections and the queue of each origin."""
        return tuple(self._pool.buckets.values())

    def _connections(self) -> list[Connection]:
        """Return the active and the idle connections."""
        return [connection for bucket in self._pool.buckets.values() for connection in (*bucket.active, *bucket.idle)]

    def _unsent_requests(self) -> list[ClientRequest | str]:
        """Return the unsent requests that no greenlet waits for.

        A forgotten request is represented by a text.
        """
        forgotten: list[ClientRequest | str] = []
        begun = [
            request
            for bucket in self._buckets()
            for request in (*bucket.queue, *bucket.connecting)
            if not isinstance(request, Reservation)
        ]
        for connection in self._connections():
            socket, request = connection.socket, connection.current_request
            if socket.pending or socket.handshaking or socket._has_queued:
                if request is not None:
                    begun.append(request)
                elif connection.lost_its_request:
                    forgotten.append(f'a request to {connection.origin}')
        return forgotten + [request for request in begun if not request._has_waiters]

    def statistics(self) -> dict[str, float]:
        """Return the counters since the agent was made, and the current numbers.

        - ``requests`` were made; ``failed`` of them had no response, and ``retried`` were sent twice.
        - ``opened`` and ``closed`` are connections; ``reused`` is how often one has served again.
        - ``waited`` requests got a connection after they had been queued, for ``wait_time`` seconds altogether.
        - ``active`` and ``idle`` connections, and ``queued`` requests, exist now; ``longest_wait`` is the time in
          seconds since the first of these was queued.
        """
        buckets = self._pool.buckets.values()
        oldest = min((next(iter(bucket.queue))._queued_at for bucket in buckets if bucket.queue), default=None)
        return {
            **self._counts,
            'wait_time': self._wait_time,
            'longest_wait': 0.0 if oldest is None else monotonic() - oldest,
            'active': sum(len(bucket.active) + len(bucket.connecting) for bucket in buckets),
            'idle': sum(len(bucket.idle) for bucket in buckets),
            'queued': sum(len(bucket.queue) for bucket in buckets),
        }

    # -- the end --------------------------------------------------------------------------------------------------

    def destroy(self) -> None:
        """Destroy every connection; current and queued requests fail. The agent can be used again."""
        check_thread(self._hub, self)
        buckets = self._buckets()
        # first the queues, so that no queued request gets the place of another one
        for bucket in buckets:
            for request in tuple(bucket.queue):
                self._pool.dequeue(bucket, request)
                request._fail(SocketHangUp('socket hang up: the agent was destroyed while the request was queued'))
        for bucket in buckets:
            for request in tuple(bucket.connecting):
                request.destroy()
            for connection in (*bucket.active, *bucket.idle):
                connection.fail(SocketHangUp('socket hang up: the agent was destroyed'))
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()

    def _after_fork_in_child(self) -> None:
        """See :class:`geventnode.net.forks.Forkable`.

        The connections are the parent's: the pool starts empty, and waiting requests fail.
        """
        connections, buckets = self._connections(), self._buckets()
        self._pool = Pool()
        self._delivering.clear()
        self._expires = NEVER
        self._on_option_changed()
        for connection in connections:
            connection._discard_after_fork()
        if is_alive(self._hub):
            for bucket in buckets:
                opening = [request for request in bucket.connecting if not isinstance(request, Reservation)]
                for request in opening:
                    request._dial.cancel()
                # a granted reservation belongs to its own agent, which is registered itself
                for waiting in (*opening, *bucket.queue):
                    waiting._fail(inherited_error())

    def _on_thread_exit(self) -> None:
        """See :class:`geventnode.net.threads.ThreadBound`."""
        self.destroy()

    def _close_descriptors(self) -> None:
        """See :class:`geventnode.net.threads.ThreadBound`: each is a socket's, which is registered itself."""

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *args: object) -> None:
        self.destroy()

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f'<{type(self).__name__} active={now["active"]} idle={now["idle"]} queued={now["queued"]} '
            f'max_sockets={self.max_sockets:g}>'
        )


def _warn_of_unsent() -> None:
    """Log the requests that are unsent when the program ends."""
    for agent in registered(Agent):
        for request in agent._unsent_requests():
            log.warning(
                '%s was not sent before the program ended: call get_response(), or let the loop run, as '
                'gevent.wait() does',
                request,
            )


atexit.register(_warn_of_unsent)


def global_agent(kind: type[Agent] = Agent) -> Agent:
    """Return the global agent of this hub and class."""
    attributes = get_hub().__dict__
    agent: Agent | None = attributes.get(kind._hub_attribute)
    if agent is None:
        agent = attributes[kind._hub_attribute] = kind(proxy_env=_global_environment[0])
    return agent


#: The value of ``proxy_env`` of global agents, present and future ones.
_global_environment: list[dict[str, str] | None] = [None]


def set_global_proxy_from_env(proxy_env: bool | Mapping[str, str] = True) -> Callable[[], None]:
    """Let the global agents use the proxies of an environment.

    All hubs are affected: new requests without an ``agent``, for ``http:`` and ``https:`` URLs, use the proxies.
    Returns a function that restores the earlier proxies.

    :param proxy_env: as of :class:`Agent`: True for the variables of the process, or a mapping.
    :raises InvalidInput: a variable has no URL of a proxy; the error names the variable.
    """
    for protocol in ('http:', 'https:'):
        check_proxy_env(protocol, 'proxy_env', proxy_env)
    before = _global_environment[0]
    variables = os.environ if proxy_env is True else proxy_env or {}
    _set_global_environment(proxy_variables(variables))
    return partial(_set_global_environment, before)


def _set_global_environment(environment: dict[str, str] | None) -> None:
    _global_environment[0] = environment
    for agent in registered(Agent):
        hub = agent._hub
        if hub.__dict__.get(agent._hub_attribute) is agent:
            if hub is get_hub():
                agent.proxy_env = environment
            elif is_alive(hub):
                # the agent belongs to another thread, which also processes its queue
                hub.loop.run_callback_threadsafe(setattr, agent, 'proxy_env', environment)
