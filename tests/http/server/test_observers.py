"""Observers of exchanges: each is told once of the beginning and once of the end, whatever the end is."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode import http
from geventnode.http.server.observers import CLIENT_CLOSED_REQUEST, ExchangeSampler
from tests.servers import Log, Serve, get, ok


class Noting(http.ExchangeObserver):
    """Notes what it is told."""

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


def test_pipelined_requests(serve: Serve, noting: Noting) -> None:
    client = serve(observed(noting, ok)).connect()
    client.send(get('/1') + get('/2'))
    client.response()
    client.response()
    assert noting.log == [('began', '/1'), ('ended', '/1', 200), ('began', '/2'), ('ended', '/2', 200)]


def test_a_listener_that_fails(serve: Serve, noting: Noting, caplog: pytest.LogCaptureFixture) -> None:
    def listener(request: Any, response: Any) -> None:
        raise ValueError('on purpose')

    assert serve(observed(noting, listener)).connect().get('/').status == 500
    assert noting.log == [('began', '/'), ('ended', '/', 500)]


def test_a_client_that_leaves(serve: Serve, noting: Noting) -> None:
    client = serve(observed(noting, lambda request, response: None)).connect()
    client.send(get('/'))
    noting.log.wait_for_length(1)
    client.abort()
    noting.log.wait_for(('ended', '/', CLIENT_CLOSED_REQUEST))


def test_an_upgrade_by_the_response(serve: Serve, noting: Noting) -> None:
    def listener(request: Any, response: Any) -> None:
        with response.upgrade()[0] as socket:
            socket.write(b'other')

    client = serve(observed(noting, listener)).connect()
    client.send(get('/', 'Connection: upgrade', 'Upgrade: other'))
    assert client.rest().endswith(b'other')
    assert noting.log == [('began', '/'), ('ended', '/', 101)]


def test_a_response_that_is_not_kept_alive_from_the_beginning(serve: Serve) -> None:
    """An observer may decide about the connection before anybody else does."""

    class Closing(http.ExchangeObserver):
        def exchange_began(self, response: Any) -> None:
            response.should_keep_alive = False

    server = http.create_server(ok)
    http.observe_exchanges(server, Closing())
    assert serve(server).connect().get('/').closes


def test_several_observers(serve: Serve, noting: Noting, caplog: pytest.LogCaptureFixture) -> None:
    """They are told in the order in which they came; the access log is one of them."""

    class Own(http.ServerResponse):
        pass

    second = Noting()
    server = observed(noting, ok, response_class=Own)
    http.observe_exchanges(server, second)
    http.log_access(server)
    assert issubclass(server.response_class, Own)
    serve(server).connect().get('/')
    assert noting.log == second.log == [('began', '/'), ('ended', '/', 200)]


def test_nobody_is_told_unless_somebody_asks() -> None:
    assert http.create_server().response_class is http.ServerResponse


# -- samples ----------------------------------------------------------------------------------------------------------


def test_a_sample(serve: Serve, noting: Noting) -> None:
    """So many are told of, each time that one is taken, and only the ends; afterwards the class is what it was."""
    server = http.create_server(ok)
    sample = ExchangeSampler(server, noting)
    client = serve(server).connect()
    for first in (0, 4):
        sample.take(2)
        for number in range(first, first + 4):
            client.get(f'/{number}')
        assert server.response_class is http.ServerResponse
    assert noting.log == [('ended', f'/{number}', 200) for number in (0, 1, 4, 5)]


def test_a_sample_that_is_stopped(serve: Serve, noting: Noting) -> None:
    server = http.create_server(ok)
    sample = ExchangeSampler(server, noting)
    sample.stop()
    sample.take(5)
    client = serve(server).connect()
    client.get('/1')
    sample.stop()
    client.get('/2')
    assert noting.log == [('ended', '/1', 200)]


def test_observers_that_come_while_a_sample_is_taken(serve: Serve, noting: Noting) -> None:
    """They are told of everything, and the sample ends with its number."""
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


def test_two_samples_at_once(serve: Serve, noting: Noting) -> None:
    """Whichever ends first, nothing is left of both."""
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
