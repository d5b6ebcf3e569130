"""The agent: it has the pool's decisions carried out, and tells of what is in it."""

from __future__ import annotations

import atexit
import logging
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from gevent import get_hub
from zope.interface import implementer

from geventnode.errors import GeventnodeError, QueueFull, SocketHangUp
from geventnode.http.client.agent_settings import AgentSettings
from geventnode.http.client.connection import Connection
from geventnode.http.client.dial import Dial
from geventnode.http.client.origin import Origin, origin_from_options, parse_url
from geventnode.http.client.phase import ConnectionState
from geventnode.http.client.pool import Action, Bucket, Decision, Pool
from geventnode.http.client.reservation import Reservation
from geventnode.http.client.trace import TracedConnection
from geventnode.http.connection_log import ConnectionLog
from geventnode.interfaces import IAgent
from geventnode.net.connecting import connect_error
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.descriptors import register_spare
from geventnode.net.forks import inherited_error, register, registered
from geventnode.net.socket import Socket
from geventnode.net.threads import check_thread, is_alive
from geventnode.options import Option, apply_options

if TYPE_CHECKING:
    from geventnode.http.client.request import ClientRequest

__all__ = ['Agent', 'global_agent']

log = logging.getLogger('geventnode.error')

#: Seconds that a queue stands still behind unread responses before a warning says so.
WARNING_INTERVAL = 5.0

AgentBucket = Bucket[Any, Connection]


