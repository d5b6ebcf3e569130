"""Test several requests on one connection: they are served in order, one at a time, and delay no other connection."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK
from tests.servers import Client, Log, Serve, bodies, get, ok, post


def numbers(client: Client, count: int) -> list[str]:
    """Return the bodies of the next ``count`` responses, as text."""
    return [body.decode() for body in bodies(client, count)]


def number(request: Any, response: Any) -> None:
    """Respond with the URL."""
    response.end(request.url)


def test_pipelined_requests_get_responses_in_order(serve: Serve) -> None:
    urls = [f'/{index}' for index in range(100)]
    client = serve(number).send(b''.join(map(get, urls)))
    assert numbers(client, 100) == urls


def test_responses_that_are_sent_later_are_in_order(serve: Serve) -> None:
    """The connection waits for them after the listeners have returned, also after the rounds of a worker."""
    active = Log()

    def listener(request: Any, response: Any) -> None:
        def later() -> None:
            active.append(request.url)
            gevent.sleep(0)
            assert active.pop() == request.url
            assert not active
            response.end(request.url)

        gevent.spawn(later)

    urls = [f'/{index}' for index in range(40)]
    client = serve(listener).send(b''.join(map(get, urls)))
    assert numbers(client, 40) == urls


def test_input_for_a_queued_connection_starts_no_second_request(serve: Serve) -> None:
    active: list[str] = []
    overlaps: list[list[str]] = []

    def listener(request: Any, response: Any) -> None:
        active.append(request.url)
        if len(active) > 1:
            overlaps.append(list(active))
        if request.url.endswith('9'):
            # a response that is sent after the listener has returned
            gevent.spawn(finish, request, response)
        else:
            finish(request, response)

    def finish(request: Any, response: Any) -> None:
        if request.url.endswith('9'):
            for _ in range(3):
                gevent.sleep(0)
        active.remove(request.url)
        response.end(request.url)

    urls = [f'/{index}' for index in range(400)]
    client = serve(listener).connect()

    def feed() -> None:
        for url in urls:
            client.send(get(url))
            if url.endswith('5'):
                gevent.sleep(0)

    feeder = gevent.spawn(feed)
    assert numbers(client, 400) == urls
    feeder.join()
    assert overlaps == []


def test_a_listener_that_runs_after_end_does_not_delay_the_next_request(serve: Serve) -> None:
    """``end()`` frees the connection. The listener cannot read the body of the next request."""
    release = Event()
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.end(request.url)
        if request.url == '/0':
            release.wait()
            log.append('first listener over')

    client = serve(listener).send(get('/0'), get('/1'))
    assert numbers(client, 2) == ['/0', '/1']
    assert log == []
    release.set()
    client.send(get('/2'), get('/3'))
    assert numbers(client, 2) == ['/2', '/3']
    assert log == ['first listener over']


def test_bodies_between_pipelined_requests_are_not_read_as_requests(serve: Serve) -> None:
    """A body without a reader is discarded, any other is read."""
    seen = []

    def listener(request: Any, response: Any) -> None:
        seen.append(request.url)
        if request.url == '/read':
            assert request.read() == b'GET /evil HTTP/1.1\r\nHost: x\r\n\r\n'
        response.end(request.url)

    evil = get('/evil')
    chunked = get('/chunked', 'Transfer-Encoding: chunked', method='POST')
    chunked += b'%x\r\n%b\r\n0\r\n\r\n' % (len(evil), evil)
    client = serve(listener).send(post(evil, '/unread') + post(evil, '/read') + chunked + get('/last'))
    assert numbers(client, 4) == ['/unread', '/read', '/chunked', '/last']
    assert seen == ['/unread', '/read', '/chunked', '/last']


def test_a_partly_read_body_does_not_stall_the_connection(serve: Serve) -> None:
    """The rest is discarded after the response has ended (Node 0.10 stalls here)."""

    def listener(request: Any, response: Any) -> None:
        response.end(request.read1(3))

    body = b'abc' + b'x' * 20000
    client = serve(listener).send(post(body) + post(body))
    assert numbers(client, 2) == ['abc', 'abc']


def test_an_error_response_follows_the_earlier_responses(serve: Serve) -> None:
    """A 400 does not interrupt an open response. No request after it is served."""
    go_on = Event()
    seen = []

    def listener(request: Any, response: Any) -> None:
        seen.append(request.url)
        response.write('begin ')
        go_on.wait()
        response.end('end')

    client = serve(listener).send(get('/good') + b'BAD\r\n\r\n' + get('/after'))
    client.head()
    go_on.set()
    assert client.until(b'0\r\n\r\n') == b'6\r\nbegin \r\n3\r\nend\r\n0\r\n\r\n'
    reply = client.response()
    assert reply.status == 400
    assert reply.closes
    assert client.rest() == b''
    assert seen == ['/good']


def test_no_request_is_served_after_connection_close(serve: Serve) -> None:
    """Further input is not an error either (RFC 9112, section 9.6)."""
    client = serve(ok).send(get('/0', 'Connection: close') + get('/1') + b'nonsense')
    assert client.response().closes
    assert client.rest() == b''


def test_a_flood_of_requests_is_bounded_in_memory(serve: Serve) -> None:
    """The requests of a flooding client do not accumulate, and all get a response."""
    held = []
    site = serve()

    @site.server.on('request')
    def listener(request: Any, response: Any) -> None:
        held.append(max(socket._protocol.parser.buffered for socket in site.server._sockets))
        response.end()

    client = site.connect()
    feeder = gevent.spawn(client.send, get('/' + 'x' * 2000) * 1000)
    for _ in range(1000):
        assert client.response().status == 200
    feeder.join()
    assert max(held) < 3 * DEFAULT_HIGH_WATER_MARK


def test_a_client_that_does_not_read_is_not_served(serve: Serve) -> None:
    """The next request waits until the queued responses were sent, and then gets its own."""
    served = Log()

    def listener(request: Any, response: Any) -> None:
        served.append(request.url)
        response.end(b'x' * 200_000)

    urls = [f'/{index}' for index in range(60)]
    site = serve(listener)
    client = site.connect(receive_buffer=4096)
    client.send(b''.join(map(get, urls)))
    assert len(client.response().body) == 200_000
    assert len(served) < 60
    assert site.get('/other').status == 200
    for _ in urls[1:]:
        client.response()
    assert [url for url in served if url != '/other'] == urls


def test_a_flooding_connection_does_not_starve_another(serve: Serve) -> None:
    """The other client gets its response after a few requests of the flood, and not after all of them."""
    order = Log()

    def listener(request: Any, response: Any) -> None:
        order.append(request.url)
        response.end()

    site = serve(listener)
    flooder, other = site.connect(), site.connect()
    assert flooder.get('/warm').status == other.get('/warm').status == 200
    order.clear()
    flooder.send(get('/flood') * 900)
    other.send(get('/other'))
    assert other.response().status == 200
    numbers(flooder, 900)
    assert order.index('/other') < 450


@pytest.mark.parametrize('cut', [1, 2, 3, 7, 16])
def test_pieces_of_any_size_give_the_same_responses(serve: Serve, cut: int) -> None:
    """Each piece is received on its own."""

    def listener(request: Any, response: Any) -> None:
        response.end(request.url.encode() + request.read())

    data = (
        post(b'one', '/1')
        + get('/2')
        + get('/3', 'Transfer-Encoding: chunked', method='PUT')
        + (b'2\r\nab\r\n1;x=y\r\nc\r\n0\r\nA: b\r\n\r\n')
        + get('/4')
    )
    client = serve(listener).connect()
    for start in range(0, len(data), cut):
        client.send(data[start : start + cut])
        gevent.idle()
    assert numbers(client, 4) == ['/1one', '/2', '/3abc', '/4']


def test_thousands_of_pipelined_requests_get_responses_in_order(serve: Serve) -> None:
    client = serve(number).connect()
    feeder = gevent.spawn(client.send, b''.join(get(f'/{index}') for index in range(5000)))
    assert numbers(client, 5000) == [f'/{index}' for index in range(5000)]
    feeder.join()
