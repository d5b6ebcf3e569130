"""Test the client over TLS: incomplete bodies, sharing of connections and sessions, failures."""

from __future__ import annotations

import socket as stdlib
from pathlib import Path
from typing import Any

import pytest

from geventnode import http, https
from geventnode.errors import (
    CertificateError,
    IncompleteBody,
    InvalidInput,
    RequestTimeout,
    SocketHangUp,
    TLSError,
    UnknownOption,
)
from geventnode.tls.socket import TLSSocket
from tests.certificates import Certificates, TLSEnd
from tests.https_sites import MakePool, Secure, read, tls_script, url
from tests.origins import HELLO, MakeOrigin, Peer, silent
from tests.servers import ok
from tests.sockets import settle, until

BIG = bytes(range(256)) * 20000


# -- truncation -------------------------------------------------------------------------------------------------------

UNTIL_CLOSE = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it'


@pytest.mark.parametrize('sent', [UNTIL_CLOSE, UNTIL_CLOSE + BIG])
def test_body_without_close_notify_is_incomplete(origin: MakeOrigin, certificates: Certificates, sent: bytes) -> None:
    def script(peer: Peer, end: TLSEnd) -> None:
        peer.request()
        end.sendall(sent)
        end.raw.shutdown(stdlib.SHUT_WR)
        peer.closed()

    port = origin(tls_script(certificates, script)).port
    response = https.get(f'https://localhost:{port}', ca=certificates.ca).get_response()
    with pytest.raises(IncompleteBody, match='without close_notify'):
        response.read()
    assert response.aborted
    assert not response.complete


def test_body_with_close_notify_is_complete(origin: MakeOrigin, certificates: Certificates) -> None:
    def script(peer: Peer, end: TLSEnd) -> None:
        peer.request()
        end.sendall(UNTIL_CLOSE)
        end.shutdown(stdlib.SHUT_WR)

    port = origin(tls_script(certificates, script)).port
    assert read(f'https://localhost:{port}', ca=certificates.ca) == b'half of it'


def test_body_with_a_length_needs_no_close_notify(origin: MakeOrigin, certificates: Certificates) -> None:
    def script(peer: Peer, end: TLSEnd) -> None:
        peer.request()
        end.sendall(HELLO)
        end.raw.shutdown(stdlib.SHUT_WR)

    port = origin(tls_script(certificates, script)).port
    assert read(f'https://localhost:{port}', ca=certificates.ca) == b'hello'


# -- the agent --------------------------------------------------------------------------------------------------------


def test_every_setting_distinguishes_pools(certificates: Certificates) -> None:
    base = {'host': 'localhost', 'port': 443}
    agent = https.Agent()
    others = [
        {},
        {'ca': certificates.ca},
        {'certfile': certificates.client},
        {'certfile': certificates.client, 'keyfile': certificates.client},
        {'certfile': certificates.client, 'password': 'x'},
        {'reject_unauthorized': False},
        {'servername': 'x'},
        {'servername': ''},
        {'ciphers': 'ECDHE+AESGCM'},
        {'minimum_version': 'TLSv1.3'},
        {'alpn_protocols': ['x']},
        {'context': certificates.client_context()},
        {'context': certificates.client_context()},
    ]
    names = [agent.get_name({**base, **options}) for options in others]
    assert len(set(names)) == len(names)
    assert names[0] == 'localhost:443'
    assert not any(
        'secret' in agent.get_name({**base, 'certfile': certificates.client, 'password': 'secret'}) for _ in range(1)
    )
    assert agent.get_name({**base, 'servername': 'localhost'}) == names[0]
    assert https.Agent(ca=certificates.ca).get_name(base) == names[1]


def test_connection_is_not_shared_between_settings(secure: Secure, certificates: Certificates, pool: MakePool) -> None:
    site = secure(certfile=certificates.expired)
    agent = pool()
    assert read(url(site), agent=agent, reject_unauthorized=False) == b'GET /'
    with pytest.raises(CertificateError):
        read(url(site), agent=agent)
    assert read(url(site), agent=agent, reject_unauthorized=False) == b'GET /'
    assert agent.statistics()['opened'] == 2


def test_sessions_are_resumed(secure: Secure, pool: MakePool) -> None:
    site = secure()
    agent = pool()
    for resumed in (False, True, True):
        response = https.get(url(site), agent=agent).get_response()
        response.read()
        assert response.socket.session_reused is resumed
        site.server.close_all_connections()
        until(lambda: not agent.free_sockets)


