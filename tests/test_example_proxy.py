"""The reverse proxy of the examples: forwarding, and failures of either side."""

from __future__ import annotations

import socket as stdlib
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from contrib.examples import reverse_proxy
from tests.origins import MakeOrigin, Peer
from tests.servers import Log, Serve, Site, get, post

SIZE = 3_000_000
Proxied = Callable[..., Site]


@pytest.fixture
def proxied(serve: Serve) -> Proxied:
    """Start a proxy: ``proxied(listener or port, **options)``; the origin is one of this package or another."""

    def start(origin: Any, **options: Any) -> Site:
        port = origin if isinstance(origin, int) else serve(origin).where[1]
        return serve(reverse_proxy.create_proxy('127.0.0.1', port, **options))

    return start


def echo(request: Any, response: Any) -> None:
    """Send the body back as it arrives, with the same framing."""
    length = request.headers.get('content-length')
    response.write_head(200, {} if length is None else {'Content-Length': length})
    request.pipe(response)


def mirror(request: Any, response: Any) -> None:
    """Respond with the head of the request."""
    lines = [f'{request.method} {request.url}', *(f'{name}: {value}' for name, value in request.raw_headers)]
    response.write_head(
        203,
        'So So',
        [
            ('Set-Cookie', 'a=1'),
            ('Set-Cookie', 'b=2'),
            ('X-Secret', 'x'),
            ('Connection', 'X-Secret, Keep-Alive'),
            ('Keep-Alive', 'timeout=7'),
        ],
    )
    response.end('\n'.join(lines))


def chunked(body: bytes) -> bytes:
    """Return a request with ``body`` in one chunk."""
    return get('/', 'Transfer-Encoding: chunked', method='POST') + b'%x\r\n%b\r\n0\r\n\r\n' % (len(body), body)


