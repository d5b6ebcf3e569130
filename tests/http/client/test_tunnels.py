"""CONNECT and upgrades from the client's side."""

from __future__ import annotations

import gc
from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.errors import ParseError, SocketHangUp
from tests.origins import MakeOrigin, Peer
from tests.other_threads import in_another_thread
from tests.servers import Log, Serve
from tests.sockets import settle, until

SWITCH = b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'
UPGRADE = {'Connection': 'Upgrade', 'Upgrade': 'echo'}


def switching(peer: Peer) -> None:
    """Grant the upgrade, send data at once, and echo."""
    request = peer.request()
    assert (request.value('Connection'), request.value('Upgrade')) == ('Upgrade', 'echo')
    peer.send(SWITCH + b'first')
    while data := peer.receive():
        peer.send(data)


def connecting(peer: Peer) -> None:
    """Grant CONNECT, send data at once, and echo."""
    request = peer.request()
    assert request.line == 'CONNECT example.com:443 HTTP/1.1'
    assert request.value('Host')
    # fields without a meaning here (RFC 9110, section 9.3.6)
    peer.send(b'HTTP/1.1 200 Connection Established\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\nfirst')
    while data := peer.receive():
        peer.send(data)


CASES = [
    (switching, {'headers': UPGRADE}, 'upgrade', 101),
    (connecting, {'method': 'CONNECT', 'path': 'example.com:443'}, 'connect', 200),
]


@pytest.mark.parametrize(('script', 'options', 'event', 'status'), CASES, ids=['upgrade', 'connect'])
def test_upgrade_and_connect_are_emitted(
    origin: MakeOrigin, agent: Any, script: Any, options: dict[str, Any], event: str, status: int
) -> None:
    pool = agent(keep_alive=True)
    log = Log()
    request = http.get(origin(script).url, agent=pool, **options)
    request.on('socket', lambda socket: socket.on('agentRemove', log.note('agentRemove')))
    request.on('response', log.note('response')).on('close', log.note('close')).on('error', log.note('error'))

    @request.on(event)
    def granted(response: Any, socket: Any, head: bytes) -> None:
        log.append((response.status_code, head, socket is response.socket, pool.total_socket_count))
        socket.write('ping')
        log.append(socket.read(4))
        socket.destroy()

    log.wait_for('close')
    assert log == ['agentRemove', (status, b'first', True, 0), b'ping', 'close']


@pytest.mark.parametrize(('script', 'options', 'event', 'status'), CASES, ids=['upgrade', 'connect'])
def test_upgrade_and_connect_are_returned(
    origin: MakeOrigin, agent: Any, script: Any, options: dict[str, Any], event: str, status: int
) -> None:
    pool = agent(keep_alive=True)
    response = http.get(origin(script).url, agent=pool, **options).get_response()
    assert (response.status_code, response.upgrade, response.head, response.complete) == (status, True, b'first', True)
    assert response.read() == b''
    assert pool.total_socket_count == 0
    with response.socket as socket:
        socket.write('ping')
        assert socket.read(4) == b'ping'
        socket.end()
        assert socket.read() == b''


@pytest.mark.parametrize('wait', [True, False])
def test_early_upgrade_is_returned(origin: MakeOrigin, wait: bool) -> None:
    request = http.get(origin(switching).url, headers=UPGRADE)
    if wait:
        until(lambda: request.response)
        settle()
    response = request.get_response()
    assert response.upgrade
    response.socket.destroy()


def test_unclaimed_upgrade_closes_the_connection(origin: MakeOrigin) -> None:
    ended = Log()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SWITCH)
        ended.append(peer.closed())

    http.get(origin(script).url, headers=UPGRADE)
    until(lambda: gc.collect() is not None and ended)
    assert ended == [True]


