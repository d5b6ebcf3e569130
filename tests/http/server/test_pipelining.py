"""Several requests on one connection: strictly in order, one at a time, and nobody else waits for them."""

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
    """A listener that answers with the url."""
    response.end(request.url)


def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    """However many came at once."""
    urls = [f'/{index}' for index in range(100)]
    client = serve(number).send(b''.join(map(get, urls)))
    assert numbers(client, 100) == urls


def test_in_order_although_the_answers_come_later(serve: Serve) -> None:
    """Listeners that return at once and answer later are waited for, beyond one worker's rounds, too."""
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


def test_requests_that_arrive_while_others_wait_their_turn(serve: Serve) -> None:
    """New bytes for a connection that stands in line do not start a second request beside an open one."""
    active: list[str] = []
    overlaps: list[list[str]] = []

    def listener(request: Any, response: Any) -> None:
        active.append(request.url)
        if len(active) > 1:
            overlaps.append(list(active))
        if request.url.endswith('9'):
            # an answer that comes later, after the listener has returned
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


def test_a_listener_that_goes_on_after_end_does_not_hold_the_next_back(serve: Serve) -> None:
    """``end()`` frees the connection, although the listener still runs; and it takes nothing from the next one."""
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
    """Unread ones are thrown away, read ones are read."""
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
    """The rest is thrown away when the response has ended (Node 0.10 stalls here)."""

    def listener(request: Any, response: Any) -> None:
        response.end(request.read1(3))

    body = b'abc' + b'x' * 20000
    client = serve(listener).send(post(body) + post(body))
    assert numbers(client, 2) == ['abc', 'abc']


def test_an_error_is_answered_after_the_responses_before_it(serve: Serve) -> None:
    """A 400 does not cut into a running response, and nothing behind it is served."""
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


def test_nothing_is_served_after_connection_close(serve: Serve) -> None:
    """What follows is neither served nor an error (RFC 9112, section 9.6)."""
    client = serve(ok).send(get('/0', 'Connection: close') + get('/1') + b'nonsense')
    assert client.response().closes
    assert client.rest() == b''


def test_a_flood_of_requests_is_bounded_in_memory(serve: Serve) -> None:
    """A client that sends and sends: its requests do not pile up, and all are answered."""
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


def test_a_client_that_reads_nothing_stops_being_served(serve: Serve) -> None:
    """When responses pile up the next request waits until they have gone, and is then answered."""
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
    """The other is answered after few of the flood's requests, not after all of them."""
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
def test_any_cut_gives_the_same_answers(serve: Serve, cut: int) -> None:
    """Pieces of any size, each of which is received on its own."""

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


def test_thousands_of_pipelined_requests(serve: Serve) -> None:
    """All are answered, in order."""
    client = serve(number).connect()
    feeder = gevent.spawn(client.send, b''.join(get(f'/{index}') for index in range(5000)))
    assert numbers(client, 5000) == [f'/{index}' for index in range(5000)]
    feeder.join()
