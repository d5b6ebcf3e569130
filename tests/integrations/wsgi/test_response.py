"""The responses of WSGI applications."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
import pytest

from geventnode.errors import InvalidHeader, InvalidInput
from tests.applications import PLAIN, Environ, Run, saying
from tests.servers import Log, get


@pytest.mark.parametrize('body', [[b'hello'], (b'hello',)])
def test_a_whole_body(run: Run, body: Any) -> None:
    """Its length is declared, it is sent together with the head, and the connection is kept."""
    client = run(saying(body)).connect()
    for _ in range(2):
        reply = client.get()
        assert (reply.status, reply.reason, reply.body) == (200, 'OK', b'hello')
        assert reply.values('Content-Type') == ['text/plain']
        assert reply.values('Content-Length') == ['5']
        assert len(reply.values('Date')) == 1


@pytest.mark.parametrize('body', [[], (), iter(()), [b''], [b'', b'']])
def test_an_empty_body(run: Run, body: Any) -> None:
    """Its length is declared, too."""
    reply = run(saying(body)).get()
    assert (reply.values('Content-Length'), reply.body) == (['0'], b'')


def test_items_are_sent_one_by_one(run: Run) -> None:
    """Before the next one is requested; empty items are skipped."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', PLAIN)
        yield b''
        yield b'one'
        log.wait_for('received')
        yield b'two'

    client = run(application).send(get())
    assert client.head().values('Transfer-Encoding') == ['chunked']
    assert client.until(b'one\r\n') == b'3\r\none\r\n'
    log.append('received')
    assert client.until(b'0\r\n\r\n') == b'3\r\ntwo\r\n0\r\n\r\n'


def test_write(run: Run) -> None:
    """Written bytes precede the returned ones."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        write = start_response('200 OK', PLAIN)
        write(b'one ')
        write(b'two ')
        return [b'three']

    assert run(application).get().body == b'one two three'


def test_back_pressure(run: Run) -> None:
    """A client that does not read pauses the generator at the high-water mark."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', PLAIN)
        try:
            for _ in range(10_000):
                yield bytes(65536)
                log.append('sent')
        finally:
            log.append('closed')

    client = run(application).connect(receive_buffer=4096).send(get())
    client.exactly(10)
    gevent.idle()
    assert len(log) < 1000
    client.abort()
    log.wait_for('closed')


@pytest.mark.parametrize(
    ('status', 'reason'),
    [
        ('200 OK', 'OK'),
        ('200 Fine, thanks', 'Fine, thanks'),
        ('404 NOT FOUND', 'NOT FOUND'),
        ('299 ', ''),
        ('299', ''),
        ('200 \xc5', '\xc5'),
    ],
)
def test_status(run: Run, status: str, reason: str) -> None:
    """The reason phrase is the application's."""
    reply = run(saying([b'x'], status)).get()
    assert (reply.status, reply.reason) == (int(status[:3]), reason)


@pytest.mark.parametrize(
    ('status', 'headers', 'error'),
    [
        ('100 Continue', PLAIN, InvalidInput),
        ('20 OK', PLAIN, InvalidInput),
        ('OK', PLAIN, InvalidInput),
        ('200 O\r\nK', PLAIN, InvalidInput),
        ('200OK', PLAIN, InvalidInput),
        (200, PLAIN, TypeError),
        ('200 OK', dict(PLAIN), TypeError),
        ('200 OK', {'ab': 'c'}, TypeError),
        ('200 OK', [('a',)], TypeError),
        ('200 OK', ['ab'], TypeError),
        ('200 OK', 'ab', TypeError),
        ('200 OK', [{'a', 'b'}], TypeError),
        ('200 OK', None, TypeError),
        ('200 OK', [('a', 5)], InvalidHeader),
        ('200 OK', [(b'a', 'b')], InvalidHeader),
        ('200 OK', [('a b', 'c')], InvalidHeader),
        ('200 OK', [('a', 'b\r\nc: d')], InvalidHeader),
        ('200 OK', [('a', '\u20ac')], InvalidHeader),
        ('200 OK', [('Content-Length', 'x')], InvalidHeader),
        ('200 OK', [('Content-Length', '1'), ('content-length', '2')], InvalidHeader),
    ],
)
def test_invalid_arguments_of_start_response(run: Run, status: Any, headers: Any, error: type[Exception]) -> None:
    """The call raises, and no byte is sent."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        with pytest.raises(error):
            start_response(status, headers)
        start_response('200 OK', PLAIN)
        return [b'refused']

    assert run(application).get().body == b'refused'


@pytest.mark.parametrize(
    'make',
    [
        tuple,
        lambda pairs: dict(pairs).items(),
        iter,
        lambda pairs: (pair for pair in pairs),
        lambda pairs: [list(pair) for pair in pairs],
        lambda pairs: dict(pairs).items().__iter__(),
        deque,
    ],
)
def test_headers_in_other_iterables(run: Run, make: Callable[[Any], Any]) -> None:
    """Every iterable of pairs is accepted."""
    pairs = [*PLAIN, ('X-Mark', 'a')]

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', make(pairs))
        return [b'body']

    client = run(application).connect()
    for _ in range(2):
        reply = client.get()
        assert (reply.body, reply.values('X-Mark'), reply.values('Content-Type')) == (b'body', ['a'], ['text/plain'])


class Named(bytes):
    """A subclass of bytes, as HexBytes and BSON's Binary."""

    def __str__(self) -> str:
        return 'a name'


