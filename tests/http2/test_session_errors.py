"""Test ``'sessionError'``: the end of a connection by an error."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from geventnode.errors import InvalidInput, ParseError
from tests.http2.client import Connect
from tests.http2.frames import CONTINUATION, DATA, frame
from tests.servers import Log, ok
from tests.sockets import settle, until


def test_broken_rule_is_a_session_error(connect_h2: Connect) -> None:
    """The connection has ended before the listener is called, and others go on."""
    log = Log()
    client = connect_h2(ok)
    server = client.site.server
    other = connect_h2(client.site)
    server.on('clientError', lambda error, socket: log.append('clientError'))

    @server.on('sessionError')
    def listener(error: Any, socket: Any) -> None:
        with pytest.raises(InvalidInput):
            socket.end(b'HTTP/1.1 400 Bad Request\r\n\r\n')
        log.append((type(error), error.code, str(error), socket.remote_address))

    client.send_raw(frame(CONTINUATION, 0, 1))
    assert client.goaway() == 1
    log.wait_for(
        (ParseError, 'ERR_HTTP2_SESSION_ERROR', 'CONTINUATION without a header block (PROTOCOL_ERROR)', '127.0.0.1')
    )
    assert other.response(other.get()).status == 200
    assert len(log) == 1


def test_exceeded_limit_is_a_session_error(connect_h2: Connect) -> None:
    log = Log()
    client = connect_h2(ok, http2_max_empty_frames=2)
    client.site.server.on('sessionError', lambda error, socket: log.append(str(error)))
    number = client.start('POST', '/')
    client.send_raw(frame(DATA, 0, number) * 3)
    log.wait_for(
        'more empty frames than http2_max_empty_frames (2) within http2_flood_window (10 seconds) (ENHANCE_YOUR_CALM)'
    )


def test_late_head_is_a_session_error(connect_h2: Connect) -> None:
    log = Log()
    client = connect_h2(ok, headers_timeout=0.1)
    client.site.server.on('sessionError', lambda error, socket: log.append(error.code))
    client.send_raw(frame(1, 0, 1, b'\x83'))
    log.wait_for('ERR_HTTP2_SESSION_ERROR')


def test_reset_of_the_connection_is_a_session_error(connect_h2: Connect) -> None:
    log = Log()
    client = connect_h2(ok)
    client.site.server.on('sessionError', lambda error, socket: log.append(type(error)))
    client.response(client.get())
    client.abort()
    log.wait_for(ConnectionResetError)


def test_reset_after_an_error_is_no_second_error(connect_h2: Connect) -> None:
    """Clients that are refused by GOAWAY often reset the connection."""
    log = Log()
    client = connect_h2(ok)
    server = client.site.server
    server.on('sessionError', lambda error, socket: log.append(type(error)))
    client.send_raw(frame(CONTINUATION, 0, 1))
    log.wait_for(ParseError)
    client.abort()
    until(lambda: not server.get_connections())
    settle()
    assert log == [ParseError]


def test_error_of_a_stream_is_none(connect_h2: Connect) -> None:
    log = Log()
    client = connect_h2(ok)
    client.site.server.on('sessionError', lambda error, socket: log.append(error))
    assert client.response(client.get('/', ('Upper', 'x'))).reset == 1
    assert client.response(client.get()).status == 200
    client.close()
    assert log == []


def test_failing_listener_is_logged(connect_h2: Connect, caplog: pytest.LogCaptureFixture) -> None:
    client = connect_h2(ok)

    def listener(error: Any, socket: Any) -> None:
        raise ValueError('broken')

    client.site.server.on('sessionError', listener)
    with caplog.at_level(logging.ERROR, 'geventnode.error'):
        client.send_raw(frame(CONTINUATION, 0, 1))
        client.wait_closed()
        connect_h2(client.site)
    assert "a 'sessionError' listener failed" in caplog.text
