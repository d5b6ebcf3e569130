"""The examples that are in one process: each is run as its reader would, and asked what a peer could do to it.

The reverse proxy has a file of its own, and what takes other programs is among the system tests.
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
    """A port that refuses connections for as long as the test runs."""
    with stdlib.socket() as bound:
        bound.bind(('127.0.0.1', 0))
        yield bound.getsockname()[1]


@pytest.fixture
def websocket_echo() -> Any:
    """The module of that name, which wants a package more than the others."""
    pytest.importorskip('wsproto', reason=NO_WSPROTO)
    from contrib.examples import websocket_echo

    return websocket_echo


@pytest.mark.parametrize('example', [connect_proxy, crawl, upgrade])
def test_runs(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """As a program, and says something."""
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


def test_connect_proxy(serve: Serve) -> None:
    proxy = serve(connect_proxy.create_proxy())
    origin = serve(ok)
    answer = connect_proxy.fetch(proxy.where[1], f'127.0.0.1:{origin.where[1]}')
    assert answer.startswith(b'HTTP/1.1 200 OK\r\n')
    assert answer.endswith(b'\r\n\r\nGET /')


def test_connect_proxy_answers_what_is_no_connect(serve: Serve) -> None:
    assert serve(connect_proxy.create_proxy()).get().body == b'okay'


def test_connect_proxy_without_an_origin(serve: Serve, dead_port: int) -> None:
    """The client is told, and so is its user."""
    proxy = serve(connect_proxy.create_proxy())
    with pytest.raises(ConnectionError, match=r'no tunnel to .*: 502'):
        connect_proxy.fetch(proxy.where[1], f'127.0.0.1:{dead_port}')
    answer = proxy.send(get(f'127.0.0.1:{dead_port}', method='CONNECT')).response()
    assert answer.status == 502
    assert b'Connection refused' in answer.body


def test_connect_proxy_is_not_there(dead_port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        connect_proxy.fetch(dead_port, '127.0.0.1:1')


def test_connect_proxy_ends_each_direction_by_itself(serve: Serve, origin: MakeOrigin) -> None:
    """A client that has said everything still hears the answer."""
    size = 3_000_000
    client = connected(serve(connect_proxy.create_proxy()), origin(lambda peer: peer.send(peer.rest())).port)
    sender = gevent.spawn(lambda: client.send(bytes(size)).half_close())
    assert client.rest() == bytes(size)
    sender.get()


def test_connect_proxy_lets_go_of_the_origin(serve: Serve, origin: MakeOrigin) -> None:
    """When the client resets its connection."""
    log = Log()

    def script(peer: Peer) -> None:
        peer.exactly(5)
        peer.rest()
        log.append('gone')

    client = connected(serve(connect_proxy.create_proxy()), origin(script).port)
    client.send(b'hello').abort()
    log.wait_for('gone')


def test_connect_proxy_lets_go_of_the_client(serve: Serve, origin: MakeOrigin) -> None:
    """When the origin resets its connection."""

    def script(peer: Peer) -> None:
        peer.exactly(5)
        peer.abort()

    client = connected(serve(connect_proxy.create_proxy()), origin(script).port)
    assert client.send(b'hello').rest() == b''


# -- upgrade ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [0, 5, 5_000_000])
def test_upgrade(serve: Serve, size: int) -> None:
    site = serve(upgrade.create_server())
    assert upgrade.shout(site.where[1], bytes(size)) == bytes(size)
    assert site.get().body == b'okay'


def test_upgrade_loses_nothing_that_comes_early(serve: Serve) -> None:
    client = serve(upgrade.create_server()).send(get('/', 'Connection: Upgrade', 'Upgrade: echo') + b'early')
    assert client.head().status == 101
    assert client.send(b' and late').exactly(14) == b'early and late'
    client.abort()


def test_upgrade_is_refused(serve: Serve) -> None:
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
    """Return where ``site`` is."""
    return f'http://127.0.0.1:{site.where[1]}/'


def frame(payload: bytes, opcode: int, mask: bytes | None = bytes(4)) -> bytes:
    """Return a frame of a client (RFC 6455, section 5.2), masked with nothing so that it can be read."""
    size = len(payload)
    short = size < 126
    length = bytes([(size if short else 127) | (0 if mask is None else 0x80)])
    length += b'' if short else size.to_bytes(8, 'big')
    return bytes([0x80 | opcode]) + length + (mask or b'') + payload


def test_websocket_runs(websocket_echo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    websocket_echo.main()
    assert capsys.readouterr().out.splitlines() == ['Is anybody there?', '10000000 bytes', 'closed with 1000']


def test_websocket_messages(websocket_echo: Any, serve: Serve) -> None:
    """Text and bytes of any length come back as they were."""
    sent = ['hello', '', b'', b'\x00\xff', 'ä€' * websocket_echo.FRAGMENT, bytes(range(256)) * 10_000]
    websocket = websocket_echo.connect(url_of(serve(websocket_echo.create_server())))
    sender = gevent.spawn(lambda: [websocket.send(message) for message in sent] and websocket.close(1000, 'enough'))
    assert list(websocket.messages()) == sent
    sender.get()
    assert (websocket.close_code, websocket.close_reason) == (1000, 'enough')


def test_websocket_ping(websocket_echo: Any, serve: Serve) -> None:
    """Is answered, in between the fragments of a message, too."""
    from wsproto.events import Pong, TextMessage

    websocket = websocket_echo.connect(url_of(serve(websocket_echo.create_server())))
    websocket.send_event(TextMessage('one ', message_finished=False))
    websocket.ping(b'there?')
    websocket.send_event(TextMessage('message'))
    websocket.close()
    first, second, third = websocket.events()
    assert (first.data, second, third.data) == ('one ', Pong(b'there?'), 'message')
    assert (first.message_finished, third.message_finished) == (False, True)


def test_websocket_accept_key(websocket_echo: Any, serve: Serve) -> None:
    """The example of RFC 6455, section 1.3."""
    client = serve(websocket_echo.create_server()).send(get('/', *HANDSHAKE) + frame(b'early', 1))
    head = client.head()
    assert (head.status, head.values('Sec-WebSocket-Accept')) == (101, ['s3pPLMBiTxaQ9kYGzzhZRbK+xOo='])
    assert client.exactly(7) == b'\x81\x05early'


def test_websocket_close(websocket_echo: Any, serve: Serve) -> None:
    """Is answered with the same code, and then the server ends the connection."""
    client = serve(websocket_echo.create_server()).send(get('/', *HANDSHAKE) + frame(b'\x03\xe8', 8))
    assert client.head().status == 101
    assert client.rest() == b'\x88\x02\x03\xe8'


def test_websocket_protocol_error(websocket_echo: Any, serve: Serve) -> None:
    """A frame without a mask is refused with 1002 (RFC 6455, section 5.1)."""
    client = serve(websocket_echo.create_server()).send(get('/', *HANDSHAKE) + frame(b'x', 1, mask=None))
    assert client.head().status == 101
    answer = client.rest()
    assert (answer[0], answer[2:4]) == (0x88, b'\x03\xea')


def test_websocket_client_goes(websocket_echo: Any, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Without a word: that is no failure of the server."""
    site = serve(websocket_echo.create_server())
    site.send(get('/', *HANDSHAKE)).until(b'\r\n\r\n')
    client = site.send(get('/', *HANDSHAKE))
    client.until(b'\r\n\r\n')
    client.abort()
    for each in site._clients:
        each.close()
    while site.server.get_connections():
        gevent.idle()
    assert caplog.text == ''


