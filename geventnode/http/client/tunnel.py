"""Connect through a proxy: to the proxy, with TLS if its URL has ``https:``, and through a tunnel to the origin.

:func:`connect_through` runs in the greenlet of a :class:`~geventnode.http.client.dial.Dial`, so that the
``connect_timeout`` and the ``deadline`` of the request include every step. Each step has errors of its own, which name
the proxy; errors of TLS to the origin keep their class. The error of a limit names the step that was waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from geventnode.errors import ConnectError, GeventnodeError, ParseError, ProxyError, TLSError, without_traceback
from geventnode.net.socket import Socket
from geventnode.protocol import Limits, ResponseParser

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.proxy import ProxiedOrigin, Proxy
    from geventnode.protocol import ResponseHead

__all__ = ['ConnectSteps', 'connect_through']

#: Characters of a proxy's text that an error quotes.
QUOTED = 100


class ConnectSteps:
    """The step of a connect through a proxy that is waited for."""

    __slots__ = ('current',)

    def __init__(self) -> None:
        #: Its description for an error; empty before the connect begins.
        self.current = ''


def connect_through(
    agent: Agent,
    way: ProxiedOrigin,
    limits: Limits,
    create: Callable[..., Any],
    steps: ConnectSteps,
    options: Mapping[str, Any],
) -> Socket:
    """Return a connection for a request. Blocks until it can be used.

    :param agent: the agent of the request.
    :param way: the way of the request.
    :param limits: the limits for the response to CONNECT.
    :param create: the agent's function that connects, or the caller's.
    :param steps: gets the step that is waited for.
    :param options: the options of ``way``.
    :raises ProxyError: the proxy cannot be reached or used.
    :raises TLSError: the handshake with the origin failed.
    """
    proxy = way.proxy
    steps.current = 'a connection to the proxy'
    socket = _connected(agent, proxy, create, options)
    try:
        if way.proxy_tls_settings is not None and not socket.encrypted:
            steps.current = 'the TLS handshake with the proxy'
            socket = way.proxy_tls_settings.wrap(socket, proxy.host)
            _finish_proxy_handshake(socket, proxy)
        if way.target is not None:
            steps.current = f'the response to CONNECT {way.target}'
            _open_tunnel(socket, way, way.target, limits)
        if way.tls_settings is not None:
            steps.current = f'the TLS handshake with {way.target}'
            socket = agent._start_tls(socket, way)
            _finish_handshake(socket, way)
        agent._set_keep_alive_probes(socket)
    except BaseException:
        socket.destroy()
        raise
    return socket


def _connected(agent: Agent, proxy: Proxy, create: Callable[..., Any], options: Mapping[str, Any]) -> Socket:
    """Return a connection to ``proxy``. Blocks until there is one."""
    if getattr(create, '__func__', None) in agent._nonblocking_factories:
        socket = Socket()
        socket.connect(
            proxy.port,
            proxy.host,
            local_address=options['local_address'],
            family=options['family'],
            local_port=options.get('local_port'),
            lookup=options.get('lookup'),
        )
    else:
        socket = create(options)
        if not isinstance(socket, Socket):
            raise TypeError(f'create_connection must return a net.Socket, not {type(socket).__name__}')
    try:
        return socket.wait_connected()
    except BaseException as error:
        socket.destroy()
        if not isinstance(error, OSError):
            raise
        phase = error.phase if isinstance(error, ConnectError) else 'connect'
        raise _failed(proxy, f'no connection: {error.strerror or error}', error, phase) from without_traceback(error)


def _finish_proxy_handshake(socket: Socket, proxy: Proxy) -> None:
    """Block until the handshake with ``proxy`` is over."""
    try:
        socket.wait_connected()
    except OSError as error:
        raise _failed(proxy, f'no TLS to the proxy: {error}', error, 'handshake') from without_traceback(error)


def _finish_handshake(socket: Socket, way: ProxiedOrigin) -> None:
    """Block until the handshake with the origin is over."""
    try:
        socket.wait_connected()
    except TLSError as error:
        error.args = (f'{error} (through the proxy {way.proxy})',)
        way.locate(error, 'handshake')
        raise


def _open_tunnel(socket: Socket, way: ProxiedOrigin, target: str, limits: Limits) -> None:
    """Ask for a tunnel to ``target`` (RFC 9110, section 9.3.6). Blocks until there is one.

    A response is read up to the end of its head, so that ``limits`` bound it.
    """
    proxy = way.proxy
    before = f'before the response to CONNECT {target}'
    head = f'CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n'
    if way.authorization is not None:
        head += f'Proxy-Authorization: {way.authorization}\r\n'
    parser = ResponseParser(limits)
    parser.expect_response_to('CONNECT', False)
    try:
        socket._send(f'{head}\r\n'.encode('latin-1'))
        response = _response_head(socket, parser)
    except ParseError as error:
        problem = f'invalid response to CONNECT {target}: {error}'
        raise _failed(proxy, problem, error, 'tunnel') from without_traceback(error)
    except OSError as error:
        raise _error(proxy, f'connection lost {before}', code='ECONNRESET') from without_traceback(error)
    if response is None:
        raise _error(proxy, f'connection closed {before}', code='ECONNRESET')
    if not 200 <= response.status_code < 300:
        raise _refused(way, target, response)
    if parser.take_rest():
        # no origin speaks first: these bytes are the proxy's, and would be taken for the response of the origin
        raise _error(proxy, f'data after the response to CONNECT {target}')


def _response_head(socket: Socket, parser: ResponseParser) -> ResponseHead | None:
    """Return the head of the final response.

    Blocks until it has arrived. Returns None if the connection ends before.
    """
    while True:
        head: Any = parser.next_event()
        while head is None:
            data = socket._fetch()
            if not data:
                return None
            parser.feed(data)
            head = parser.next_event()
        if head.status_code >= 200 or head.upgrade:
            found: ResponseHead = head
            return found


def _refused(way: ProxiedOrigin, target: str, response: ResponseHead) -> ProxyError:
    """Return the error for a proxy that opens no tunnel."""
    reason = response.status_message
    fields = {name: ', '.join(value) if isinstance(value, list) else value for name, value in response.fields.items()}
    if way.authorization:
        # some proxies show the request in their refusal
        secret = way.authorization.partition(' ')[2] or way.authorization
        reason = reason.replace(secret, '***')
        fields = {name: value.replace(secret, '***') for name, value in fields.items()}
    problem = f'refused a tunnel to {target}: {f"{response.status_code} {reason}".strip()[:QUOTED]}'
    if response.status_code == 407:
        problem += (
            '; its URL needs a user and a password'
            if way.authorization is None
            else '; it does not accept the credentials'
        )
        if challenge := fields.get('proxy-authenticate', ''):
            problem += f' ({challenge[:QUOTED]})'
    return _error(way.proxy, problem, status_code=response.status_code, headers=fields)


def _failed(proxy: Proxy, problem: str, cause: Exception, phase: str | None) -> ProxyError:
    """Return the error for a proxy, with the code of ``cause``."""
    code = cause.code if isinstance(cause, GeventnodeError) else None
    # the caller removes the traceback of the cause: its frames refer to the request, which keeps the error
    return _error(proxy, problem, code=code, phase=phase)


def _error(proxy: Proxy, problem: str, **properties: Any) -> ProxyError:
    error = ProxyError(str(proxy), problem, **properties)
    error.host, error.port = proxy.host, proxy.port
    return error
