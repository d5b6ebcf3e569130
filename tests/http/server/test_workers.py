"""Test the greenlets that run listeners: their state between two requests, and their end."""

from __future__ import annotations

import contextvars
import weakref
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.local import local

from geventnode.http.server.workers import MAX_IDLE, end_idle_workers, idle_workers
from tests.servers import Log, Serve, get, ok

variable: contextvars.ContextVar[str] = contextvars.ContextVar('variable', default='unset')


def test_a_worker_serves_several_requests(serve: Serve) -> None:
    """Greenlets and their greenlet-locals are kept, as threads are in a pool."""
    workers = []

    def listener(request: Any, response: Any) -> None:
        workers.append(gevent.getcurrent())
        response.end()

    site = serve(listener)
    client = site.connect()
    for _ in range(3):
        client.get()
    site.get()
    assert len(set(workers)) == 1


def test_a_worker_serves_the_next_request_after_an_exception(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    workers = []

    def listener(request: Any, response: Any) -> None:
        workers.append(gevent.getcurrent())
        raise ZeroDivisionError(request.url)

    site = serve(listener)
    assert [site.get().status, site.get().status] == [500, 500]
    assert workers[0] is workers[1]
    assert not workers[0].dead
    assert 'GET /: ' in caplog.text


@pytest.mark.parametrize('error', [gevent.GreenletExit, SystemError])
def test_a_killed_listener_ends_its_connection(
    serve: Serve, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """All others continue."""
    workers = []

    def listener(request: Any, response: Any) -> None:
        if request.url == '/killed':
            workers.append(gevent.getcurrent())
            gevent.spawn(gevent.kill, gevent.getcurrent(), error)
            Event().wait()
        response.end()

    site = serve(listener)
    other = site.connect()
    assert other.get().status == 200
    data = site.send(get('/killed'), get()).rest()
    assert b'200 OK' not in data
    assert workers[0].dead is (error is gevent.GreenletExit)
    assert other.get().status == site.get().status == 200


@pytest.mark.filterwarnings('ignore')
def test_a_base_exception_ends_the_worker_and_its_connection(serve: Serve) -> None:
    """The worker leaves the pool, and the client gets no response. The server continues."""

    class Fatal(BaseException):
        pass

    workers = []

    def listener(request: Any, response: Any) -> None:
        if request.url == '/fatal':
            workers.append(gevent.getcurrent())
            raise Fatal
        response.end()

    site = serve(listener)
    hub = gevent.get_hub()
    hub.NOT_ERROR += (Fatal,)
    try:
        assert site.send(get('/fatal'), get('/next')).rest() == b''
    finally:
        hub.NOT_ERROR = hub.NOT_ERROR[:-1]
    assert workers[0].dead
    assert workers[0] not in idle_workers(hub)
    assert site.get().status == 200


def test_an_exception_ends_an_idle_worker(serve: Serve) -> None:
    """That is a kill, or a timeout that a request has left running. The next request gets another greenlet."""
    workers = []

    def listener(request: Any, response: Any) -> None:
        workers.append(gevent.getcurrent())
        response.end()

    site = serve(listener)
    site.get()
    assert workers[0] in idle_workers(gevent.get_hub())
    gevent.kill(workers[0])
    gevent.idle()
    assert workers[0] not in idle_workers(gevent.get_hub())
    assert site.get().status == 200
    assert workers[1] is not workers[0]


def test_end_idle_workers(serve: Serve) -> None:
    """The next request gets a new worker."""
    site = serve(ok)
    site.get()
    assert idle_workers(gevent.get_hub())
    end_idle_workers(gevent.get_hub())
    assert idle_workers(gevent.get_hub()) == []
    assert site.get().status == 200


def test_each_request_has_its_own_context(serve: Serve) -> None:
    """It is not visible in the next request of the connection, pipelined or not, nor in one of another connection."""
    seen = []

    def listener(request: Any, response: Any) -> None:
        seen.append(variable.get())
        variable.set(request.url)
        response.end()

    site = serve(listener)
    client = site.send(get('/1') + get('/2') + get('/3'))
    for _ in range(3):
        client.response()
    client.get('/4')
    site.get('/5')
    assert seen == ['unset'] * 5


def test_a_context_is_kept_over_switches(serve: Serve) -> None:
    """Other requests do not change it."""
    both = Event()
    seen = {}

    def listener(request: Any, response: Any) -> None:
        variable.set(request.url)
        if request.url == '/1':
            both.wait()
        else:
            both.set()
        gevent.sleep(0)
        seen[request.url] = variable.get()
        response.end()

    site = serve(listener)
    first, second = site.send(get('/1')), site.send(get('/2'))
    assert first.response().status == second.response().status == 200
    assert seen == {'/1': '/1', '/2': '/2'}


def test_a_listener_that_returns_without_end_frees_its_worker(serve: Serve) -> None:
    """Many responses can be open without a greenlet each. ``end()`` resumes the connection."""
    open_responses = Log()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/wait':
            open_responses.append((response, gevent.getcurrent()))
        else:
            response.end('next')

    site = serve(listener)
    clients = [site.send(get('/wait'), get('/next')) for _ in range(20)]
    open_responses.wait_for_length(20)
    gevent.idle()
    workers = {worker for _, worker in open_responses}
    assert workers <= set(idle_workers(gevent.get_hub()))
    assert len(workers) < 20
    for response, _ in open_responses:
        response.end('waited')
    for client in clients:
        assert client.response().body == b'waited'
        assert client.response().body == b'next'


def test_greenlet_per_request(serve: Serve) -> None:
    """Pipelined requests have greenlets of their own, too, and the pool stays empty."""
    workers = []

    def listener(request: Any, response: Any) -> None:
        workers.append(gevent.getcurrent())
        response.end()

    site = serve(listener, greenlet_per_request=True)
    client = site.send(get() * 20)
    for _ in range(20):
        client.response()
    client.get()
    site.get()
    assert len(set(map(id, workers))) == 22
    gevent.idle()
    assert all(worker.dead for worker in workers)


def test_the_number_of_idle_workers_is_limited(serve: Serve) -> None:
    """The surplus ends."""
    go = Event()
    waiting = Log()

    def listener(request: Any, response: Any) -> None:
        waiting.append(1)
        go.wait()
        response.end()

    site = serve(listener)
    clients = [site.send(get()) for _ in range(MAX_IDLE + 20)]
    waiting.wait_for_length(MAX_IDLE + 20)
    go.set()
    for client in clients:
        assert client.response().status == 200
        client.close()
    gevent.idle()
    assert len(idle_workers(gevent.get_hub())) == MAX_IDLE


class _Held:
    """The value of a greenlet-local, such as a connection to a database."""


def _burst(site: Any, go: Event, waiting: Log, size: int) -> None:
    clients = [site.send(get()) for _ in range(size)]
    waiting.wait_for_length(size)
    go.set()
    for client in clients:
        assert client.response().status == 200
        client.close()
    gevent.idle()


@pytest.mark.parametrize('most', [0, 3])
def test_max_idle_workers_limits_the_idle_workers(serve: Serve, most: int) -> None:
    """The greenlet-locals of the surplus are released."""
    go, waiting, own = Event(), Log(), local()
    held: weakref.WeakSet[_Held] = weakref.WeakSet()

    def listener(request: Any, response: Any) -> None:
        own.held = _Held()
        held.add(own.held)
        waiting.append(1)
        go.wait()
        response.end()

    end_idle_workers(gevent.get_hub())
    _burst(serve(listener, max_idle_workers=most), go, waiting, 20)
    assert (len(idle_workers(gevent.get_hub())), len(held)) == (most, most)


def test_a_lower_max_idle_workers_ends_the_surplus(serve: Serve) -> None:
    go, waiting = Event(), Log()

    def listener(request: Any, response: Any) -> None:
        waiting.append(1)
        go.wait()
        response.end()

    end_idle_workers(gevent.get_hub())
    site = serve(listener)
    _burst(site, go, waiting, 20)
    idle = list(idle_workers(gevent.get_hub()))
    assert len(idle) == 20
    # another setting has no effect on them
    site.server.timeout = 5
    assert idle_workers(gevent.get_hub()) == idle
    site.server.max_idle_workers = 4
    gevent.idle()
    assert [worker for worker in idle if not worker.dead] == idle_workers(gevent.get_hub()) == idle[-4:]
    assert site.get().status == 200


def test_a_kill_in_a_write_ends_the_connection(serve: Serve) -> None:
    """The client sees an incomplete response, never a complete one or a next response."""
    writing = Log()

    def listener(request: Any, response: Any) -> None:
        writing.append(gevent.getcurrent())
        while True:
            response.write(b'x' * 100_000)
            if response.writable_need_drain and len(writing) == 1:
                writing.append('full')

    client = serve(listener).send(get(), get('/next'))
    writing.wait_for('full')
    gevent.kill(writing[0])
    data = client.rest()
    assert not data.endswith(b'0\r\n\r\n')
    assert data.count(b'HTTP/1.1') == 1


def test_a_timeout_in_a_write_ends_the_connection(serve: Serve) -> None:
    """The response is never ended, as after a kill."""
    raised = Log()

    def listener(request: Any, response: Any) -> None:
        with gevent.Timeout(0.1) as timeout:
            try:
                while True:
                    response.write(b'x' * 100_000)
            except gevent.Timeout as error:
                raised.append(error is timeout)
                raise

    client = serve(listener).send(get(), get('/next'))
    raised.wait_for(True)
    data = client.rest()
    assert not data.endswith(b'0\r\n\r\n')
    assert data.count(b'HTTP/1.1') == 1


def test_blocking_in_a_listener_stalls_its_own_connection_only(serve: Serve) -> None:
    """Others are served meanwhile."""
    release = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/slow':
            release.wait()
        response.end(request.url)

    site = serve(listener)
    slow = site.send(get('/slow'))
    assert [site.get('/a').body, site.get('/b').body] == [b'/a', b'/b']
    release.set()
    assert slow.response().body == b'/slow'
