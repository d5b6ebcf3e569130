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


def url_of(site: Site) -> str:
    """Return the URL of ``site``."""
    return f'http://127.0.0.1:{site.where[1]}/'


def test_websocket_prints_a_result(websocket_echo: Any, capsys: pytest.CaptureFixture[str]) -> None:
    websocket_echo.main()
    assert capsys.readouterr().out.splitlines() == [
        'hello over the WebSocket',
        'a ping took less than a second',
        'to the others',
        'closed with 1000',
    ]


def test_websocket_refuses_plain_requests(websocket_echo: Any, serve: Serve) -> None:
    answer = serve(websocket_echo.create_server()).get()
    assert (answer.status, answer.values('Upgrade')) == (426, ['websocket'])


def test_websocket_disconnects_members_that_do_not_read(websocket_echo: Any, serve: Serve) -> None:
    """The others get every message."""
    site = serve(websocket_echo.create_server())
    fields = 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'
    slow = site.connect(receive_buffer=4096).send(get('/chat', *fields, 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='))
    assert slow.head().status == 101
    connect = websocket_echo.websocket.connect
    with connect(f'{url_of(site)}chat') as sender, connect(f'{url_of(site)}chat') as reader:
        reader.ping()
        number = 0
        while site.server.statistics()['websocket'] == 3:
            sender.send(bytes(65000) + number.to_bytes(4, 'big'))
            assert reader.receive()[-4:] == number.to_bytes(4, 'big')
            number += 1
    assert number > 10
    slow.abort()


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
