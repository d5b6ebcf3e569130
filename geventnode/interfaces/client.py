"""The contracts of the client and of its pool of connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import Attribute, Interface

from geventnode.interfaces.http import IIncomingMessage, IOutgoingMessage
from geventnode.interfaces.net import ISocket

__all__ = ['IAgent', 'IClientRequest', 'IRequestObserver']


class IClientRequest(IOutgoingMessage):
    """A request to a server; see :class:`geventnode.http.ClientRequest`.

    Emits, besides the events of an outgoing message and in this order: ``'socket'`` (socket), ``'continue'`` (),
    ``'information'`` (head), ``'finish'`` (), then one of ``'response'`` (response), ``'upgrade'`` (response, socket,
    head), ``'connect'`` (response, socket, head) and ``'error'`` (exception); at last ``'close'`` (). ``'timeout'`` ()
    is emitted after inactivity.

    A context manager: it returns the response, and destroys it at the end of the block unless it was read completely.
    """

    method: str = Attribute('The method, in upper case.')
    host: str = Attribute('The host to which the request connects.')
    path: str = Attribute('The request-target.')
    protocol: str = Attribute("'http:' or 'https:'.")
    agent: IAgent = Attribute('The agent that provides the connection.')
    response: IIncomingMessage | None = Attribute('The response, as soon as its head has arrived.')
    reused_socket: bool = Attribute('Whether the connection served another request before.')
    aborted: bool = Attribute('Whether abort() was called.')
    should_keep_alive: bool = Attribute('Whether this side allows another request on the connection.')
    max_headers_count: int = Attribute('Fields in the head of the response; more are an error; 0: no limit. 1000.')

    def get_response(timeout: float | None = None) -> IIncomingMessage:
        """Return the response; see :meth:`geventnode.http.ClientRequest.get_response`."""

    def wait_continue(timeout: float | None = None) -> bool:
        """Wait for ``100 Continue``; see :meth:`geventnode.http.ClientRequest.wait_continue`."""

    def abort() -> None:
        """Give up the request; see :meth:`geventnode.http.ClientRequest.abort`."""

    def set_no_delay(no_delay: bool = True) -> None:
        """Set TCP_NODELAY; see :meth:`geventnode.http.ClientRequest.set_no_delay`."""

    def set_socket_keep_alive(enable: bool = False, initial_delay: float = 0) -> None:
        """Set SO_KEEPALIVE; see :meth:`geventnode.http.ClientRequest.set_socket_keep_alive`."""


class IRequestObserver(Interface):
    """A listener for the requests of an agent; see :class:`geventnode.http.RequestObserver`."""

    def request_began(request: IClientRequest) -> None:
        """Note the beginning, or add fields; see :meth:`geventnode.http.RequestObserver.request_began`."""

    def request_ended(request: IClientRequest, error: BaseException | None) -> None:
        """Note the end; see :meth:`geventnode.http.RequestObserver.request_ended`."""


class IAgent(Interface):
    """A pool of connections; see :class:`geventnode.http.Agent`.

    A context manager: it destroys its connections at the end of the block.
    """

    protocol: str = Attribute("'http:' or 'https:', the protocol of the requests that it serves.")
    max_sockets: float = Attribute('Connections to one origin; more requests wait. 5.')
    max_total_sockets: float = Attribute('Connections to all origins together. No limit.')
    max_free_sockets: int = Attribute('Idle connections to one origin that are kept. 256.')
    max_total_free_sockets: float = Attribute(
        'Idle connections to all origins together that are kept; above it, one of the origin that has not been used '
        'for longest is closed. None: no limit. 256.'
    )
    max_queued: int | None = Attribute('Requests that can wait for one origin; more raise QueueFull. No limit.')
    keep_alive: bool = Attribute('Whether a connection is kept that no request waits for. False.')
    scheduling: str = Attribute("The idle connection that is used first: 'lifo', the last one used, or 'fifo'. 'lifo'.")
    timeout: float | None = Attribute(
        'Seconds for which an idle connection is kept; a shorter hint of the server wins.'
    )
    agent_keep_alive_timeout_buffer: float = Attribute(
        "Seconds by which a server's hint for idle connections is shortened. 1."
    )
    keep_alive_initial_delay: float | None = Attribute(
        'Seconds without traffic before the system probes a connection (SO_KEEPALIVE), with keep_alive only; None: '
        'never. 60.'
    )
    debug_connections: bool = Attribute(
        'Whether the events of each connection, open ones included, are logged by the logger '
        '``geventnode.connection`` at level DEBUG. False.'
    )
    proxy: Any = Attribute('The HTTP proxy of all requests; its text is the URL without credentials. None.')
    no_proxy: Any = Attribute('The origins that are reached without the proxy. None: those of ``proxy_env``.')
    proxy_env: Any = Attribute('The proxies of an environment, for requests if there is no ``proxy``. None.')
    proxy_tls: dict[str, Any] | None = Attribute('TLS options for the connection to an ``https:`` proxy. None.')
    sockets: dict[str, list[ISocket]] = Attribute('The active connections, by the name of their origin; a copy.')
    free_sockets: dict[str, list[ISocket]] = Attribute('The idle connections, by the name of their origin; a copy.')
    requests: dict[str, list[IClientRequest]] = Attribute('The queued requests, by the name of their origin; a copy.')
    total_socket_count: int = Attribute('The number of connections, idle ones included.')

    def get_name(options: Mapping[str, Any]) -> str:
        """Return the name of an origin; see :meth:`geventnode.http.Agent.get_name`."""

    def create_connection(options: Mapping[str, Any]) -> ISocket:
        """Return a socket for a new connection; see :meth:`geventnode.http.Agent.create_connection`."""

    def reserve(url_or_options: str | Mapping[str, Any], timeout: float | None = None) -> IAgent:
        """Return an agent with one connection of its own; see :meth:`geventnode.http.Agent.reserve`."""

    def statistics() -> dict[str, float]:
        """Return counters and current numbers; see :meth:`geventnode.http.Agent.statistics`."""

    def destroy() -> None:
        """Destroy every connection; see :meth:`geventnode.http.Agent.destroy`."""
