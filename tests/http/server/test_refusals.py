"""Requests that a server refuses: one log line each, and a counter for each reason."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from geventnode import http, net
from geventnode.errors import ParseError
from geventnode.integrations.prometheus import Metrics
from tests.certificates import Certificates, TLSEnd
from tests.https_sites import Secure
from tests.servers import Serve, Site, get, ok, post
from tests.sockets import Taker, dial, until

#: The beginning of a real ClientHello, which has no line end.
CLIENT_HELLO = b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(range(64, 128)) * 7

CASES = {
    'junk': (b'nonsense\r\n\r\n', {}, 'malformed', b'400', 'request line is not a method'),
    'no Host': (b'GET / HTTP/1.1\r\n\r\n', {}, 'host', b'400', 'without Host'),
    'two Host fields': (get('/', 'Host: b'), {}, 'host', b'400', 'more than one Host'),
    'a long cookie': (get('/', 'Cookie: ' + 'x' * 17000), {}, 'head_too_large', b'431', 'max_header_size'),
    'HTTP/2': (b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', {}, 'http_version', b'505', 'version not supported'),
    'a coding': (
        get('/', 'Transfer-Encoding: gzip, chunked', method='POST'),
        {},
        'not_implemented',
        b'501',
        'other than chunked',
    ),
    'half a head': (b'GET / HTTP/1.1\r\nHo', {}, 'incomplete', b'400', 'ended within a head'),
    'a long body': (post(b'x' * 20), {'max_body_size': 10}, 'body_too_large', b'413', 'max_body_size'),
    'TLS': (CLIENT_HELLO, {}, 'tls_on_plain_port', b'400', 'TLS on a plain HTTP port'),
}


@pytest.mark.parametrize(('data', 'options', 'reason', 'status', 'line'), CASES.values(), ids=list(CASES))
def test_refusal_is_logged_and_counted(
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    data: bytes,
    options: dict[str, Any],
    reason: str,
    status: bytes,
    line: str,
) -> None:
    """One line, level INFO, and one more for its reason."""
    caplog.set_level(logging.INFO, 'geventnode.error')
    site = serve(lambda request, response: response.end(request.read()), **options)
    assert site.server.refusals == {}
    assert site.send(data).half_close().rest().split(b' ')[1] == status
    assert site.server.refusals == {reason: 1}
    assert site.server.statistics()['refused'] == 1
    (record,) = caplog.records
    assert record.levelname == 'INFO'
    assert line in record.getMessage()
    assert site.get().status == 200
    assert site.server.refusals == {reason: 1}


def test_tls_on_a_plain_port_is_refused_at_once(serve: Serve) -> None:
    """A client waits after its ClientHello, which contains a line end only by chance."""
    site = serve(ok)
    client = site.send(CLIENT_HELLO)
    assert client.response().status == 400
    assert client.rest() == b''


def test_late_head_is_refused(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, 'geventnode.error')
    site = serve(ok, headers_timeout=0.01)
    assert site.send(b'GET / HT').response().status == 408
    assert site.server.refusals == {'timeout': 1}
    assert 'headers_timeout' in caplog.text


def test_full_server_logs_a_closed_connection(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets no response."""
    caplog.set_level(logging.INFO, 'geventnode.error')
    with net.create_server(lambda connection: connection.read(), max_connections=1).listen(0, '127.0.0.1') as server:
        with dial(server) as first, dial(server) as second:
            assert Taker(second).all() == b''
            first.close()
        assert server.refusals == {'max_connections': 1}
    assert [record.getMessage() for record in caplog.records] == [
        '127.0.0.1: refused, because max_connections (1) are open'
    ]


@pytest.mark.parametrize(('trusted', 'reason'), [('127.0.0.1', 'proxy_header'), ('10.0.0.1', 'untrusted_peer')])
def test_connection_without_a_proxy_header_is_refused(serve: Serve, trusted: str, reason: str) -> None:
    site = serve(ok, proxy_protocol=True, trusted_proxies=trusted)
    assert site.send(get()).rest() == b''
    assert site.server.refusals == {reason: 1}


# -- a port that speaks TLS -------------------------------------------------------------------------------------------

