"""Test how a server with HTTP/2 closes: no request is lost."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.http2.client import Client, Connect
from tests.servers import ok

LAST = 2**31 - 1


def test_requests_in_progress_are_finished(connect_h2: Connect) -> None:
    begun, go_on = Event(), Event()

    def listener(request: Any, response: Any) -> None:
        begun.set()
        go_on.wait()
        response.end(b'finished')

    client = connect_h2(listener)
    server = client.site.server  # type: ignore[attr-defined]
    first = client.get()
    begun.wait()
    closing = gevent.spawn(server.stop)
    client.until(lambda: client.goaways)
    assert client.goaways == [(0, LAST)]
    # the client knows of the end: the server names the last request
    client.until(lambda: len(client.goaways) == 2)
    assert client.goaways[1] == (0, first)
    go_on.set()
    assert client.response(first).body == b'finished'
    client.wait_closed()
    client.close()
    closing.join()


def test_request_on_its_way_is_served(connect_h2: Connect) -> None:
    client = connect_h2(ok)
    client.response(client.get())
    server = client.site.server  # type: ignore[attr-defined]
    closing = gevent.spawn(server.stop)
    # the client has not read the GOAWAY
    number = client.get('/late')
    assert client.response(number).body == b'GET /late'
    client.wait_closed()
    assert client.goaways == [(0, LAST), (0, number)]
    client.close()
    closing.join()


def test_request_after_the_last_one_is_ignored(connect_h2: Connect) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        response.end(request.url)

    client = connect_h2(listener)
    server = client.site.server  # type: ignore[attr-defined]
    first = client.get('/first')
    closing = gevent.spawn(server.stop)
    client.until(lambda: len(client.goaways) == 2)
    # a client that does not look at GOAWAY
    head = client.h2.encoder.encode(client.head('POST', '/refused'))
    client.send_raw(len(head).to_bytes(3, 'big') + b'\x01\x04\x00\x00\x00\x03' + head)
    client.send_raw(b'\x00\x00\x05\x00\x01\x00\x00\x00\x03hello')
    go_on.set()
    assert client.response(first).body == b'/first'
    client.wait_closed()
    client.close()
    closing.join()


def test_idle_connection_closes_at_once_without_an_answer(connect_h2: Connect) -> None:
    client = connect_h2(ok)
    client.response(client.get())
    server = client.site.server  # type: ignore[attr-defined]
    # this client answers no PING: it does not read
    server.close()
    gevent.sleep(0)
    client.wait_closed()
    assert client.goaways[-1] == (0, 1)


def test_close_idle_connections(connect_h2: Connect) -> None:
    client = connect_h2(ok)
    client.response(client.get())
    client.site.server.close_idle_connections()  # type: ignore[attr-defined]
    assert client.goaway() == 0
    client.wait_closed()


def test_idle_connection_is_closed_in_time(connect_h2: Connect) -> None:
    client = connect_h2(ok, keep_alive_timeout=0.1, keep_alive_timeout_buffer=0.0)
    client.response(client.get())
    client.wait_closed()
    assert client.goaways == [(0, 1)]


def test_connection_without_a_request_is_closed_in_time(connect_h2: Connect) -> None:
    client = connect_h2(ok, headers_timeout=0.1)
    client.wait_closed()
    assert client.goaways == [(0, 0)]


def test_requests_per_socket_are_limited(connect_h2: Connect) -> None:
    client = connect_h2(ok, max_requests_per_socket=2)
    assert [client.response(client.get()).status for _ in range(2)] == [200, 200]
    client.wait_closed()
    assert client.goaways == [(0, 3)]


@pytest.mark.parametrize('ends', [True, False])
def test_client_that_ends_its_direction_gets_its_response(connect_h2: Connect, ends: bool) -> None:
    go_on = Event()
    aborted: list[bool] = []

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        aborted.append(request.aborted)
        response.end(b'whole')

    client: Client = connect_h2(listener)
    number = client.get()
    if ends:
        client.end_output()
        client.until(lambda: aborted or go_on.set() or True)
    go_on.set()
    assert client.response(number).body == b'whole'
