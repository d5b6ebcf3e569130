"""Bodies of requests: from files and iterables, before a connection, and over other sockets."""

from __future__ import annotations

import gc
import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import (
    ConnectionClosed,
    ContentLengthMismatch,
    RequestTimeout,
    WriteAfterEnd,
)
from geventnode.stream import Readable
from tests.origins import HELLO, MakeOrigin, Peer, Recorder, read
from tests.servers import GUARD
from tests.sockets import settle, until

# -- bodies from files and iterables ----------------------------------------------------------------------------------


def test_iterable_is_chunked(recorder: Recorder) -> None:
    sent = recorder.sent(method='POST', body=(piece for piece in ['a', b'b', bytearray(b'c'), '', 'd' * 100000]))
    assert (sent.value('Transfer-Encoding'), sent.body) == ('chunked', b'abc' + b'd' * 100000)


def test_end_with_an_iterable_after_write(recorder: Recorder) -> None:
    request = http.request(**recorder.options(method='POST'))
    request.write('a')
    request.end(['b', 'c'])
    with pytest.raises(WriteAfterEnd):
        request.write('d')
    assert request.writable_ended
    request.get_response().read()
    assert recorder.requests[0].body == b'abc'


@pytest.mark.parametrize('position', [0, 3])
def test_file_has_a_content_length(recorder: Recorder, tmp_path: Path, position: int) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'0123456789' * 20000)
    with path.open('rb') as file:
        file.seek(position)
        sent = recorder.sent(method='PUT', body=file)
    assert sent.value('Content-Length') == str(200000 - position)
    assert sent.body == (b'0123456789' * 20000)[position:]


def test_compressed_file_is_chunked(recorder: Recorder, tmp_path: Path) -> None:
    """Its size is not known before."""
    path = tmp_path / 'file'
    path.write_bytes(gzip.compress(b'0123456789' * 20000))
    with gzip.open(path) as file:
        sent = recorder.sent(method='PUT', body=file)
    assert (sent.value('Transfer-Encoding'), sent.body) == ('chunked', b'0123456789' * 20000)


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere, there is no /proc')
@pytest.mark.parametrize('buffering', [-1, 0])
def test_file_of_proc_is_chunked(recorder: Recorder, buffering: int) -> None:
    """It is a regular file with bytes, and its size is 0."""
    with open('/proc/version', 'rb', buffering) as file:
        sent = recorder.sent(method='PUT', body=file)
    assert (sent.value('Transfer-Encoding'), sent.body) == ('chunked', Path('/proc/version').read_bytes())


