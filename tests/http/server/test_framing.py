"""The framing of responses, and whether the connection is kept after them."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode import http
from geventnode.errors import ContentLengthMismatch
from tests.servers import Answer, Log, Serve, get, post


def test_end_with_data_declares_its_length(answer: Answer) -> None:
    """Counted in bytes; also after ``write_head``."""
    for listener in (lambda _, response: response.end('häh'), lambda _, response: response.write_head(200).end('häh')):
        reply = answer(listener)
        assert reply.values('Content-Length') == ['4']
        assert reply.values('Transfer-Encoding') == []


def test_empty_response_has_content_length_0(answer: Answer) -> None:
    """So that the client knows that no body follows."""
    assert answer(lambda _, response: response.end()).values('Content-Length') == ['0']


def test_content_length_of_the_listener_is_kept(answer: Answer) -> None:
    """The body is not chunked."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', 6)
        response.write('abc')
        response.end('def')

    reply = answer(listener)
    assert reply.body == b'abcdef'
    assert reply.values('Transfer-Encoding') == []


def test_write_beyond_content_length_raises(serve: Serve) -> None:
    """The client gets the declared bytes only; the connection is not kept."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', 3)
        response.write('abc')
        with pytest.raises(ContentLengthMismatch):
            response.write('d')
        with pytest.raises(ContentLengthMismatch):
            response.end('d')
        log.append('raised')
        response.end()

    client = serve(listener).send(get())
    assert client.response().body == b'abc'
    assert log == ['raised']
    assert client.get().body == b'abc'


def test_end_beyond_content_length_is_a_500(serve: Serve) -> None:
    """Nothing was sent yet, so an error response is possible."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', 3)
        response.end('abcd')

    assert serve(listener).send(get()).response().status == 500


def test_short_body_destroys_the_connection(serve: Serve) -> None:
    """The client sees an incomplete message, and cannot take the next response for its rest."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', 10)
        response.end('abc')

    data = serve(listener).send(get(), get()).rest()
    assert data.count(b'HTTP/1.1 200') <= 1
    assert not data.endswith(b'\r\n')


def test_response_to_head_has_no_body(serve: Serve) -> None:
    """It has the Content-Length of the response to GET; the next response follows the head."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/end':
            response.end('hello')
        else:
            assert response.write('hello')
            response.end('world')

    client = serve(listener).send(get('/end', method='HEAD'))
    assert client.response('HEAD').values('Content-Length') == ['5']
    client.send(get('/write', method='HEAD'))
    assert client.response('HEAD').status == 200
    assert client.get('/end').body == b'hello'


@pytest.mark.parametrize('status', [204, 304])
def test_status_without_a_body_sends_none(serve: Serve, status: int) -> None:
    """There are no chunks, and the connection is kept."""

    def listener(request: Any, response: Any) -> None:
        response.write_head(status if request.url == '/none' else 200)
        response.write('x')
        response.end('y')

    client = serve(listener).send(get('/none'))
    reply = client.response()
    assert reply.status == status
    assert reply.values('Transfer-Encoding') == []
    assert client.get('/some').body == b'xy'


def test_204_has_no_framing_fields(answer: Answer) -> None:
    """Neither Content-Length (RFC 9110, section 8.6) nor Transfer-Encoding (RFC 9112, section 6.1)."""
    for field in ({'Content-Length': 3}, {'Transfer-Encoding': 'chunked'}):
        reply = answer(lambda _, response, field=field: response.write_head(204, field).end())
        assert reply.values('Content-Length') == reply.values('Transfer-Encoding') == []


def test_304_keeps_a_content_length(answer: Answer) -> None:
    """It is that of the representation (RFC 9110, section 8.6)."""
    reply = answer(lambda _, response: response.write_head(304, {'Content-Length': 1000}).end())
    assert reply.values('Content-Length') == ['1000']


def test_205_has_content_length_0(answer: Answer) -> None:
    """RFC 9110, section 15.3.6."""
    reply = answer(lambda _, response: response.write_head(205).end('dropped'))
    assert reply.values('Content-Length') == ['0']
    assert reply.body == b''


# -- trailers ---------------------------------------------------------------------------------------------------------


