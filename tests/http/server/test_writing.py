"""Test writing the body of a response: sending, queueing, and notifications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import ConnectionClosed, HeadersSent, WriteAfterEnd
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK
from tests.servers import Answer, Log, Serve, get

#: The maximum number of bytes around the data of one chunk.
CHUNK_OVERHEAD = 20


def test_an_empty_write_sends_nothing(serve: Serve) -> None:
    """It fixes the head, returns True, and is not a last chunk."""

    def listener(request: Any, response: Any) -> None:
        assert response.write('') is True
        assert response.headers_sent
        with pytest.raises(HeadersSent):
            response.set_header('a', 'b')
        response.write('one')
        assert response.write(b'') is True
        response.write('two')
        response.end('')

    client = serve(listener).send(get())
    client.head()
    assert client.until(b'0\r\n\r\n') == b'3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n'


def test_an_empty_write_then_end_has_a_length(answer: Answer) -> None:
    """Framing is decided when the first bytes are sent."""

    def listener(request: Any, response: Any) -> None:
        response.write('')
        response.end('hello')

    assert answer(listener).values('Content-Length') == ['5']


def test_write_takes_text_and_buffers(answer: Answer) -> None:
    """Text has any encoding, UTF-8 by default."""

    def listener(request: Any, response: Any) -> None:
        response.write('é')
        response.write('é', 'latin-1')
        response.write(bytearray(b'a'))
        response.write(memoryview(b'xbx')[1:2])
        response.end('é', 'latin-1')

    assert answer(listener).body == b'\xc3\xa9\xe9ab\xe9'


@pytest.mark.parametrize('body', [{'user': 'bob'}, {'user'}, [{'user': 'bob'}]])
def test_write_rejects_other_types(answer: Answer, body: Any) -> None:
    """It raises before the head is fixed."""

    def listener(request: Any, response: Any) -> None:
        for send in (response.write, response.end):
            with pytest.raises(TypeError, match=rf'not {type(body).__name__}: encode it first, with json.dumps'):
                send(body)
        assert not response.headers_sent
        response.end('refused')

    assert answer(listener).body == b'refused'


def test_a_buffer_can_change_after_the_write(serve: Serve) -> None:
    """The queue has a copy."""

    def listener(request: Any, response: Any) -> None:
        buffer = bytearray(b'a' * 2_000_000)
        response.write(buffer)
        buffer[:] = b'b' * len(buffer)
        response.end()

    body = serve(listener).send(get()).response().body
    assert body == b'a' * 2_000_000


def test_the_first_write_is_sent_with_the_head(serve: Serve) -> None:
    """Later writes do not wait for the end."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'X-A': '1'})
        response.write('first')
        go_on.wait()
        response.end('second')

    client = serve(listener).send(get())
    first = client.receive()
    assert first.startswith(b'HTTP/1.1 200 OK\r\n')
    assert first.endswith(b'\r\n\r\n5\r\nfirst\r\n')
    go_on.set()
    assert client.until(b'0\r\n\r\n').startswith(b'6\r\nsecond\r\n')


def test_end_sends_a_small_response_in_one_piece(serve: Serve) -> None:

    def listener(request: Any, response: Any) -> None:
        response.end('hello')

    assert serve(listener).send(get()).receive().endswith(b'\r\n\r\nhello')


