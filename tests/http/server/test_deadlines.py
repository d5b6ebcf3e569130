"""Test the deadlines of connections: which ones apply, and their effect.

The limits are short. No test asserts how late a deadline can be."""

from __future__ import annotations

import socket as stdlib
from time import monotonic
from typing import Any

import gevent
import pytest

from geventnode.errors import ClientDisconnected, ConnectionClosed, RequestTimeout
from geventnode.integrations.wsgi import wsgi
from tests.servers import Client, Log, Serve, get, ok, post, repeating
from tests.sockets import until

SHORT = 0.2


def refused(client: Client) -> None:
    """Check that ``client`` gets 408, and that its connection closes."""
    reply = client.response()
    assert (reply.status, reply.reason) == (408, 'Request Timeout')
    assert reply.closes
    assert client.rest() == b''


def test_headers_timeout_of_a_head_that_never_ends(serve: Serve) -> None:
    """The deadline is absolute: arriving bytes do not extend it."""
    seen = []
    client = serve(lambda request, response: seen.append(request.url), headers_timeout=SHORT).send(b'GET / HT')
    began = monotonic()
    with repeating(lambda: client.send(b'x'), SHORT / 4):
        refused(client)
    assert monotonic() - began >= SHORT
    assert seen == []


@pytest.mark.parametrize('received', [b'', b'\r\n'])
def test_headers_timeout_counts_from_accepting(serve: Serve, received: bytes) -> None:
    """A client that sends nothing gets no response, which it would take for the response to a later request."""
    client = serve(ok, headers_timeout=SHORT).send(received)
    began = monotonic()
    client.assert_closed(reset=False)
    assert monotonic() - began >= SHORT / 2


def test_headers_timeout_in_a_later_request(serve: Serve) -> None:
    """It counts from the first byte of that request."""
    client = serve(ok, headers_timeout=SHORT).connect()
    assert client.get().status == 200
    client.send(b'GET /')
    refused(client)


def test_headers_timeout_does_not_concern_an_idle_connection(serve: Serve) -> None:
    """The idle time between two requests can be longer. The limit applies to a connection that was accepted later."""
    site = serve(ok, headers_timeout=SHORT)
    idle = site.connect()
    assert idle.get().status == 200
    refused(site.send(b'GET'))
    assert idle.get().status == 200


