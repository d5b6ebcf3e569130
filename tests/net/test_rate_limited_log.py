"""Test the limit of log lines that peers can cause."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from geventnode import net
from geventnode.errors import ParseError
from geventnode.net import rate_limited_log
from geventnode.net import server as net_server
from geventnode.net.rate_limited_log import LINES, RateLimitedLog
from geventnode.net.server import Acceptor
from tests.servers import Serve, get, ok, post
from tests.sockets import Taker, dial, settle


class Clock:
    """Provide the time of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: Any) -> None:
        self.now = 1000.0
        for module in modules:
            monkeypatch.setattr(module, 'monotonic', lambda: self.now)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the lines that were logged so far."""
    caplog.set_level(logging.INFO, 'geventnode.error')

    def found() -> list[str]:
        settle()
        return [record.getMessage() for record in caplog.records]

    return found


def test_lines_per_second_are_limited(monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]) -> None:
    """The other lines are counted, and the next line has their number."""
    clock = Clock(monkeypatch, rate_limited_log)
    log = RateLimitedLog()
    for number in range(LINES + 5):
        log.info('line %d', number)
    assert lines() == [f'line {number}' for number in range(LINES)]
    clock.now += 0.9
    log.info('line')
    assert len(lines()) == LINES
    clock.now += 0.2
    log.info('100%% %s', 'later')
    log.info('again')
    assert lines()[LINES:] == ['100% later (and 6 more lines were left out)', 'again']


def test_each_server_has_its_own_limit(monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]) -> None:
    """A flood on one server does not hide the lines of another."""
    Clock(monkeypatch, rate_limited_log)
    one, other = net.create_server()._peer_log, net.create_server()._peer_log
    for _ in range(LINES * 2):
        one.info('flood')
    other.info('alone')
    assert lines() == ['flood'] * LINES + ['alone']


def test_lines_below_the_log_level_are_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A log at level WARNING leaves no line out."""
    caplog.set_level(logging.WARNING, 'geventnode.error')
    log = RateLimitedLog()
    for _ in range(LINES * 2):
        log.info('flood')
    assert log.suppressed == 0
    assert caplog.records == []


BAD_BODY = get('/', 'Transfer-Encoding: chunked', method='POST') + b'zz\r\n'


@pytest.mark.parametrize(
    ('data', 'options', 'level'),
    [
        (b'nonsense\r\n\r\n', {}, 'INFO'),
        (BAD_BODY, {}, 'INFO'),
        (post(b'ab', length=9), {}, 'DEBUG'),
        (get(), {'proxy_protocol': True, 'trusted_proxies': '127.0.0.1'}, 'INFO'),
        (get(), {'proxy_protocol': True, 'trusted_proxies': '10.0.0.1'}, 'INFO'),
    ],
    ids=['head', 'body', 'disconnect', 'no PROXY header', 'stranger'],
)
def test_a_flood_of_failing_connections(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    serve: Serve,
    data: bytes,
    options: dict[str, Any],
    level: str,
) -> None:
    """There is one line for each connection up to the limit, for every kind of failure."""
    Clock(monkeypatch, rate_limited_log)
    caplog.set_level(logging.DEBUG, 'geventnode.error')
    site = serve(lambda request, response: response.end(request.read()), **options)
    for number in range(LINES + 5):
        site.send(data).half_close().rest()
        settle()
        assert len(caplog.records) == min(number + 1, LINES)
    assert {record.levelname for record in caplog.records} == {level}
    assert site.server._peer_log.suppressed == 5


def test_a_long_request_line_is_shortened(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Also in the lines about exceptions in listeners."""
    caplog.set_level(logging.INFO)

    def listener(request: Any, response: Any) -> None:
        raise ParseError('on purpose')

    assert serve(listener).get('/' + 'x' * 8000).status == 500
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith('GET /xxxx')
    assert '(8005 characters)' in line
    assert len(line) < 400


class _ExhaustedListener:
    """A listening socket that rarely gets a descriptor."""

    family, type, proto = 2, 1, 0

    def __init__(self, listener: Any, accepted: Any) -> None:
        self._listener = listener
        self._accepted = accepted
        self.fileno = listener.fileno
        self.close = listener.close
        self._turn = 0

    def _accept(self) -> Any:
        self._turn += 1
        if self._turn % 2:
            raise OSError(24, 'Too many open files')
        return self._accepted, None


def test_accepting_under_pressure(monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]) -> None:
    """Failures alternate with successes, as when descriptors are freed now and then: one line per second."""
    clock = Clock(monkeypatch, net_server)
    with net.create_server().listen(0, '127.0.0.1') as server:
        acceptor = Acceptor(
            gevent.get_hub().loop, _ExhaustedListener(server.listening_socket, -1), lambda raw, peer: None
        )
        monkeypatch.setattr(net_server._socket, 'socket', lambda *args: None)
        try:
            for _ in range(30):
                acceptor._accept_batch()
                acceptor._on_pause_over()
            assert len(lines()) == 1
            clock.now += 1
            acceptor._accept_batch()
            assert len(lines()) == 2
        finally:
            # its listening socket is the server's
            acceptor._stop_timer()
            acceptor._watcher.stop()
            acceptor._watcher.close()


def test_an_untrusted_peer_of_a_net_server_is_logged(lines: Callable[[], list[str]]) -> None:
    """The line does not contain its data."""
    with net.create_server(proxy_protocol=True, trusted_proxies='10.0.0.1').listen(0, '127.0.0.1') as server:
        with dial(server) as far:
            far.sendall(b'\x1b[31m' * 1000)
            assert Taker(far).all() == b''
    assert lines() == ['127.0.0.1: refused, because it is not one of the trusted proxies']


def test_a_successful_connection_is_not_logged(serve: Serve, lines: Callable[[], list[str]]) -> None:
    """There is no line at all."""
    assert serve(ok).get().status == 200
    assert lines() == []
