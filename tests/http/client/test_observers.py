"""Observers of requests: each one is notified once of the beginning, and once of the end of any kind."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import gevent
import pytest
import requests
from gevent.event import Event

from geventnode import http, https, websocket
from geventnode.errors import (
    ConnectError,
    ConnectionRefused,
    ContentLengthMismatch,
    InvalidHeader,
    InvalidInput,
    QueueFull,
    RequestAborted,
    SocketHangUp,
    WebSocketHandshakeError,
)
from geventnode.integrations.requests import AgentAdapter
from tests.http_proxies import Proxy
from tests.https_sites import MakePool, Secure
from tests.https_sites import url as secure_url
from tests.origins import HELLO, MakeOrigin, Peer, once, read, silent
from tests.servers import Log, Serve
from tests.sockets import settle, until


class Noting(http.RequestObserver):
    """Note the notifications, and add a field."""

    def __init__(self, field: str = 'X-Trace') -> None:
        self.field = field
        self.log = Log()

    def request_began(self, request: Any) -> None:
        request.set_header(self.field, str(len(self.log)))
        self.log.append(('began', request.path))

    def request_ended(self, request: Any, error: BaseException | None) -> None:
        status = None if request.response is None else request.response.status_code
        self.log.append(('ended', request.path, status, None if error is None else type(error)))


@pytest.fixture
def noting() -> Noting:
    return Noting()


@pytest.fixture
def observed(noting: Noting, agent: Callable[..., http.Agent]) -> Callable[..., http.Agent]:
    """Make agents that ``noting`` observes: ``observed(**options)``."""

    def make(**options: Any) -> http.Agent:
        made = agent(**options)
        http.observe_requests(made, noting)
        return made

    return make


def test_observer_is_added_once(origin: MakeOrigin, noting: Noting, observed: Callable[..., http.Agent]) -> None:
    agent = observed()
    http.observe_requests(agent, Noting('X-Other'))
    http.observe_requests(agent, noting)
    assert read(origin(once(HELLO)).url, agent=agent) == b'hello'
    assert [each[0] for each in noting.log] == ['began', 'ended']


def echoing(request: Any, response: Any) -> None:
    response.end(f'{request.headers.get("x-trace")} {request.headers.get("x-other")} {len(request.read())}')


@pytest.mark.parametrize(
    'send',
    [
        lambda url, agent: http.get(f'{url}x', agent=agent),
        lambda url, agent: http.get(f'{url}x', agent=agent, deadline=30),
        lambda url, agent: http.request(f'{url}x', agent=agent, method='PUT', body=b'12345'),
        lambda url, agent: http.request(f'{url}x', agent=agent, method='PUT', body=iter([b'1', b'2345'])),
        lambda url, agent: written(http.request(f'{url}x', agent=agent, method='PUT')),
        lambda url, agent: http.request(f'{url}x', agent=agent, body=b'12345', headers={'Expect': '100-continue'}),
    ],
)
def test_observer_adds_a_field(serve: Serve, noting: Noting, observed: Any, send: Any) -> None:
    url, agent = f'http://127.0.0.1:{serve(echoing).where[1]}/', observed(keep_alive=True)
    for number in (0, 2):
        response = send(url, agent).get_response()
        assert response.read() in (f'{number} None 5'.encode(), f'{number} None 0'.encode())
        assert noting.log[-2:] == [('began', '/x'), ('ended', '/x', 200, None)]
    assert agent.statistics()['opened'] == 1


def written(request: http.ClientRequest) -> http.ClientRequest:
    for piece in (b'12', b'345'):
        request.write(piece)
    request.end()
    return request


def test_several_observers(serve: Serve, noting: Noting, observed: Any) -> None:
    agent, other = observed(), Noting('X-Other')
    http.observe_requests(agent, other)
    assert read(f'http://127.0.0.1:{serve(echoing).where[1]}/', agent=agent) == b'0 0 0'
    assert noting.log == other.log


def test_agent_without_observers_makes_plain_requests(agent: Any, observed: Any) -> None:
    assert type(http.request('http://host/', agent=agent())) is http.ClientRequest
    assert type(http.request('http://host/', agent=observed())).__name__ == 'ObservedClientRequest'


def test_response_is_known_before_the_waiters_run(serve: Serve, observed: Any, noting: Noting) -> None:
    with http.get(f'http://127.0.0.1:{serve(echoing).where[1]}/', agent=observed()) as response:
        assert noting.log[-1] == ('ended', '/', 200, None)
        response.read()


def test_end_of_a_forgotten_request_is_observed(origin: MakeOrigin, noting: Noting, observed: Any) -> None:
    """It is not forgotten before the connection has ended it."""
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.until(b'x')
        go_on.wait()

    http.request(origin(script).url, agent=observed(), method='POST').write('x')
    gc.collect()
    settle()
    go_on.set()
    until(lambda: noting.log[1:])
    assert noting.log == [('began', '/'), ('ended', '/', None, SocketHangUp)]


def test_request_that_is_sent_again_has_begun_once(origin: MakeOrigin, noting: Noting, observed: Any) -> None:
    server, agent = origin(once(HELLO)), observed(keep_alive=True)
    for _ in range(2):
        assert read(server.url, agent=agent) == b'hello'
    assert agent.statistics()['retried'] + agent.statistics()['opened'] >= 2
    assert [each[0] for each in noting.log] == ['began', 'ended'] * 2


def test_failures(origin: MakeOrigin, noting: Noting, observed: Any) -> None:
    agent = observed()
    with pytest.raises(SocketHangUp):
        read(origin(once(b'')).url, agent=agent)
    with pytest.raises(ConnectError):
        read('http://127.0.0.1:1/', agent=agent)
    request = http.get(origin(silent).url, agent=agent)
    gevent.spawn(request.abort)
    with pytest.raises(RequestAborted):
        request.get_response()
    request = http.get(origin(silent).url, agent=agent)
    request.destroy()
    request.destroy()
    ends = [each[3] for each in noting.log if each[0] == 'ended']
    assert ends == [SocketHangUp, ConnectionRefused, RequestAborted, SocketHangUp]
    assert len(noting.log) == 8


def test_requests_that_are_not_sent(origin: MakeOrigin, noting: Noting, observed: Any, tmp_path: Any) -> None:
    server = origin(silent)
    agent = observed(max_sockets=1, max_queued=0)
    http.get(server.url, agent=agent)
    with pytest.raises(QueueFull):
        http.get(f'{server.url}/full', agent=agent)
    with pytest.raises(ContentLengthMismatch):
        http.request(f'{server.url}/length', agent=agent, method='PUT', body=b'1', headers={'Content-Length': '2'})
    assert noting.log[1:] == [
        ('began', '/full'),
        ('ended', '/full', None, QueueFull),
        ('began', '/length'),
        ('ended', '/length', None, ContentLengthMismatch),
    ]
    # a request that never begins has no end either
    request = http.request(f'{server.url}/never', agent=agent)
    request.destroy()
    assert len(noting.log) == 5


@pytest.mark.parametrize('send', [written, http.ClientRequest.flush_headers, http.ClientRequest.end])
def test_head_that_cannot_be_rendered_ends_the_request(
    serve: Serve, noting: Noting, observed: Any, send: Callable[[http.ClientRequest], Any]
) -> None:
    """It begins anew if the program sends it after all."""
    url = f'http://127.0.0.1:{serve(echoing).where[1]}/x'
    request = http.request(url, agent=observed(), method='PUT', headers={'Transfer-Encoding': 'gzip'})
    with pytest.raises(InvalidHeader):
        send(request)
    assert noting.log == [('began', '/x'), ('ended', '/x', None, InvalidHeader)]
    request.set_header('Transfer-Encoding', 'chunked')
    send(request)
    request.end()
    assert request.get_response().read()
    assert noting.log[2:] == [('began', '/x'), ('ended', '/x', 200, None)]


class Raising(http.RequestObserver):
    """Raise in both methods."""

    def request_began(self, request: Any) -> None:
        request.set_header('X-Trace', 'line\r\nX-Other: end')

    def request_ended(self, request: Any, error: BaseException | None) -> None:
        raise ValueError('on purpose')


def test_observer_that_raises_ends_no_request(
    serve: Serve, origin: MakeOrigin, noting: Noting, agent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = agent(keep_alive=True)
    http.observe_requests(made, Raising())
    http.observe_requests(made, noting)
    url = f'http://127.0.0.1:{serve(echoing).where[1]}/'
    assert [read(url, agent=made), read(url, agent=made)] == [b'0 None 0', b'2 None 0']
    with pytest.raises(ConnectError):
        read('http://127.0.0.1:1/', agent=made)
    request = http.get(origin(silent).url, agent=made)
    request.abort()
    with pytest.raises(RequestAborted):
        request.get_response()
    assert len(noting.log) == 8
    assert made.statistics()['active'] == 0
    until(lambda: len(caplog.records) >= 8)
    assert {each.getMessage().partition(' raised')[0] for each in caplog.records} == {
        'observer failed: Raising.request_began',
        'observer failed: Raising.request_ended',
    }
    assert all(each.exc_info for each in caplog.records)


def test_tls_settings_that_cannot_be_used(noting: Noting, tmp_path: Any) -> None:
    with https.Agent() as agent:
        http.observe_requests(agent, noting)
        with pytest.raises(InvalidInput):
            https.get('https://localhost/', agent=agent, ca=str(tmp_path / 'missing')).get_response()
    assert noting.log in ([], [('began', '/'), ('ended', '/', None, InvalidInput)])


def test_through_proxies(
    origin: MakeOrigin, secure: Secure, pool: MakePool, serve: Serve, noting: Noting, observed: Any
) -> None:
    """The origin sees the field; it is not in the request for a tunnel."""
    proxy = Proxy()
    agent = observed(proxy=origin(proxy).url)
    assert read('http://a.example/x', agent=agent) == b'hello'
    assert noting.log == [('began', '/x'), ('ended', '/x', 200, None)]
    agent.proxy = None
    assert read(f'http://127.0.0.1:{serve(echoing).where[1]}/', agent=agent) == b'2 None 0'
    tls = pool(proxy=origin(proxy).url)
    http.observe_requests(tls, noting)
    assert https.get(secure_url(secure(echoing)), agent=tls).get_response().read() == b'4 None 0'
    assert len(noting.log) == 6


def test_reserved_agents_are_observed(serve: Serve, noting: Noting, observed: Any) -> None:
    url = f'http://127.0.0.1:{serve(echoing).where[1]}/'
    with observed().reserve(url) as reserved:
        assert read(url, agent=reserved) == b'0 None 0'


def test_class_of_requests_is_made_once(observed: Any) -> None:
    """A program can reserve a connection for each user: a class takes kilobytes, and tens of microseconds."""
    agent = observed()
    classes = set()
    for _ in range(2):
        with agent.reserve('http://127.0.0.1:1/') as reserved:
            request = http.request('http://127.0.0.1:1/', agent=reserved)
            classes.add(type(request))
            request.destroy()
    assert len(classes) == 1


def test_websockets_are_observed(serve: Serve, noting: Noting, observed: Any) -> None:
    agent = observed()
    server = serve(echoing)

    @server.server.on('upgrade')
    def upgraded(request: Any, socket: Any, head: bytes) -> None:
        with websocket.accept(request, socket, head) as accepted:
            accepted.send(request.headers['x-trace'])

    with websocket.connect(f'ws://127.0.0.1:{server.where[1]}/ws', agent=agent) as client:
        assert client.receive() == '0'
    with pytest.raises(WebSocketHandshakeError):
        websocket.connect(f'ws://127.0.0.1:{serve(echoing).where[1]}/no', agent=agent)
    assert noting.log == [
        ('began', '/ws'),
        ('ended', '/ws', 101, None),
        ('began', '/no'),
        ('ended', '/no', 200, None),
    ]


def test_requests_of_an_adapter_are_observed(serve: Serve, noting: Noting, observed: Any) -> None:
    with requests.Session() as session:
        session.mount('http://', AgentAdapter(observed()))
        assert session.get(f'http://127.0.0.1:{serve(echoing).where[1]}/').text == '0 None 0'
    assert noting.log == [('began', '/'), ('ended', '/', 200, None)]


def test_event_style(origin: MakeOrigin, noting: Noting, observed: Any) -> None:
    log = Log()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)

    request = http.get(origin(script).url, agent=observed())
    request.on('response', lambda response: log.append(list(noting.log)))
    until(lambda: log)
    assert log == [[('began', '/'), ('ended', '/', 200, None)]]