def test_request_timeout_of_a_body_that_never_ends(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The reader gets the error, and the client 408. The log has no traceback, because the listener is not at fault."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            request.read()
        except RequestTimeout as error:
            log.append(error.code)
            raise

    refused(serve(listener, request_timeout=SHORT).send(post(b'abc', length=10)))
    assert log == ['ETIMEDOUT']
    assert [record.exc_info for record in caplog.records if record.exc_info] == []


def test_request_timeout_after_the_head_was_sent(serve: Serve) -> None:
    """The connection ends, so that the client sees an incomplete response."""

    def listener(request: Any, response: Any) -> None:
        response.write('begin')
        request.read()

    data = serve(listener, request_timeout=SHORT).send(post(b'abc', length=10)).rest()
    assert data.endswith(b'5\r\nbegin\r\n')


def test_request_timeout_without_a_reader(serve: Serve) -> None:
    """The server responds while the listener waits for something else."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.wait_for('go on')
        log.append('done')

    site = serve(listener, request_timeout=SHORT)
    refused(site.send(post(b'abc', length=10)))
    log.append('go on')
    log.wait_for('done')


# -- uploads at a minimum rate --------------------------------------------------------------------------------------


def _read(request: Any, response: Any) -> None:
    response.end(f'{len(request.read())}')


def _upload(environ: Any, start_response: Any) -> list[bytes]:
    body = environ['wsgi.input'].read()
    start_response('200 OK', [])
    return [f'{len(body)}'.encode()]


@pytest.mark.parametrize('listener', [_read, wsgi(_upload)], ids=['listener', 'wsgi'])
def test_an_upload_above_the_minimum_rate_can_take_long(serve: Serve, listener: Any) -> None:
    """That is so for a listener and for a WSGI application."""
    client = serve(listener, request_timeout=SHORT, min_body_rate=10).send(post(b'', length=100_000))
    began = monotonic()
    sent = 0
    while monotonic() - began < SHORT * 5:
        client.send(b'x' * 100)
        sent += 100
        gevent.sleep(SHORT / 10)
    assert client.send(b'x' * (100_000 - sent)).response().body == b'100000'


@pytest.mark.parametrize('listener', [_read, wsgi(_upload)], ids=['listener', 'wsgi'])
def test_an_upload_below_the_minimum_rate_gets_408(serve: Serve, listener: Any) -> None:
    client = serve(listener, request_timeout=SHORT, min_body_rate=1_000_000).send(post(b'', length=100_000))
    with repeating(lambda: client.send(b'x'), SHORT / 10):
        refused(client)


def test_an_upload_that_slows_down_gets_408(serve: Serve) -> None:
    """Earlier windows do not count. The error names the limit."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            request.read()
        except RequestTimeout as error:
            log.append(str(error))
            raise

    refused(serve(listener, request_timeout=SHORT, min_body_rate=1000).send(post(b'x' * 100_000, length=200_000)))
    assert log[0] == (
        'the body arrived at a rate below min_body_rate (1000 bytes per second, over request_timeout, 0.2 seconds)'
    )


def test_a_slow_listener_does_not_time_out_its_client(serve: Serve) -> None:
    """The server has stopped reading, so that nothing can arrive."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.wait_for('late')
        response.end(f'{len(request.read())}')

    def upload() -> bytes:
        return client.send(post(b'x' * 20_000_000)).response().body

    site = serve(listener, request_timeout=SHORT, min_body_rate=1_000_000)
    client = site.connect()
    uploading = gevent.spawn(upload)
    # another slow client gets 408 after a window
    for _ in range(2):
        refused(site.send(post(b'', length=5)))
    log.append('late')
    assert uploading.get() == b'20000000'


def test_a_pause_of_the_listener_belongs_to_no_window(serve: Serve) -> None:
    """The server received nothing in that time, even if it receives again at the end of a window."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.wait_for('late')
        data = request.read(1_000_000)
        log.append('received')
        response.end(f'{len(data + request.read())}')

    site = serve(listener, request_timeout=1000, min_body_rate=1_000_000)
    client = site.send(post(b'x' * 1_000_000, length=1_000_001))
    while not (sinks := site.server._protocols()) or not sinks[0].reading_paused:
        gevent.idle()
    connection: Any = sinks[0]
    connection._on_deadline(monotonic())
    log.append('late')
    log.wait_for('received')
    connection.began -= 2000
    connection._on_deadline(monotonic())
    assert client.send(b'x').response().body == b'1000001'


def test_each_request_has_its_own_window(serve: Serve) -> None:
    client = serve(_read, request_timeout=SHORT, min_body_rate=10).connect()
    for _ in range(2):
        client.send(post(b'x' * 50_000, length=100_000))
        began = monotonic()
        sent = 0
        while monotonic() - began < SHORT * 2:
            client.send(b'x' * 10)
            sent += 10
            gevent.sleep(SHORT / 10)
        assert client.send(b'x' * (50_000 - sent)).response().body == b'100000'


def test_request_timeout_does_not_concern_the_response(serve: Serve) -> None:
    """The listener of a complete request can take longer."""
    late = Log()
    site = serve(None, request_timeout=SHORT)

    @site.server.on('request')
    def listener(request: Any, response: Any) -> None:
        if request.url == '/slow':
            late.wait_for('late')
        else:
            request.read()
        response.end()

    slow = site.send(get('/slow'))
    refused(site.send(post(b'', length=5)))
    late.append('late')
    assert slow.response().status == 200


def test_keep_alive_timeout_closes_an_idle_connection(serve: Serve) -> None:
    """It closes without a response, after the announced time."""
    client = serve(ok, keep_alive_timeout=SHORT).connect()
    assert client.get().status == 200
    began = monotonic()
    assert client.rest() == b''
    assert monotonic() - began >= SHORT / 2


def test_an_idle_connection_is_kept_longer_than_announced(serve: Serve) -> None:
    """A request at the last moment gets a response. Without the buffer, the time is over earlier."""
    kept = serve(ok, keep_alive_timeout=SHORT).connect()
    cut = serve(ok, keep_alive_timeout=SHORT, keep_alive_timeout_buffer=0).connect()
    assert [kept.get().status, cut.get().status] == [200, 200]
    cut.assert_closed()
    assert kept.get().status == 200
    kept.assert_closed()


def test_a_timeout_of_zero_is_no_limit(serve: Serve) -> None:
    """The deadlines of other connections pass meanwhile."""
    site = serve(ok, timeout=0, headers_timeout=0, request_timeout=0, keep_alive_timeout=0)
    silent, idle = site.connect(), site.connect()
    assert idle.get().status == 200
    marker = serve(ok, headers_timeout=SHORT).connect()
    marker.assert_closed()
    assert silent.get().status == idle.get().status == 200
    assert 'Keep-Alive' not in [name for name, _ in idle.get().headers]


# -- inactivity -----------------------------------------------------------------------------------------------------


def hang(request: Any, response: Any) -> None:
    """Never respond."""


def test_inactivity_after_the_head_destroys_the_socket(serve: Serve) -> None:
    """``'clientError'`` reports the reason."""
    log = Log()
    site = serve(lambda request, response: response.write('begun'), timeout=SHORT)
    site.server.on('clientError', lambda error, socket: log.append((type(error), socket.destroyed)))
    assert site.send(get()).rest().endswith(b'5\r\nbegun\r\n')
    log.wait_for((RequestTimeout, True))


def test_a_listener_that_does_not_respond_is_replaced_by_503(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Without a response, the client would send the request again. A later response of the listener is dropped."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        for message, name in ((request, 'request'), (response, 'response')):
            for event in ('aborted', 'close'):
                message.on(event, log.note(f'{name} {event}'))
        log.wait_for('go on')
        with pytest.raises(ConnectionClosed):
            response.end('late')
        log.append('done')
        if request.url == '/write':
            response.write('more')
        request.read()

    site = serve(listener, timeout=SHORT)
    for request in (get('/write'), post(b'x', '/read', length=3)):
        client = site.send(request)
        reply = client.response()
        assert (reply.status, reply.closes) == (503, True)
        client.assert_closed()
        log.append('go on')
        log.wait_for('done')
        gevent.idle()
        assert sorted(log) == ['done', 'go on', 'request aborted', 'request close', 'response close']
        log.clear()
    assert [record.levelname for record in caplog.records] == ['WARNING', 'WARNING']


def test_a_late_listener_is_cancelled(serve: Serve) -> None:
    """It is cancelled as if its client had disconnected. The client gets the response all the same."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            log.wait_for('never')
        except ClientDisconnected:
            log.append('cancelled')
            raise

    site = serve(listener, timeout=SHORT, cancel_on_disconnect=True)
    for request in (get(), post(b'x', length=3)):
        client = site.send(request)
        assert client.response().status == 503
        client.assert_closed(reset=False)
    log.wait_for_length(2)
    assert log == ['cancelled', 'cancelled']


def test_a_late_client_gets_408(serve: Serve) -> None:
    """That is so for a head and for a body, because the listener is not late."""
    site = serve(lambda request, response: request.read(), timeout=SHORT)
    refused(site.send(b'GET / HT'))
    refused(site.send(post(b'abc', length=10)))
    assert site.connect().rest() == b''


def test_a_request_without_a_response_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """It is one line. A late client and an incomplete response have none."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/upload':
            request.read()
        elif request.url == '/begun':
            response.write('begun')

    site = serve(listener, timeout=SHORT)
    site.send(post(b'', '/upload', length=3)).rest()
    site.send(get('/begun')).rest()
    assert site.send(get('/path')).response().status == 503
    gevent.idle()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
    reason = f'no traffic within timeout ({SHORT:g} seconds)'
    assert warnings == [f'GET /path: the listener has not responded, and the client gets 503: {reason}']


def test_a_timeout_listener_handles_the_timeout(serve: Serve) -> None:
    """The socket, its argument, is not destroyed then."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.wait_for(request.socket)
        response.end('after all')

    site = serve(listener)
    assert site.server.set_timeout(SHORT, log.append) is site.server
    assert site.server.timeout == SHORT
    assert site.get().body == b'after all'


def test_request_response_and_server_emit_timeout(serve: Serve) -> None:
    """The request emits if it is incomplete. One listener is enough to handle the timeout."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('timeout', log.note('request'))
        response.on('timeout', log.note('response'))
        log.wait_for('server')
        response.end()

    site = serve(listener, timeout=SHORT)
    site.server.on('timeout', log.note('server'))
    site.send(post(b'', length=3)).response()
    assert log[:3] == ['request', 'response', 'server']


def test_a_complete_request_emits_no_timeout(serve: Serve) -> None:
    """Its response does."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('timeout', log.note('request'))
        response.on('timeout', log.note('response'))
        log.wait_for('response')
        response.end()

    assert serve(listener, timeout=SHORT).get().status == 200
    assert log[0] == 'response'


def test_response_set_timeout_applies_to_its_exchange(serve: Serve) -> None:
    """The callback handles the timeout."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        assert response.set_timeout(SHORT, log.note('late')) is response
        log.wait_for('late')
        response.end('late')

    assert serve(listener).get().body == b'late'


def test_set_timeout_after_the_exchange_has_no_effect(serve: Serve) -> None:
    kept: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        for message in kept:
            message.set_timeout(SHORT)
        found.extend(sink.timeout for sink in site.server._protocols())
        kept.extend((request, response))
        response.end()

    found: list[float | None] = []
    site = serve(listener)
    client = site.connect()
    assert [client.get().status for _ in range(2)] == [200, 200]
    assert found == [None, None]


def test_response_set_timeout_without_a_listener(serve: Serve) -> None:
    """The client gets 503, as with the timeout of the server."""
    client = serve(lambda _, response: response.set_timeout(SHORT)).send(get())
    assert client.response().status == 503
    client.assert_closed()


def test_request_set_timeout_applies_to_its_exchange(serve: Serve) -> None:
    """The callback is called while the request is incomplete."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        assert request.set_timeout(SHORT, log.note('late')) is request
        log.wait_for('late')
        response.end('late')

    assert serve(listener).send(post(b'', length=3)).response().body == b'late'


def test_the_timeout_of_an_exchange_is_reset(serve: Serve) -> None:
    """The listener of the next request can take longer."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/first':
            response.set_timeout(SHORT)
        else:
            log.wait_for('go on')
        response.end(request.url)

    site = serve(listener)
    client = site.connect()
    assert client.get('/first').status == 200
    client.send(get('/second'))
    serve(ok, headers_timeout=2 * SHORT).connect().assert_closed()
    log.append('go on')
    assert client.response().body == b'/second'


@pytest.mark.parametrize('value', [-1, float('nan'), float('inf'), '1', True])
def test_bad_timeouts_raise(serve: Serve, value: Any) -> None:
    """They raise in the call with the value, on the server and on messages."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        for set_timeout in (request.set_timeout, response.set_timeout):
            with pytest.raises((TypeError, ValueError)):
                set_timeout(value)
            log.append('raised')
        response.end()

    site = serve(listener)
    assert site.get().status == 200
    assert log == ['raised', 'raised']
    with pytest.raises((TypeError, ValueError)):
        site.server.timeout = value


def test_inactivity_counts_from_accepting(serve: Serve) -> None:
    """``timeout`` applies to a silent client (Node 0.10 emits ``'timeout'`` for such a connection)."""
    log = Log()
    site = serve(ok, timeout=SHORT)
    site.server.on('timeout', lambda socket: (log.append('timeout'), socket.destroy()))
    assert site.connect().rest() == b''
    assert log == ['timeout']


def test_inactivity_of_a_client_that_does_not_read(serve: Serve) -> None:
    """The connection is destroyed, and the write raises."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            while True:
                response.write(b'x' * 100_000)
        except ConnectionError:
            log.append('closed')

    client = serve(listener, timeout=SHORT).connect(receive_buffer=4096)
    client.send(get())
    log.wait_for('closed')


# -- listeners that block ---------------------------------------------------------------------------------


def test_handler_may_block_lifts_the_limits(serve: Serve) -> None:
    """The server does not wait for the client, so that no limit counts, even for a body that was not read."""

    def listener(request: Any, response: Any) -> None:
        response.handler_may_block = True
        gevent.sleep(SHORT * 5)
        response.end(request.read())

    for limit in ('timeout', 'request_timeout'):
        client = serve(listener, **{limit: SHORT}).send(post(b'', length=3))
        gevent.sleep(SHORT * 4)
        assert client.send(b'abc').response().body == b'abc'


def test_handler_may_block_keeps_the_limits_while_reading(serve: Serve) -> None:
    """The client has to send while the listener reads."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.handler_may_block = True
        gevent.sleep(SHORT * 2)
        try:
            request.read()
        except RequestTimeout as error:
            log.append(str(error))
            raise

    for limit in ('timeout', 'request_timeout'):
        client = serve(listener, **{limit: SHORT}).send(post(b'', length=3))
        client.rest()
    assert [limit in text for limit, text in zip(('within timeout', 'request_timeout'), log, strict=True)] == [True] * 2


def test_handler_may_block_adds_the_waits_up(serve: Serve) -> None:
    """The limit does not begin anew with each piece."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.handler_may_block = True
        try:
            for chunk in request:
                log.append(chunk)
        except RequestTimeout as error:
            log.append(error.status)
            raise

    client = serve(listener, request_timeout=SHORT).send(post(b'', length=1000))
    with repeating(lambda: client.send(b'x'), SHORT / 4):
        refused(client)
    assert log[-1] == 408


def test_handler_may_block_keeps_the_limits_while_writing(serve: Serve) -> None:
    """The client has to read while bytes are queued."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.handler_may_block = True
        try:
            while True:
                response.write(bytes(1_000_000))
        except ConnectionError:
            log.append('closed')
            raise

    site = serve(listener, timeout=SHORT)
    client = site.connect(receive_buffer=4096).send(get())
    log.wait_for('closed')
    assert client.exactly(10)


# -- clients that send and do not receive -----------------------------------------------------------------------------


def small_buffer(socket: Any) -> None:
    """Let the kernel hold little, so that the socket has a queue."""
    socket._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, 8192)


def respond_at_once(request: Any, response: Any) -> None:
    response.end(bytes(200_000))


def respond_in_pieces(request: Any, response: Any) -> None:
    while True:
        response.write(bytes(50_000))


@pytest.mark.parametrize(
    ('listener', 'fields', 'state'),
    [
        (respond_at_once, [], 'flushing'),
        (respond_at_once, ['Connection: close'], 'lingering'),
        (respond_in_pieces, [], 'active'),
    ],
)
def test_input_does_not_keep_a_client_that_does_not_receive(
    serve: Serve, listener: Any, fields: list[str], state: str
) -> None:
    log = Log()
    site = serve(listener, timeout=SHORT)
    site.server.on('connection', small_buffer)
    site.server.on('connection', lambda socket: socket.once('close', log.note('closed')))
    client = site.connect(4096).send(get('/', *fields))
    until(lambda: [each.state.value for each in site.server._connections()] == [state])
    with repeating(lambda: client.send(b'x'), SHORT / 4):
        log.wait_for('closed')


def test_closing_server_does_not_wait_for_a_client_that_does_not_receive(serve: Serve) -> None:
    site = serve(respond_at_once, timeout=SHORT)
    site.server.on('connection', small_buffer)
    client = site.connect(4096).send(get())
    until(lambda: site.server.statistics()['writing'] == 1)
    with repeating(lambda: client.send(b'x'), SHORT / 4):
        site.server.stop()


@pytest.mark.parametrize('fields', [[], ['Connection: close']])
def test_slow_client_gets_the_whole_response(serve: Serve, fields: list[str]) -> None:
    """It takes longer than the timeout, and makes progress."""
    size = 2_000_000
    timeout = 0.5
    site = serve(lambda request, response: response.end(bytes(size)), timeout=timeout)
    site.server.on('connection', small_buffer)
    client = site.connect(65536).send(get('/', *fields))
    assert client.head().status == 200
    began = monotonic()
    for _ in range(size // 50_000):
        client.exactly(50_000)
        gevent.sleep(0.03)
    assert monotonic() - began > 2 * timeout


def test_timeout_listener_decides_about_a_client_that_does_not_receive(serve: Serve) -> None:
    """The event is emitted once in each period, although input arrives."""
    log = Log()
    site = serve(respond_at_once, timeout=SHORT)
    site.server.on('connection', small_buffer)
    site.server.on('timeout', log.note('timeout'))
    client = site.connect(4096).send(get('/', 'Connection: close'))
    with repeating(lambda: client.send(b'x'), SHORT / 4):
        log.wait_for_length(2)
    client.abort()


def test_bytes_of_a_body_without_a_reader_do_not_keep_it(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener reads while its response ends, and then no longer."""
    monkeypatch.setattr('geventnode.http.server.deadlines.DISCARD_TIME', 3 * SHORT)
    log = Log()

    def listener(request: Any, response: Any) -> None:
        reading = gevent.spawn(request.read1, 5)
        gevent.idle()
        response.end('early')
        log.append('ended')
        reading.join()

    site = serve(listener, request_timeout=5 * SHORT)
    client = site.send(post(b'', length=10_000))
    log.wait_for('ended')
    with repeating(lambda: client.send(b'x'), SHORT):
        assert client.response().body == b'early'
        assert client.rest() == b''
