"""The adapter for ``requests``: its documented exceptions with their causes, without leaks."""

from __future__ import annotations

import socket as stdlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
import requests
from gevent.event import Event
from requests import exceptions
from urllib3.exceptions import ProtocolError
from urllib3.util import Timeout

from geventnode import errors
from geventnode.net import Socket
from tests.origins import HELLO, MakeOrigin, Peer, once, silent
from tests.servers import Log, Serve, ok
from tests.sessions import Mounted, agent_of
from tests.sockets import settle


def causes(error: BaseException | None) -> list[type[BaseException]]:
    """Return the classes of ``error`` and of its chain."""
    found: list[type[BaseException]] = []
    while error is not None:
        found.append(type(error))
        error = error.__cause__ or error.__context__
    return found


@pytest.fixture
def tarpit() -> Iterator[str]:
    """The URL of a socket that never accepts: its queue is full."""
    with stdlib.socket() as listener, stdlib.socket() as queued:
        listener.bind(('127.0.0.1', 0))
        listener.listen(0)
        queued.connect(listener.getsockname())
        yield f'http://127.0.0.1:{listener.getsockname()[1]}'


# -- before there is a response ---------------------------------------------------------------------------------------


def test_refused(session: Mounted) -> None:
    with stdlib.socket() as bound:
        bound.bind(('127.0.0.1', 0))
        with pytest.raises(requests.ConnectionError, match='Connection refused') as raised:
            session().get(f'http://127.0.0.1:{bound.getsockname()[1]}')
    assert errors.ConnectionRefused in causes(raised.value)
    assert not isinstance(raised.value, requests.Timeout)


@pytest.mark.parametrize('proxies', [{}, {'http': 'http://unknown.invalid:3128'}])
def test_unknown_host(monkeypatch: pytest.MonkeyPatch, session: Mounted, proxies: dict[str, str]) -> None:
    """The text has the cause: the network can be at fault, or the name."""

    def fail(*args: Any) -> None:
        raise stdlib.gaierror(stdlib.EAI_AGAIN, 'the name server is asleep')

    monkeypatch.setattr('geventnode.net.address.getaddrinfo', fail)
    with pytest.raises(requests.ConnectionError, match=r'unknown\.invalid.*the name server is asleep') as raised:
        session().get('http://unknown.invalid/', proxies=proxies)
    assert errors.NameNotResolved in causes(raised.value)


@pytest.mark.parametrize(
    ('said', 'kind', 'cause'),
    [
        (b'', requests.ConnectionError, errors.SocketHangUp),
        (b'HTTP/1.1 200 OK\r\nContent-Le', requests.ConnectionError, errors.SocketHangUp),
        (b'SSH-2.0-nonsense\r\n', requests.ConnectionError, errors.ParseError),
        (
            b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
            exceptions.InvalidHeader,
            errors.ParseError,
        ),
    ],
)
def test_no_response(
    origin: MakeOrigin, session: Mounted, said: bytes, kind: type[Exception], cause: type[Exception]
) -> None:
    client = session()
    with pytest.raises(kind) as raised:
        client.get(origin(once(said)).url)
    assert cause in causes(raised.value)
    assert agent_of(client).total_socket_count == 0


@pytest.mark.parametrize('fields', [['x' * 60000], ['x' * 1000] * 30, ['x' * 65000] * 3])
def test_large_head(origin: MakeOrigin, session: Mounted, fields: list[str]) -> None:
    """The default allows the heads that ``http.client`` does; an option sets the limit."""
    head = ''.join(f'X-{number}: {value}\r\n' for number, value in enumerate(fields)).encode()
    server = origin(HELLO.replace(b'\r\n', b'\r\n' + head, 1))
    answer = session().get(server.url)
    assert [answer.headers[f'X-{number}'] for number in range(len(fields))] == fields
    with pytest.raises(requests.ConnectionError, match=r'longer than max_header_size \(30000 bytes\)'):
        session(max_header_size=30000).get(server.url)


def test_large_head_of_a_proxy(origin: MakeOrigin, session: Mounted) -> None:
    head = b'HTTP/1.1 407 No\r\nX: ' + b'x' * 60000 + b'\r\nContent-Length: 0\r\n\r\n'
    client, proxies = session(), {'https': origin(once(head)).url}
    with pytest.raises(exceptions.ProxyError, match='407 No'):
        client.get('https://some.example/', proxies=proxies)


@pytest.mark.parametrize('address', ['http://:80/', 'http://127.0.0.1:99999/'])
def test_invalid_url(session: Mounted, address: str) -> None:
    with pytest.raises(exceptions.InvalidURL):
        session().get(address)


