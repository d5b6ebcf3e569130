"""Reserved connections, for authentication in three requests on one connection, like NTLM's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import gevent
import pytest
import requests
from gevent.event import Event
from requests.auth import AuthBase

from geventnode import http, https
from geventnode.errors import InvalidInput, QueueFull, RequestTimeout, SocketHangUp, WrongThread
from geventnode.integrations.requests import AgentAdapter
from tests.https_sites import MakePool, Secure
from tests.origins import HELLO, MakeOrigin, Peer, read, silent
from tests.other_threads import in_another_thread
from tests.servers import Serve, Site
from tests.sockets import settle, until

MakeAgent = Callable[..., http.Agent]

MAX_SOCKETS = 5
USERS = 300


class ThreeLegs:
    """A site that authenticates connections by a challenge and its answer."""

    def __init__(self) -> None:
        self._challenges: dict[Any, str] = {}
        self._users: dict[Any, str] = {}
        self._numbers = itertools.count()
        self.most = 0

    def listener(self, request: http.IncomingMessage, response: http.ServerResponse) -> None:
        """Respond to a request."""
        socket = request.socket
        request.resume()
        said = request.headers.get('authorization', '')
        kind, _, value = said.removeprefix('NTLM ').partition(':')
        if kind == 'negotiate':
            challenge = self._challenges[socket] = str(next(self._numbers))
            self._refuse(response, f'NTLM challenge:{challenge}')
        elif kind == 'authenticate' and socket in self._challenges:
            challenge, _, user = value.partition(':')
            if self._challenges.pop(socket) == challenge:
                self._users[socket] = user
        if socket in self._users:
            response.end(self._users[socket])
        elif not response.headers_sent:
            self._refuse(response, 'NTLM')
        self.most = max(
            self.most, len({id(socket) for socket in (*self._challenges, *self._users) if not socket.destroyed})
        )

    def _refuse(self, response: http.ServerResponse, challenge: str) -> None:
        response.write_head(401, {'WWW-Authenticate': challenge})
        response.end('authenticate first')


def ask(url: str, user: str, agent: http.Agent, get: Callable[..., http.ClientRequest] = http.get) -> str:
    """Authenticate as ``user``, and return the user of a further request; '401' if that fails."""
    said: str | None = None
    for _ in range(3):
        response = get(url, agent=agent, headers={} if said is None else {'Authorization': said}).get_response()
        response.read()
        if response.status_code == 200:
            break
        challenge = response.headers['www-authenticate'].partition(':')[2]
        said = f'NTLM authenticate:{challenge}:{user}' if challenge else 'NTLM negotiate:'
    if response.status_code == 401:
        return '401'
    return str(get(url, agent=agent).get_response().read().decode())


def address(site: Site, scheme: str = 'http') -> str:
    """Return the URL of ``site``."""
    return f'{scheme}://localhost:{site.where[1]}/'


def test_reserved_connections_belong_to_one_user(serve: Serve, agent: MakeAgent) -> None:
    """No user gets the connection of another one, and the limit holds."""
    legs, pool = ThreeLegs(), agent(max_sockets=MAX_SOCKETS, keep_alive=True)
    url = address(serve(legs.listener))

    def one(user: str) -> str:
        with pool.reserve(url) as reserved:
            return ask(url, user, reserved)

    asking = [gevent.spawn(one, f'user{number}') for number in range(USERS)]
    gevent.joinall(asking, raise_error=True)
    assert [each.value for each in asking] == [f'user{number}' for number in range(USERS)]
    assert legs.most <= MAX_SOCKETS
    assert (pool.statistics()['active'], pool.statistics()['queued'], pool.total_socket_count) == (0, 0, 0)
    assert pool.statistics()['waited'] == USERS - MAX_SOCKETS


def test_shared_connections_mix_up_users(serve: Serve, agent: MakeAgent) -> None:
    """This is the reason for reservations."""
    legs, pool = ThreeLegs(), agent(max_sockets=MAX_SOCKETS, keep_alive=True)
    url = address(serve(legs.listener))
    asking = [gevent.spawn(ask, url, f'user{number}', pool) for number in range(MAX_SOCKETS * 2)]
    gevent.joinall(asking, raise_error=True)
    assert '401' in [each.value for each in asking]


def test_reservation_over_tls(secure: Secure, pool: MakePool) -> None:
    legs, shared = ThreeLegs(), pool(max_sockets=1)
    url = address(secure(legs.listener), 'https')

    def one(user: str) -> str:
        with shared.reserve(url) as reserved:
            assert isinstance(reserved, https.Agent)
            return ask(url, user, reserved, https.get)

    asking = [gevent.spawn(one, f'user{number}') for number in range(10)]
    gevent.joinall(asking, raise_error=True)
    assert [each.value for each in asking] == [f'user{number}' for number in range(10)]


class Legs(AuthBase):
    """Make the three requests in a hook, like libraries for ``requests``."""

    def __init__(self, user: str) -> None:
        self._user = user

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.register_hook('response', self._go_on)
        return request

    def _go_on(self, response: requests.Response, **options: Any) -> requests.Response:
        for _ in range(2):
            if response.status_code != 401:
                break
            challenge = response.headers['WWW-Authenticate'].partition(':')[2]
            response.content  # noqa: B018 - the connection is free afterwards
            response.raw.release_conn()
            again = response.request.copy()
            again.headers['Authorization'] = (
                f'NTLM authenticate:{challenge}:{self._user}' if challenge else 'NTLM negotiate:'
            )
            response = response.connection.send(again, **options)
        return response


def test_reservation_through_the_requests_adapter(serve: Serve, agent: MakeAgent) -> None:
    legs, pool = ThreeLegs(), agent(max_sockets=MAX_SOCKETS, keep_alive=True)
    url = address(serve(legs.listener))

    def one(user: str) -> str:
        with pool.reserve(url) as reserved, requests.Session() as session:
            session.mount('http://', AgentAdapter(reserved))
            session.auth = Legs(user)
            assert session.get(url).text == user
            return session.post(url, data=b'x').text

    asking = [gevent.spawn(one, f'user{number}') for number in range(20)]
    gevent.joinall(asking, raise_error=True)
    assert [each.value for each in asking] == [f'user{number}' for number in range(20)]


# -- the place --------------------------------------------------------------------------------------------------------


def test_reserved_connection_is_new_and_closed_at_the_end(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, server = agent(max_sockets=1, keep_alive=True), origin()
    assert read(server.url, agent=pool) == b'hello'
    with pool.reserve(server.url) as reserved:
        for _ in range(2):
            assert read(server.url, agent=reserved) == b'hello'
        assert (server.accepted, pool.statistics()['active'], pool.statistics()['idle']) == (2, 1, 0)
        request = http.get(server.url, agent=pool)
        assert pool.statistics()['queued'] == 1
    assert request.get_response().read() == b'hello'
    assert server.accepted == 3
    assert reserved.total_socket_count == 0


def test_reserved_agent_has_the_options_of_its_parent(origin: MakeOrigin, agent: MakeAgent) -> None:
    made = []

    def create(options: Any) -> Any:
        made.append(options['port'])
        return http.Agent.create_connection(pool, options)

    pool, server = agent(scheduling='fifo', timeout=7, max_queued=3), origin()
    pool.create_connection = create  # type: ignore[method-assign]
    with pool.reserve({'host': '127.0.0.1', 'port': server.port}) as reserved:
        assert (reserved.scheduling, reserved.timeout, reserved.max_queued) == ('fifo', 7, 3)
        assert (reserved.max_sockets, reserved.max_total_sockets, reserved.keep_alive) == (1, 1, True)
        assert read(server.url, agent=reserved) == b'hello'
    assert made == [server.port]


def test_reservation_outlives_its_connection(origin: MakeOrigin, agent: MakeAgent) -> None:
    """After the server closes, the next connection has the same place."""
    pool = agent()
    server = origin(b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
    with pool.reserve(server.url) as reserved:
        for _ in range(2):
            read(server.url, agent=reserved)
        assert pool.statistics()['active'] == 1
    assert pool.statistics()['active'] == 0


def test_forgotten_reservation_gives_its_place_back(agent: MakeAgent, caplog: pytest.LogCaptureFixture) -> None:
    pool = agent(max_sockets=1)
    pool.reserve('http://127.0.0.1:1/')
    with gevent.Timeout(10):
        pool.reserve('http://127.0.0.1:1/').destroy()
    assert (pool.statistics()['active'], pool.total_socket_count) == (0, 0)
    (record,) = caplog.records
    assert record.getMessage().startswith('127.0.0.1:1: an agent that reserve() returned was never destroyed')


@pytest.mark.parametrize('end', ['server', 'timeout'])
def test_forgotten_reservation_ends_with_its_connection(
    origin: MakeOrigin, agent: MakeAgent, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    free = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)
        if end == 'server':
            free.wait()
        else:
            peer.closed()

    pool = agent(max_sockets=1, timeout=None if end == 'server' else 0.05)
    site = origin(script)
    url = f'http://127.0.0.1:{site.port}/'
    assert http.get(url, agent=pool.reserve(url)).get_response().read() == b'hello'
    if end == 'server':
        assert pool.total_socket_count == 1, 'the connection is open'
        free.set()
    with gevent.Timeout(10), pool.reserve(url) as reserved:
        assert http.get(url, agent=reserved).get_response().read() == b'hello'
    assert pool.total_socket_count == 0
    assert len(caplog.records) == 1


def test_destroyed_reservation_logs_nothing(agent: MakeAgent, caplog: pytest.LogCaptureFixture) -> None:
    pool = agent(max_sockets=1)
    for _ in range(3):
        with pool.reserve('http://127.0.0.1:1/'):
            pass
        gevent.idle()
    assert not caplog.records


def test_reserve_raises_after_its_timeout(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, server = agent(max_sockets=1), origin(silent)
    http.get(server.url, agent=pool)
    with pytest.raises(RequestTimeout, match='no connection could be reserved within') as raised:
        pool.reserve(server.url, timeout=0.01)
    assert (raised.value.phase, pool.statistics()['queued']) == ('queue', 0)


def test_interrupted_reserve_leaves_the_queue(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, server = agent(max_sockets=1), origin(silent)
    http.get(server.url, agent=pool)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        pool.reserve(server.url)
    assert pool.statistics()['queued'] == 0
    waiting = gevent.spawn(pool.reserve, server.url)
    settle()
    assert pool.statistics()['queued'] == 1
    waiting.kill()
    assert pool.statistics()['queued'] == 0


def test_reserve_raises_when_the_queue_is_full(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, server = agent(max_sockets=1, max_queued=0), origin()
    with pool.reserve(server.url):
        with pytest.raises(QueueFull, match='0 requests wait for'):
            pool.reserve(server.url)
    with pool.reserve(server.url) as reserved:
        assert read(server.url, agent=reserved) == b'hello'


def test_destroyed_agent_ends_its_reservations(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, server = agent(max_sockets=1), origin(silent)
    reserved = pool.reserve(server.url)
    request = http.get(server.url, agent=reserved)
    waiting = gevent.spawn(pool.reserve, server.url)
    until(lambda: pool.statistics()['queued'])
    pool.destroy()
    with pytest.raises(SocketHangUp, match='the agent was destroyed'):
        waiting.get()
    with pytest.raises(SocketHangUp, match='the agent was destroyed'):
        request.get_response()
    assert pool.statistics()['active'] == 0


def test_invalid_reservation_raises(agent: MakeAgent) -> None:
    pool = agent()
    with pytest.raises(InvalidInput):
        pool.reserve('localhost/x')
    with pytest.raises(InvalidInput):
        pool.reserve({'port': 0})
    assert pool.statistics()['queued'] == 0


def test_reserve_in_another_thread_raises(agent: MakeAgent) -> None:
    pool = agent()
    with pytest.raises(WrongThread) as raised:
        in_another_thread(pool.reserve, 'http://localhost/')
    assert raised.type is WrongThread
    assert pool.statistics()['queued'] == 0
