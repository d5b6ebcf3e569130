"""Invalid calls on a response raise before anything is sent, and the response stays usable."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import pytest

from geventnode.errors import BodyNotAllowed, HeadersSent, InvalidHeader, InvalidInput
from geventnode.integrations.wsgi import wsgi
from tests.servers import Answer, Serve


@pytest.fixture
def refused(serve: Serve) -> Callable[..., BaseException]:
    """Return the error of a call on a response, after checking that the response still works."""

    def call(action: Callable[[Any], object]) -> BaseException:
        raised: list[BaseException] = []

        def listener(request: Any, response: Any) -> None:
            try:
                action(response)
            except Exception as error:
                raised.append(error)
            response.end('fine')

        reply = serve(listener).get()
        assert reply.status == 200
        assert reply.body == b'fine'
        assert len(raised) == 1
        return raised[0]

    return call


@pytest.mark.parametrize('status', [0, 99, 100, 101, 199, 1000, -1])
def test_informational_status_is_refused(refused: Callable[..., BaseException], status: int) -> None:
    """Before anything changes."""
    error = refused(lambda response: response.write_head(status))
    assert isinstance(error, InvalidInput)
    assert error.code == 'ERR_HTTP_INVALID_STATUS_CODE'


@pytest.mark.parametrize('status', ['200', None, 200.0, True])
def test_status_of_another_type_is_refused(refused: Callable[..., BaseException], status: Any) -> None:
    """With a TypeError."""
    assert isinstance(refused(lambda response: response.write_head(status)), TypeError)


@pytest.mark.parametrize('value', [None, 1.5, object(), True, b'x', {'a': 'b'}])
def test_header_value_of_another_type_is_refused(refused: Callable[..., BaseException], value: Any) -> None:
    """With a TypeError; the earlier value stays."""
    assert isinstance(refused(lambda response: response.set_header('X-A', value)), TypeError)


@pytest.mark.parametrize('value', ['-1', '+1', '1.5', '', ' 1', '1_0', '١', ['1', '1'], '1, 1'])
def test_bad_content_length_is_refused(refused: Callable[..., BaseException], value: Any) -> None:
    """By the call that sets it."""
    assert isinstance(refused(lambda response: response.set_header('Content-Length', value)), InvalidHeader)


def test_content_length_with_transfer_encoding_is_refused(refused: Callable[..., BaseException]) -> None:
    """A message has one of them."""
    both = {'Content-Length': 3, 'Transfer-Encoding': 'chunked'}
    assert isinstance(refused(lambda response: response.write_head(200, both)), InvalidHeader)


@pytest.mark.parametrize('value', ['gzip', 'chunked, gzip', 'chunked, chunked', ['chunked', 'chunked']])
def test_transfer_encoding_without_a_final_chunked_is_refused(
    refused: Callable[..., BaseException], value: Any
) -> None:
    """The end of such a message could not be found."""
    assert isinstance(refused(lambda response: response.write_head(200, {'Transfer-Encoding': value})), InvalidHeader)


def test_early_hints_with_framing_are_refused(refused: Callable[..., BaseException]) -> None:
    """RFC 9110, section 8.6."""
    assert isinstance(refused(lambda response: response.write_early_hints({'Content-Length': 1})), BodyNotAllowed)


@pytest.mark.parametrize(
    ('arguments', 'kind'),
    [
        ((99,), InvalidInput),
        ((101,), InvalidInput),
        ((200,), InvalidInput),
        ((True,), TypeError),
        (('103',), TypeError),
        ((103, {'Content-Length': '1'}), BodyNotAllowed),
        ((103, {'Transfer-Encoding': 'chunked'}), BodyNotAllowed),
        ((103, {'X': 'a\nb'}), InvalidHeader),
        ((103, 5), TypeError),
    ],
)
def test_bad_information_is_refused(
    refused: Callable[..., BaseException], arguments: tuple[Any, ...], kind: type[BaseException]
) -> None:
    assert isinstance(refused(lambda response: response.write_information(*arguments)), kind)


def test_information_after_the_final_head_raises(serve: Serve) -> None:
    raised: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        response.write('x')
        with pytest.raises(HeadersSent) as caught:
            response.write_information(103)
        raised.append(caught.value.code)
        response.end()

    serve(listener).get()
    assert raised == ['ERR_HTTP_HEADERS_SENT']


def test_chunk_of_another_type_is_refused(refused: Callable[..., BaseException]) -> None:
    """With a TypeError; the response stays usable."""
    assert isinstance(refused(lambda response: response.write(3)), TypeError)
    assert isinstance(refused(lambda response: response.write(None)), TypeError)
    assert isinstance(refused(lambda response: response.end(['a'])), TypeError)


def test_a_bad_reason_phrase_changes_nothing(serve: Serve) -> None:
    raised: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', '5')
        response.status_code, response.status_message = 205, 'a\n'
        try:
            response.end()
        except InvalidInput:
            raised.append((response.get_headers(), response.should_keep_alive))
        response.status_code, response.status_message = 200, None
        response.end('hello')

    assert serve(listener).get().body == b'hello'
    assert raised == [({'content-length': '5'}, True)]


class Text(str, enum.Enum):
    """Strings with another format, as in many applications."""

    NAME = 'X-Own'
    LENGTH = 'Content-Length'
    VALUE = 'text'
    FIVE = '5'


@pytest.mark.parametrize('way', ['write_head', 'prepared', 'set_header', 'list', 'wsgi'])
def test_the_text_of_a_str_subclass_is_sent(serve: Serve, way: str) -> None:
    def listener(request: Any, response: Any) -> None:
        fields: dict[Any, Any] = {Text.NAME: Text.VALUE, Text.LENGTH: Text.FIVE}
        if way == 'write_head':
            response.write_head(200, fields)
        elif way == 'prepared':
            response.write_head(200, {Text.NAME: 'text', Text.LENGTH: '5'})
        elif way == 'list':
            response.write_head(200, {Text.NAME: [Text.VALUE], Text.LENGTH: 5})
        else:
            for name, value in fields.items():
                response.set_header(name, value)
        response.end('hello')

    def application(environ: Any, start_response: Any) -> Any:
        start_response('200 OK', [(Text.NAME, Text.VALUE), (Text.LENGTH, Text.FIVE)])
        return [b'hello']

    site = serve(wsgi(application) if way == 'wsgi' else listener)
    for _ in range(3):
        found = site.get()
        fields = [field for field in found.headers if field[0] not in ('Date', 'Connection', 'Keep-Alive')]
        assert sorted(fields) == [('Content-Length', '5'), ('X-Own', 'text')]
        assert found.body == b'hello'


def test_the_text_of_a_str_subclass_is_sent_in_trailers(answer: Answer) -> None:
    def listener(request: Any, response: Any) -> None:
        response.add_trailers({Text.NAME: Text.VALUE})
        response.end('hello')

    assert answer(listener).trailers == [('X-Own', 'text')]
