"""The limits of a server: sizes, counts and connections, and the response beyond each one."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.errors import BodyTooLarge, UnknownOption
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK
from tests.servers import Client, Log, Serve, get, ok, post
from tests.sockets import until


def refused(client: Client, status: int) -> None:
    """Check that ``client`` gets ``status``, and that its connection is closed."""
    reply = client.response()
    assert reply.status == status
    assert reply.reason == http.STATUS_CODES[status]
    assert reply.closes
    assert client.rest() == b''


def test_long_request_line_is_a_414(serve: Serve) -> None:
    """As soon as the limit is exceeded, without waiting for the end of the line."""
    refused(serve(ok, max_header_size=200).send(b'GET /' + b'x' * 300), 414)


def test_long_header_section_is_a_431(serve: Serve) -> None:
    refused(serve(ok, max_header_size=200).send(get('/', 'X: ' + 'x' * 300)), 431)


def test_too_many_fields_are_a_431(serve: Serve) -> None:
    """Fields are never dropped silently; 0 is no limit but the size."""
    many = [f'X-{index}: x' for index in range(11)]
    site = serve(ok, max_headers_count=11)
    refused(site.send(get('/', *many)), 431)
    assert site.send(get('/', *many[:10])).response().status == 200
    site.server.max_headers_count = 0
    assert site.send(get('/', *many)).response().status == 200


def test_default_of_max_headers_count_is_1000(serve: Serve) -> None:
    site = serve(ok)
    assert site.server.max_headers_count == 1000
    assert site.send(get('/', *['X:'] * 999)).response().status == 200
    refused(site.send(get('/', *['X:'] * 1000)), 431)


@pytest.mark.parametrize('chunked', [False, True])
def test_long_body_is_a_413(serve: Serve, chunked: bool) -> None:
    """The reader gets the same error. A body of exactly that size is read."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            response.end(str(len(request.read())))
        except BodyTooLarge as error:
            log.append(error.status)
            raise

    site = serve(listener, max_body_size=10)

    def request(size: int) -> bytes:
        if chunked:
            head = get('/', 'Transfer-Encoding: chunked', method='POST')
            return head + b'%x\r\n%b\r\n0\r\n\r\n' % (size, b'x' * size)
        return post(b'x' * size)

    assert site.send(request(10)).response().body == b'10'
    refused(site.send(request(11)), 413)


def test_declared_long_body_is_a_413_at_once(serve: Serve) -> None:
    """Before the listener runs and before 100 Continue invites the body."""
    seen = []
    site = serve(lambda request, response: seen.append(request), max_body_size=10)
    refused(site.send(post(b'', '/', 'Expect: 100-continue', length=11)), 413)
    assert seen == []


def test_last_request_of_a_socket_closes_it(serve: Serve) -> None:
    """Its response has ``Connection: close``."""
    client = serve(ok, max_requests_per_socket=3).connect()
    assert [client.get().closes for _ in range(3)] == [False, False, True]
    assert client.rest() == b''


def test_request_beyond_max_requests_per_socket_is_a_503(serve: Serve) -> None:
    """A pipelined request gets 503, and 'dropRequest' is emitted instead of 'request'."""
    log = Log()
    site = serve(ok, max_requests_per_socket=2)
    site.server.on('dropRequest', lambda request, socket: log.append((request.url, socket.remote_address)))
    client = site.send(get('/1') + get('/2') + get('/3') + get('/4'))
    assert [client.response().body for _ in range(2)] == [b'GET /1', b'GET /2']
    refused(client, 503)
    assert log == [('/3', '127.0.0.1')]


def test_incomplete_request_beyond_the_limit_is_not_awaited(serve: Serve) -> None:
    client = serve(ok, max_requests_per_socket=1).send(get('/1') + b'GET /2')
    assert client.response().closes
    assert client.rest() == b''


def test_connection_beyond_max_connections_is_closed(serve: Serve) -> None:
    """At once; 'drop' reports its address."""
    log = Log()
    site = serve(ok, max_connections=2)
    site.server.on('drop', log.append)
    clients = [site.connect(), site.connect()]
    assert [client.get().status for client in clients] == [200, 200]
    dropped = site.connect()
    assert dropped.rest() == b''
    log.wait_for_length(1)
    assert log[0]['remote_address'] == '127.0.0.1'
    clients[0].close()
    while site.server.get_connections() == 2:
        gevent.idle()
    assert site.get().status == 200


def test_max_connections_can_be_set_later(serve: Serve) -> None:
    """None removes the limit."""
    site = serve(ok)
    site.server.max_connections = 0
    assert site.connect().rest() == b''
    site.server.max_connections = None
    assert site.get().status == 200


