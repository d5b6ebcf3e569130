"""``cancel_on_disconnect``: an exception ends the listener of a client that has disconnected."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import ClientDisconnected, IncompleteBody
from tests.servers import Log, Serve, get, post


@pytest.mark.parametrize('going', ['close', 'abort', 'half_close'])
def test_disconnect_raises_in_the_listener(serve: Serve, going: str) -> None:
    """``ClientDisconnected`` passes ``except Exception``; ``finally`` runs."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            log.append('waiting')
            try:
                Event().wait()
            except Exception:
                log.append('swallowed')
        except ClientDisconnected as error:
            log.append(error.code)
            raise
        finally:
            log.append('cleaned up')

    site = serve(listener, cancel_on_disconnect=True)
    client = site.send(get())
    log.wait_for('waiting')
    getattr(client, going)()
    log.wait_for('cleaned up')
    assert log == ['waiting', 'ECONNRESET', 'cleaned up']


def test_cancelling_never_hits_the_next_request(serve: Serve) -> None:
    """A listener that continues after its response is not interrupted, nor is the next request of its worker."""
    log = Log()
    release = Event()

    def listener(request: Any, response: Any) -> None:
        response.end(request.url)
        log.append(f'answered {request.url}')
        try:
            release.wait()
            log.append(f'over {request.url}')
        except ClientDisconnected:
            log.append('thrown')

    site = serve(listener, cancel_on_disconnect=True)
    client = site.send(get('/1'))
    client.response()
    client.close()
    gevent.idle()
    site.send(get('/2')).response()
    release.set()
    log.wait_for('over /2')
    assert log == ['answered /1', 'answered /2', 'over /1', 'over /2']


def test_cancelling_hits_the_current_request_while_an_older_listener_runs(serve: Serve) -> None:
    """Each request of a connection has the greenlet of its own listener."""
    log = Log()
    release = Event()

    def listener(request: Any, response: Any) -> None:
        try:
            if request.url == '/old':
                response.end()
                release.wait()
                log.append('old over')
            else:
                log.append('new waiting')
                Event().wait()
        except ClientDisconnected:
            log.append(f'thrown into {request.url}')

    client = serve(listener, cancel_on_disconnect=True).send(get('/old'), get('/new'))
    log.wait_for('new waiting')
    release.set()
    log.wait_for('old over')
    client.close()
    log.wait_for('thrown into /new')
    assert log == ['new waiting', 'old over', 'thrown into /new']


def test_cancelling_interrupts_a_read(serve: Serve) -> None:
    """A listener is woken once, in any wait."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append('reading')
        try:
            request.read()
        except (ClientDisconnected, IncompleteBody) as error:
            log.append(type(error).__name__)
        gevent.sleep(0)
        gevent.sleep(0)
        log.append('over')

    client = serve(listener, cancel_on_disconnect=True).send(post(b'a', length=5))
    log.wait_for('reading')
    client.abort()
    log.wait_for('over')
    assert len(log) == 3


def test_server_survives_a_thousand_aborted_requests(serve: Serve) -> None:
    """In every phase of a request."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/read':
            request.read()
        response.write('x')
        gevent.sleep(0)
        response.end('y')

    site = serve(listener)
    for beginning in (b'', b'GET', get()[:-1], get(), post(b'x', '/read', length=9), get() + get()[:-3]):
        for _ in range(20):
            site.send(beginning).abort()
            site.send(beginning).close()
    assert site.get().body == b'xy'
    gevent.idle()


def test_single_request_can_be_cancelled(serve: Serve) -> None:
    """The method applies to one request; another one on the same connection is not interrupted."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/cancelled':
            response.cancel_on_disconnect()
        if request.url == '/first':
            response.cancel_on_disconnect()
            response.end()
            return
        log.append('waits')
        try:
            Event().wait(0.05 if request.url == '/left' else None)
        except ClientDisconnected:
            log.append('cancelled')
            raise
        log.append('left alone')
        response.end()

    site = serve(listener)
    client = site.send(get('/cancelled'))
    log.wait_for('waits')
    client.close()
    log.wait_for('cancelled')
    del log[:]
    client = site.send(get('/first'), get('/left'))
    log.wait_for('waits')
    client.close()
    log.wait_for('left alone')


def test_cancel_after_the_disconnect_raises_at_once(serve: Serve) -> None:
    """The client has disconnected already."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('aborted', log.note('aborted'))
        log.append('waits')
        log.wait_for('aborted')
        try:
            response.cancel_on_disconnect()
        except ClientDisconnected:
            log.append('raised')
            raise

    client = serve(listener).send(get())
    log.wait_for('waits')
    client.close()
    log.wait_for('raised')