@pytest.mark.parametrize('declared', [[], [('Content-Length', '8')]])
@pytest.mark.parametrize('kind', [Named, bytearray, memoryview, lambda data: memoryview(data).cast('I')])
@pytest.mark.parametrize('form', [list, tuple, iter, 'several', 'write'])
def test_bytes_like_items(run: Run, form: Any, kind: Callable[[bytes], Any], declared: Any) -> None:
    """Subclasses of bytes, bytearray and memoryview."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        write = start_response('200 OK', [*PLAIN, *declared])
        if form == 'write':
            write(kind(b'the body'))
            return []
        if form == 'several':
            return [kind(b'the '), b'', kind(b'body')]
        return form([kind(b'the body')])  # type: ignore[no-any-return]

    client = run(application).connect()
    for _ in range(2):
        assert client.get().body == b'the body'


def test_hop_by_hop_fields_are_dropped(run: Run) -> None:
    """Only the server sets them; applications for other servers set some."""
    headers = [
        ('Connection', 'keep-alive'),
        ('Keep-Alive', 'timeout=1'),
        ('Transfer-Encoding', 'chunked'),
        ('Upgrade', 'h2c'),
        *PLAIN,
    ]
    client = run(saying([b'body'], headers=headers)).connect()
    for _ in range(2):
        reply = client.get()
        assert reply.body == b'body'
        assert not reply.values('Upgrade') + reply.values('Transfer-Encoding')
        assert reply.values('Keep-Alive') == ['timeout=65']


def test_connection_close(run: Run) -> None:
    """It closes the connection."""
    client = run(saying([b'body'], headers=[*PLAIN, ('Connection', 'close')])).connect()
    reply = client.get()
    assert (reply.body, reply.closes) == (b'body', True)
    assert client.rest() == b''


def test_repeated_fields(run: Run) -> None:
    """They remain several lines."""
    reply = run(saying([b''], headers=[('Set-Cookie', 'a=1'), ('X', 'y'), ('set-cookie', 'b=2')])).get()
    assert reply.values('Set-Cookie') == ['a=1', 'b=2']


def test_date_of_the_application(run: Run) -> None:
    """The server adds no second one."""
    assert run(saying([b'x'], headers=[('Date', 'today')])).get().values('Date') == ['today']


@pytest.mark.parametrize('status', ['204 No Content', '304 Not Modified'])
def test_statuses_without_a_body(run: Run, status: str) -> None:
    """No body is sent for any returned items."""
    client = run(saying([b'body'], status, [('ETag', '"x"')])).connect()
    for _ in range(2):
        assert (client.get().body, client.get().values('ETag')) == (b'', ['"x"'])


@pytest.mark.parametrize('body', [[], [b'body'], iter([b'bo', b'dy'])])
def test_head(run: Run, body: Any) -> None:
    """The head has the length that the application declares for GET."""
    client = run(saying(body, headers=[('Content-Length', '4')])).send(get(method='HEAD'))
    assert client.response('HEAD').values('Content-Length') == ['4']
    client.half_close()
    assert client.rest() == b''


@pytest.mark.parametrize('body', [[b'body'], iter([b'body']), iter([b'bo', b'', b'dy']), iter([b'', b'body', b''])])
def test_a_declared_length(run: Run, body: Any) -> None:
    """It is declared once."""
    reply = run(saying(body, headers=[('Content-Length', '4'), *PLAIN])).get()
    assert (reply.values('Content-Length'), reply.values('Transfer-Encoding')) == (['4'], [])
    assert reply.body == b'body'


@pytest.mark.parametrize('body', [[b'bod'], iter([b'bo', b'd']), []])
def test_less_than_declared(run: Run, body: Any) -> None:
    """The client gets an incomplete message."""
    client = run(saying(body, headers=[('Content-Length', '4')])).send(get())
    assert len(client.rest().partition(b'\r\n\r\n')[2]) < 4


@pytest.mark.parametrize('body', [[b'bodyb'], iter([b'body', b'b']), iter([b'bo', b'dyb'])])
def test_more_than_declared(run: Run, body: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The excess is not sent, and the log has a line."""
    client = run(saying(body, headers=[('Content-Length', '4')])).send(get())
    client.half_close()
    sent = client.rest()
    assert b'500 Internal' in sent or len(sent.partition(b'\r\n\r\n')[2]) <= 4
    assert 'Content-Length' in caplog.text or 'after end()' in caplog.text