@pytest.mark.parametrize(
    'headers', [{'Host': 'two words'}, {'X': 'caf\u0151'}, {'X\u0151': 'y'}, {'Transfer-Encoding': 'gzip'}]
)
def test_invalid_header(session: Mounted, recorder: Any, headers: dict[str, str]) -> None:
    with pytest.raises(exceptions.InvalidHeader) as raised:
        session().post(recorder.origin.url, data=b'x', headers=headers)
    assert errors.InvalidHeader in causes(raised.value)
    assert recorder.requests == []


def test_errors_of_the_caller(session: Mounted, recorder: Any) -> None:
    """As with ``requests``, these are no network errors."""
    with pytest.raises(ValueError, match='method must be a token'):
        session().request('GE T', recorder.origin.url)
    with pytest.raises(ValueError, match='Invalid timeout'):
        session().get(recorder.origin.url, timeout=(1, 2, 3))


def test_full_queue(serve: Serve, session: Mounted) -> None:
    seen = Log()
    client = session(max_sockets=1, max_queued=0)
    address = f'http://127.0.0.1:{serve(lambda request, response: seen.append(request)).where[1]}'
    first = gevent.spawn(client.get, address)
    seen.wait_for_length(1)
    with pytest.raises(requests.ConnectionError, match='max_queued') as raised:
        client.get(address)
    assert errors.QueueFull in causes(raised.value)
    first.kill()


# -- the body ---------------------------------------------------------------------------------------------------------

CUT = [
    b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
]


def by_content(response: requests.Response) -> object:
    return response.content


def by_pieces(response: requests.Response) -> object:
    return list(response.iter_content(3))


@pytest.mark.parametrize('read', [by_content, by_pieces])
@pytest.mark.parametrize('said', CUT)
@pytest.mark.parametrize('then', ['close', 'reset'])
def test_truncated(
    origin: MakeOrigin, session: Mounted, read: Callable[[requests.Response], object], said: bytes, then: str
) -> None:
    """It never looks complete."""
    client = session()
    with client.get(origin(once(said, then)).url, stream=True) as response:
        with pytest.raises(exceptions.ChunkedEncodingError) as raised:
            read(response)
    assert errors.IncompleteBody in causes(raised.value)
    assert agent_of(client).total_socket_count == 0