METHODS = ['GET', 'PUT', 'HEAD', 'POST', 'DELETE', 'OPTIONS', 'PATCH', 'CONNECT']


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('cut', [1, 5, 1000])
def test_plain_http_on_a_tls_port_gets_a_plain_response(
    secure: Secure, caplog: pytest.LogCaptureFixture, method: str, cut: int
) -> None:
    """It gets nothing else, and the listener is not called."""
    caplog.set_level(logging.INFO, 'geventnode.error')
    heard: list[Any] = []
    site = secure(heard.append)
    data = get('/', method=method)
    client = site.connect().send(data[:cut])
    if data[cut:]:
        client.send(data[cut:])
    response = client.response()
    assert response.status == 400
    assert response.closes
    assert response.body == b'400 Bad Request\nPlain HTTP was sent to a port that speaks TLS: use https.\n'
    # the other bytes are no request
    client.send(get())
    client.half_close()
    assert client.rest() == b''
    assert site.server.refusals == {'http_on_tls_port': 1}
    assert [record.getMessage() for record in caplog.records] == [
        '127.0.0.1: plain HTTP on a TLS port (its URL begins with https, not http)'
    ]
    assert heard == []
    until(lambda: site.server.get_connections() == 0)


def test_large_upload_to_a_tls_port_gets_the_response(secure: Secure) -> None:
    """A reset would discard the response of a client that is still sending."""
    site = secure()
    client = site.connect().send(post(bytes(3_000_000)))
    assert client.response().status == 400
    client.close()
    until(lambda: site.server.get_connections() == 0)


def test_plain_http_after_a_proxy_header_gets_a_plain_response(secure: Secure) -> None:
    """Bytes that arrive with the header count as those after it."""
    site = secure(proxy_protocol=True, trusted_proxies='127.0.0.1')
    client = site.send(b'PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n' + get())
    assert client.response().status == 400
    assert site.server.refusals == {'http_on_tls_port': 1}


def test_connection_without_bytes_is_not_a_refusal(secure: Secure, caplog: pytest.LogCaptureFixture) -> None:
    """A load balancer connects every few seconds: it is neither counted nor logged. Garbage is."""
    caplog.set_level(logging.INFO, 'geventnode.error')
    site = secure()
    site.connect().half_close().rest()
    until(lambda: site.server.get_connections() == 0)
    assert site.server.refusals == {}
    assert caplog.records == []
    site.send(bytes(100)).half_close().rest()
    until(lambda: site.server.get_connections() == 0)
    assert site.server.refusals == {'tls_handshake': 1}


def test_refusal_inside_tls_is_counted(secure: Secure, certificates: Certificates) -> None:
    """As on a plain port."""
    site = secure()
    end = TLSEnd(dial(site.server), certificates.client_context(), servername='localhost').handshake()
    with contextlib.closing(end) as far:
        far.sendall(b'nonsense\r\n\r\n')
        assert far.recv(100).startswith(b'HTTP/1.1 400 ')
    assert site.server.refusals == {'malformed': 1}


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_count_refusals_by_reason(serve: Serve) -> None:
    """Of all servers together, including closed ones."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    def value(reason: str) -> float | None:
        metrics.update()
        return registry.get_sample_value('geventnode_requests_refused_total', {'reason': reason})

    sites: list[Site] = [serve(ok), serve(ok)]
    for site in sites:
        metrics.watch_server(site.server)
        site.send(b'nonsense\r\n\r\n').rest()
    sites[0].send(CLIENT_HELLO).rest()
    assert (value('malformed'), value('tls_on_plain_port'), value('host')) == (2, 1, None)
    metrics.watch_server(sites[0].server)
    assert value('malformed') == 2
    del site, sites[:]
    assert value('malformed') == 2
    metrics.close()


# -- the client's side ------------------------------------------------------------------------------------------------


def test_client_names_an_alert_instead_of_a_response(serve: Serve) -> None:
    """The error of a plain client on a TLS port."""

    def alert(connection: Any) -> None:
        connection.end(b'\x15\x03\x01\x00\x02\x02\x46')

    with net.create_server(alert).listen(0, '127.0.0.1') as server:
        request = http.get(f'http://127.0.0.1:{server.address()["port"]}/', agent=False)
        with pytest.raises(ParseError, match='the URL of that port begins with https'):
            request.get_response()
