"""The serializer: rendering, and the rejection of values that could end their line."""

from __future__ import annotations

import pytest

from geventnode.errors import InvalidHeader, InvalidInput
from geventnode.protocol import Limits, Parser, Role, check_method, check_target, last_chunk, render_fields, status_line


def test_valid_lines() -> None:
    assert status_line(200, 'OK') == 'HTTP/1.1 200 OK\r\n'
    assert status_line(599, '') == 'HTTP/1.1 599 \r\n'
    assert (check_method('GET'), check_target('/x?y')) == ('GET', '/x?y')


@pytest.mark.parametrize(
    'call',
    [
        lambda: status_line(200, 'OK\r\nX: y'),
        lambda: status_line(99, 'OK'),
        lambda: status_line(1000, 'OK'),
        lambda: check_method('GET /'),
        lambda: check_target('/ HTTP/1.1\r\nX: y'),
        lambda: check_target('/caf\xe9'),
    ],
)
def test_invalid_lines(call) -> None:
    for _ in range(2):
        with pytest.raises(InvalidInput):
            call()


def test_valid_fields() -> None:
    assert render_fields([]) == ''
    assert render_fields([('A', '1'), ('b', 'caf\xe9'), ('A', '')]) == 'A: 1\r\nb: caf\xe9\r\nA: \r\n'


@pytest.mark.parametrize('pair', [('a b', '1'), ('a', '1\r\nb: 2'), ('a', '\u010a'), ('', '1'), ('a:', '1'), ('a', 1)])
def test_invalid_fields(pair) -> None:
    with pytest.raises(InvalidHeader):
        render_fields([pair])
    with pytest.raises(InvalidHeader):
        last_chunk([pair])


def test_the_last_chunk() -> None:
    assert last_chunk() == b'0\r\n\r\n'
    assert last_chunk([('X-Sum', '1')]) == b'0\r\nX-Sum: 1\r\n\r\n'


def test_the_parser_reads_rendered_messages() -> None:
    parser = Parser(Role.REQUEST, Limits())
    fields = render_fields([('Host', 'a'), ('Transfer-Encoding', 'chunked')])
    head = f'POST /in HTTP/1.1\r\n{fields}\r\n'
    parser.feed(head.encode('latin-1') + b'3\r\none\r\n3\r\ntwo\r\n' + last_chunk([('X-Sum', '2')]))
    request, body, end = parser.next_event(), parser.next_event(), parser.next_event()
    assert (request.method, request.url) == ('POST', '/in')
    assert body == b'onetwo'
    assert end.raw_trailers == [('X-Sum', '2')]
    assert parser.at_boundary