@pytest.mark.parametrize('body', [['text'], iter(['text']), [None], 'text', b'bytes', [5], [[b'x']]])
def test_items_that_are_not_bytes(run: Run, body: Any, caplog: pytest.LogCaptureFixture) -> None:
    """500, and the log explains the error."""
    assert run(saying(body)).get().status == 500
    assert 'must return an iterable of bytes, and an item of this one is' in caplog.text


def test_none_is_not_a_body(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """500, and the log suggests a missing return statement."""
    assert run(saying(None)).get().status == 500
    assert 'this one returned None: check that every path ends with a return' in caplog.text


@pytest.mark.parametrize('body', [[b'x'], [], iter([b'x'])])
def test_without_start_response(run: Run, body: Any, caplog: pytest.LogCaptureFixture) -> None:
    """500."""
    assert run(lambda environ, start_response: body).get().status == 500
    assert 'has not called start_response()' in caplog.text


def test_start_response_twice(run: Run) -> None:
    """Only with exc_info (PEP 3333)."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', PLAIN)
        with pytest.raises(AssertionError, match='second time'):
            start_response('200 OK', PLAIN)
        return [b'once']

    assert run(application).get().body == b'once'


def test_exc_info_before_the_head(run: Run) -> None:
    """The new head replaces the old one."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', [('X-Old', '1'), ('Content-Length', '3')])
        try:
            raise ValueError('a part of the test')
        except ValueError:
            start_response('500 Oh', PLAIN, sys.exc_info())
        return [b'error page']

    reply = run(application).get()
    assert (reply.status, reply.reason, reply.body) == (500, 'Oh', b'error page')
    assert not reply.values('X-Old')


def test_exc_info_after_the_head(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """``start_response`` raises the error itself, and the client gets an incomplete message."""

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', PLAIN)
        yield b'begun'
        try:
            raise ValueError('a part of the test')
        except ValueError:
            start_response('500 Oh', PLAIN, sys.exc_info())
        yield b'never'

    sent = run(application).send(get()).rest()
    assert b'begun' in sent
    assert b'never' not in sent
    assert not sent.endswith(b'0\r\n\r\n')
    assert 'ValueError: a part of the test' in caplog.text


def test_an_application_that_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """500, and no traceback for the client."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        raise ValueError('a part of the test')

    reply = run(application).get()
    assert (reply.status, b'ValueError' in reply.body) == (500, False)
    assert 'ValueError: a part of the test' in caplog.text


def test_others_run_between_the_items(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the application does not wait, and the client is always ready to receive."""
    seen = []
    ran = 0

    def run_beside() -> None:
        nonlocal ran
        while True:
            ran += 1
            # runs again whenever the sender gives way
            gevent.sleep(0)

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', PLAIN)
        for _ in range(3):
            seen.append(ran)
            yield b'item'

    # each turn takes a second
    monkeypatch.setattr('geventnode.stream.turn.monotonic', itertools.count().__next__)
    beside = gevent.spawn(run_beside)
    try:
        assert run(application).get().body == b'itemitemitem'
    finally:
        beside.kill()
    assert len(set(seen)) == 3
