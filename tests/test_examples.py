"""The examples that run in one process: each is run as a program, and tested with difficult peers.

The reverse proxy has its own file; examples that need other programs are in ``tests/system``.
"""

from __future__ import annotations

import socket as stdlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from contrib.examples import connect_proxy, crawl, upgrade
from geventnode import http
from tests.origins import MakeOrigin, Peer
from tests.servers import Log, Serve, Site, get, ok

NO_WSPROTO = 'wsproto is not installed; it is in the extra "test"'


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections during the test."""
    with stdlib.socket() as bound:
        bound.bind(('127.0.0.1', 0))
        yield bound.getsockname()[1]


@pytest.fixture
def websocket_echo() -> Any:
    """The module, which needs one more package than the others."""
    pytest.importorskip('wsproto', reason=NO_WSPROTO)
    from contrib.examples import websocket_echo

    return websocket_echo


@pytest.mark.parametrize('example', [connect_proxy, crawl, upgrade])
def test_example_prints_a_result(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """An example prints a result and no error."""
    example.main()
    printed = capsys.readouterr()
    assert printed.out
    assert printed.err == ''


# -- connect_proxy ----------------------------------------------------------------------------------------------------


def connected(site: Site, port: int) -> Any:
    """Return a client behind the tunnel to ``port``."""
    client = site.send(f'CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n'.encode())
    assert client.head().status == 200
    return client


def test_connect_proxy_tunnels_a_request(serve: Serve) -> None:
    proxy = serve(connect_proxy.create_proxy())
    origin = serve(ok)
    answer = connect_proxy.fetch(proxy.where[1], f'127.0.0.1:{origin.where[1]}')
    assert answer.startswith(b'HTTP/1.1 200 OK\r\n')
    assert answer.endswith(b'\r\n\r\nGET /')


def test_connect_proxy_responds_to_other_methods(serve: Serve) -> None:
    assert serve(connect_proxy.create_proxy()).get().body == b'okay'


def test_connect_proxy_reports_a_missing_origin(serve: Serve, dead_port: int) -> None:
    """The client gets a 502, and ``fetch`` raises."""
    proxy = serve(connect_proxy.create_proxy())
    with pytest.raises(ConnectionError, match=r'no tunnel to .*: 502'):
        connect_proxy.fetch(proxy.where[1], f'127.0.0.1:{dead_port}')
    answer = proxy.send(get(f'127.0.0.1:{dead_port}', method='CONNECT')).response()
    assert answer.status == 502
    assert b'Connection refused' in answer.body


def test_missing_connect_proxy_raises(dead_port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        connect_proxy.fetch(dead_port, '127.0.0.1:1')


def test_connect_proxy_ends_each_direction_separately(serve: Serve, origin: MakeOrigin) -> None:
    """A client that has shut down its sending side still receives the response."""
    size = 3_000_000
    client = connected(serve(connect_proxy.create_proxy()), origin(lambda peer: peer.send(peer.rest())).port)
    sender = gevent.spawn(lambda: client.send(bytes(size)).half_close())
    assert client.rest() == bytes(size)
    sender.get()


def test_connect_proxy_closes_the_origin(serve: Serve, origin: MakeOrigin) -> None:
    """The client resets its connection."""
    log = Log()

    def script(peer: Peer) -> None:
        peer.exactly(5)
        peer.rest()
        log.append('closed')

    client = connected(serve(connect_proxy.create_proxy()), origin(script).port)
    client.send(b'hello').abort()
    log.wait_for('closed')


def test_connect_proxy_closes_the_client(serve: Serve, origin: MakeOrigin) -> None:
    """The origin resets its connection."""

    def script(peer: Peer) -> None:
        peer.exactly(5)
        peer.abort()

    client = connected(serve(connect_proxy.create_proxy()), origin(script).port)
    assert client.send(b'hello').rest() == b''


# -- upgrade ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [0, 5, 5_000_000])
def test_upgrade_echoes(serve: Serve, size: int) -> None:
    site = serve(upgrade.create_server())
    assert upgrade.shout(site.where[1], bytes(size)) == bytes(size)
    assert site.get().body == b'okay'


def test_upgrade_keeps_early_data(serve: Serve) -> None:
    client = serve(upgrade.create_server()).send(get('/', 'Connection: Upgrade', 'Upgrade: echo') + b'early')
    assert client.head().status == 101
    assert client.send(b' and late').exactly(14) == b'early and late'
    client.abort()


def test_refused_upgrade_raises(serve: Serve) -> None:
    with pytest.raises(ConnectionError, match='has not upgraded'):
        upgrade.shout(serve(ok).where[1], b'x')


# -- websocket_echo ---------------------------------------------------------------------------------------------------

HANDSHAKE = [
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]


def url_of(site: Site) -> str:
    """Return the URL of ``site``."""
    return f'http://127.0.0.1:{site.where[1]}/'


def frame(payload: bytes, opcode: int, mask: bytes | None = bytes(4)) -> bytes:
    """Return a frame of a client (RFC 6455, section 5.2), with a zero mask so that it is readable."""
    size = len(payload)
    short = size < 126
    length = bytes([(size if short else 127) | (0 if mask is None else 0x80)])
    length += b'' if short else size.to_bytes(8, 'big')
    return bytes([0x80 | opcode]) + length + (mask or b'') + payload


def test_websocket_prints_a_result(websocket_echo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    websocket_echo.main()
    assert capsys.readouterr().out.splitlines() == ['hello over the WebSocket', '10000000 bytes', 'closed with 1000']


def test_websocket_echoes_messages(websocket_echo: Any, serve: Serve) -> None:
    """Text and bytes of any length are sent back unchanged."""
    sent = ['hello', '', b'', b'\x00\xff', 'ä€' * websocket_echo.FRAGMENT, bytes(range(256)) * 10_000]
    websocket = websocket_echo.connect(url_of(serve(websocket_echo.create_server())))
    sender = gevent.spawn(lambda: [websocket.send(message) for message in sent] and websocket.close(1000, 'enough'))
    assert list(websocket.messages()) == sent
    sender.get()
    assert (websocket.close_code, websocket.close_reason) == (1000, 'enough')


def test_websocket_answers_pings(websocket_echo: Any, serve: Serve) -> None:
    """A ping is answered even between the fragments of a message."""
    from wsproto.events import Pong, TextMessage

    websocket = websocket_echo.connect(url_of(serve(websocket_echo.create_server())))
    websocket.send_event(TextMessage('one ', message_finished=False))
    websocket.ping(b'there?')
    websocket.send_event(TextMessage('message'))
    websocket.close()
    first, second, third = websocket.events()
    assert (first.data, second, third.data) == ('one ', Pong(b'there?'), 'message')
    assert (first.message_finished, third.message_finished) == (False, True)


def test_websocket_accepts_the_key(websocket_echo: Any, serve: Serve) -> None:
    """The example of RFC 6455, section 1.3."""
    client = serve(websocket_echo.create_server()).send(get('/', *HANDSHAKE) + frame(b'early', 1))
    head = client.head()
    assert (head.status, head.values('Sec-WebSocket-Accept')) == (101, ['s3pPLMBiTxaQ9kYGzzhZRbK+xOo='])
    assert client.exactly(7) == b'\x81\x05early'


def test_websocket_answers_a_close(websocket_echo: Any, serve: Serve) -> None:
    """The server responds with the same code, and then ends the connection."""
    client = serve(websocket_echo.create_server()).send(get('/', *HANDSHAKE) + frame(b'\x03\xe8', 8))
    assert client.head().status == 101
    assert client.rest() == b'\x88\x02\x03\xe8'


def test_websocket_refuses_an_unmasked_frame(websocket_echo: Any, serve: Serve) -> None:
    """A frame without a mask is refused with 1002 (RFC 6455, section 5.1)."""
    client = serve(websocket_echo.create_server()).send(get('/', *HANDSHAKE) + frame(b'x', 1, mask=None))
    assert client.head().status == 101
    answer = client.rest()
    assert (answer[0], answer[2:4]) == (0x88, b'\x03\xea')


def test_websocket_client_disconnects(websocket_echo: Any, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A disconnect without a closing handshake is no failure of the server."""
    site = serve(websocket_echo.create_server())
    site.send(get('/', *HANDSHAKE)).until(b'\r\n\r\n')
    client = site.send(get('/', *HANDSHAKE))
    client.until(b'\r\n\r\n')
    client.abort()
    for each in site._connections:
        each.close()
    while site.server.get_connections():
        gevent.idle()
    assert caplog.text == ''


