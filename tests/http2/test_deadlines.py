"""Test the time limits of streams that other tests do not reach."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import RequestTimeout
from geventnode.http2.codes import ErrorCode
from geventnode.integrations.wsgi import wsgi
from tests.http2.client import Connect
from tests.servers import Log, ok


def test_reader_gets_the_timeout(connect_h2: Connect) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            request.read()
        except RequestTimeout as error:
            log.append(str(error))
            raise

    client = connect_h2(listener, request_timeout=0.1)
    assert client.response(client.start('POST', '/')).status == 408
    assert 'request_timeout' in log[0]


def test_late_body_after_the_head_is_reset(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        response.flush_headers()
        request.read()

    client = connect_h2(listener, request_timeout=0.1)
    response = client.response(client.start('POST', '/'))
    assert (response.status, response.reset) == (200, ErrorCode.INTERNAL_ERROR)


def test_slow_body_is_refused(connect_h2: Connect) -> None:
    client = connect_h2(
        lambda request, response: response.end(request.read()), request_timeout=0.2, min_body_rate=1_000_000
    )
    number = client.start('POST', '/')
    client.send_data(number, b'slow')
    assert client.response(number).status == 408


def test_unread_body_is_not_slow(connect_h2: Connect) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        response.end(str(len(request.read())))

    client = connect_h2(listener, request_timeout=0.1, min_body_rate=1)
    number = client.start('POST', '/')
    client.send_data(number, bytes(65535))
    gevent.spawn_later(0.5, go_on.set)
    go_on.wait()
    client.send_data(number, b'', end=True)
    assert client.response(number).body == b'65535'


def test_slow_application_exceeds_no_limit(connect_h2: Connect) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        gevent.sleep(0.6)
        start_response('200 OK', [])
        return [environ['wsgi.input'].read()]

    client = connect_h2(wsgi(app), timeout=0.2, request_timeout=0.2)
    assert client.response(client.post(b'abc')).body == b'abc'


@pytest.mark.parametrize('owner', ['request', 'response', 'server'])
def test_listener_for_timeout_decides(connect_h2: Connect, owner: str) -> None:
    log = Log()
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if owner != 'server':
            {'request': request, 'response': response}[owner].set_timeout(0.1, lambda socket: log.append('timeout'))
        go_on.wait()
        response.end(b'late')

    client = connect_h2(listener, **({'timeout': 0.1} if owner == 'server' else {}))
    if owner == 'server':
        client.site.server.on('timeout', lambda socket: log.append('timeout'))  # type: ignore[attr-defined]
    number = client.start('POST', '/')
    log.wait_for('timeout')
    go_on.set()
    response = client.responses[number]
    client.until(lambda: response.body)
    assert response.body == b'late'


def test_unsent_rest_of_a_body_is_not_awaited_for_long(connect_h2: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('geventnode.http2.deadlines.DISCARD_TIME', 0.1)
    client = connect_h2(ok, keep_alive_timeout=0.3)
    number = client.start('POST', '/', ('content-length', '10'))
    client.until(lambda: client.responses[number].reset is not None)
    assert client.responses[number].reset == ErrorCode.NO_ERROR