@pytest.mark.parametrize('headers', [UPGRADE, {}])
def test_exchange_is_forgotten_after_its_thread(origin: MakeOrigin, headers: dict[str, str]) -> None:
    """Its hub has no loop then; an error in the garbage collector fails the test."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SWITCH if headers else b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n')
        peer.closed()

    url = origin(script).url

    def fetch() -> http.ClientRequest:
        request = http.get(url, headers=headers)
        until(lambda: request.response)
        return request

    request = in_another_thread(fetch)
    assert request._hub.loop is None
    del request
    gc.collect()


def test_upgrade_without_a_listener_fails_the_request(origin: MakeOrigin) -> None:
    log = Log()
    request = http.get(origin(switching).url, log.note('response'), headers=UPGRADE)
    request.on('error', log.append).on('close', log.note('close'))
    log.wait_for('close')
    assert [type(each) for each in log] == [SocketHangUp, str]


def test_unsolicited_upgrade_fails_the_request(origin: MakeOrigin) -> None:
    with pytest.raises(ParseError, match='101'):
        http.get(origin(SWITCH).url).get_response()


@pytest.mark.parametrize(
    'said',
    [
        b'HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello',
        b'HTTP/1.1 426 Upgrade Required\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello',
    ],
)
def test_rejected_upgrade_is_a_response(origin: MakeOrigin, said: bytes) -> None:
    log = Log()
    request = http.get(origin(said).url, headers=UPGRADE)
    request.on('upgrade', log.note('upgrade'))
    response = request.get_response()
    assert not response.upgrade
    assert response.read() == b'hello'
    assert not log


REFUSED = b'HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nhello'


def test_rejected_connect_is_a_response(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    server = origin(REFUSED)
    for _ in range(2):
        response = http.get(server.url, method='CONNECT', path='example.com:443', agent=pool).get_response()
        assert (response.status_code, response.upgrade, response.read()) == (407, False, b'hello')
    assert server.accepted == 1


def test_rejected_connect_is_emitted_to_the_connect_listener(origin: MakeOrigin) -> None:
    """Node emits 'connect' for every response to CONNECT (class http.ClientRequest)."""
    log = Log()
    request = http.get(origin(REFUSED).url, method='CONNECT', path='example.com:443')

    @request.on('connect')
    def answered(response: Any, socket: Any, head: bytes) -> None:
        log.append((response.status_code, head))
        socket.destroy()

    log.wait_for_length(1)
    assert log == [(407, b'hello')]


def test_path_of_connect_is_an_authority(origin: MakeOrigin) -> None:
    log = Log()

    def script(peer: Peer) -> None:
        log.append(peer.request().line)

    server = origin(script)
    with pytest.raises(SocketHangUp):
        http.get(port=server.port, host='127.0.0.1', method='CONNECT').get_response()
    assert log == [f'CONNECT 127.0.0.1:{server.port} HTTP/1.1']


def test_tunnel_between_client_and_server(serve: Serve) -> None:
    """Data after a FIN of the other side, and half-closing, work end to end."""

    def on_connect(request: Any, socket: Any, head: bytes) -> None:
        socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
        socket.end(head + socket.read())

    site = serve(None)
    site.server.on('connect', on_connect)
    response = http.get(host='127.0.0.1', port=site.where[1], method='CONNECT', path='x:1').get_response()
    response.socket.write(b'a' * 300000)
    written = gevent.spawn(response.socket.end, 'z')
    assert response.socket.read() == b'a' * 300000 + b'z'
    written.get()


def test_tunnel_ends_with_the_peer(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SWITCH)

    response = http.get(origin(script).url, headers=UPGRADE).get_response()
    assert response.socket.read() == b''
    until(lambda: response.socket.destroyed)


@pytest.mark.parametrize(
    ('options', 'host'),
    [
        ({'path': 'example.com:443'}, 'example.com:443'),
        ({'path': '[::1]:443'}, '[::1]:443'),
        ({'path': 'example.com:443', 'headers': {'Host': 'own'}}, 'own'),
        ({'path': 'example.com:443', 'set_host': False}, None),
    ],
)
def test_host_of_connect_is_the_target(origin: MakeOrigin, options: dict[str, Any], host: str | None) -> None:
    """It is not that of the proxy (RFC 9112, section 3.2)."""
    hosts = Log()

    def script(peer: Peer) -> None:
        hosts.append(peer.request().value('Host'))
        peer.send(b'HTTP/1.1 200 OK\r\n\r\n')
        peer.closed()

    http.get(origin(script).url, method='CONNECT', **options).get_response().socket.destroy()
    assert hosts == [host]


@pytest.mark.parametrize('method', ['GET', 'POST'])
def test_upgrade_of_http_1_0_fails_the_request(origin: MakeOrigin, method: str) -> None:
    """HTTP/1.0 has no upgrade (RFC 9110, section 7.8)."""
    server = origin(SWITCH.replace(b'HTTP/1.1', b'HTTP/1.0') + b'of another protocol')
    log = Log()
    request = http.request(server.url, method=method, headers=UPGRADE)
    request.on('upgrade', log.note('upgrade'))
    with pytest.raises(ParseError, match=r'101 Switching Protocols in HTTP/1\.0') as caught:
        request.end().get_response()
    assert caught.value.code == 'HPE_INVALID_STATUS'
    assert not log