@pytest.mark.parametrize('wrong', range(1, len(HANDSHAKE)))
def test_websocket_refuses_a_wrong_handshake(websocket_echo: Any, serve: Serve, wrong: int) -> None:
    """The response to a wrong handshake has the right version."""
    fields = [f'{field}0' if number == wrong else field for number, field in enumerate(HANDSHAKE)]
    client = serve(websocket_echo.create_server()).send(get('/', *fields))
    head = client.head()
    assert (head.status, head.values('Sec-WebSocket-Version')) == (426, ['13'])
    assert client.rest() == b''


def test_websocket_refuses_plain_requests(websocket_echo: Any, serve: Serve) -> None:
    answer = serve(websocket_echo.create_server()).get()
    assert (answer.status, answer.values('Upgrade')) == (426, ['websocket'])


def test_websocket_client_checks_the_key(websocket_echo: Any, serve: Serve) -> None:
    """A server that does not return the right key uses another protocol."""
    site = serve(ok)
    with pytest.raises(ConnectionError, match='200 OK'):
        websocket_echo.connect(url_of(site))
    site.server.on(
        'upgrade',
        lambda request, socket, head: socket.end(
            'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n'
        ),
    )
    with pytest.raises(ConnectionError, match='101 Switching Protocols'):
        websocket_echo.connect(url_of(site))