# -- forwarding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('build', [post, chunked])
def test_bodies_stream_in_both_directions(proxied: Proxied, build: Callable[[bytes], bytes]) -> None:
    """Both bodies are streamed at the same time, in two requests on one connection."""
    client = proxied(echo).connect()
    body = bytes(range(250)) * (SIZE // 250)
    for _ in range(2):
        sender = gevent.spawn(client.send, build(body))
        response = client.response()
        sender.get()
        assert (response.status, response.body == body) == (200, True)
        assert response.values('Transfer-Encoding') == (['chunked'] if build is chunked else [])


def test_end_to_end_fields_are_forwarded(proxied: Proxied) -> None:
    """End-to-end fields are forwarded in both directions, hop-by-hop fields are not."""
    site = proxied(mirror)
    response = site.get(
        '/a?b',
        'X-Mine: 1',
        'X-Mine: 2',
        'Connection: x-private, keep-alive',
        'X-Private: secret',
        'Keep-Alive: 5',
        'TE: trailers',
        'Proxy-Authorization: secret',
    )
    assert response.body.decode().splitlines() == [
        'GET /a?b',
        'Host: x',
        'X-Mine: 1',
        'X-Mine: 2',
        'Via: 1.1 geventnode',
        'Connection: keep-alive',
    ]
    assert (response.status, response.reason) == (203, 'So So')
    assert response.values('Set-Cookie') == ['a=1', 'b=2']
    assert response.values('Via') == ['1.1 geventnode']
    assert response.values('X-Secret') == []
    assert response.values('Keep-Alive') == ['timeout=65']


@pytest.mark.parametrize(('method', 'framing'), [('GET', []), ('DELETE', []), ('POST', ['Content-Length: 0'])])
def test_request_without_a_body_gets_none(proxied: Proxied, method: str, framing: list[str]) -> None:
    lines = proxied(mirror).send(get(method=method)).response().body.decode().splitlines()
    assert lines == [f'{method} /', 'Host: x', 'Via: 1.1 geventnode', 'Connection: keep-alive', *framing]


def test_get_with_a_body_is_forwarded(proxied: Proxied) -> None:
    client = proxied(echo).connect()
    assert client.send(get('/', 'Content-Length: 4') + b'body').response().body == b'body'
    assert client.send(chunked(b'body').replace(b'POST', b'GET')).response().body == b'body'


def test_content_length_is_always_forwarded(proxied: Proxied) -> None:
    """Connection cannot name it: a body without its length would be parsed as the next request."""
    client = proxied(echo).connect()
    assert client.send(get('/', 'Content-Length: 4', 'Connection: content-length') + b'body').response().body == b'body'


def test_head_has_the_length_of_get(proxied: Proxied) -> None:
    """The response has the length of that to GET."""
    client = proxied(lambda request, response: response.end('hello')).send(get(method='HEAD'), get())
    assert client.response('HEAD').values('Content-Length') == ['5']
    assert client.response().body == b'hello'


def test_http_1_0_client_gets_no_chunks(proxied: Proxied) -> None:
    """The client gets no chunked coding."""
    client = proxied(lambda request, response: (response.write('a'), response.end('b'))).send(get(version='1.0'))
    response = client.response()
    assert (response.body, response.values('Transfer-Encoding')) == (b'ab', [])


def test_upstream_connections_are_kept(proxied: Proxied, origin: MakeOrigin) -> None:
    """Upstream connections are reused."""
    there = origin()
    site = proxied(there.port)
    assert [site.get().body for _ in range(5)] == [b'hello'] * 5
    assert there.accepted == 1


# -- Expect, and early responses --------------------------------------------------------------------------------------

EXPECT = get('/', 'Content-Length: 4', 'Expect: 100-continue', method='POST')


def test_expect_is_forwarded(proxied: Proxied, origin: MakeOrigin) -> None:
    """The origin decides, before the client sends the body."""

    def script(peer: Peer) -> None:
        assert peer.until(b'\r\n\r\n').count(b'\r\nExpect: 100-continue\r\n') == 1
        peer.send(b'HTTP/1.1 100 Continue\r\n\r\n')
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n' + peer.exactly(4))

    client = proxied(origin(script).port).send(EXPECT)
    assert client.head().status == 100
    assert client.send(b'body').response().body == b'body'


def test_expect_can_be_refused(proxied: Proxied, origin: MakeOrigin) -> None:
    """The body is not sent then."""

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno')
        assert peer.rest() == b''

    client = proxied(origin(script).port).send(EXPECT)
    head = client.head()
    assert (head.status, client.exactly(2)) == (417, b'no')
    assert head.closes
    client.close()


def test_expect_can_be_ignored(proxied: Proxied, origin: MakeOrigin) -> None:
    """An origin can wait for the body without a 100 (RFC 9110, section 10.1.1)."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')

    client = proxied(origin(script).port).send(EXPECT)
    assert client.head().status == 100
    assert client.send(b'body').response().body == b'ok'


def test_early_response_is_forwarded(proxied: Proxied, origin: MakeOrigin) -> None:
    """An origin can respond without reading the whole body."""

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno').half_close()
        peer.exactly(10)

    client = proxied(origin(script).port).send(post(bytes(10), length=SIZE))
    response = client.response()
    assert (response.status, response.body) == (413, b'no')
    client.close()


# -- failures of the origin -------------------------------------------------------------------------------------------


def test_missing_origin_is_a_502(proxied: Proxied) -> None:
    with stdlib.socket() as bound:
        bound.bind(('127.0.0.1', 0))
        site = proxied(bound.getsockname()[1])
        assert site.get().status == 502
        assert site.send(post(b'body')).response().status == 502
        assert site.send(EXPECT).response().status == 502


@pytest.mark.parametrize('output', [b'', b'HTTP/1.1 200', b'garbage\r\n\r\n', b'HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n'])
def test_bad_response_is_a_502(proxied: Proxied, origin: MakeOrigin, output: bytes) -> None:
    """The response is missing, truncated or invalid."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(output)

    site = proxied(origin(script).port)
    assert site.get().status == 502
    assert site.send(post(b'body')).response().status == 502


def test_silent_origin_is_a_504(proxied: Proxied, origin: MakeOrigin) -> None:
    site = proxied(origin(lambda peer: peer.rest()).port, timeout=0.1)
    assert site.get().status == 504
    assert site.send(post(b'body')).response().status == 504


@pytest.mark.parametrize('framing', [b'Content-Length: 9', b'Transfer-Encoding: chunked'])
def test_truncated_body_is_not_completed(proxied: Proxied, origin: MakeOrigin, framing: bytes) -> None:
    """A truncated body never looks complete to the client."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\n%b\r\n\r\n1\r\nx\r\n' % framing)

    client = proxied(origin(script).port).send(get())
    assert client.head().status == 200
    with pytest.raises(EOFError):
        client.exactly(9 if framing[:1] == b'C' else 11)


# -- failures of the client -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('leave', ['close', 'abort'])
@pytest.mark.parametrize('moment', ['waiting', 'expecting', 'uploading', 'downloading'])
def test_disconnect_aborts_the_upstream_request(
    proxied: Proxied, origin: MakeOrigin, moment: str, leave: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The request to the origin is aborted at any moment, and nothing is logged."""
    log = Log()

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        log.append('received')
        if moment == 'downloading':
            peer.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
            try:
                while True:
                    peer.send(b'10000\r\n' + bytes(65536) + b'\r\n')
            except OSError:
                pass
        else:
            peer.rest()
        log.append('closed')

    site = proxied(origin(script).port)
    client = site.send(
        {'waiting': get(), 'expecting': EXPECT, 'uploading': post(bytes(10), length=SIZE), 'downloading': get()}[moment]
    )
    log.wait_for('received')
    if moment == 'downloading':
        client.until(b'\r\n\r\n')
    getattr(client, leave)()
    log.wait_for('closed')
    while site.server.get_connections():
        gevent.idle()
    assert caplog.text == ''


def test_malformed_body_is_a_400(proxied: Proxied, origin: MakeOrigin) -> None:
    """The status blames the client."""
    log = Log()

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        log.append('received')
        peer.rest()
        log.append('closed')

    client = proxied(origin(script).port).send(get('/', 'Transfer-Encoding: chunked', method='POST'))
    log.wait_for('received')
    client.send(b'no size\r\n')
    assert client.response().status == 400
    log.wait_for('closed')


def test_late_body_is_a_408(proxied: Proxied, origin: MakeOrigin) -> None:
    """The status blames the client."""
    client = proxied(origin(lambda peer: peer.rest()).port, request_timeout=0.1).send(post(b'', length=3))
    assert client.response().status == 408
