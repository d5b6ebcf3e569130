"""The events of a request and their order, and giving up."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import (
    ConnectionClosed,
    RequestAborted,
    SocketHangUp,
)
from tests.origins import EVENTS, HELLO, MakeOrigin, Peer, noted, silent
from tests.servers import Log
from tests.sockets import settle, until

# -- the order of events ----------------------------------------------------------------------------------------------


def test_exchange_emits_its_events_in_order(origin: MakeOrigin) -> None:
    request = http.request(origin().url)
    log = noted(request)

    def on_response(response: http.IncomingMessage) -> None:
        for event in ('end', 'close', 'aborted', 'error'):
            response.on(event, log.note(f'response {event}'))
        response.resume()

    request.on('response', on_response)
    request.end()
    assert log == [], 'nothing is emitted before the call returns'
    log.wait_for('response end')
    settle()
    assert log == ['socket', 'finish', 'response', 'response end']


def test_late_listeners_get_past_events(origin: MakeOrigin) -> None:
    request = http.get(origin().url)
    until(lambda: request.response)
    log = noted(request)
    log.wait_for('response')
    assert log == ['socket', 'finish', 'response']
    assert request.get_response().read() == b'hello'


@pytest.mark.parametrize('status', [b'100 Continue', b'103 Early Hints'])
def test_information_is_emitted_before_the_response(origin: MakeOrigin, status: bytes) -> None:
    """Also when both arrive in one segment, and a greenlet waits for the response."""
    server = origin(b'HTTP/1.1 %b\r\nLink: a\r\n\r\n' % status * 2 + HELLO)
    for waits in (True, False):
        request, log = http.get(server.url), Log()
        request.on('continue' if b'100' in status else 'information', log.note('information'))
        if not waits:
            # it has arrived before the call
            while not request.response:
                gevent.idle()
        assert request.get_response().read() == b'hello'
        assert log == ['information', 'information']


def test_information_listener_can_wait_for_the_response(origin: MakeOrigin) -> None:
    server, log = origin(b'HTTP/1.1 103 Early Hints\r\n\r\n' + HELLO), Log()
    request = http.get(server.url)
    request.on('information', lambda head: log.append(gevent.spawn(request.get_response).get()))
    response = request.get_response()
    log.wait_for_length(1)
    assert log == [response]


def test_the_callback_is_called_once(origin: MakeOrigin, must_call: Any) -> None:
    request = http.get(origin().url, must_call(lambda response: response.resume()))
    request.get_response()
    settle()


def test_nothing_is_emitted_in_the_hub(origin: MakeOrigin) -> None:
    request = http.get(origin().url)
    where = []
    for event in EVENTS:
        request.on(event, lambda *args: where.append(gevent.getcurrent()))
    request.get_response()
    settle()
    assert where
    assert gevent.get_hub() not in where


def test_listener_can_block(origin: MakeOrigin) -> None:
    go_on = Event()
    request = http.get(origin().url)
    request.on('socket', lambda socket: go_on.wait())
    log = Log()
    request.on('response', log.note('response'))
    assert http.get(origin().url).get_response().read() == b'hello'
    settle()
    assert log == []
    go_on.set()
    log.wait_for('response')


@pytest.mark.parametrize('event', ['socket', 'response'])
def test_raising_listener_ends_its_request(
    origin: MakeOrigin, agent: Any, event: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    pool = agent(keep_alive=True)
    said = b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n' + bytes(1000000)
    http.get(origin(said).url, agent=pool).on(event, fail)
    until(lambda: pool.statistics()['closed'])
    assert not pool.total_socket_count
    assert 'ZeroDivisionError' in capsys.readouterr().err


@pytest.mark.parametrize('then', ['close', 'reset'])
def test_connection_closed_without_a_response_is_a_hang_up(origin: MakeOrigin, then: str) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if then == 'reset':
            peer.abort()

    server = origin(script)
    request = http.get(server.url)
    log = noted(request)
    with pytest.raises(SocketHangUp, match=r'^socket hang up') as raised:
        request.get_response()
    assert (raised.value.code, raised.value.host, raised.value.port, raised.value.phase) == (
        'ECONNRESET',
        '127.0.0.1',
        server.port,
        'response',
    )
    log.wait_for('close')
    assert log == ['socket', 'finish', 'error', 'close']


def test_error_event_has_the_error(origin: MakeOrigin) -> None:
    log = Log()
    request = http.get(origin(lambda peer: peer.request()).url).on('error', log.append)
    log.wait_for_length(1)
    with pytest.raises(SocketHangUp) as raised:
        request.get_response()
    assert [(type(error), str(error)) for error in log] == [(type(raised.value), str(raised.value))]


def test_socket_is_not_emitted_after_an_abort(origin: MakeOrigin) -> None:
    """A listener can do nothing with a destroyed socket."""
    request = http.get(origin().url)
    log = noted(request)
    request.abort()
    log.wait_for('close')
    settle()
    assert log == ['close']


# -- giving up --------------------------------------------------------------------------------------------------------


def test_abort_emits_close_without_error(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    request = http.get(origin(silent).url, agent=pool)
    log = noted(request)
    waiter = gevent.spawn(request.get_response)
    gevent.idle()
    request.abort()
    request.abort()
    with pytest.raises(RequestAborted):
        waiter.get()
    assert request.aborted
    assert request.destroyed
    assert not pool.total_socket_count
    log.wait_for('close')
    settle()
    assert log[-1] == 'close'
    assert 'error' not in log


@pytest.mark.parametrize('error', [None, ZeroDivisionError('mine')])
def test_destroy_fails_the_request(origin: MakeOrigin, error: Any) -> None:
    request = http.get(origin(silent).url)
    log = noted(request)
    waiter = gevent.spawn(request.get_response)
    log.wait_for('finish')
    request.destroy(error)
    with pytest.raises(SocketHangUp if error is None else ZeroDivisionError):
        waiter.get()
    log.wait_for('close')
    assert log == ['socket', 'finish', 'error', 'close']


def test_destroy_before_sending_fails_the_request(agent: Any) -> None:
    request = http.request('http://127.0.0.1:1/', agent=agent())
    log = noted(request)
    request.destroy()
    log.wait_for('close')
    assert log == ['error', 'close']
    with pytest.raises(ConnectionClosed):
        request.end()
    with pytest.raises(SocketHangUp):
        request.get_response()


def test_destroy_during_the_body_closes_the_connection(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
        peer.closed()

    request = http.get(origin(script).url)
    response = request.get_response()
    assert response.read(5) == b'hello'
    request.destroy()
    with pytest.raises(SocketHangUp):
        response.read()
    assert response.aborted


def test_destroy_after_the_end_does_nothing(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    server = origin()
    request = http.get(server.url, agent=pool)
    assert request.get_response().read() == b'hello'
    other = http.get(server.url, agent=pool)
    request.destroy()
    request.abort()
    assert other.get_response().read() == b'hello'
    assert server.accepted == 1


@pytest.mark.parametrize('kill', [gevent.GreenletExit, gevent.Timeout, KeyboardInterrupt])
def test_killed_waiter_destroys_the_request(origin: MakeOrigin, agent: Any, kill: Any) -> None:
    pool = agent(keep_alive=True)
    left = []

    def wait(request: http.ClientRequest) -> None:
        try:
            request.get_response()
        except BaseException as error:
            left.append(type(error))

    waiter = gevent.spawn(wait, http.get(origin(silent).url, agent=pool))
    settle()
    waiter.kill(kill)
    assert left == [kill]
    assert not pool.total_socket_count


def test_several_greenlets_can_wait(origin: MakeOrigin) -> None:
    request = http.get(origin().url)
    waiters = [gevent.spawn(request.get_response) for _ in range(3)]
    gevent.joinall(waiters)
    assert {waiter.get() for waiter in waiters} == {request.response}
