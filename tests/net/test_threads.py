"""Test that a call from another thread raises ``WrongThread`` and has no effect."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult, Event

from geventnode import http, https, net, tls
from geventnode.errors import WrongThread
from geventnode.integrations.wsgi import wsgi
from geventnode.interfaces import (
    IAgent,
    IClientRequest,
    IHTTPServer,
    IIncomingMessage,
    IServer,
    IServerResponse,
    ISocket,
    ITLSServer,
    ITLSSocket,
)
from tests.certificates import Certificates
from tests.origins import HELLO, MakeOrigin, Peer, read
from tests.other_threads import in_another_thread
from tests.servers import Log, Serve, post
from tests.sockets import dial, pair, until
from tests.tls_clients import client_of

#: Methods that only return a value, or make an object for the calling thread.
QUESTIONS = {
    'address',
    'create_connection',
    'event_names',
    'get_cipher',
    'get_connections',
    'get_header',
    'get_header_names',
    'get_headers',
    'get_name',
    'get_peer_certificate',
    'get_protocol',
    'has_header',
    'is_paused',
    'listener_count',
    'listeners',
    'statistics',
    'websocket_statistics',
    'verify_peer',
}

#: The arguments of the other methods.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    '__call__': (None, None),
    'add_context': ('a.example',),
    'add_listener': ('error', print),
    'add_trailers': ({'A': 'b'},),
    'also_listen': ({'fd': 0},),
    'append_header': ('A', 'b'),
    'connect': (1,),
    'emit': ('error', ValueError('made up')),
    'on': ('error', print),
    'once': ('error', print),
    'pipe': (None,),
    'prepend_listener': ('error', print),
    'readinto': (bytearray(1),),
    'remove_header': ('A',),
    'remove_listener': ('error', print),
    'reserve': ('http://127.0.0.1:1/',),
    'send_error': (None, 400),
    'send_file': (None,),
    'set_encoding': ('utf-8',),
    'set_header': ('A', 'b'),
    'set_headers': ({'A': 'b'},),
    'set_max_listeners': (1,),
    'set_timeout': (5,),
    'unshift': (b'x',),
    'write': (b'x',),
    'write_early_hints': ({'Link': '</a>'},),
    'write_head': (200,),
    'write_information': (199,),
}


def methods(contract: Any) -> list[str]:
    """Return the names of the methods of ``contract`` that have an effect."""
    return sorted(
        name
        for name, what in contract.namesAndDescriptions(all=True)
        if hasattr(what, 'getSignatureInfo') and name not in QUESTIONS
    )


def state(thing: Any) -> dict[str, Any]:
    """Return the current attributes of ``thing``, with copies of containers."""
    return {
        name: (value.copy() if isinstance(value, dict | list | set) else value) for name, value in vars(thing).items()
    }


def call(thing: Any, name: str, *arguments: Any) -> object:
    """Call the method, iterate over its result, and return the exception."""
    try:
        result = getattr(thing, name)(*(arguments or ARGUMENTS.get(name, ())))
        if inspect.isgenerator(result):
            next(result)
    except BaseException as error:
        return error
    return None


def check(thing: Any, contract: Any, *others: Any) -> None:
    """Call every method of ``thing`` in another thread; neither it nor the ``others`` change."""
    names = methods(contract)
    before = [state(each) for each in (thing, *others)]
    raised = in_another_thread(lambda: [call(thing, name) for name in names])
    assert {name: error for name, error in zip(names, raised, strict=True) if not isinstance(error, WrongThread)} == {}
    for each, was in zip((thing, *others), before, strict=True):
        now = state(each)
        assert {name: value for name, value in now.items() if name not in was or was[name] != value} == {}
        assert now.keys() == was.keys()


# -- the server's side ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('stage', ['before the head', 'within the body'])
def test_an_exchange(serve: Serve, stage: str) -> None:
    """The request, the response, the socket and the server."""
    checked = Log()

    def listener(request: Any, response: Any) -> None:
        if stage == 'within the body':
            assert request.read(1) == b'a'
            response.write_head(200, {'Content-Length': '5'})
            response.write('he')
        things = request, response, request.socket, site.server
        for thing, contract in zip(things, (IIncomingMessage, IServerResponse, ISocket, IHTTPServer), strict=True):
            check(thing, contract, *things)
            checked.append(contract)
        assert request.read() == (b'bc' if stage == 'within the body' else b'abc')
        response.end('llo' if stage == 'within the body' else 'hello')

    site = serve(listener)
    client = site.connect()
    for _ in range(2):
        answer = client.send(post(b'abc')).response()
        assert (answer.status, answer.body) == (200, b'hello')
    assert len(checked) == 8


def test_the_write_callable_of_wsgi(serve: Serve) -> None:
    """It is refused before the head is fixed: the application can still choose another one."""
    raised = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response('404 Not Found', [])
        raised.append(in_another_thread(call, write, '__call__', b'no'))
        assert not environ['geventnode.response'].headers_sent
        start_response('200 OK', [], (ValueError, ValueError(), None))
        return [b'hello']

    answer = serve(wsgi(application)).get()
    assert (answer.status, answer.body) == (200, b'hello')
    assert [type(error) for error in raised] == [WrongThread]


@pytest.mark.parametrize(
    'make',
    [
        lambda files: (net.create_server(), IServer),
        lambda files: (tls.create_server(certfile=files.server), ITLSServer),
        lambda files: (http.create_server(), IHTTPServer),
        lambda files: (https.create_server(certfile=files.server), IHTTPServer),
    ],
    ids=['net', 'tls', 'http', 'https'],
)
def test_a_server(make: Callable[[Certificates], tuple[Any, Any]], certificates: Certificates) -> None:
    server, contract = make(certificates)
    check(server, contract)
    with server.listen(0, '127.0.0.1'):
        check(server, contract)
        assert server.listening
        with contextlib.closing(dial(server)):
            until(server.get_connections)


# -- the client's side ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('reused', [False, True])
def test_a_request_without_a_body(origin: MakeOrigin, agent: Any, reused: bool) -> None:
    go_on = Event()

    def script(peer: Peer) -> None:
        while True:
            if not peer.request().line.startswith('GET /first'):
                go_on.wait()
            peer.send(HELLO)

    pool = agent(keep_alive=True)
    url = origin(script).url
    if reused:
        assert read(f'{url}/first', agent=pool) == b'hello'
    request = http.request(url, agent=pool)
    check(request, IClientRequest, pool)
    request.end()
    until(lambda: request.writable_finished)
    check(request, IClientRequest, pool, request.socket)
    check(request.socket, ISocket, pool, request)
    check(pool, IAgent, request)
    go_on.set()
    response = request.get_response()
    check(response, IIncomingMessage, pool, request)
    assert response.read() == b'hello'
    check(response, IIncomingMessage, pool, request)
    check(request, IClientRequest, pool)


def test_a_request_with_a_body(origin: MakeOrigin, agent: Any) -> None:
    """Half of the body was sent, then half of the response was read."""
    received: AsyncResult = AsyncResult()
    go_on = Event()

    def script(peer: Peer) -> None:
        received.set(peer.request())
        peer.send(HELLO[:-3])
        go_on.wait()
        peer.send(HELLO[-3:])

    pool = agent()
    request = http.request(origin(script).url, method='POST', headers={'Content-Length': '4'}, agent=pool)
    request.write('ab')
    until(lambda: not request.writable_need_drain)
    check(request, IClientRequest, pool)
    request.end('cd')
    response = request.get_response()
    assert response.read(2) == b'he'
    check(response, IIncomingMessage, pool, request)
    go_on.set()
    assert response.read() == b'llo'
    assert received.get().body == b'abcd'


def test_a_queued_request(origin: MakeOrigin, agent: Any) -> None:
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        go_on.wait()
        peer.send(HELLO)

    pool = agent(max_sockets=1)
    url = origin(script).url
    first, second = http.get(url, agent=pool), http.get(url, agent=pool)
    first.socket.wait_connected()
    until(lambda: first.writable_finished)
    check(second, IClientRequest, pool, first)
    check(pool, IAgent, first, second)
    go_on.set()
    assert [request.get_response().read() for request in (first, second)] == [b'hello'] * 2


# -- sockets --------------------------------------------------------------------------------------------------------


def test_a_socket() -> None:
    with pair() as (near, far):
        check(near, ISocket)
        near.write('x')
        assert far.recv(1) == b'x'
        far.sendall(b'y')
        assert near.read(1) == b'y'


def test_a_socket_with_tls(certificates: Certificates) -> None:
    with client_of(certificates.server_context(), ca=certificates.ca) as (near, far):
        check(near, ITLSSocket)
        shaking = gevent.spawn(far.handshake)
        near.wait_connected()
        shaking.get()
        check(near, ITLSSocket)
        near.write('x')
        assert far.recv(1) == b'x'