@implementer(IAgent)
class Agent(AgentSettings):
    """See :class:`geventnode.interfaces.IAgent`. The options are its attributes."""

    protocol: ClassVar[str] = 'http:'
    #: Where a hub keeps the global one.
    _kept_as: ClassVar[str] = '_geventnode_global_agent'

    _connection_class: type[Connection] = Connection
    #: The place in another agent that the only connection of this one takes.
    _place: Reservation | None = None

    def __init__(self, **options: Any) -> None:
        self._hub = get_hub()
        self._expires = NEVER
        self._pool: Pool[Any, Connection] = Pool()
        #: Whether decisions are being carried out, and for what else that has brought about something to decide.
        self._processing = False
        self._unprocessed: OrderedDict[AgentBucket, None] = OrderedDict()
        #: The request that is being added, and the error that prevents a connection for it: its caller gets that.
        self._adding: ClientRequest | None = None
        self._refusal: Exception | None = None
        self._counts = dict.fromkeys(('requests', 'opened', 'closed', 'reused', 'retried', 'failed', 'waited'), 0)
        self._wait_time = 0.0
        self._warned: set[str] = set()
        #: Connections whose exchange is complete, and that are kept for its listeners.
        self._delivering: set[Connection] = set()
        self._connection_log = ConnectionLog()
        apply_options(self, options)
        self._on_option_changed()
        register(self, self._hub)
        register_spare(self, self._hub)

    def _on_option_changed(self) -> None:
        """See :class:`geventnode.options.Configurable`."""
        pool = self._pool
        pool.max_sockets = self.max_sockets
        pool.max_total_sockets = self.max_total_sockets
        pool.max_free_sockets = self.max_free_sockets
        pool.max_total_free_sockets = self.max_total_free_sockets
        pool.keep_alive = self.keep_alive
        pool.lifo = self.scheduling == 'lifo'
        self._idle_limit = self.timeout
        self._max_queued = self.max_queued
        told = TracedConnection if self.debug_connections else Connection
        if self._connection_class is not told:
            # also those that are open: both classes keep the same
            self._connection_class = told
            for connection in self._connections():
                connection.__class__ = told
        for bucket in self._buckets():
            self._process_queue(bucket)

    def get_name(self, options: Mapping[str, Any]) -> str:
        return self._origin_of(options).name

    def _origin_of(self, url_or_options: str | Mapping[str, Any]) -> Origin:
        """Return where a request with these options, or for this URL, goes."""
        if isinstance(url_or_options, str):
            return parse_url(url_or_options).origin
        return origin_from_options(url_or_options)

    def create_connection(self, options: Mapping[str, Any]) -> Any:
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
        )

    #: Ways to make a connection of which it is known that they never wait.
    _nonblocking_factories: ClassVar[tuple[Any, ...]] = (create_connection,)

    def _set_keep_alive_probes(self, socket: Socket) -> None:
        """Let the system probe ``socket`` while it is idle, if this agent keeps idle connections."""
        delay = self.keep_alive_initial_delay
        if self.keep_alive and delay is not None:
            socket.set_keep_alive(True, delay)
        elif not socket.pending:
            socket.set_keep_alive()

    # -- requests -------------------------------------------------------------------------------------------------

    def _add_request(self, request: ClientRequest) -> None:
        """Send ``request``, which has checked the thread, as soon as there is a connection for it.
        Raises ``QueueFull``, and ``InvalidInput`` for files that cannot be used."""
        self._counts['requests'] += 1
        pool = self._pool
        bucket = pool.buckets.get(request._origin.name)
        if bucket is None:
            bucket = pool.bucket(request._origin.name)
        connection = pool.take_idle(bucket)
        if connection is not None:
            self._reuse(bucket, connection, request)
        else:
            limit = self._max_queued
            if limit is not None and len(bucket.queue) >= limit and pool.must_wait(bucket):
                self._counts['failed'] += 1
                raise self._queue_full(request._origin)
            bucket.queue[request] = False
            self._adding = request
            self._process_queue(bucket)
            self._adding = None
            if self._refusal is not None:
                error, self._refusal = self._refusal, None
                self._counts['failed'] += 1
                raise error
        if bucket.queue and request in bucket.queue:
            self._watch_queued(request)

    def _has_queued(self, bucket: AgentBucket) -> bool:
        """Return whether a request waits for a connection that ``bucket`` could give back."""
        return bool(bucket.queue or self._pool.starving or self._pool.blocked)

    def _watch_queued(self, request: ClientRequest | Reservation) -> None:
        request._on_queued()
        for connection in self._delivering:
            connection.release_soon()
        if self._expires is NEVER:
            self._expires = monotonic() + WARNING_INTERVAL
            deadlines(self._hub).watch(self)

    def reserve(self, url_or_options: Any, timeout: float | None = None) -> Agent:
        check_thread(self._hub, self)
        reservation = Reservation(self, self._origin_of(url_or_options))
        bucket = self._pool.bucket(reservation._origin.name)
        # a connection that was used before might belong to another user
        bucket.queue[reservation] = True
        self._process_queue(bucket)
        if reservation in bucket.queue:
            self._watch_queued(reservation)
            limit = self._max_queued
            if limit is not None and len(bucket.queue) > limit:
                self._cancel(reservation)
                raise self._queue_full(reservation._origin)
        reservation.wait(timeout)
        assert reservation.holder is not None
        return reservation.holder

    def _queue_full(self, origin: Origin) -> QueueFull:
        return QueueFull(f'{self._max_queued} requests wait for {origin} already (max_queued)')

    def _make_holder(self, place: Reservation) -> Agent:
        """Return the agent that uses ``place``."""
        holder = type(self)(**{**self._settings(), 'max_sockets': 1, 'max_total_sockets': 1, 'keep_alive': True})
        if 'create_connection' in vars(self):
            vars(holder)['create_connection'] = self.create_connection
        holder._place = place
        return holder

    def _settings(self) -> dict[str, Any]:
        """Return the options with which another agent is as this one."""
        return {
            name: getattr(self, name) for name in vars(AgentSettings) if isinstance(vars(AgentSettings)[name], Option)
        }

    def _cancel(self, request: ClientRequest | Reservation) -> None:
        """``request`` waits no more."""
        bucket = self._pool.buckets.get(request._origin.name)
        if bucket is not None:
            if request in bucket.connecting:
                if not isinstance(request, Reservation):
                    request._dial.cancel()
                    request._dial = None
                self._pool.connect_failed(bucket, request)
            self._pool.dequeue(bucket, request)
            self._process_queue(bucket)

    def _on_connection_lost(self, connection: Connection, request: ClientRequest, error: BaseException | None) -> None:
        """``connection`` is gone before a response to ``request`` has begun."""
        if connection.reused and not connection.received_any and request._prepare_retry(error):
            # RFC 9110, section 9.2.2: the server had closed it, and the request is sent again, once
            self._counts['retried'] += 1
            bucket = self._pool.bucket(request._origin.name)
            bucket.requeue(request, True)
            self._pool.remove(connection.bucket, connection)
            # the connection may have left the pool before, and its bucket was forgotten then
            self._process_queue(bucket)
            if request in bucket.queue:
                self._watch_queued(request)
            return
        socket = connection.socket
        if error is None or (isinstance(error, OSError) and not isinstance(error, GeventnodeError)):
            where = request._origin
            if error is not None and socket.pending:
                # nobody can have closed what never was
                error = (
                    connect_error(error, where.host, where.port)
                    if where.socket_path is None
                    else connect_error(error, where.socket_path, None)
                )
            else:
                hang_up = SocketHangUp(f'socket hang up: {where} closed the connection without a response')
                hang_up.__cause__ = error
                error = hang_up
        request._origin.locate(
            error, 'connect' if socket.pending else 'handshake' if socket.handshaking else 'response'
        )
        request._fail(error)
        self._remove(connection)

    def _on_request_failed(self) -> None:
        """A request had no response."""
        self._counts['failed'] += 1

    # -- connections ----------------------------------------------------------------------------------------------

    def _put_idle(self, connection: Connection) -> None:
        """``connection`` can serve another request."""
        bucket = connection.bucket
        limit = connection.idle_limit
        if connection not in bucket.busy or (limit is not None and limit <= 0):
            connection.close()
            return
        pool = self._pool
        pool.put_idle(bucket, connection)
        if not pool.should_keep_idle(bucket):
            self._process_queue(bucket)
        own = self._idle_limit
        if (own is not None or limit is not None) and connection.state is ConnectionState.IDLE:
            connection.set_idle_deadline(own if limit is None else limit if own is None else min(own, limit))

    def _close_longest_idle(self, count: int) -> int:
        """See :class:`geventnode.net.descriptors.Spare`."""
        closed = 0
        while closed < count and (decision := self._pool.close_idle()) is not None:
            self._apply(decision)
            closed += 1
        return closed

    def _remove(self, connection: Connection) -> None:
        """``connection`` is gone, or somebody else's."""
        self._pool.remove(connection.bucket, connection)
        self._process_queue(connection.bucket)

    def _process_queue(self, bucket: AgentBucket) -> None:
        """Do whatever can be done for ``bucket``, after those that wait for a place among all connections. Called by
        what that brings about, it leaves the rest to the call in work."""
        if self._processing:
            # each connection that is closed comes here, and hundreds within each other would be too deep
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
        """Send ``request`` on a connection that was idle, unless that turns out to be dead."""
        now = monotonic()
        socket = connection.socket
        # The loop may not have run since the peer closed, or sent bytes that would pass for the response (RFC 9112,
        # section 9.2): only the kernel knows.
        if socket.destroyed or socket._has_input():
            # of TLS, looking alone may have ended it, and its bucket was forgotten then
            bucket = self._pool.bucket(request._origin.name)
            bucket.requeue(request, False)
            connection.close()
            self._process_queue(bucket)
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
            request._on_granted(self._make_holder(request))
            return
        create = request._create_connection or self.create_connection
        if getattr(create, '__func__', None) in self._nonblocking_factories:
            try:
                socket = create(request._origin.options)
            except Exception as error:
                # a file of certificates cannot be used, for instance
                if request is self._adding:
                    self._pool.connect_failed(bucket, request)
                    self._refusal = error
                else:
                    self._not_made(bucket, request, error)
                return
            self._use(bucket, request, socket)
        else:
            # somebody else's function may wait
            request._dial = Dial(
                request, create, partial(self._made, bucket, request), partial(self._not_made, bucket, request)
            )

    def _made(self, bucket: AgentBucket, request: ClientRequest, socket: Socket) -> None:
        request._dial = None
        self._use(bucket, request, socket)

    def _not_made(self, bucket: AgentBucket, request: ClientRequest, error: BaseException) -> None:
        request._dial = None
        self._pool.connect_failed(bucket, request)
        request._fail(error)
        self._process_queue(bucket)

    def _use(self, bucket: AgentBucket, request: ClientRequest, socket: Socket) -> None:
        self._counts['opened'] += 1
        connection = self._connection_class(self, bucket, request._origin, socket, self._counts['opened'])
        self._pool.connected(bucket, connection, request)
        connection.start(request, False, monotonic())
        if socket.destroyed:
            connection.connection_lost(socket._error)
        else:
            request._assign(connection)

    def _on_connection_closed(self) -> None:
        """A connection was closed."""
        self._counts['closed'] += 1

    # -- queues that stand still ----------------------------------------------------------------------------------

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`: look whether requests wait behind unread responses."""
        waiting = [bucket for bucket in self._pool.buckets.values() if bucket.queue]
        if not waiting:
            self._expires = NEVER
            self._warned.clear()
            deadlines(self._hub).forget(self)
            return
        self._expires = now + WARNING_INTERVAL
        for bucket in waiting:
            oldest = next(iter(bucket.queue))
            unread = sum(connection.is_unread_since(now - WARNING_INTERVAL) for connection in bucket.busy)
            if unread and oldest._queued_at <= now - WARNING_INTERVAL and bucket.name not in self._warned:
                self._warned.add(bucket.name)
                log.warning(
                    '%d requests to %s wait behind %d responses that nobody reads: read, resume() or destroy them',
                    len(bucket.queue),
                    bucket.name,
                    unread,
                )

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def sockets(self) -> dict[str, list[Any]]:
        return {
            name: [connection.socket for connection in bucket.busy]
            for name, bucket in self._pool.buckets.items()
            if bucket.busy
        }

    @property
    def free_sockets(self) -> dict[str, list[Any]]:
        return {
            name: [connection.socket for connection in bucket.idle]
            for name, bucket in self._pool.buckets.items()
            if bucket.idle
        }

    @property
    def requests(self) -> dict[str, list[Any]]:
        return {name: list(bucket.queue) for name, bucket in self._pool.buckets.items() if bucket.queue}

    @property
    def total_socket_count(self) -> int:
        return self._pool.total

    def _buckets(self) -> tuple[AgentBucket, ...]:
        """Return what there is for each destination."""
        return tuple(self._pool.buckets.values())

    def _connections(self) -> list[Connection]:
        """Return those in use and those that are idle."""
        return [connection for bucket in self._pool.buckets.values() for connection in (*bucket.busy, *bucket.idle)]

    def _unsent_requests(self) -> list[ClientRequest]:
        """Return the requests that have not been sent as a whole, and that nothing waits for."""
        begun = [
            request
            for bucket in self._buckets()
            for request in (*bucket.queue, *bucket.connecting)
            if not isinstance(request, Reservation)
        ]
        for connection in self._connections():
            socket, request = connection.socket, connection.request
            if request is not None and (socket.pending or socket.handshaking or socket._has_queued):
                begun.append(request)
        return [request for request in begun if not request._has_waiters]

    def statistics(self) -> dict[str, float]:
        buckets = self._pool.buckets.values()
        oldest = min((next(iter(bucket.queue))._queued_at for bucket in buckets if bucket.queue), default=None)
        return {
            **self._counts,
            'wait_time': self._wait_time,
            'longest_wait': 0.0 if oldest is None else monotonic() - oldest,
            'active': sum(len(bucket.busy) + len(bucket.connecting) for bucket in buckets),
            'idle': sum(len(bucket.idle) for bucket in buckets),
            'queued': sum(len(bucket.queue) for bucket in buckets),
        }

    # -- the end --------------------------------------------------------------------------------------------------

    def destroy(self) -> None:
        check_thread(self._hub, self)
        buckets = self._buckets()
        # nobody may get the place of another
        for bucket in buckets:
            for request in tuple(bucket.queue):
                self._pool.dequeue(bucket, request)
                request._fail(SocketHangUp('socket hang up: the agent was destroyed while the request was queued'))
        for bucket in buckets:
            for request in tuple(bucket.connecting):
                request.destroy()
            for connection in (*bucket.busy, *bucket.idle):
                connection.fail(SocketHangUp('socket hang up: the agent was destroyed'))
        place, self._place = self._place, None
        if place is not None:
            place.release()

    def _after_fork_in_child(self) -> None:
        """See :class:`geventnode.net.forks.Forkable`: the connections are the parent's, the pool starts empty, and
        requests that wait for something fail."""
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
                # a place that was given away is left to its holder, which is registered itself
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
    """Name the requests that end with the program, which would seem to have been made."""
    for agent in registered(Agent):
        for request in agent._unsent_requests():
            log.warning(
                '%r was not sent before the program ended: call get_response(), or let the loop run, as '
                'gevent.wait() does',
                request,
            )


atexit.register(_warn_of_unsent)


def global_agent(kind: type[Agent] = Agent) -> Agent:
    """Return the agent of this hub and of that class, made when first asked for."""
    kept = get_hub().__dict__
    agent: Agent | None = kept.get(kind._kept_as)
    if agent is None:
        agent = kept[kind._kept_as] = kind()
    return agent