def test_unread_body_is_limited(serve: Serve) -> None:
    """Without a reader, the client has to wait."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(request.socket)
        log.wait_for('go on')
        response.end(str(len(request.read())))

    site = serve(listener)
    client = site.connect()
    size = 6_000_000
    feeder = gevent.spawn(client.send, post(b'x' * size))
    log.wait_for_length(1)
    for _ in range(200):
        gevent.sleep(0)
        assert log[0]._protocol.parser.buffered <= 3 * DEFAULT_HIGH_WATER_MARK
    assert not feeder.ready()
    log.append('go on')
    assert client.response().body == str(size).encode()
    feeder.join()


def test_max_buffered_limits_all_connections_together(serve: Serve) -> None:
    """The memory of unread bodies stays near the limit, and all of them are read in the end."""
    log = Log()
    count, size = 8, 300_000

    def listener(request: Any, response: Any) -> None:
        log.append(request.socket)
        log.wait_for('go on')
        response.end(str(len(request.read())))

    site = serve(listener, max_buffered=200_000)
    clients = [site.connect() for _ in range(count)]
    feeders = [gevent.spawn(client.send, post(b'x' * size)) for client in clients]
    log.wait_for_length(count)
    for _ in range(100):
        gevent.sleep(0)
    held = sum(socket._protocol.parser.buffered for socket in log)
    # each can hold the bytes of one call that exceeded the limit
    assert held <= 200_000 + count * DEFAULT_HIGH_WATER_MARK
    log.append('go on')
    for client in clients:
        assert client.response().body == str(size).encode()
    gevent.joinall(feeders)
    assert site.server._buffer_limit.used == 0


def test_incomplete_heads_do_not_wait_for_each_other(serve: Serve) -> None:
    """Together they exceed ``max_buffered``; only their rest can end them, or the end of their client."""
    site = serve(ok, max_buffered=1000)
    clients = [site.send(b'GET / HTTP/1.1\r\nHost: x\r\nA: ' + bytes([97 + number]) * 300) for number in range(4)]
    until(lambda: site.server.statistics()['buffered'] > 1200)
    for client in clients:
        client.send(b'x' * 100)
    until(lambda: site.server.statistics()['buffered'] > 1600)
    left, *others = clients
    left.abort()
    until(lambda: len(site.server._sockets) == 3)
    for client in others:
        assert client.send(b'\r\n\r\n').response().body == b'GET /'
    assert site.server.statistics()['buffered'] == 0


@pytest.mark.parametrize(
    ('name', 'near'),
    [
        ('time_out', 'timeout'),
        ('headersTimeout', 'headers_timeout'),
        ('max_header_count', 'max_headers_count'),
        ('keepalive_timeout', 'keep_alive_timeout'),
        ('maxConnections', 'max_connections'),
    ],
)
def test_unknown_option_names_the_nearest_one(name: str, near: str) -> None:
    """The error is a TypeError."""
    with pytest.raises(UnknownOption, match=repr(near)) as caught:
        http.create_server(**{name: 1})
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ('name', 'right'),
    [
        ('keepAliveTimeout', 'keep_alive_timeout'),
        ('maxConnections', 'max_connections'),
        ('maxHeadersCount', 'max_headers_count'),
        ('keep_alive_timout', 'keep_alive_timeout'),
        ('header_timeout', 'headers_timeout'),
        ('time_out', 'timeout'),
        ('requestClass', 'request_class'),
    ],
)
@pytest.mark.parametrize('kind', [http.Server, type('Site', (http.Server,), {})])
def test_misspelled_option_cannot_be_set(kind: type[http.Server], name: str, right: str) -> None:
    """It would have no effect."""
    server = kind()
    with pytest.raises(AttributeError, match=f"{kind.__name__} has no option '{name}': did you mean '{right}'"):
        setattr(server, name, 1)
    assert not hasattr(server, name)


@pytest.mark.parametrize('name', ['app', 'state', 'max_connection_age', 'keep_alive', '_keepAliveTimeout', 'limits'])
def test_other_attributes_can_be_set(name: str) -> None:
    server = http.create_server()
    setattr(server, name, 1)
    assert getattr(server, name) == 1


def test_subclass_can_have_an_attribute_similar_to_an_option() -> None:
    class Site(http.Server):
        timeouts: int = 0

    server = Site()
    server.timeouts = 5
    assert (server.timeouts, server.timeout) == (5, 120.0)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('timeout', -1),
        ('timeout', '1'),
        ('headers_timeout', float('nan')),
        ('max_header_size', 1.5),
        ('max_headers_count', -1),
        ('max_body_size', -1),
        ('cancel_on_disconnect', 1),
    ],
)
def test_bad_value_of_an_option_raises(name: str, value: Any) -> None:
    """The call that sets it raises, and names the option."""
    with pytest.raises((TypeError, ValueError), match=name):
        http.create_server(**{name: value})


def test_default_values_of_options(serve: Serve) -> None:
    server = http.create_server()
    found = {
        name: getattr(server, name)
        for name in (
            'timeout',
            'headers_timeout',
            'request_timeout',
            'keep_alive_timeout',
            'keep_alive_timeout_buffer',
            'max_header_size',
            'max_headers_count',
            'max_requests_per_socket',
            'max_connections',
            'max_body_size',
            'max_unread_body',
            'max_idle_workers',
            'cancel_on_disconnect',
        )
    }
    assert found == {
        'timeout': 120.0,
        'headers_timeout': 60.0,
        'request_timeout': 300.0,
        'keep_alive_timeout': 65.0,
        'keep_alive_timeout_buffer': 1.0,
        'max_header_size': 16384,
        'max_headers_count': 1000,
        'max_requests_per_socket': 0,
        'max_connections': None,
        'max_body_size': None,
        'max_unread_body': 65536,
        'max_idle_workers': 256,
        'cancel_on_disconnect': False,
    }
