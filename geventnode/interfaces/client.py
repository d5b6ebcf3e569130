"""The contracts of the client and of its pool of connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import Attribute, Interface

from geventnode.interfaces.http import IIncomingMessage, IOutgoingMessage
from geventnode.interfaces.net import ISocket

__all__ = ['IAgent', 'IClientRequest']


class IClientRequest(IOutgoingMessage):
    """A request that is made. Returned by ``http.request``, never made by its users.

    Nothing is sent before the first :meth:`write`, :meth:`end` or :meth:`flush_headers`. Each request ends in exactly
    one way: a response, or one error, which :meth:`get_response` raises and ``'error'`` brings; an error that nobody
    asked for is logged once. Whatever is still under way when nothing refers to the request and its response any more
    is discarded.

    A context manager over the response: ``with http.get(url) as response:`` waits for it, and destroys what was not
    read.

    Events, in this order: ``'socket'`` (socket) when it has a connection, ``'continue'`` (), ``'information'`` (head)
    for each informational response, ``'finish'`` () when it went to the kernel, then one of ``'response'`` (response),
    ``'upgrade'`` (response, socket, head), ``'connect'`` (response, socket, head), ``'error'`` (exception). ``'close'``
    () when the connection went before the exchange was over, or was handed over. ``'timeout'`` () after inactivity.
    The connection is that of this request until the ``'response'`` listeners have returned and, if one of them consumes
    the response by events, ``'end'`` was emitted.
    """

    method: str = Attribute('The method, in upper case.')
    host: str = Attribute('The host that is connected to.')
    path: str = Attribute('The request-target.')
    protocol: str = Attribute("'http:' or 'https:'.")
    agent: IAgent = Attribute('Whose connections are used.')
    response: IIncomingMessage | None = Attribute('The response, as soon as its head is here.')
    reused_socket: bool = Attribute('Whether the connection served another request before.')
    aborted: bool = Attribute('Whether abort() was called.')
    should_keep_alive: bool = Attribute('Whether this side lets the connection live on afterwards.')
    max_headers_count: int = Attribute('Fields of a response; more are an error; 0: no limit but the size. 1000.')

    def get_response(timeout: float | None = None) -> IIncomingMessage:
        """Return the response when its head is here. For an upgrade, and for CONNECT that was granted, it has
        ``upgrade`` true, and the connection is the caller's: ``socket``, and in ``head`` what came behind it. May
        switch.

        Raises ``RuntimeError`` unless :meth:`end` was called or the head was sent, and the error of the request:
        ``ConnectError``, ``SocketHangUp``, ``ParseError``, ``RequestTimeout`` (also after ``timeout`` seconds in this
        call), ``RequestAborted``. Leaving it by any exception destroys the request.
        """

    def wait_continue(timeout: float | None = None) -> bool:
        """Send the head, and wait for ``100 Continue``; return whether the body shall be sent: not when the final
        response is here already. After ``timeout`` seconds without any answer it shall (RFC 9110, section 10.1.1). May
        switch. Raises as :meth:`get_response` does."""

    def abort() -> None:
        """Give the request up: it leaves the queue, or its connection is destroyed. ``'close'`` follows, no
        ``'error'``; whoever waits gets ``RequestAborted``."""

    def set_no_delay(no_delay: bool = True) -> None:
        """Set TCP_NODELAY (on by default here) as soon as there is a connection."""

    def set_socket_keep_alive(enable: bool = False, initial_delay: float = 0) -> None:
        """Set SO_KEEPALIVE as soon as there is a connection, with the first probe after ``initial_delay`` seconds if
        not 0."""


class IAgent(Interface):
    """A pool of connections, and the queues of the requests that wait for one.

    It belongs to the hub of the thread that made it. A context manager: leaving it destroys its connections.
    """

    protocol: str = Attribute("'http:' or 'https:': whose requests it serves.")
    max_sockets: float = Attribute('Connections to one destination at once; more requests wait. 5.')
    max_total_sockets: float = Attribute('Connections at once, of all destinations together. No limit.')
    max_free_sockets: int = Attribute('Idle connections to one destination that are kept. 256.')
    max_total_free_sockets: float = Attribute(
        'Idle connections to all destinations together that are kept; beyond, one of the destination that has not been '
        'used for longest is closed. None: no limit. 256.'
    )
    max_queued: int | None = Attribute('Requests that may wait for one destination; more raise QueueFull. No limit.')
    keep_alive: bool = Attribute('Whether connections that nobody waits for are kept. False.')
    scheduling: str = Attribute("Which idle connection is taken: 'lifo', the last one used, or 'fifo'. 'lifo'.")
    timeout: float | None = Attribute('Seconds that an idle connection is kept; a shorter hint of the server wins.')
    keep_alive_initial_delay: float | None = Attribute(
        'Seconds without traffic before the system probes a connection (SO_KEEPALIVE), if keep_alive is on; None: it '
        'does not. 60.'
    )
    debug_connections: bool = Attribute(
        'Tell the logger ``geventnode.connection`` (DEBUG) what happens on each connection, those that are open '
        'included; can be switched on and off at any time. False.'
    )
    sockets: dict[str, list[ISocket]] = Attribute('Connections in use, by name; a copy.')
    free_sockets: dict[str, list[ISocket]] = Attribute('Idle connections, by name; a copy.')
    requests: dict[str, list[IClientRequest]] = Attribute('Requests that wait, by name; a copy.')
    total_socket_count: int = Attribute('How many connections there are, idle ones included.')

    def get_name(options: Mapping[str, Any]) -> str:
        """Return the name of a destination: ``'host:port'``, with ``:local_address``, the family and the socket path
        appended where given, and a digest of the TLS settings where they are not the usual ones. Connections are shared
        by requests of one name."""

    def create_connection(options: Mapping[str, Any]) -> ISocket:
        """Return a socket that connects, or is connected, to ``options['host']`` and ``['port']``, or to the Unix
        socket at ``['socket_path']``. To be replaced; it may switch, within the request's ``connect_timeout`` and
        ``deadline``: then, and when the request is given up, ``GreenletExit`` is raised in it."""

    def reserve(url_or_options: str | Mapping[str, Any], timeout: float | None = None) -> IAgent:
        """Return an agent that has one connection, which no other request gets, for requests to the destination of a
        URL or of a mapping of options. May switch: blocks until this agent has a place for it, in the order of the
        queue.

        It is for authentication that is bound to a connection (RFC 4559, section 6). The agent is of the same class and
        has the same options, but for ``max_sockets`` and ``max_total_sockets``, which are 1, and ``keep_alive``. Use it
        in a ``with`` block: ``destroy()`` closes the connection, which may be authenticated, and gives the place back.

        :param timeout: seconds to wait for the place; None for any number.

        Raises ``RequestTimeout`` after that, ``QueueFull``, ``InvalidInput``, ``TypeError``, ``WrongThread``.
        """

    def statistics() -> dict[str, float]:
        """Return what was counted since the agent was made, and what there is now.

        ``requests`` were made, ``opened`` and ``closed`` connections, ``reused`` times one served again, ``retried``
        requests were sent twice, ``failed`` ones had no response; ``waited`` got a connection after having queued for
        one, ``wait_time`` seconds in all; ``active``, ``idle`` and ``queued`` are now, and ``longest_wait`` is how many
        seconds the first of the queued has waited.
        """

    def destroy() -> None:
        """Destroy every connection; requests in work and in the queue fail. The agent can be used again."""
