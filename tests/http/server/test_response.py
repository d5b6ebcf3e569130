"""Test the heads of responses."""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

import pytest
from gevent.event import Event

from geventnode.errors import HeadersSent, InvalidHeader
from geventnode.http import ServerResponse, status
from tests.servers import Answer, Log, Serve, get


def test_write_head_with_reason_and_headers(answer: Answer) -> None:
    reply = answer(lambda _, response: response.write_head(201, 'Well Done', {'X-A': '1', 'x-b': 2}).end('x'))
    assert (reply.status, reply.reason) == (201, 'Well Done')
    assert reply.values('X-A') == ['1']
    assert reply.values('x-b') == ['2']


def test_the_second_argument_of_write_head_is_a_reason_only_if_it_is_text(answer: Answer) -> None:
    """``write_head(200, {...})`` has headers as its second argument."""
    reply = answer(lambda _, response: response.write_head(404, {'X-A': '1'}).end())
    assert (reply.status, reply.reason) == (404, 'Not Found')
    assert reply.values('X-A') == ['1']


def test_write_sends_an_implicit_head(answer: Answer) -> None:
    """It has the status and the headers that were set."""

    def listener(request: Any, response: Any) -> None:
        response.status_code = 202
        response.set_header('X-A', 'b')
        response.write('x')
        response.end()

    reply = answer(listener)
    assert (reply.status, reply.reason, reply.body) == (202, 'Accepted', b'x')
    assert reply.values('X-A') == ['b']


def test_status_code_is_the_one_that_was_sent(serve: Serve) -> None:
    """It is 200 before."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(response.status_code)
        response.write_head(404)
        response.end()
        log.append(response.status_code)

    serve(listener).get()
    assert log == [200, 404]


def test_set_header_replaces_in_any_case(answer: Answer) -> None:
    """The last call wins, with its spelling. A list becomes several lines."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Type', 'text/html')
        response.set_header('content-type', 'text/plain')
        response.set_header('Set-Cookie', ['a=1', 'b=2'])
        response.end()

    reply = answer(listener)
    assert [pair for pair in reply.headers if pair[0].lower() == 'content-type'] == [('content-type', 'text/plain')]
    assert reply.values('Set-Cookie') == ['a=1', 'b=2']


def test_set_headers_sets_several(answer: Answer) -> None:
    def listener(request: Any, response: Any) -> None:
        response.set_header('x-a', 'old')
        assert response.set_headers({'X-A': 'new', 'X-B': ['1', '2']}) is response
        response.set_headers([('X-C', '1'), ('X-C', '2')])
        with pytest.raises(InvalidHeader):
            response.set_headers({'X-D': '1', 'X-E': 'a\nb'})
        response.end()

    found = answer(listener)
    assert [found.values(f'X-{name}') for name in 'ABCD'] == [['new'], ['1', '2'], ['1', '2'], []]


def test_headers_sent_is_true_after_write_head(serve: Serve) -> None:
    """It is read-only."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(response.headers_sent)
        response.write_head(200)
        log.append(response.headers_sent)
        with pytest.raises(AttributeError):
            response.headers_sent = False
        response.end()

    assert serve(listener).get().status == 200
    assert log == [False, True]


@pytest.mark.parametrize('second', [0, 951782399, 951782400, 1709164800, 4102444799, 253402300799])
def test_the_date_of_a_second(second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It equals that of the standard library: leap days, the turn of a century, four digits of a year."""
    monkeypatch.setattr(status, 'time', lambda: second + 0.999)
    assert status.date_line() == f'Date: {formatdate(second, usegmt=True)}\r\n'


