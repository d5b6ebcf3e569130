"""Observers of exchanges: each one is notified once of the beginning, and once of the end of any kind."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode import http
from geventnode.http.server.observers import CLIENT_CLOSED_REQUEST, ExchangeSampler
from tests.servers import Log, Serve, get, ok
from tests.sockets import until


class Noting(http.ExchangeObserver):
    """Note the notifications."""

    def __init__(self) -> None:
        self.log = Log()

    def exchange_began(self, response: Any) -> None:
        self.log.append(('began', response.request.url))

    def exchange_ended(self, response: Any, status_code: int) -> None:
        assert response.began > 0
        self.log.append(('ended', response.request.url, status_code))


@pytest.fixture
def noting() -> Noting:
    return Noting()


def observed(noting: Noting, listener: Any, **options: Any) -> http.Server:
    server = http.create_server(listener, **options)
    http.observe_exchanges(server, noting)
    return server


def test_pipelined_requests_are_observed(serve: Serve, noting: Noting) -> None:
    client = serve(observed(noting, ok)).connect()
    client.send(get('/1') + get('/2'))
    client.response()
    client.response()
    assert noting.log == [('began', '/1'), ('ended', '/1', 200), ('began', '/2'), ('ended', '/2', 200)]


def test_observer_is_added_once(serve: Serve, noting: Noting) -> None:
    server = observed(noting, ok)
    http.observe_exchanges(server, Noting())
    http.observe_exchanges(server, noting)
    serve(server).connect().get('/')
    assert noting.log == [('began', '/'), ('ended', '/', 200)]


def test_failed_listener_is_observed(serve: Serve, noting: Noting, caplog: pytest.LogCaptureFixture) -> None:
    def listener(request: Any, response: Any) -> None:
        raise ValueError('on purpose')

    assert serve(observed(noting, listener)).connect().get('/').status == 500
    assert noting.log == [('began', '/'), ('ended', '/', 500)]


def test_disconnect_is_observed(serve: Serve, noting: Noting) -> None:
    client = serve(observed(noting, lambda request, response: None)).connect()
    client.send(get('/'))
    noting.log.wait_for_length(1)
    client.abort()
    noting.log.wait_for(('ended', '/', CLIENT_CLOSED_REQUEST))


def test_upgrade_by_the_response_is_observed(serve: Serve, noting: Noting) -> None:
    def listener(request: Any, response: Any) -> None:
        with response.upgrade()[0] as socket:
            socket.write(b'other')

    client = serve(observed(noting, listener)).connect()
    client.send(get('/', 'Connection: upgrade', 'Upgrade: other'))
    assert client.rest().endswith(b'other')
    assert noting.log == [('began', '/'), ('ended', '/', 101)]


@pytest.mark.parametrize(
    ('event', 'request_', 'status'),
    [
        ('upgrade', get('/', 'Connection: upgrade', 'Upgrade: other'), 101),
        ('connect', b'CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n', 200),
    ],
)
def test_upgrade_by_a_listener_is_observed(
    serve: Serve, noting: Noting, event: str, request_: bytes, status: int
) -> None:
    """Its exchange ends when the listener gets the connection."""
    server = observed(noting, ok)
    before = Log()

    @server.on(event)
    def upgraded(request: Any, socket: Any, head: bytes) -> None:
        before.append(list(noting.log))
        socket.end(b'other')

    client = serve(server).connect()
    client.send(request_)
    assert client.rest() == b'other'
    assert [each[0] for each in before[0]] == ['began', 'ended']
    assert noting.log[1][2] == status
    assert len(noting.log) == 2


def test_upgrade_without_a_listener_is_observed(serve: Serve, noting: Noting) -> None:
    client = serve(observed(noting, ok)).connect()
    client.send(b'CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n')
    assert client.rest() == b''
    noting.log.wait_for_length(2)
    assert noting.log[1][2] == CLIENT_CLOSED_REQUEST


def test_observer_can_close_the_connection(serve: Serve) -> None:
    """It decides before the listener runs."""

    class Closing(http.ExchangeObserver):
        def exchange_began(self, response: Any) -> None:
            response.should_keep_alive = False

    server = http.create_server(ok)
    http.observe_exchanges(server, Closing())
    assert serve(server).connect().get('/').closes


def test_observer_that_raises_ends_no_exchange(serve: Serve, noting: Noting, caplog: pytest.LogCaptureFixture) -> None:
    class Raising(http.ExchangeObserver):
        def exchange_began(self, response: Any) -> None:
            raise ValueError('on purpose')

        def exchange_ended(self, response: Any, status_code: int) -> None:
            raise ValueError('on purpose')

    def listener(request: Any, response: Any) -> None:
        if request.url == '/late':
            return
        response.write('a')
        response.end('b')

    server = http.create_server(listener)
    http.observe_exchanges(server, Raising())
    http.observe_exchanges(server, noting)
    client = serve(server).connect()
    assert [client.get('/').body, client.get('/').body] == [b'ab', b'ab']
    client.send(get('/late'))
    noting.log.wait_for_length(5)
    client.abort()
    noting.log.wait_for(('ended', '/late', CLIENT_CLOSED_REQUEST))
    until(lambda: not server._sockets and len(caplog.records) == 6)
    assert {each.getMessage() for each in caplog.records} == {
        f"observer failed: {Raising.__qualname__}.exchange_{event} raised ValueError('on purpose')"
        for event in ('began', 'ended')
    }


def test_observers_are_notified_in_order(serve: Serve, noting: Noting, caplog: pytest.LogCaptureFixture) -> None:
    """In the order in which they were added; the access log is one of them."""

    class Own(http.ServerResponse):
        pass

    second = Noting()
    server = observed(noting, ok, response_class=Own)
    http.observe_exchanges(server, second)
    http.log_access(server)
    assert issubclass(server.response_class, Own)
    serve(server).connect().get('/')
    assert noting.log == second.log == [('began', '/'), ('ended', '/', 200)]


def test_server_without_observers_has_no_observed_responses() -> None:
    assert http.create_server().response_class is http.ServerResponse


# -- samples ----------------------------------------------------------------------------------------------------------


def test_sample_observes_a_number_of_ends(serve: Serve, noting: Noting) -> None:
    """Each sample observes the given number; afterwards the class is the original one."""
    server = http.create_server(ok)
    sample = ExchangeSampler(server, noting)
    client = serve(server).connect()
    for first in (0, 4):
        sample.take(2)
        for number in range(first, first + 4):
            client.get(f'/{number}')
        assert server.response_class is http.ServerResponse
    assert noting.log == [('ended', f'/{number}', 200) for number in (0, 1, 4, 5)]


def test_stopped_sample_observes_no_more(serve: Serve, noting: Noting) -> None:
    server = http.create_server(ok)
    sample = ExchangeSampler(server, noting)
    sample.stop()
    sample.take(5)
    client = serve(server).connect()
    client.get('/1')
    sample.stop()
    client.get('/2')
    assert noting.log == [('ended', '/1', 200)]


def test_observer_added_during_a_sample_sees_everything(serve: Serve, noting: Noting) -> None:
    """The sample ends with its number all the same."""
    server = http.create_server(ok)
    sample = ExchangeSampler(server, noting)
    sample.take(1)
    all_of_them = Noting()
    http.observe_exchanges(server, all_of_them)
    wanted = server.response_class
    client = serve(server).connect()
    client.get('/1')
    sample.take(1)
    client.get('/2')
    client.get('/3')
    assert noting.log == [('ended', '/2', 200)]
    assert [each for each in all_of_them.log if each[0] == 'ended'] == [
        ('ended', f'/{number}', 200) for number in (1, 2, 3)
    ]
    assert server.response_class is wanted


def test_two_samples_can_overlap(serve: Serve, noting: Noting) -> None:
    """They can end in any order; the class is the original one afterwards."""
    server = http.create_server(ok)
    second = Noting()
    samples = ExchangeSampler(server, noting), ExchangeSampler(server, second)
    for sample, count in zip(samples, (1, 2), strict=True):
        sample.take(count)
    http_client = serve(server).connect()
    for number in range(5):
        http_client.get(f'/{number}')
    assert [url for _, url, _ in second.log] == ['/0', '/1']
    assert noting.log[0] == ('ended', '/0', 200)
    assert server.response_class is http.ServerResponse
    samples[0].take(1)
    observed = Noting()
    samples[1].take(1)
    http.observe_exchanges(server, observed)
    assert server.response_class.observers == (observed,)