def test_session_that_the_server_rejects_is_forgotten(
    secure: Secure, pool: MakePool, certificates: Certificates
) -> None:
    agent = pool()
    first = secure()
    read(url(first), agent=agent)
    port = first.where[1]
    first.close()
    until(lambda: not agent.free_sockets)
    second = https.create_server(ok, certfile=certificates.server)
    with second.listen(port, '127.0.0.1'):
        for resumed in (False, True):
            response = https.get(f'https://localhost:{port}', agent=agent).get_response()
            response.read()
            assert response.socket.session_reused is resumed
            second.close_all_connections()
            until(lambda: not agent.free_sockets)


def test_sessions_are_bounded(pool: MakePool, secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, 'MAX_SESSIONS', 2)
    agent = pool()
    for _ in range(4):
        read(url(secure()), agent=agent)
    assert len(agent._sessions) == 2


def test_session_is_read_once_per_connection(pool: MakePool, secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ssl`` never frees a session that was read, and connections to many servers outlive the stored sessions."""
    reads: list[TLSSocket] = []
    session = vars(TLSSocket)['session']

    def counting(socket: TLSSocket) -> Any:
        reads.append(socket)
        return session.__get__(socket)

    monkeypatch.setattr(https, 'MAX_SESSIONS', 1)
    monkeypatch.setattr(TLSSocket, 'session', property(counting))
    site, agent = secure(), pool()
    for _ in range(3):
        for host in ('localhost', '127.0.0.1'):
            assert read(url(site, host=host), agent=agent) == b'GET /'
    assert agent.statistics()['opened'] == 2
    assert len(reads) == 2
    assert len(agent._sessions) == 1


def test_idle_connections_that_end_leave_the_pool(secure: Secure, pool: MakePool) -> None:
    site = secure(keep_alive_timeout=0.05)
    agent = pool()
    read(url(site), agent=agent)
    until(lambda: not agent.free_sockets)
    assert read(url(site), agent=agent) == b'GET /'


def test_dead_connection_is_found_before_reuse(origin: MakeOrigin, certificates: Certificates, pool: MakePool) -> None:
    """The check also ends the connection, and the request uses a new one."""

    def script(peer: Peer, end: TLSEnd) -> None:
        peer.request()
        end.sendall(HELLO)

    server = origin(tls_script(certificates, script))
    agent = pool()
    assert read(f'https://localhost:{server.port}', agent=agent) == b'hello'
    (connection,) = agent._connections()
    connection.socket._pause_reading()
    settle()
    connection.since -= 2
    assert read(f'https://localhost:{server.port}', agent=agent) == b'hello'
    assert (server.accepted, agent.statistics()['retried']) == (2, 0)
    assert agent.statistics()['queued'] == 0


def test_unsolicited_response_ends_an_idle_connection(
    origin: MakeOrigin, certificates: Certificates, pool: MakePool
) -> None:
    def script(peer: Peer, end: TLSEnd) -> None:
        while True:
            peer.request()
            end.sendall(HELLO + HELLO)

    port = origin(tls_script(certificates, script)).port
    agent = pool()
    for _ in range(2):
        assert read(f'https://localhost:{port}', agent=agent) == b'hello'
    until(lambda: not agent.free_sockets)
    assert agent.statistics()['opened'] == 2


# -- failures ---------------------------------------------------------------------------------------------------------


def test_connect_timeout_includes_the_handshake(origin: MakeOrigin) -> None:
    port = origin(lambda peer: peer.closed()).port
    with pytest.raises(RequestTimeout, match='connect_timeout'):
        https.get(f'https://localhost:{port}', connect_timeout=0.05).get_response()


def test_server_without_tls(origin: MakeOrigin) -> None:
    port = origin(lambda peer: peer.send(b'HTTP/1.1 400 Bad Request\r\n\r\n')).port
    with pytest.raises(TLSError, match=r'wrong version number \(the server speaks HTTP without TLS') as raised:
        https.get(f'https://localhost:{port}').get_response()
    assert raised.value.phase == 'handshake'


def test_client_without_tls(secure: Secure) -> None:
    response = http.get(f'http://localhost:{secure().where[1]}').get_response()
    assert response.status_code == 400
    assert b'use https' in response.read()


def test_failed_handshake_is_not_retried(origin: MakeOrigin, certificates: Certificates, pool: MakePool) -> None:
    server = origin(lambda peer: peer.abort())
    with pytest.raises((TLSError, SocketHangUp)):
        https.get(f'https://localhost:{server.port}', agent=pool()).get_response()
    assert server.accepted == 1


def test_failed_requests_leave_the_pool_empty(origin: MakeOrigin, pool: MakePool) -> None:
    agent = pool()
    for script in (silent, lambda peer: peer.abort(), lambda peer: peer.send(b'x' * 100)):
        with pytest.raises((TLSError, SocketHangUp, RequestTimeout)):
            https.get(f'https://localhost:{origin(script).port}', agent=agent, connect_timeout=0.05).get_response()
    assert (agent.sockets, agent.free_sockets, agent.requests) == ({}, {}, {})


# -- rejected options ------------------------------------------------------------------------------------------------


def test_url_and_agent_of_another_scheme_are_rejected() -> None:
    for call, wrong in ((http.get, 'https://localhost/'), (https.get, 'http://localhost/')):
        with pytest.raises(InvalidInput, match='protocol') as raised:
            call(wrong)
        assert raised.value.code == 'ERR_INVALID_PROTOCOL'
    with pytest.raises(InvalidInput, match="protocol 'http:'"):
        https.request({'protocol': 'http:'})
    for call, agent in ((http.get, https.Agent()), (https.get, http.Agent())):
        with pytest.raises(InvalidInput, match='agent is one for'):
            call(f'{"http" if call is http.get else "https"}://localhost', agent=agent)


def test_tls_settings_are_options_of_https_only() -> None:
    with pytest.raises(UnknownOption, match="'ca'"):
        http.get('http://localhost', ca='x')
    with pytest.raises(UnknownOption, match="'reject_unauthorized'"):
        https.get('https://localhost', reject_unauthorised=True)


def test_unusable_settings_are_rejected_by_the_call(certificates: Certificates) -> None:
    with pytest.raises(InvalidInput, match='ca: no such file'):
        https.get('https://localhost', ca='/nowhere')
    with pytest.raises(InvalidInput, match='certfile'):
        https.Agent(certfile='/nowhere')
    with pytest.raises(InvalidInput, match='needs certfile'):
        https.create_server()


def test_global_agent() -> None:
    assert https.global_agent is https.global_agent
    assert isinstance(https.global_agent, https.Agent)
    assert https.global_agent is not http.global_agent
    with pytest.raises(AttributeError, match='nonsense'):
        https.nonsense  # noqa: B018 - the access raises


# -- unusable files --------------------------------------------------------------------------------------------------


def test_unusable_file_leaves_the_place_in_the_pool_free(
    pool: MakePool, secure: Secure, certificates: Certificates, tmp_path: Path
) -> None:
    """The call raises, and the next request gets a connection."""
    path = tmp_path / 'ca.pem'
    path.write_text('nothing')
    site, agent = secure(), pool(max_sockets=1, ca=str(path))
    with pytest.raises(InvalidInput, match='ca: no certificates'):
        https.get(url(site), agent=agent)
    assert agent.statistics()['active'] == agent.statistics()['queued'] == agent.total_socket_count == 0
    assert agent.statistics()['failed'] == 1
    path.write_bytes(Path(certificates.ca).read_bytes())
    assert read(url(site), agent=agent) == b'GET /'


def test_unusable_file_fails_only_its_request(
    pool: MakePool, secure: Secure, certificates: Certificates, tmp_path: Path
) -> None:
    """The requests before and after it succeed."""
    path = tmp_path / 'ca.pem'
    path.write_text('nothing')
    site, agent = secure(), pool(max_total_sockets=1, keep_alive=False)
    before = https.get(url(site), agent=agent)
    waiting = https.get(url(site), agent=agent, ca=str(path))
    behind = https.get(url(site), agent=agent)
    assert before.get_response().read() == b'GET /'
    with pytest.raises(InvalidInput, match='ca: no certificates'):
        waiting.get_response()
    assert behind.get_response().read() == b'GET /'
    until(lambda: agent.statistics()['active'] == agent.total_socket_count == 0)
    assert agent.statistics()['failed'] == 1
