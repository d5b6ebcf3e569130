"""WebSockets of WSGI applications: ``environ['geventnode.websocket']``."""

from __future__ import annotations

import logging
from typing import Any

import pytest

pytest.importorskip('wsproto', reason='wsproto is not installed; it is in the extra "test"')

from geventnode import websocket
from geventnode.errors import WebSocketClosed, WebSocketHandshakeError
from geventnode.integrations.wsgi import wsgi
from tests.servers import Log, Serve, Site, get
from tests.websocket.frames import HANDSHAKE, frame, read_frame

KEY = 'geventnode.websocket'


def url_of(site: Site) -> str:
    return f'ws://127.0.0.1:{site.where[1]}/'


def test_an_application_takes_a_websocket(serve: Serve) -> None:
    closed = Log()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        ws = environ[KEY](compression=True, subprotocols=['chat'])
        for message in ws:
            ws.send(message)
        closed.append(ws.close_code)
        return [b'ignored']

    site = serve(wsgi(application))
    with websocket.connect(url_of(site), subprotocols=['chat'], compression=True) as ws:
        ws.send('hello' * 100)
        assert (ws.receive(), ws.subprotocol) == ('hello' * 100, 'chat')
    closed.wait_for(1000)
    assert site.server.websocket_statistics()['messages_received'] == 1


def test_the_websocket_ends_with_the_application(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        environ[KEY]().send('bye')
        return []

    ws = websocket.connect(url_of(serve(wsgi(application))))
    assert list(ws) == ['bye']
    assert ws.close_code == 1000


def test_messages_by_events(serve: Serve) -> None:
    """The application returns, and its greenlet serves other requests."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        ws = environ[KEY]()
        ws.on('message', ws.send)
        return []

    with websocket.connect(url_of(serve(wsgi(application)))) as ws:
        ws.send('x')
        assert ws.receive() == 'x'


@pytest.mark.parametrize('caught_by_framework', [False, True])
def test_a_failed_application_closes_with_1011(
    serve: Serve, caught_by_framework: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        environ[KEY]()
        if caught_by_framework:
            start_response('500 Internal Server Error', [])
            return [b'failed']
        raise KeyError('secret')

    ws = websocket.connect(url_of(serve(wsgi(application))))
    with pytest.raises(WebSocketClosed) as caught:
        ws.receive()
    assert caught.value.close_code == 1011
    ws.close()


def test_the_end_of_the_websocket_is_no_failure(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    returned = Log()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        try:
            return [environ[KEY]().receive()]
        finally:
            returned.append('returned')

    site = serve(wsgi(application))
    client = site.send(get('/', *HANDSHAKE))
    assert client.head().status == 101
    client.abort()
    returned.wait_for('returned')
    site.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(('fields', 'status'), [(['Origin: https://evil'], 403), ([], 426)])
def test_a_refusal_is_the_response(serve: Serve, fields: list[str], status: int) -> None:
    """A framework that catches every ``Exception`` does not replace it."""
    log = Log()

    def application(environ: Any, start_response: Any) -> list[bytes]:
        try:
            environ[KEY]()
        except Exception:
            log.append('caught')
        start_response('500 Internal Server Error', [])
        return [b'failed']

    handshake = HANDSHAKE if fields else HANDSHAKE[:2]
    answer = serve(wsgi(application)).send(get('/', *handshake, *fields)).response()
    assert answer.status == status
    assert log == []


def test_ordinary_requests_have_no_key(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [str(KEY in environ).encode()]

    site = serve(wsgi(application))
    assert site.get().body == b'False'
    assert site.send(get('/', *HANDSHAKE)).response().body == b'True'


def test_a_websocket_is_taken_once(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        environ[KEY]()
        environ[KEY]()
        return []

    client = serve(wsgi(application)).send(get('/', *HANDSHAKE) + frame(b'x', 1))
    assert client.head().status == 101
    assert read_frame(client) == (0x88, b'\x03\xf3')
    client.abort()


def test_a_missing_handshake_is_reported_to_the_client(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response('404 Not Found', [])
        return [b'']

    with pytest.raises(WebSocketHandshakeError, match='404'):
        websocket.connect(url_of(serve(wsgi(application))))
