"""The work of a parser is linear in its input, however the input is divided: it is counted, not timed.

The buffers of the parser are replaced by buffers that count searched and copied bytes, and the interpreter's profiler
counts the calls. Twice the input must not take much more than twice the work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator

import pytest

from geventnode.protocol import Headers, Limits, Parser, Role, block, chunked
from geventnode.protocol import parser as parser_module
from tests.corpus.drive import bytewise

#: The limits of the work for twice the input, and for one byte.
TWICE = 2.2
HEAD = b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
LIMITS = Limits(max_header_size=1 << 20, max_headers_count=0, max_chunk_extensions=1 << 20)


class Work:
    """The number of bytes that were read or moved."""

    done = 0


class Buffer(bytearray):
    """A bytearray that counts its work."""

    def _looks(self, start: int = 0, stop: int | None = None) -> None:
        size = len(self)
        Work.done += max(0, min(size, size if stop is None else stop) - start)

    def find(self, what, start=0, stop=None):
        found = super().find(what, start, len(self) if stop is None else stop)
        self._looks(start, stop if found < 0 else found)
        return found

    def startswith(self, what, *where):
        Work.done += len(what)
        return super().startswith(what, *where)

    def endswith(self, what, *where):
        Work.done += len(what)
        return super().endswith(what, *where)

    def __getitem__(self, item):
        result = super().__getitem__(item)
        Work.done += len(result) if isinstance(item, slice) else 1
        return result

    def __iadd__(self, other):
        Work.done += len(other)
        return super().__iadd__(other)


class Pattern:
    """A compiled expression that counts its work."""

    def __init__(self, pattern) -> None:
        self.pattern = pattern

    def search(self, buffer, start=0, stop=sys.maxsize):
        match = self.pattern.search(buffer, start, stop)
        Work.done += (match.end() if match else min(len(buffer), stop)) - start
        return match

    def match(self, buffer, start=0):
        match = self.pattern.match(buffer, start)
        Work.done += (match.end() if match else len(buffer)) - start
        return match


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser_module, 'bytearray', Buffer, raising=False)
    monkeypatch.setattr(block, 'BARE_LINE_END', Pattern(block.BARE_LINE_END))
    monkeypatch.setattr(chunked, 'CHUNK_LINE', Pattern(chunked.CHUNK_LINE))


def parse(pieces: Iterable[bytes], lazy: bool = False) -> None:
    """Feed a parser and read its events: all after each piece, or, if ``lazy``, one for each piece."""
    parser = Parser(Role.REQUEST, LIMITS)
    for piece in pieces:
        parser.feed(piece)
        while parser.next_event() is not None and not lazy:
            pass
    while parser.next_event() is not None:
        pass


def work_of(function: Callable[[], object]) -> tuple[int, int]:
    """Return the number of bytes that the parser reads or moves in ``function``, and the number of its calls."""
    calls = 0

    def count(frame, event, argument) -> None:
        nonlocal calls
        calls += event in ('call', 'c_call')

    Work.done = 0
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return Work.done, calls


def long_head(size: int) -> bytes:
    return b'GET / HTTP/1.1\r\nHost: a\r\nX: ' + b'y' * size + b'\r\n\r\n'


def many_fields(size: int) -> bytes:
    return b'GET / HTTP/1.1\r\nHost: a\r\n' + b'A: b\r\n' * (size // 6) + b'\r\n'


def long_line(size: int) -> bytes:
    return b'GET /' + b'x' * size + b' HTTP/1.1\r\nHost: a\r\n\r\n'


def long_extension(size: int) -> bytes:
    return HEAD + b'1;' + b'a' * size + b'\r\nx\r\n0\r\n\r\n'


def long_trailers(size: int) -> bytes:
    return HEAD + b'0\r\n' + b'A: b\r\n' * (size // 6) + b'\r\n'


def tiny_chunks(size: int) -> bytes:
    return HEAD + b'1\r\nx\r\n' * (size // 6) + b'0\r\n\r\n'


def pipelined(size: int) -> bytes:
    return b'GET / HTTP/1.1\r\nHost: a\r\n\r\n' * (size // 27)


def in_pieces_of(size: int) -> Callable[[bytes], Iterator[bytes]]:
    return lambda data: (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize(
    ('cut', 'size'), [(bytewise, 3000), (in_pieces_of(7), 6000), (in_pieces_of(1000), 30000)], ids=['1', '7', '1000']
)
@pytest.mark.parametrize(
    'make', [long_head, many_fields, long_line, long_extension, long_trailers, tiny_chunks, pipelined]
)
def test_work_is_linear_for_every_division(
    make: Callable[[int], bytes], cut: Callable[[bytes], Iterator[bytes]], size: int
) -> None:
    once = work_of(lambda: parse(cut(make(size))))
    twice = work_of(lambda: parse(cut(make(2 * size))))
    assert twice[0] <= TWICE * once[0] + 200
    assert twice[1] <= TWICE * once[1] + 200
    # Each byte is fed, searched a few times, and copied into an event.
    assert once[0] <= 30 * len(make(size))


@pytest.mark.parametrize('make', [tiny_chunks, pipelined])
def test_work_is_linear_for_a_slow_reader(make: Callable[[int], bytes]) -> None:
    """The buffer grows while the reader takes one event for each piece."""
    once = work_of(lambda: parse(in_pieces_of(40)(make(6000)), lazy=True))
    twice = work_of(lambda: parse(in_pieces_of(40)(make(12000)), lazy=True))
    assert twice[0] <= TWICE * once[0] + 200


def test_work_is_linear_for_many_chunks() -> None:
    """Each call returns one object, and each chunk takes a fixed number of calls."""
    data = tiny_chunks(600000)
    parser = Parser(Role.REQUEST, LIMITS)
    parser.feed(data)
    parser.next_event()
    events = []
    _, calls = work_of(lambda: events.append(parser.next_event()))
    assert events == [b'x' * 100000]
    assert calls < 12 * 100000


@pytest.mark.parametrize('name', ['x-same', 'cookie', 'set-cookie', 'host'])
def test_equal_fields_are_merged_in_linear_time(name: str) -> None:
    _, once = work_of(lambda: Headers.from_raw([(name, 'v')] * 900))
    _, twice = work_of(lambda: Headers.from_raw([(name, 'v')] * 1800))
    assert twice <= TWICE * once
    # The values are joined once, at the end.
    assert once < 900 * 6


def test_equal_fields_of_a_request_take_linear_time() -> None:
    once = work_of(lambda: parse([many_fields(6 * 900)]))
    twice = work_of(lambda: parse([many_fields(6 * 1800)]))
    assert twice[1] <= TWICE * once[1]