def test_websocket_limits_messages(websocket_echo: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a whole message is limited."""
    monkeypatch.setattr(websocket_echo, 'MAX_MESSAGE', 1000)
    websocket = websocket_echo.connect(url_of(serve(websocket_echo.create_server())))
    websocket.send('x' * 1001)
    assert list(websocket.messages()) == []
    assert websocket.close_code == websocket_echo.TOO_BIG


def test_websocket_has_back_pressure(websocket_echo: Any, serve: Serve) -> None:
    """The server does not read from a client that does not read."""
    size = 64_000_000
    site = serve(websocket_echo.create_server())
    sockets: list[Any] = []
    site.server.prepend_listener('upgrade', lambda request, socket, head: sockets.append(socket))
    client = site.connect(receive_buffer=4096).send(get('/', *HANDSHAKE))
    client.until(b'\r\n\r\n')
    sender = gevent.spawn(client.send, frame(bytes(size), 2))
    while sockets[0].writable_length < sockets[0].writable_high_water_mark:
        gevent.idle()
    for _ in range(100):
        gevent.idle()
    assert not sender.ready()
    assert sockets[0].bytes_read < size / 2
    assert sockets[0].writable_length < 2**20
    sender.kill()
    client.abort()


# -- crawl ------------------------------------------------------------------------------------------------------------


def test_crawl_fetches_each_page_once(serve: Serve, agent: Callable[..., http.Agent]) -> None:
    """Every page is fetched once, on no more connections than the agent allows."""
    site = serve(crawl.create_site(60))
    few = agent(max_sockets=3, keep_alive=True)
    pages = crawl.crawl(f'{url_of(site)}1', few)
    assert {url: page.status for url, page in pages.items()} == {
        f'{url_of(site)}{number}': 200 if number <= 60 else 404 for number in range(1, 122)
    }
    counts = few.statistics()
    assert (counts['requests'], counts['opened'], counts['failed']) == (121, 3, 0)


def test_crawl_stays_on_the_site(agent: Callable[..., http.Agent]) -> None:
    body = b'<a href="b#c">b</a> <A class="x" href="/d?e=f">d</A> <a href="http://other/">other</a> <a name="b">b</a>'
    assert crawl.links_of('http://here/a/', body) == ['http://here/a/b', 'http://here/d?e=f']


def test_crawl_continues_after_failures(serve: Serve, dead_port: int, agent: Callable[..., http.Agent]) -> None:
    """Pages that fail or are too long do not end the crawl."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/':
            response.end('<a href="/cut">1</a><a href="/long">2</a><a href="/bad link">3</a>')
        elif request.url == '/cut':
            response.write_head(200, {'Content-Length': '10'})
            response.write('x')
            request.socket.destroy()
        else:
            response.end(bytes(3 * crawl.MAX_PAGE))

    site = url_of(serve(listener))
    pages = crawl.crawl(site, agent())
    assert {url.removeprefix(site): (page.status, len(page.body)) for url, page in pages.items()} == {
        '': (200, 66),
        'cut': (None, 0),
        'long': (200, crawl.MAX_PAGE),
        'bad link': (None, 0),
    }
    assert crawl.crawl(f'http://127.0.0.1:{dead_port}/', agent()) == {f'http://127.0.0.1:{dead_port}/': (None, b'')}


def test_crawl_stops_at_max_pages(serve: Serve, agent: Callable[..., http.Agent]) -> None:
    site = serve(crawl.create_site(60))
    assert len(crawl.crawl(f'{url_of(site)}1', agent(), max_pages=10)) == 10