@pytest.mark.parametrize('size', [1, 16383, 16384, 100_000, 3_000_000])
@pytest.mark.parametrize('way', ['end', 'write', 'length'])
def test_bodies_of_any_size_arrive_completely(serve: Serve, size: int, way: str) -> None:
    """They do so in every framing, whether the kernel accepts them at once or not."""
    body = bytes(range(256)) * (size // 256) + b'x' * (size % 256)

    def listener(request: Any, response: Any) -> None:
        if way == 'length':
            response.set_header('Content-Length', size)
        if way != 'end':
            response.write(body[: size // 2])
            response.end(body[size // 2 :])
        else:
            response.end(body)

    client = serve(listener).send(get())
    assert client.response().body == body
    assert client.get().body == body


def test_write_after_end_raises(serve: Serve) -> None:
    """A second ``end`` without data does nothing."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        assert response.end('done') is response
        assert response.end() is response
        for action in (lambda: response.write('x'), lambda: response.end('x')):
            with pytest.raises(WriteAfterEnd) as caught:
                action()
            log.append(caught.value.code)

    client = serve(listener).send(get())
    assert client.response().body == b'done'
    assert client.get().body == b'done'
    assert log == ['ERR_STREAM_WRITE_AFTER_END'] * 4


def test_write_raises_if_another_greenlet_ended_the_message(serve: Serve) -> None:
    """Neither its bytes nor a second head follow the end."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        def ended_meanwhile() -> None:
            del response._wait_for_drain, request.socket.writable_high_water_mark
            response.end('done')

        request.socket.writable_high_water_mark = 0
        response._wait_for_drain = ended_meanwhile
        action = {
            '/write': lambda: response.write('x'),
            '/data': lambda: response.end('x'),
            '/hints': lambda: response.write_early_hints({'link': '</a>'}),
            '/end': response.end,
        }[request.url]
        try:
            action()
        except WriteAfterEnd:
            log.append(request.url)

    client = serve(listener).connect()
    assert [client.get(url).body for url in ('/write', '/data', '/hints', '/end')] == [b'done'] * 4
    assert log == ['/write', '/data']
    assert client.get('/end').body == b'done'


def test_callbacks_of_write_and_end_are_called_once_in_order(serve: Serve) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.write('a', callback=log.note('write'))
        response.end('b', callback=log.note('end'))

    serve(listener).get()
    log.wait_for('end')
    assert log == ['write', 'end']


def test_finish_is_emitted_when_the_kernel_has_all_bytes(serve: Serve) -> None:
    """A slow client delays it."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('finish', lambda: log.append(('finish', response.writable_length, response.writable_finished)))
        response.end(b'x' * 6_000_000)
        log.append(('ended', response.writable_length > 0, response.writable_finished))

    client = serve(listener).send(get())
    log.wait_for_length(1)
    assert log == [('ended', True, False)]
    assert len(client.response().body) == 6_000_000
    log.wait_for_length(2)
    assert log[1] == ('finish', 0, True)


def test_cork_joins_small_writes(serve: Serve) -> None:
    """``uncork`` sends them as one chunk."""

    def listener(request: Any, response: Any) -> None:
        response.cork()
        for letter in 'abc':
            assert response.write(letter) is False
        response.uncork()
        response.cork()
        response.write('d')
        response.end('e')

    client = serve(listener).send(get())
    client.head()
    assert client.until(b'0\r\n\r\n') == b'3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n'


def test_end_after_cork_has_a_length(answer: Answer) -> None:
    """Nothing was sent before, so that the length is known."""

    def listener(request: Any, response: Any) -> None:
        response.cork()
        response.write('ab')
        response.end('c')

    assert answer(listener).values('Content-Length') == ['3']


@pytest.mark.parametrize(
    'call',
    [
        lambda response: response.uncork(),
        lambda response: response.end(),
        lambda response: response.end('lost'),
        lambda response: response.write(b'y' * DEFAULT_HIGH_WATER_MARK),
    ],
    ids=['uncork', 'end', 'end with data', 'write'],
)
def test_interrupted_calls_keep_the_corked_pieces(serve: Serve, call: Callable[[Any], object]) -> None:
    """The data of the interrupted call itself is not sent."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.write(b'x' * 6_000_000)
        response.cork()
        response.write('kept')
        with gevent.Timeout(0, False):
            call(response)
            log.append('not interrupted')
        log.append(response.writable_corked)
        response.end()

    client = serve(listener).send(get())
    log.wait_for_length(1)
    assert client.response().body == b'x' * 6_000_000 + b'kept'
    assert log == [1]


def test_writing_to_a_closed_connection_raises(serve: Serve) -> None:
    """The error has the code that ported programs check."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.socket.destroy()
        for action in (lambda: response.write('x'), response.end, response.flush_headers):
            with pytest.raises(ConnectionClosed) as caught:
                action()
            log.append(caught.value.code)

    serve(listener).send(get()).rest()
    assert log == ['EPIPE'] * 3


def test_write_returns_false_while_bytes_are_queued(serve: Serve) -> None:
    """Then ``'drain'`` is emitted once, when the queue is empty."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('drain', lambda: log.append(('drain', response.writable_length, response.writable_need_drain)))
        log.append(response.write('small'))
        log.append(response.write(b'x' * 6_000_000))
        assert response.writable_need_drain
        log.wait_for(('drain', 0, False))
        log.append(response.write('small'))
        response.end()

    client = serve(listener).send(get())
    assert len(client.response().body) == 6_000_010
    assert log == [True, False, ('drain', 0, False), True]


def test_drain_is_emitted_once_after_several_writes(serve: Serve) -> None:
    """It is not emitted while bytes are queued."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('drain', lambda: log.append(response.writable_length))
        for _ in range(4):
            response.write(b'x' * 1_500_000)
        log.wait_for_length(1)
        response.end()
        log.append('ended')

    assert len(serve(listener).send(get()).response().body) == 6_000_000
    log.wait_for('ended')
    assert log == [0, 'ended']


def test_a_write_after_false_blocks(serve: Serve) -> None:
    """Memory is bounded: the queue exceeds the high-water mark by one chunk at most."""
    queued = []
    chunk = b'x' * 100_000

    def listener(request: Any, response: Any) -> None:
        for _ in range(100):
            response.write(chunk)
            queued.append(response.writable_length)
        response.end()

    client = serve(listener).send(get())
    assert len(client.response().body) == 10_000_000
    assert max(queued) <= DEFAULT_HIGH_WATER_MARK + len(chunk) + CHUNK_OVERHEAD
