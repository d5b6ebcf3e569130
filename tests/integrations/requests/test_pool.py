"""The adapter for ``requests``: reuse, limits, retries, and no leaks."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import pytest
import requests
from gevent.event import Event
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from geventnode import http, https
from geventnode.errors import InvalidInput, UnknownOption
from geventnode.integrations.requests import AgentAdapter
from tests.origins import HELLO, MakeOrigin, Peer, hello, once
from tests.servers import Log, Serve, Site, ok
from tests.sessions import Mounted, agent_of, apart


def url(site: Site, path: str = '/') -> str:
    return f'http://127.0.0.1:{site.where[1]}{path}'


# -- the pool ---------------------------------------------------------------------------------------------------------


def test_connections_are_reused(origin: MakeOrigin, session: Mounted) -> None:
    client, server = session(), origin(hello)
    for _ in range(3):
        assert client.get(server.url).content == b'hello'
    assert server.accepted == 1


def test_number_of_connections_is_limited(serve: Serve, session: Mounted) -> None:
    """Further requests wait, first come, first served."""
    served = Log()
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        served.append(request.url)
        go_on.wait()
        response.end()

    client, address = session(max_sockets=2), url(serve(listener))
    asking = [gevent.spawn(client.get, f'{address}{number}') for number in range(6)]
    served.wait_for_length(2)
    now = agent_of(client).statistics()
    assert (now['active'], now['queued']) == (2, 4)
    go_on.set()
    gevent.joinall(asking, raise_error=True)
    assert sorted(served[:2]) == ['/0', '/1']
    assert served[2:4] in (['/2', '/3'], ['/3', '/2'])
    assert agent_of(client).total_socket_count <= 2


def test_shared_agents(serve: Serve, session: Mounted, agent: Callable[..., http.Agent]) -> None:
    shared = agent(keep_alive=True)
    first, second = session(shared), session(shared)
    address = url(serve(ok))
    first.get(address)
    first.close()
    second.get(address)
    assert shared.statistics()['opened'] == 1
    assert shared.statistics()['idle'] == 1


def test_close_closes_idle_connections(origin: MakeOrigin, session: Mounted) -> None:
    """Active responses continue, as with requests.get(stream=True), and the session can be used again."""
    client, server = session(), origin(hello)
    unread = client.get(server.url, stream=True)
    client.get(server.url)
    first = agent_of(client)
    client.close()
    assert unread.content == b'hello'
    assert first.total_socket_count == 0
    assert client.get(server.url).content == b'hello'
    assert agent_of(client) is not first


def test_a_collected_session_closes_its_connections(origin: MakeOrigin) -> None:
    closed = Log()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)
        closed.append(peer.closed())

    client = requests.Session()
    client.mount('http://', AgentAdapter())
    assert client.get(origin(script).url).content == b'hello'
    del client
    closed.wait_for_length(1)


def test_a_session_at_interpreter_exit() -> None:
    """In a cycle it is collected after the greenlets, without a message."""
    code = (
        'import types, requests\n'
        'from geventnode.integrations.requests import AgentAdapter\n'
        'kept = types.SimpleNamespace(client=requests.Session())\n'
        'kept.client.mount("http://", AgentAdapter())\n'
        'kept.itself = kept\n'
    )
    ran = subprocess.run([sys.executable, '-c', code], check=True, text=True, stderr=subprocess.PIPE)
    assert ran.stderr == ''


def test_a_collected_response_frees_its_connection(serve: Serve, session: Mounted) -> None:
    client, address = session(max_sockets=1), url(serve(lambda request, response: response.end(b'x' * 1000000)))
    for _ in range(3):
        client.get(address, stream=True)


def test_every_thread_has_its_own_agents(serve: Serve) -> None:
    """Threads of the system, in a program without patching."""
    address = url(serve(ok))
    with requests.Session() as client:
        adapter = AgentAdapter()
        client.mount('http://', adapter)
        found: list[Any] = []

        def ask() -> None:
            found.append((client.get(address).text, agent_of(client)))
            client.close()
            gevent.get_hub().destroy()

        gevent.get_hub().threadpool.apply(ask)
        assert found[0][0] == 'GET /'
        assert found[0][1] is not agent_of(client)
        found.clear()


def test_pickled(serve: Serve, session: Mounted) -> None:
    """With its settings and its own agents."""
    client = session(max_sockets=3, max_retries=2, queue_timeout=1.5, max_header_size=1000)
    with pickle.loads(pickle.dumps(client)) as copy:
        assert copy.get(url(serve(ok))).text == 'GET /'
        assert agent_of(copy).max_sockets == 3
        assert agent_of(copy) is not agent_of(client)
        with pytest.raises(requests.ConnectionError, match=r'max_header_size \(1000 bytes\)'):
            copy.get(url(serve(lambda request, response: (response.set_header('X', 'x' * 1000), response.end()))))
        assert copy.get_adapter('http://x').max_retries.total == 2


def test_options() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'max_sockets'"):
        AgentAdapter(max_socket=1)
    with pytest.raises(InvalidInput, match='when both agents are given'):
        AgentAdapter(http.Agent(), https_agent=https.Agent(), max_sockets=1)
    with pytest.raises(InvalidInput, match="expected one for 'http:'"):
        AgentAdapter(https.Agent())
    with pytest.raises(InvalidInput, match='max_header_size'):
        AgentAdapter(max_header_size=-1)
    with pytest.raises(InvalidInput, match='queue_timeout'):
        AgentAdapter(queue_timeout=-1)


# -- retries ----------------------------------------------------------------------------------------------------------


class Fickle:
    """Respond to ``answers`` requests of a connection, and close after reading the next one."""

    def __init__(self, answers: int = 1) -> None:
        self.lines: list[str] = []
        self._answers = answers

    def __call__(self, peer: Peer) -> None:
        for _ in range(self._answers):
            self.lines.append(peer.request().line)
            peer.send(HELLO)
        self.lines.append(peer.request().line)


def test_a_closed_used_connection_is_no_error(origin: MakeOrigin, session: Mounted) -> None:
    """Repeatable requests are sent again, once."""
    script = Fickle()
    client, server = session(), origin(script)
    client.get(server.url)
    assert client.get(server.url).content == b'hello'
    assert server.accepted == 2
    with pytest.raises(requests.ConnectionError, match='without a response'):
        client.post(server.url, data=b'once')
    assert sum(line.startswith('POST') for line in script.lines) == 1


def test_a_closed_connection_is_not_used(origin: MakeOrigin, session: Mounted) -> None:
    """Also without a turn of the loop since, and by a request from the queue."""
    client, server = session(max_sockets=1), origin(once(HELLO))
    for _ in range(3):
        assert client.post(server.url, data=b'once').content == b'hello'
    asking = [gevent.spawn(client.post, server.url, data=b'once') for _ in range(3)]
    gevent.joinall(asking, raise_error=True)
    assert server.accepted == 6
    assert agent_of(client).statistics()['retried'] == 0


def test_a_closed_new_connection_is_an_error(origin: MakeOrigin, session: Mounted) -> None:
    server = origin(Fickle(answers=0))
    with pytest.raises(requests.ConnectionError):
        session().get(server.url)
    assert server.accepted == 1


def test_retries_of_responses(serve: Serve, session: Mounted) -> None:
    seen = Log()

    def listener(request: Any, response: Any) -> None:
        seen.append(request.read())
        response.write_head(503, {'Retry-After': '0'})
        response.end('busy')

    address = url(serve(listener))
    policy = Retry(2, status_forcelist=[503], allowed_methods=None)
    with pytest.raises(requests.exceptions.RetryError):
        session(max_retries=policy).post(address, data=io.BytesIO(b'body'))
    assert seen == [b'body'] * 3
    assert session(max_retries=policy.new(raise_on_status=False)).get(address).text == 'busy'
    # a generator cannot be sent a second time
    assert session(max_retries=policy).post(address, data=iter([b'body'])).status_code == 503
    assert len(seen) == 7


def plain(**options: Any) -> Callable[..., requests.Response]:
    """Return a function that uses plain ``requests``."""

    def ask(method: str, address: str, **others: Any) -> requests.Response:
        with requests.Session() as client:
            client.trust_env = False
            client.mount('http://', HTTPAdapter(**options))
            return client.request(method, address, **others)

    return partial(apart, ask)


def noting(name: str, called: Log) -> Callable[..., Any]:
    """Return a method of a policy that records its call and calls the overridden one."""

    def method(self: Any, *args: Any) -> Any:
        called.append((name, *[each.status for each in args if each is not None]))
        return getattr(Retry, name)(self, *args)

    return method


@pytest.mark.parametrize(
    'overridden',
    [('sleep',), ('sleep_for_retry',), ('_sleep_backoff',), ('sleep', 'sleep_for_retry', '_sleep_backoff')],
)
@pytest.mark.parametrize(
    ('said', 'calls'),
    [
        (
            b'HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n',
            [('sleep', 503), ('sleep_for_retry', 503), ('_sleep_backoff',)],
        ),
        (
            b'HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n',
            [('sleep', 503), ('sleep_for_retry', 503), ('_sleep_backoff',)],
        ),
        (b'', [('sleep',), ('_sleep_backoff',)]),
    ],
)
def test_overridden_methods_of_policies_are_called(
    origin: MakeOrigin, session: Mounted, said: bytes, calls: list[Any], overridden: tuple[str, ...]
) -> None:
    """Before each attempt but the first, with the response if there is one."""
    called = Log()
    own = type('Own', (Retry,), {name: noting(name, called) for name in overridden})
    server = origin(once(said))
    with pytest.raises(requests.ConnectionError if not said else requests.exceptions.RetryError):
        session(max_retries=own(2, status_forcelist=[503])).get(server.url)
    assert server.accepted == 3
    assert called == [each for each in calls if each[0] in overridden] * 2


@pytest.mark.parametrize('overrides', [False, True])
@pytest.mark.parametrize('field', [b'Retry-After: 1\r\n', b''])
def test_other_greenlets_run_while_a_policy_waits(
    origin: MakeOrigin, session: Mounted, monkeypatch: pytest.MonkeyPatch, overrides: bool, field: bytes
) -> None:
    """``time.sleep`` would block them without patching, also within ``super().sleep()``."""

    class Own(Retry):
        """Wait as usual, but for a short time."""

        def parse_retry_after(self, retry_after: str) -> float:
            return super().parse_retry_after(retry_after) / 1000

        if overrides:

            def sleep(self, response: Any = None) -> None:
                super().sleep(response)

    def stop(seconds: float) -> None:
        raise AssertionError('the thread is stopped')

    monkeypatch.setattr('urllib3.util.retry.time.sleep', stop)
    server = origin(b'HTTP/1.1 503 Busy\r\n' + field + b'Content-Length: 0\r\n\r\n')
    policy = Own(2, backoff_factor=0.001, status_forcelist=[503], raise_on_status=False)
    assert session(max_retries=policy).get(server.url).status_code == 503
    assert server.accepted == 1


@pytest.mark.parametrize('field', [b'Retry-After: 0\r\n', b'Retry-After:\r\n', b''])
@pytest.mark.parametrize('status', [413, 429, 503, 500])
def test_a_number_of_retries_applies_to_retry_after(
    origin: MakeOrigin, session: Mounted, status: int, field: bytes
) -> None:
    """As with plain ``requests``: urllib3's policy for the number respects Retry-After."""
    said = b'HTTP/1.1 %d Later\r\n%sContent-Length: 0\r\n\r\n' % (status, field)
    again = status != 500 and b'0' in field
    for ask in (session(max_retries=2).request, plain(max_retries=2)):
        asked: list[str] = []

        def script(peer: Peer, asked: list[str] = asked) -> None:
            while True:
                asked.append(peer.request().line[:4])
                peer.send(said)

        address = origin(script).url
        assert ask('GET', address).status_code == status
        assert ask('POST', address, data=b'x').status_code == status
        assert asked == ['GET '] * (3 if again else 1) + ['POST']


def test_a_number_of_retries_applies_to_missing_responses(origin: MakeOrigin, session: Mounted) -> None:
    """As with plain ``requests``, for idempotent methods."""
    for ask in (session(max_retries=2).request, plain(max_retries=2)):
        server = origin(Fickle(answers=0))
        for method, connections in (('GET', 3), ('POST', 4)):
            with pytest.raises(requests.ConnectionError):
                ask(method, server.url)
            assert server.accepted == connections


def test_retries_of_connections(origin: MakeOrigin, session: Mounted) -> None:
    server = origin(Fickle(answers=0))
    with pytest.raises(requests.ConnectionError):
        session(max_retries=Retry(2, backoff_factor=0.001)).get(server.url)
    assert server.accepted == 3