@pytest.mark.parametrize('cut', [*CUT, b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloxyz\r\n'])
def test_truncated_body_raises_again(origin: MakeOrigin, session: Mounted, cut: bytes) -> None:
    """A second read, as for a log, raises and returns no empty body."""
    response = session().get(origin(once(cut)).url, stream=True)
    for read in (by_content, by_content, by_pieces):
        with pytest.raises(exceptions.ChunkedEncodingError):
            read(response)
    for name in ('read', 'data'):
        with pytest.raises(ProtocolError):
            response.raw.read() if name == 'read' else response.raw.data
    with pytest.raises(ProtocolError):
        response.raw._fp.fp.read()
    assert response.raw.closed
    assert response.raw.isclosed()
    response.close()
    assert response.raw.read() == b''


def test_two_readers(serve: Serve, session: Mounted) -> None:
    """The second one gets an error, without an effect on the first."""
    go_on, begun = Event(), Event()

    def listener(request: Any, response: Any) -> None:
        response.write('first')
        begun.set()
        go_on.wait()
        response.end('second')

    response = session().get(f'http://127.0.0.1:{serve(listener).where[1]}', stream=True)
    reading = gevent.spawn(response.raw.read, 11)
    begun.wait()
    settle()
    with pytest.raises(errors.StreamModeError):
        response.raw.read(1)
    go_on.set()
    assert reading.get() == b'firstsecond'


def test_malformed_chunks(origin: MakeOrigin, session: Mounted) -> None:
    with pytest.raises(exceptions.ChunkedEncodingError) as raised:
        session().get(origin(once(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n')).url)
    assert errors.ParseError in causes(raised.value)


def test_undecodable_content(origin: MakeOrigin, session: Mounted) -> None:
    with pytest.raises(exceptions.ContentDecodingError):
        session().get(origin(b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello').url)


def test_body_that_stops(origin: MakeOrigin, session: Mounted) -> None:
    client, server = session(), origin(once(CUT[0], 'wait'))
    with client.get(server.url, stream=True, timeout=(5, 0.1)) as response:
        with pytest.raises(requests.ConnectionError, match='Read timed out') as raised:
            response.content  # noqa: B018 - a property that reads
    assert errors.RequestTimeout in causes(raised.value)


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('timeout', [0.1, (0.1, None), (0.1, 5), Timeout(connect=0.1), Timeout(total=0.1)])
def test_connect_timeout(session: Mounted, tarpit: str, timeout: Any) -> None:
    client = session()
    with pytest.raises(requests.ConnectTimeout) as raised:
        client.get(tarpit, timeout=timeout)
    assert errors.RequestTimeout in causes(raised.value)
    assert agent_of(client).total_socket_count == 0


def test_a_slow_source_is_not_the_server(origin: MakeOrigin, session: Mounted) -> None:
    """The read timeout covers waits for the server only, also on a used connection."""

    def source() -> Iterator[bytes]:
        for _ in range(2):
            gevent.sleep(0.1)
            yield b'x'

    client, server = session(), origin()
    for _ in range(2):
        assert client.post(server.url, data=source(), timeout=(60, 0.05)).content == b'hello'
    assert server.accepted == 1


@pytest.mark.parametrize('timeout', [0.1, (None, 0.1), (5, 0.1), Timeout(read=0.1), Timeout(total=0.1)])
@pytest.mark.parametrize('used', [False, True])
def test_read_timeout(origin: MakeOrigin, session: Mounted, timeout: Any, used: bool) -> None:
    def script(peer: Peer) -> None:
        if used:
            peer.request()
            peer.send(HELLO)
        silent(peer)

    client, server = session(), origin(script)
    if used:
        client.get(server.url)
    with pytest.raises(requests.ReadTimeout) as raised:
        client.get(server.url, timeout=timeout)
    assert errors.RequestTimeout in causes(raised.value)
    assert agent_of(client).total_socket_count == 0


def test_the_read_timeout_begins_with_the_connection(session: Mounted, tarpit: str) -> None:
    client = session()
    with pytest.raises(requests.ConnectTimeout, match='connect_timeout'):
        client.get(tarpit, timeout=(0.4, 0.01))


@pytest.mark.parametrize('timeout', [None, (None, None), Timeout()])
def test_no_timeout(serve: Serve, session: Mounted, timeout: Any) -> None:
    assert session().get(f'http://127.0.0.1:{serve(ok).where[1]}', timeout=timeout).text == 'GET /'


def test_queue_timeout(origin: MakeOrigin, session: Mounted) -> None:
    """``ConnectTimeout`` means that nothing was sent, so a retry is safe."""
    client, server = session(max_sockets=1, queue_timeout=0.1), origin(CUT[0])
    with client.get(server.url, stream=True):
        with pytest.raises(requests.ConnectTimeout, match='queue_timeout'):
            client.get(server.url)
    assert agent_of(client).statistics()['queued'] == 0


def leave(greenlet: gevent.Greenlet, client: requests.Session) -> None:
    """Kill ``greenlet`` and check for leaks."""
    greenlet.kill()
    now = agent_of(client).statistics()
    assert (now['active'], now['queued']) == (0, 0)


def test_killed_while_connecting(session: Mounted, tarpit: str) -> None:
    """Its place in the pool is free at once."""
    client = session(max_sockets=1)
    asking = gevent.spawn(client.get, tarpit)
    gevent.idle()
    leave(asking, client)


def test_killed_while_waiting(origin: MakeOrigin, session: Mounted) -> None:
    asked = Log()
    client = session(max_sockets=1)
    server = origin(lambda peer: (asked.append(peer.request()), peer.closed()))
    asking = gevent.spawn(client.get, server.url)
    asked.wait_for_length(1)
    leave(asking, client)


def test_killed_while_reading(origin: MakeOrigin, session: Mounted) -> None:
    client = session(max_sockets=1)
    response = client.get(origin(once(CUT[0], 'wait')).url, stream=True)
    reading = gevent.spawn(lambda: response.content)
    gevent.idle()
    leave(reading, client)


@pytest.mark.parametrize('then', ['connect', 'queue', 'response', 'body'])
def test_timeout_of_gevent(origin: MakeOrigin, session: Mounted, tarpit: str, then: str) -> None:
    """It propagates unchanged, and the place in the pool is free."""
    client = session(max_sockets=1)
    server = origin(once(CUT[0], 'wait') if then != 'response' else silent)
    held = client.get(server.url, stream=True) if then in ('queue', 'body') else None

    def use() -> None:
        with gevent.Timeout(0.05):
            if then == 'body' and held is not None:
                held.content  # noqa: B018 - a property that reads
            else:
                client.get(tarpit if then == 'connect' else server.url)

    with pytest.raises(gevent.Timeout):
        use()
    if held is not None:
        held.close()
    now = agent_of(client).statistics()
    assert (now['active'], now['queued']) == (0, 0)


def test_wrong_thread(session: Mounted, agent: Callable[..., Any], serve: Serve) -> None:
    """A given agent belongs to its thread."""
    client, address = session(agent()), f'http://127.0.0.1:{serve(ok).where[1]}'

    def ask() -> None:
        try:
            client.get(address)
        finally:
            gevent.get_hub().destroy()

    with pytest.raises(errors.WrongThread):
        gevent.get_hub().threadpool.apply(ask)


def test_urllib3_makes_no_connection(serve: Serve, session: Mounted) -> None:
    """All connections belong to agents."""
    client = session()
    client.get(f'http://127.0.0.1:{serve(ok).where[1]}')
    (found,) = agent_of(client).free_sockets.values()
    assert isinstance(found[0], Socket)