@pytest.mark.parametrize('wrong', range(1, len(HANDSHAKE)))
def test_websocket_wrong_handshake(websocket_echo: Any, serve: Serve, wrong: int) -> None:
    """Is answered with what would be right."""
    fields = [f'{field}0' if number == wrong else field for number, field in enumerate(HANDSHAKE)]
    client = serve(websocket_echo.create_server()).send(get('/', *fields))
    head = client.head()
    assert (head.status, head.values('Sec-WebSocket-Version')) == (426, ['13'])
    assert client.rest() == b''


def test_websocket_only(websocket_echo: Any, serve: Serve) -> None:
    answer = serve(websocket_echo.create_server()).get()
    assert (answer.status, answer.values('Upgrade')) == (426, ['websocket'])


def test_websocket_client_believes_no_one(websocket_echo: Any, serve: Serve) -> None:
    """Who has not understood the key speaks another protocol."""
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


def test_websocket_too_big(websocket_echo: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever collects messages does not collect without end."""
    monkeypatch.setattr(websocket_echo, 'MAX_MESSAGE', 1000)
    websocket = websocket_echo.connect(url_of(serve(websocket_echo.create_server())))
    websocket.send('x' * 1001)
    assert list(websocket.messages()) == []
    assert websocket.close_code == websocket_echo.TOO_BIG


def test_websocket_waits_for_a_client_that_does_not_read(websocket_echo: Any, serve: Serve) -> None:
    """What it sends is not read, either, until it does."""
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


def test_crawl(serve: Serve, agent: Callable[..., http.Agent]) -> None:
    """Every page once, on no more connections than the agent allows."""
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


def test_crawl_goes_on(serve: Serve, dead_port: int, agent: Callable[..., http.Agent]) -> None:
    """Past pages that cannot be had, and past the end of those that are too long."""

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


def test_crawl_stops(serve: Serve, agent: Callable[..., http.Agent]) -> None:
    site = serve(crawl.create_site(60))
    assert len(crawl.crawl(f'{url_of(site)}1', agent(), max_pages=10)) == 10