def test_trailers_follow_a_chunked_body(answer: Answer) -> None:
    """After the last chunk, in every way of ending the body."""

    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'Trailer': 'X-Sum'})
        response.write('abc')
        response.add_trailers({'X-Sum': '1'})
        response.end()

    assert answer(listener).trailers == [('X-Sum', '1')]


def test_trailers_follow_a_body_in_end(answer: Answer) -> None:
    """Before the final empty line, also if ``end(data)`` is the first write."""

    def listener(request: Any, response: Any) -> None:
        response.add_trailers([('X-Sum', '2')])
        response.end(b'abc')

    reply = answer(listener)
    assert reply.body == b'abc'
    assert reply.trailers == [('X-Sum', '2')]


def test_add_trailers_replaces_earlier_ones(answer: Answer) -> None:

    def listener(request: Any, response: Any) -> None:
        response.write('abc')
        response.add_trailers({'X-One': '1'})
        response.add_trailers({'X-Two': ['2', '3']})
        response.end()

    assert answer(listener).trailers == [('X-Two', '2'), ('X-Two', '3')]


@pytest.mark.parametrize('version', ['1.0', '1.1'])
def test_trailers_are_dropped_without_chunks(answer: Answer, version: str) -> None:
    """To HTTP/1.0, and with a Content-Length."""

    def listener(request: Any, response: Any) -> None:
        if version == '1.1':
            response.set_header('Content-Length', 3)
        response.write('abc')
        response.add_trailers({'X-Sum': '1'})
        response.end()

    reply = answer(listener, version=version)
    assert reply.body == b'abc'
    assert reply.trailers == []


# -- keeping the connection -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('version', 'asked', 'kept'),
    [
        ('1.1', None, True),
        ('1.1', 'close', False),
        ('1.1', 'keep-alive', True),
        ('1.1', 'Keep-Alive, Upgrade', True),
        ('1.1', 'x, CLOSE', False),
        ('1.0', None, False),
        ('1.0', 'keep-alive', True),
        ('1.0', 'Keep-Alive', True),
    ],
)
def test_connection_field_follows_the_request(serve: Serve, version: str, asked: str | None, kept: bool) -> None:
    """The connection is kept or closed, and the response has the matching field."""

    def listener(request: Any, response: Any) -> None:
        response.end('x')

    fields = [f'Connection: {asked}'] if asked else []
    client = serve(listener).send(get('/', *fields, version=version))
    reply = client.response()
    assert reply.closes is not kept
    if kept:
        assert reply.values('Connection') == ['keep-alive']
        assert client.get().body == b'x'
    else:
        assert client.rest() == b''


def test_stream_to_http_1_0_ends_with_the_connection(serve: Serve) -> None:
    """Even if the client requested keep-alive."""

    def listener(request: Any, response: Any) -> None:
        response.write('a')
        response.end('b')

    client = serve(listener).send(get('/', 'Connection: keep-alive', version='1.0'))
    reply = client.response()
    assert reply.closes
    assert reply.body == b'ab'


def test_connection_close_of_the_listener_closes(serve: Serve) -> None:
    """The field is sent once, as it was set."""
    client = serve(lambda _, response: response.write_head(200, {'Connection': 'Close'}).end('x')).send(get(), get())
    assert client.response().values('Connection') == ['Close']
    assert client.rest() == b''