def test_the_date_of_each_day(monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(366 * 4):
        second = 1700000000 + day * 86400 + day
        monkeypatch.setattr(status, 'time', lambda now=second: now)
        assert status.date_line() == f'Date: {formatdate(second, usegmt=True)}\r\n'


def test_date_is_added_once(answer: Answer) -> None:
    """It has the format of RFC 9110, section 5.6.7."""
    dates = answer(lambda _, response: response.end()).values('Date')
    assert len(dates) == 1
    assert re.fullmatch(r'\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT', dates[0])
    assert parsedate_to_datetime(dates[0]) is not None


def test_send_date_false_adds_no_date(answer: Answer) -> None:

    def listener(request: Any, response: Any) -> None:
        response.send_date = False
        response.end()

    assert answer(listener).values('Date') == []


def test_a_date_of_the_application_is_kept(answer: Answer) -> None:
    reply = answer(lambda _, response: response.write_head(200, {'date': 'then'}).end())
    assert reply.values('Date') == ['then']


def test_get_header_ignores_case(serve: Serve) -> None:
    """It works before and after the head was sent, and returns a copy of a list."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.set_header('X-List', ['a'])
        response.get_header('x-list').append('b')
        response.end()
        log.append(response.get_header('X-LIST'))
        log.append(response.get_header('nothing'))

    serve(listener).get()
    assert log == [['a'], None]


def test_remove_header_ignores_case(answer: Answer) -> None:
    """A missing header is no error."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('X-A', '1')
        response.remove_header('x-a')
        response.remove_header('never-set')
        response.end()

    assert answer(listener).values('X-A') == []


def test_header_names_are_matched_whole(answer: Answer) -> None:
    """A name that contains the name of an automatic field does not suppress that field."""
    odd = {'X-Connection-Id': 'close', 'X-Content-Length': '3', 'Last-Update': 'x', 'X-Transfer-Encoding': 'x'}
    reply = answer(lambda _, response: response.write_head(200, odd).end('hello'))
    assert reply.values('Connection') == ['keep-alive']
    assert reply.values('Content-Length') == ['5']
    assert len(reply.values('Date')) == 1


def test_headers_cannot_change_after_the_head_is_fixed(serve: Serve) -> None:
    """Setting, appending and removing raise."""
    raised = Log()

    def listener(request: Any, response: Any) -> None:
        response.write_head(200)
        for action in (
            lambda: response.set_header('a', 'b'),
            lambda: response.append_header('a', 'b'),
            lambda: response.remove_header('a'),
        ):
            with pytest.raises(HeadersSent) as caught:
                action()
            raised.append(caught.value.code)
        response.end()

    assert serve(listener).get().status == 200
    assert raised == ['ERR_HTTP_HEADERS_SENT'] * 3


def test_write_head_twice_raises(serve: Serve) -> None:
    """Only the first head is sent."""

    def listener(request: Any, response: Any) -> None:
        response.write_head(201)
        with pytest.raises(HeadersSent):
            response.write_head(202)
        response.end()

    assert serve(listener).get().status == 201


def test_write_head_wins_over_set_header_in_any_case(answer: Answer) -> None:
    """Other headers that were set are kept, with a mapping and with pairs."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('content-type', 'a/a')
        response.set_header('X-Kept', '1')
        response.write_head(200, [('Content-Type', 'b/b'), ('X-Two', '1'), ('x-two', '2')])
        response.end()

    reply = answer(listener)
    assert reply.values('Content-Type') == ['b/b']
    assert reply.values('X-Kept') == ['1']
    assert reply.values('X-Two') == ['1', '2']


def test_the_order_of_header_fields(answer: Answer) -> None:
    """The application's fields in their order, then Date, Connection, and framing; the version is always HTTP/1.1."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('B', '1')
        response.set_header('A', '2')
        response.write('x')
        response.end()

    names = [name for name, _ in answer(listener).headers]
    assert names[:4] == ['B', 'A', 'Date', 'Connection']
    assert names[-1] == 'Transfer-Encoding'
    assert answer(listener, version='1.0').version == 'HTTP/1.1'


def test_an_unknown_status_has_the_reason_unknown(answer: Answer) -> None:
    assert answer(lambda _, response: response.write_head(299).end()).reason == 'unknown'


def test_status_message_is_the_reason_phrase(answer: Answer) -> None:
    """It can be empty."""

    def listener(request: Any, response: Any) -> None:
        response.status_message = 'As You Like It'
        response.end()

    assert answer(listener).reason == 'As You Like It'
    assert answer(lambda _, response: response.write_head(200, '').end()).reason == ''


def test_header_methods_return_copies_or_the_response(serve: Serve) -> None:
    """These are ``append_header``, ``get_headers``, ``get_header_names``, ``has_header`` and the setters."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        assert response.set_header('X-A', 'a') is response
        assert response.append_header('x-a', ['b', 'c']) is response
        response.append_header('X-New', 'n')
        response.get_headers().clear()
        log.append((response.get_headers(), response.get_header_names(), response.has_header('X-NEW')))
        response.end()

    reply = serve(listener).get()
    assert log == [({'x-a': ['a', 'b', 'c'], 'x-new': 'n'}, ['x-a', 'x-new'], True)]
    assert reply.values('x-a') == ['a', 'b', 'c']


def test_flush_headers_sends_the_head_alone(serve: Serve) -> None:
    """The client has the head while the listener waits for it to confirm that."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        response.flush_headers()
        response.flush_headers()
        go_on.wait()
        response.end('late')

    client = serve(listener).send(get())
    head = client.head()
    assert head.values('Transfer-Encoding') == ['chunked']
    go_on.set()
    assert client.until(b'0\r\n\r\n') == b'4\r\nlate\r\n0\r\n\r\n'


@pytest.mark.parametrize(
    ('name', 'right'), [('status', 'status_code'), ('statusCode', 'status_code'), ('statusMessage', 'status_message')]
)
def test_the_names_of_other_libraries_for_the_status_raise(answer: Answer, name: str, right: str) -> None:
    """An assignment would have no effect."""

    def listener(request: Any, response: Any) -> None:
        with pytest.raises(AttributeError, match=f"ServerResponse has no attribute '{name}'; use '{right}'"):
            setattr(response, name, 404)
        assert not hasattr(response, name)
        response.end('refused')

    reply = answer(listener)
    assert (reply.status, reply.body) == (200, b'refused')


def test_a_response_class_can_define_status(serve: Serve) -> None:
    class Response(ServerResponse):
        status = 'mine'

    def listener(request: Any, response: Any) -> None:
        response.status += '!'
        response.end(response.status)

    assert serve(listener, response_class=Response).get().body == b'mine!'
