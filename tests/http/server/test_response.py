"""The heads of responses, named for the rows of the reference."""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

import pytest
from gevent.event import Event

from geventnode.errors import HeadersSent
from geventnode.http import ServerResponse, status
from tests.servers import Answer, Log, Serve, get


def test_write_head_with_reason_and_headers(answer: Answer) -> None:
    """Status, reason and headers are as given."""
    reply = answer(lambda _, response: response.write_head(201, 'Well Done', {'X-A': '1', 'x-b': 2}).end('x'))
    assert (reply.status, reply.reason) == (201, 'Well Done')
    assert reply.values('X-A') == ['1']
    assert reply.values('x-b') == ['2']


def test_second_argument_is_a_reason_only_if_text(answer: Answer) -> None:
    """``write_head(200, {...})`` takes the second argument for headers."""
    reply = answer(lambda _, response: response.write_head(404, {'X-A': '1'}).end())
    assert (reply.status, reply.reason) == (404, 'Not Found')
    assert reply.values('X-A') == ['1']


def test_implicit_head(answer: Answer) -> None:
    """``write`` before ``write_head`` sends what was set."""

    def listener(request: Any, response: Any) -> None:
        response.status_code = 202
        response.set_header('X-A', 'b')
        response.write('x')
        response.end()

    reply = answer(listener)
    assert (reply.status, reply.reason, reply.body) == (202, 'Accepted', b'x')
    assert reply.values('X-A') == ['b']


def test_status_code_tells_what_was_sent(serve: Serve) -> None:
    """200 before, and what was sent afterwards."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(response.status_code)
        response.write_head(404)
        response.end()
        log.append(response.status_code)

    serve(listener).get()
    assert log == [200, 404]


def test_set_header_replaces_in_any_case(answer: Answer) -> None:
    """The last one wins, with its own spelling; a list makes several lines."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Type', 'text/html')
        response.set_header('content-type', 'text/plain')
        response.set_header('Set-Cookie', ['a=1', 'b=2'])
        response.end()

    reply = answer(listener)
    assert [pair for pair in reply.headers if pair[0].lower() == 'content-type'] == [('content-type', 'text/plain')]
    assert reply.values('Set-Cookie') == ['a=1', 'b=2']


def test_headers_sent(serve: Serve) -> None:
    """True as soon as the head is fixed, and read-only."""
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
def test_date_of_a_second(second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the standard library writes it: leap days, the turn of centuries, four digits of a year."""
    monkeypatch.setattr(status, 'time', lambda: second + 0.999)
    assert status.date_line() == f'Date: {formatdate(second, usegmt=True)}\r\n'


def test_date_of_each_day(monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(366 * 4):
        second = 1700000000 + day * 86400 + day
        monkeypatch.setattr(status, 'time', lambda now=second: now)
        assert status.date_line() == f'Date: {formatdate(second, usegmt=True)}\r\n'


def test_date_is_added_once(answer: Answer) -> None:
    """By itself, in the format of RFC 9110, section 5.6.7."""
    dates = answer(lambda _, response: response.end()).values('Date')
    assert len(dates) == 1
    assert re.fullmatch(r'\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT', dates[0])
    assert parsedate_to_datetime(dates[0]) is not None


def test_send_date_false(answer: Answer) -> None:
    """No Date then."""

    def listener(request: Any, response: Any) -> None:
        response.send_date = False
        response.end()

    assert answer(listener).values('Date') == []


def test_a_date_of_the_users_own_stays(answer: Answer) -> None:
    """It is not added to."""
    reply = answer(lambda _, response: response.write_head(200, {'date': 'then'}).end())
    assert reply.values('Date') == ['then']


def test_get_header_in_any_case_also_later(serve: Serve) -> None:
    """Before and after the head was sent; a copy of lists."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.set_header('X-List', ['a'])
        response.get_header('x-list').append('b')
        response.end()
        log.append(response.get_header('X-LIST'))
        log.append(response.get_header('nothing'))

    serve(listener).get()
    assert log == [['a'], None]


def test_remove_header(answer: Answer) -> None:
    """In any case; what is not there is no error."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('X-A', '1')
        response.remove_header('x-a')
        response.remove_header('never-set')
        response.end()

    assert answer(listener).values('X-A') == []


def test_header_names_are_matched_whole(answer: Answer) -> None:
    """Names that contain those of automatic fields suppress nothing."""
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
    """And only the first is sent."""

    def listener(request: Any, response: Any) -> None:
        response.write_head(201)
        with pytest.raises(HeadersSent):
            response.write_head(202)
        response.end()

    assert serve(listener).get().status == 201


def test_write_head_wins_over_set_header_in_any_case(answer: Answer) -> None:
    """And others that were set stay, with a mapping and with pairs."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('content-type', 'a/a')
        response.set_header('X-Kept', '1')
        response.write_head(200, [('Content-Type', 'b/b'), ('X-Two', '1'), ('x-two', '2')])
        response.end()

    reply = answer(listener)
    assert reply.values('Content-Type') == ['b/b']
    assert reply.values('X-Kept') == ['1']
    assert reply.values('X-Two') == ['1', '2']


def test_order_on_the_wire(answer: Answer) -> None:
    """The user's in their order, then Date, then Connection, then the framing; HTTP/1.1 also to older clients."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('B', '1')
        response.set_header('A', '2')
        response.write('x')
        response.end()

    names = [name for name, _ in answer(listener).headers]
    assert names[:4] == ['B', 'A', 'Date', 'Connection']
    assert names[-1] == 'Transfer-Encoding'
    assert answer(listener, version='1.0').version == 'HTTP/1.1'


def test_unknown_status(answer: Answer) -> None:
    """The reason of a status that nobody knows."""
    assert answer(lambda _, response: response.write_head(299).end()).reason == 'unknown'


def test_status_message(answer: Answer) -> None:
    """The reason phrase as an attribute; an empty one is one."""

    def listener(request: Any, response: Any) -> None:
        response.status_message = 'As You Like It'
        response.end()

    assert answer(listener).reason == 'As You Like It'
    assert answer(lambda _, response: response.write_head(200, '').end()).reason == ''


def test_header_names_and_copies(serve: Serve) -> None:
    """``append_header``, ``get_headers``, ``get_header_names``, ``has_header``; setters return the response."""
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
    """The client has the head while the listener still waits for it to say so."""
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
def test_what_others_call_the_status(answer: Answer, name: str, right: str) -> None:
    """Would have no effect, and is refused."""

    def listener(request: Any, response: Any) -> None:
        with pytest.raises(AttributeError, match=f"ServerResponse has no attribute '{name}'; use '{right}'"):
            setattr(response, name, 404)
        assert not hasattr(response, name)
        response.end('refused')

    reply = answer(listener)
    assert (reply.status, reply.body) == (200, b'refused')


def test_a_response_class_may_have_a_status_of_its_own(serve: Serve) -> None:
    class Response(ServerResponse):
        status = 'mine'

    def listener(request: Any, response: Any) -> None:
        response.status += '!'
        response.end(response.status)

    assert serve(listener, response_class=Response).get().body == b'mine!'