def test_connection_field_cannot_keep_a_closing_connection(serve: Serve) -> None:
    """The response has ``Connection: close``, as the request had."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Connection', 'keep-alive')
        response.end('x')

    client = serve(listener).send(get('/', 'Connection: close'))
    assert client.response().closes
    assert client.rest() == b''


def test_body_without_framing_fields_ends_with_the_connection(serve: Serve) -> None:
    """Content-Length and Transfer-Encoding were both removed."""

    def listener(request: Any, response: Any) -> None:
        response.remove_header('Content-Length')
        response.remove_header('Transfer-Encoding')
        response.remove_header('Date')
        response.end('abc')

    reply = serve(listener).send(get()).response()
    assert reply.values('Content-Length') == reply.values('Transfer-Encoding') == reply.values('Date') == []
    assert reply.closes
    assert reply.body == b'abc'


def test_removed_content_length_makes_chunks(answer: Answer) -> None:

    def listener(request: Any, response: Any) -> None:
        response.remove_header('content-length')
        response.end('abc')

    reply = answer(listener)
    assert reply.values('Transfer-Encoding') == ['chunked']
    assert reply.body == b'abc'


def test_keep_alive_timeout_is_advertised(serve: Serve) -> None:
    """In whole seconds."""
    assert serve(lambda _, response: response.end(), keep_alive_timeout=7).get().values('Keep-Alive') == ['timeout=7']


@pytest.mark.parametrize('way', ['set_header', 'write_head', 'with a body'])
def test_keep_alive_field_of_the_listener_is_kept(serve: Serve, way: str) -> None:
    """It is the only one: a client could use either of two."""

    def listener(request: Any, response: Any) -> None:
        if way == 'write_head':
            response.write_head(200, {'Keep-Alive': 'timeout=3'})
        else:
            response.set_header('keep-alive', 'timeout=3')
        response.end('body' if way == 'with a body' else None)

    site = serve(listener)
    for _ in range(2):
        answer = site.get()
        assert (answer.values('Keep-Alive'), answer.values('Connection')) == (['timeout=3'], ['keep-alive'])


# -- informational ----------------------------------------------------------------------------------------------------


def test_informational_responses_precede_the_final_one(serve: Serve) -> None:
    """Any number of them, with callbacks."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.write_early_hints({'link': ['</a.css>; rel=preload', '</b.css>; rel=preload']}, log.note('hints'))
        response.write_processing(log.note('processing'))
        response.end('x')

    client = serve(listener).send(get())
    hints = client.head()
    assert (hints.status, hints.values('link')) == (103, ['</a.css>; rel=preload', '</b.css>; rel=preload'])
    assert client.head().status == 102
    assert client.response().body == b'x'
    assert log == ['hints', 'processing']


def test_any_informational_response(serve: Serve) -> None:
    """With fields as those of a head, and any number of times."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.set_header('X-Final', 'a')
        response.write_information(110, {'X-Progress': ['50%', '60%']}, log.note('called'))
        response.write_information(103, [('Link', '</a>'), ('Link', '</b>')])
        response.write_information(102)
        response.end('x')

    client = serve(listener).send(get())
    progress, hints, processing = client.head(), client.head(), client.head()
    assert (progress.status, progress.reason, progress.headers) == (
        110,
        '',
        [('X-Progress', '50%'), ('X-Progress', '60%')],
    )
    assert (hints.status, hints.reason, hints.headers) == (103, 'Early Hints', [('Link', '</a>'), ('Link', '</b>')])
    assert (processing.status, processing.headers) == (102, [])
    final = client.response()
    assert (final.values('X-Final'), final.values('X-Progress'), final.body) == (['a'], [], b'x')
    assert log == ['called']


def test_information_can_be_100(serve: Serve) -> None:
    """A read of the body does not send it again."""

    def listener(request: Any, response: Any) -> None:
        response.write_information(100)
        response.end(request.read())

    client = serve(listener).send(post(b'', '/', 'Expect: 100-continue', length=3))
    assert client.head().status == 100
    client.send(b'abc')
    assert client.response().body == b'abc'


def test_client_receives_any_informational_response(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_information(199, {'X-Progress': '50%'})
        response.end('x')

    heads: list[Any] = []
    request = http.request(f'http://127.0.0.1:{serve(listener).where[1]}/')
    request.on('information', heads.append)
    assert request.end().get_response().read() == b'x'
    assert [(head.status_code, head.headers['x-progress']) for head in heads] == [(199, '50%')]


def test_no_informational_response_to_http_1_0(serve: Serve) -> None:
    """RFC 9110, section 15.2."""

    def listener(request: Any, response: Any) -> None:
        response.write_early_hints({'link': '</a>'})
        response.write_processing()
        response.write_continue()
        response.write_information(110)
        response.end('x')

    assert serve(listener).send(get(version='1.0')).head().status == 200


def test_informational_response_after_the_final_head_is_dropped(serve: Serve) -> None:

    def listener(request: Any, response: Any) -> None:
        response.write('x')
        response.write_early_hints({'link': '</a>'})
        response.write_processing()
        response.end()

    assert serve(listener).send(get(), get()).until(b'0\r\n\r\n').count(b'HTTP/1.1') == 1