def test_empty_file_has_a_content_length(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.touch()
    with path.open('rb') as file:
        sent = recorder.sent(method='PUT', body=file)
    assert (sent.value('Content-Length'), sent.body) == ('0', b'')


def test_text_file_is_chunked(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_text('äöü', 'utf-8')
    with path.open(encoding='utf-8') as file:
        sent = recorder.sent(method='PUT', body=file)
    assert (sent.value('Transfer-Encoding'), sent.body) == ('chunked', 'äöü'.encode())


def test_object_with_read_is_chunked(recorder: Recorder) -> None:
    sent = recorder.sent(method='PUT', body=io.BytesIO(b'x' * 100000))
    assert (sent.value('Transfer-Encoding'), len(sent.body)) == ('chunked', 100000)


@pytest.mark.parametrize('given', [lambda stream: stream, Readable.makefile])
def test_stream_is_sent_as_it_arrives(origin: MakeOrigin, given: Any) -> None:
    """As a request or response that is passed on: its source can wait for the answer to its first piece."""
    source = Readable()

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        for piece in (b'first', b'second'):
            source.push(piece)
            assert peer.until(piece + b'\r\n') == b'%x\r\n%b\r\n' % (len(piece), piece)
        source.push(None)
        assert peer.until(b'\r\n\r\n') == b'0\r\n\r\n'
        peer.send(HELLO)

    assert http.request(origin(script).url, method='POST', body=given(source)).get_response(GUARD).read() == b'hello'


def test_file_that_shrinks_fails_the_request(origin: MakeOrigin, tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'x' * 10_000_000)
    with path.open('rb') as file:
        request = http.request(origin().url, method='PUT', body=file)
        path.write_bytes(b'')
        with pytest.raises(ContentLengthMismatch, match='file ended'):
            request.get_response()


def test_timeout_of_an_iterable_fails_the_request(origin: MakeOrigin) -> None:
    def pieces() -> Iterator[str]:
        yield 'a'
        raise gevent.Timeout(7)

    request = http.request(origin().url, method='POST', body=pieces())
    with pytest.raises(RequestTimeout, match=r'the source of the body has raised a timeout \(7 seconds\)') as raised:
        request.get_response()
    assert (raised.value.phase, type(raised.value.__cause__)) == ('send', gevent.Timeout)


@pytest.mark.parametrize('error', [ZeroDivisionError, ConnectionClosed('of another connection')])
def test_error_of_an_iterable_fails_the_request(origin: MakeOrigin, error: Any) -> None:
    def pieces() -> Iterator[str]:
        yield 'a'
        raise error

    request = http.request(origin().url, method='POST', body=pieces())
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        request.get_response()


def test_iterable_of_a_wrong_type_fails_the_request(origin: MakeOrigin) -> None:
    with pytest.raises(TypeError, match='a chunk must be'):
        http.request(origin().url, method='POST', body=[1]).get_response()


@pytest.mark.parametrize('body', [{'user': 'bob'}, {}, {'user'}, frozenset(), {'user': 'bob'}.keys()])
def test_mapping_or_set_raises(body: Any) -> None:
    """Otherwise its keys would be sent."""
    message = rf'not {type(body).__name__}: encode it first, with json.dumps\(\) or urllib.parse.urlencode\(\)'
    with pytest.raises(TypeError, match=message):
        http.request(method='POST', body=body)
    with pytest.raises(TypeError, match=message):
        http.request(method='POST').end(body)
    with pytest.raises(TypeError, match=message):
        http.request(method='POST').write(body)


@pytest.mark.parametrize('body', [True, 1, 1.5])
def test_number_raises(body: Any) -> None:
    with pytest.raises(TypeError, match=f'not {type(body).__name__}$'):
        http.request(method='POST', body=body)


def test_large_body_is_queued_once(recorder: Recorder) -> None:
    body = bytes(10_000_000)
    assert recorder.sent(method='PUT', body=body).body == body


# -- writing before there is a connection -----------------------------------------------------------------------------


def test_write_buffer_of_a_queued_request_is_bounded(origin: MakeOrigin, agent: Any) -> None:
    release = Event()
    bodies = []

    def script(peer: Peer) -> None:
        release.wait()
        while True:
            bodies.append(peer.request().body)
            peer.send(HELLO)

    server = origin(script)
    pool = agent(max_sockets=1)
    first = http.get(server.url, agent=pool)
    second = http.request(server.url, agent=pool, method='POST')
    assert second.write(b'x' * 70000) is False
    assert second.writable_length > 70000
    written = gevent.spawn(second.write, b'y')
    gevent.idle()
    assert not written.ready(), 'a writer above the mark waits'
    release.set()
    assert first.get_response().read() == b'hello'
    written.get()
    second.end('z')
    assert second.get_response().read() == b'hello'
    assert bodies == [b'', b'x' * 70000 + b'yz']


def test_blocked_writer_of_a_queued_request_gets_its_error(origin: MakeOrigin, agent: Any) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.closed()

    server = origin(script)
    pool = agent(max_sockets=1)
    http.get(server.url, agent=pool)
    second = http.request(server.url, agent=pool, method='POST')
    second.write(b'x' * 70000)
    written = gevent.spawn(second.write, b'y')
    gevent.idle()
    second.abort()
    with pytest.raises(ConnectionClosed):
        written.get()
    with pytest.raises(ConnectionClosed):
        second.write('z')
    assert not pool.requests


@pytest.mark.parametrize('reused', [False, True])
def test_request_that_is_forgotten_before_its_end_frees_its_connection(
    origin: MakeOrigin, agent: Any, caplog: pytest.LogCaptureFixture, reused: bool
) -> None:
    """Its writer was killed, for example: nothing can end it, and its place would be lost until the timeout."""
    pool, server = agent(max_sockets=1, keep_alive=True), origin()
    if reused:
        read(server.url, agent=pool)

    def begin() -> None:
        request = http.request(server.url, agent=pool, method='POST', timeout=None)
        request.write('x')
        until(lambda: request.writable_length == 0)
        assert (request.reused_socket, len(pool.sockets)) == (reused, 1)

    begin()
    assert read(server.url, agent=pool) == b'hello'
    assert [record.getMessage() for record in caplog.records] == [
        f'127.0.0.1:{server.port}: a request was forgotten before its end(): call end(), destroy() or abort()'
    ]
    assert pool.statistics()['failed'] == 1


def test_request_that_is_forgotten_while_it_connects_frees_its_connection(
    agent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pool = agent()
    options: Any = {'lookup': lambda host, family: Event().wait()}
    http.request('http://made.up/', agent=pool, method='POST', **options).write('x')
    settle()
    assert pool.total_socket_count == 0
    assert 'a request was forgotten before its end()' in caplog.text


def test_killed_writer_of_queued_data_frees_its_connection(
    origin: MakeOrigin, agent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The server receives nothing: the data would stay queued for ever."""
    pool, go_on = agent(), Event()
    server = origin(lambda peer: go_on.wait())

    def write() -> None:
        http.request(server.url, agent=pool, method='POST', timeout=None).write(bytes(20_000_000))

    writer = gevent.spawn(write)
    until(lambda: server.accepted)
    writer.kill()
    settle()
    assert pool.total_socket_count == 0
    assert 'a request was forgotten before its end()' in caplog.text
    go_on.set()


def test_request_that_only_a_listener_refers_to_is_kept(origin: MakeOrigin, agent: Any) -> None:
    began, collected, done = Event(), Event(), Event()

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        began.set()
        collected.wait()
        peer.send(b'HTTP/1.1 100 Continue\r\n\r\n')
        peer.until(b'0\r\n\r\n')
        peer.send(HELLO)

    def upload(late: bool) -> None:
        request = http.request(origin(script).url, agent=agent(), method='POST', headers={'Expect': '100-continue'})
        if late:
            until(lambda: not request.socket.pending)
        request.on('continue', lambda: request.end('x'))
        request.on('response', lambda response: done.set())

    for late in (False, True):
        for event in (began, collected, done):
            event.clear()
        upload(late)
        began.wait()
        settle()
        gc.collect()
        settle()
        collected.set()
        assert done.wait(GUARD)


def test_drain_and_finish_are_emitted(recorder: Recorder) -> None:
    log = []
    request = http.request(**recorder.options(method='POST'))
    request.on('drain', lambda: log.append('drain')).on('finish', lambda: log.append('finish'))
    assert request.write('x') is False, 'there is no connection yet'
    request.end('y', callback=lambda: log.append('callback'))
    assert request.get_response().read() == b'hello'
    gevent.idle()
    assert log == ['finish', 'callback']
    assert request.writable_finished
    request.end()
    with pytest.raises(WriteAfterEnd):
        request.end('more')
    with pytest.raises(WriteAfterEnd):
        request.write('more')


def test_corked_writes_are_sent_together(recorder: Recorder) -> None:
    request = http.request(**recorder.options(method='POST'))
    request.cork()
    request.write('a')
    request.write('b')
    request.end('c')
    request.get_response().read()
    assert recorder.requests[0].body == b'abc'
    assert recorder.requests[0].value('Content-Length') == '3'


def test_request_over_a_unix_socket(origin: MakeOrigin, tmp_path: Path) -> None:
    path = str(tmp_path / 'socket')
    origin(path=path)
    response = http.get(socket_path=path).get_response()
    assert response.read() == b'hello'


def test_request_from_a_local_address(origin: MakeOrigin) -> None:
    seen = []

    def script(peer: Peer) -> None:
        seen.append(peer.socket.getpeername()[0])
        peer.request()
        peer.send(HELLO)

    http.get(origin(script).url, local_address='127.0.0.2').get_response().read()
    assert seen == ['127.0.0.2']


def test_create_client_returns_a_deprecated_client(recorder: Recorder) -> None:
    with pytest.warns(DeprecationWarning, match=r'use http\.request'):
        client = http.create_client(recorder.origin.port, '127.0.0.1')
    request = client.request('PUT', '/x', {'A': 'b'})
    request.end()
    assert request.get_response().read() == b'hello'
    assert recorder.requests[0].line == 'PUT /x HTTP/1.1'
    request = client.request('/y')
    request.end()
    request.get_response().read()
    assert recorder.requests[1].line == 'GET /y HTTP/1.1'


@pytest.mark.parametrize(
    ('args', 'line', 'value'),
    [
        (('/a', {'X': '1'}), 'GET /a HTTP/1.1', '1'),
        (('POST', '/b', {'X': '2'}), 'POST /b HTTP/1.1', '2'),
        (('/c', [('X', '3')]), 'GET /c HTTP/1.1', '3'),
        (('/d',), 'GET /d HTTP/1.1', None),
        (('PUT', '/e'), 'PUT /e HTTP/1.1', None),
    ],
)
def test_client_request_accepts_each_form(recorder: Recorder, args: Any, line: str, value: str | None) -> None:
    with pytest.deprecated_call():
        client = http.create_client(recorder.origin.port, '127.0.0.1')
    assert client.request(*args).end().get_response().read() == b'hello'
    assert (recorder.requests[0].line, recorder.requests[0].value('X')) == (line, value)


def test_client_request_with_too_many_arguments_raises() -> None:
    with pytest.deprecated_call():
        client = http.create_client()
    with pytest.raises(TypeError, match='takes a method, a path and headers'):
        client.request('/a', '/b', {})
