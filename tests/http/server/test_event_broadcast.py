"""Events for many clients: their format, and clients that are slow, leave, or are left when the server stops."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from geventnode import http
from geventnode.errors import ConnectionClosed, EventQueueFull, InvalidInput, WriteAfterEnd, WrongThread
from geventnode.http.server.event_broadcast import encode_event
from tests.other_threads import in_another_thread
from tests.servers import Client, Log, Serve, Site, get

HEAD_END = b'\r\n\r\n'


def chunk(data: bytes) -> bytes:
    return b'%x\r\n%b\r\n' % (len(data), data)


def opened(site: Site, *fields: str, receive_buffer: int | None = None) -> Client:
    """Return a client that has received the head."""
    client = site.connect(receive_buffer).send(get('/', *fields))
    head = client.head()
    assert (head.status, head.values('Content-Type')) == (200, ['text/event-stream; charset=utf-8'])
    assert (head.values('Cache-Control'), head.values('X-Accel-Buffering')) == (['no-store'], ['no'])
    return client


def test_events_arrive_at_all_clients(serve: Serve) -> None:
    events = http.EventBroadcast(heartbeat=None)
    site = serve(lambda request, response: events.add(response))
    clients = [opened(site), opened(site)]
    assert len(events) == 2
    assert events.send('first') == 2
    assert events.send('second', event='news', event_id='7') == 2
    for client in clients:
        for data in (b'data: first\n\n', b'event: news\nid: 7\ndata: second\n\n'):
            assert client.exactly(len(chunk(data))) == chunk(data)


@pytest.mark.parametrize(
    ('data', 'options', 'encoded'),
    [
        ('', {}, 'data: \n\n'),
        ('a\nb\r\nc\rd', {}, 'data: a\ndata: b\ndata: c\ndata: d\n\n'),
        ('a\n', {}, 'data: a\ndata: \n\n'),
        ('data: x\n\ndata: y', {}, 'data: data: x\ndata: \ndata: data: y\n\n'),
        # no line ends for this format
        ('\u2028 \x85\x0b', {}, 'data: \u2028 \x85\x0b\n\n'),
        ('x', {'event': 'news', 'event_id': '', 'retry': 1.5}, 'event: news\nid: \nretry: 1500\ndata: x\n\n'),
    ],
)
def test_format(data: str, options: dict[str, Any], encoded: str) -> None:
    found = encode_event(data, options.get('event'), options.get('event_id'), options.get('retry'))
    assert found == encoded.encode()


@pytest.mark.parametrize(
    ('data', 'options'),
    [
        ('x', {'event': 'a\nb'}),
        ('x', {'event': 'a\rb'}),
        ('x', {'event_id': 'a\n'}),
        ('x', {'event_id': 'a\0'}),
        ('\ud800', {}),
        ('x', {'retry': -1}),
    ],
)
def test_texts_that_would_change_the_format_are_refused(data: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        http.EventBroadcast().send(data, **options)


def test_queue_has_room_for_an_event() -> None:
    with pytest.raises(InvalidInput, match='max_send_queue must be at least 1, not 0'):
        http.EventBroadcast(max_send_queue=0)


@pytest.mark.parametrize('event', ['error', 'close'])
def test_listener_that_fails_keeps_no_event_from_others(
    serve: Serve, caplog: pytest.LogCaptureFixture, event: str
) -> None:
    """The client that it belongs to is dropped, and the first one of them."""
    events = http.EventBroadcast(max_send_queue=1, heartbeat=None)

    def listener(request: Any, response: Any) -> None:
        if request.url == '/slow':
            response.on(event, lambda *args: 1 / 0)
        events.add(response)

    site = serve(listener)
    slow = site.connect(4096).send(get('/slow'))
    slow.head()
    other = opened(site)
    data = chunk(b'data: ' + b'x' * 100_000 + b'\n\n')
    while events.dropped == 0:
        assert events.send('x' * 100_000) >= 1
        assert other.exactly(len(data)) == data
    assert len(events) == 1
    slow.close()


def test_bytes_are_refused() -> None:
    with pytest.raises(TypeError, match='must be str, not bytes'):
        http.EventBroadcast().send(b'x')


def test_slow_client_is_dropped_and_delays_no_other_one(serve: Serve) -> None:
    """Its stream does not look complete."""
    events = http.EventBroadcast(max_send_queue=100_000, heartbeat=None)
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('error', log.append)
        events.add(response)

    site = serve(listener)
    slow, fast = opened(site, receive_buffer=4096), opened(site)
    data = 'x' * 50_000
    encoded = chunk(encode_event(data, None, None, None))
    sent = 0
    while events.dropped == 0:
        assert events.send(data) >= 1
        sent += 1
        assert fast.exactly(len(encoded)) == encoded
    assert (len(events), events.dropped) == (1, 1)
    log.wait_for_length(1)
    assert isinstance(log[0], EventQueueFull)
    assert '100000 bytes' in str(pickle.loads(pickle.dumps(log[0])))
    received = slow.rest()
    assert len(received) < sent * len(encoded)
    assert not received.endswith(b'0\r\n\r\n')
    # the others continue
    assert events.send('later') == 1
    assert fast.exactly(len(chunk(b'data: later\n\n'))) == chunk(b'data: later\n\n')


def test_clients_that_disconnect_are_removed(serve: Serve) -> None:
    events = http.EventBroadcast(heartbeat=None)
    log = Log()

    def listener(request: Any, response: Any) -> None:
        events.add(response)
        response.on('close', lambda: log.append('close'))

    client = opened(serve(listener))
    client.close()
    log.wait_for('close')
    assert (len(events), events.dropped, events.send('x')) == (0, 0, 0)


def test_connections_of_clients_that_disconnect_are_closed(serve: Serve) -> None:
    """Also of those that have closed their sending side only: their stream is complete."""
    events = http.EventBroadcast(heartbeat=None)
    site = serve(lambda request, response: events.add(response))
    client = opened(site)
    client.half_close()
    assert client.rest() == b'0\r\n\r\n'
    assert len(events) == 0


@pytest.mark.parametrize('has_begun', [False, True])
@pytest.mark.parametrize('leave', [Client.half_close, Client.abort])
def test_clients_that_have_disconnected_are_not_added(serve: Serve, has_begun: bool, leave: Any) -> None:
    """No further ``'close'`` would remove them."""
    events = http.EventBroadcast(heartbeat=None)
    log = Log()

    def listener(request: Any, response: Any) -> None:
        if has_begun:
            response.flush_headers()
        request.on('aborted', log.note('aborted'))
        log.append('waits')
        log.wait_for('aborted')
        with pytest.raises(ConnectionClosed):
            events.add(response)
        response.destroy()
        log.append('raised')

    client = serve(listener).send(get())
    log.wait_for('waits')
    leave(client)
    log.wait_for('raised')
    assert len(events) == 0


def test_responses_that_the_listener_has_ended_are_removed(serve: Serve) -> None:
    events = http.EventBroadcast(heartbeat=None)

    def listener(request: Any, response: Any) -> None:
        events.add(response)
        response.end()

    client = opened(serve(listener))
    assert client.exactly(5) == b'0\r\n\r\n'
    assert (events.send('x'), len(events)) == (0, 0)


@pytest.mark.parametrize(
    'prepare',
    [
        lambda response: response.set_header('Content-Length', '5'),
        lambda response: response.write_head(200, {'Content-Length': '5'}),
        lambda response: response.write_head(204),
        lambda response: response.end('x'),
    ],
)
def test_responses_that_cannot_have_events_are_refused(serve: Serve, prepare: Any) -> None:
    """Other clients get the events."""
    events = http.EventBroadcast(heartbeat=None)
    log = Log()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/wrong':
            prepare(response)
        try:
            events.add(response)
        except (InvalidInput, WriteAfterEnd) as error:
            log.append(error)

    site = serve(listener)
    site.connect().send(get('/wrong'))
    log.wait_for_length(1)
    client = opened(site)
    assert (events.send('x'), len(events)) == (1, 1)
    assert client.exactly(len(chunk(b'data: x\n\n'))) == chunk(b'data: x\n\n')


def test_head_gets_no_events(serve: Serve) -> None:
    events = http.EventBroadcast()
    client = serve(lambda request, response: events.add(response)).send(get('/', method='HEAD'))
    assert client.response('HEAD').status == 200
    assert len(events) == 0


def test_earlier_events_are_written_before(serve: Serve) -> None:
    events = http.EventBroadcast(heartbeat=None)

    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'Content-Type': 'text/event-stream'})
        response.write(f'data: since {request.headers["last-event-id"]}\n\n')
        events.add(response)

    client = serve(listener).send(get('/', 'Last-Event-ID: 6'))
    assert client.head().values('Content-Type') == ['text/event-stream']
    earlier = chunk(b'data: since 6\n\n')
    assert client.exactly(len(earlier)) == earlier
    events.send('now')
    assert client.exactly(len(chunk(b'data: now\n\n'))) == chunk(b'data: now\n\n')


def test_heartbeats_are_comments(serve: Serve) -> None:
    events = http.EventBroadcast(heartbeat=0.01)
    client = opened(serve(lambda request, response: events.add(response)))
    assert client.exactly(2 * len(chunk(b':\n\n'))) == 2 * chunk(b':\n\n')


def test_streams_end_when_the_server_drains(serve: Serve) -> None:
    """They are complete then, and no greenlet is left."""
    events = http.EventBroadcast(heartbeat=0.05)
    site = serve(lambda request, response: events.add(response))
    client = opened(site)
    site.server.close()
    assert client.rest().endswith(b'0\r\n\r\n')
    site.server.stop()
    tender = events._tender
    if tender is not None:
        tender.join()
    assert (len(events), events._tender) == (0, None)


def test_streams_can_be_ended(serve: Serve) -> None:
    events = http.EventBroadcast(heartbeat=None)
    site = serve(lambda request, response: events.add(response))
    client = opened(site, 'Connection: close')
    events.end()
    assert client.rest() == b'0\r\n\r\n'
    assert len(events) == 0


def test_another_thread_cannot_send() -> None:
    with pytest.raises(WrongThread):
        in_another_thread(http.EventBroadcast().send, 'x')
