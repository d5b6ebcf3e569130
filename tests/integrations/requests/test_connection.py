"""The adapter for ``requests``: the objects behind ``response.raw`` that replace http.client's.

docker-py, SSE clients, NTLM authentication and caches reach through urllib3's response to ``_fp``, ``_fp.fp`` and the
socket. ``tests/system/test_requests_libraries.py`` runs those libraries themselves.
"""

from __future__ import annotations

import gzip
import io
import random
import select
import socket as stdlib
import ssl
import struct
from functools import partial
from typing import Any

import gevent
import gevent.select
import pytest
import requests
from gevent.event import Event
from requests import exceptions
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ProtocolError
from urllib3.poolmanager import PoolManager

from geventnode import errors
from geventnode.integrations.requests import AgentAdapter
from tests.certificates import Certificates
from tests.https_sites import Secure
from tests.https_sites import url as secure_url
from tests.origins import HELLO, MakeOrigin, Peer, once
from tests.servers import Log, Serve
from tests.sessions import Mounted, agent_of

CHUNKS = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n7;x=y\r\nand two\r\n5\r\nthree\r\n0\r\n\r\n'
SWITCHED = b'HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n'
UPGRADE = {'Connection': 'Upgrade', 'Upgrade': 'tcp'}


def opened(session: Mounted, address: str, **options: Any) -> Any:
    """Return an unread response."""
    return session().get(address, stream=True, **options)


# -- chunks -----------------------------------------------------------------------------------------------------------


def test_chunked_text_is_read_by_lines(origin: MakeOrigin, session: Mounted) -> None:
    """As with http.client: the wrapper checks before each line whether the response is closed."""
    address = origin(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\na\nb\nc\n\r\n0\r\n\r\n').url
    response = opened(session, address)
    assert list(io.TextIOWrapper(response.raw, 'ascii')) == ['a\n', 'b\n', 'c\n']
    assert response.raw.closed


def test_boundaries_of_chunks_are_kept(origin: MakeOrigin, session: Mounted) -> None:
    """Also if one segment has several chunks: programs send one line of JSON in each."""
    address = origin(CHUNKS).url
    assert list(opened(session, address).iter_content(None)) == [b'one', b'and two', b'three']
    assert list(opened(session, address).iter_content(5)) == [b'one', b'and t', b'wo', b'three']
    assert list(opened(session, address).raw.stream(100)) == [b'one', b'and two', b'three']
    assert opened(session, address).raw.read(12) == b'oneand twoth'
    assert [opened(session, address).raw.read1(size) for size in (2, 100)] == [b'on', b'one']


def test_a_chunk_that_arrives_in_pieces(origin: MakeOrigin, session: Mounted) -> None:
    """It is one piece, as with http.client."""
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbe')
        go_on.wait()
        peer.send(b'ginning\r\n3\r\nend\r\n0\r\n\r\n')

    response = opened(session, origin(script).url)
    gevent.spawn(go_on.set)
    assert list(response.iter_content(None)) == [b'beginning', b'end']


def test_unread_bytes_of_a_chunk(origin: MakeOrigin, session: Mounted) -> None:
    raw = opened(session, origin(CHUNKS).url).raw
    assert raw._fp.chunked is True
    left = []
    while data := raw.read(1):
        left.append((data + raw.read(raw._fp.chunk_left)) if raw._fp.chunk_left else data)
    assert left == [b'one', b'and two', b'three']
    assert opened(session, origin(HELLO).url).raw._fp.chunked is False


def test_methods_of_reading_can_be_mixed(origin: MakeOrigin, session: Mounted) -> None:
    """No byte is lost between them, also when a generator is closed early."""
    response = opened(session, origin(CHUNKS).url)
    raw = response.raw
    assert raw.read(2) == b'on'
    assert next(raw.stream(100)) == b'e'
    assert raw._fp.fp.read1(3) == b'and'
    assert raw._fp.fp.peek() == b' twothree'
    assert raw._fp.fp.raw.read(2) == b' t'
    assert next(response.iter_content(100)) == b'wo'
    assert raw._fp.fp.raw._sock.recv(2) == b'th'
    assert response.content == b'ree'


def read_somehow(response: Any, chance: random.Random) -> bytes:
    """Return the body, read with random methods."""
    raw, parts = response.raw, []
    while not raw.closed:
        size = chance.choice([1, 2, 3, 7, 100, 10000])
        ways = [
            partial(raw.read, size),
            partial(raw.read1, size),
            lambda: next(raw.stream(None), b''),
            partial(next, raw.stream(size), b''),
            partial(raw._fp.fp.read, size),
            partial(raw._fp.fp.read1, size),
            partial(raw._fp.fp.raw.read, size),
        ]
        if chance.random() < 0.2:
            raw._fp.fp.peek()
            if raw.closed:
                break
        parts.append(chance.choice(ways)())
    return b''.join(parts)


def test_chunks_at_random(origin: MakeOrigin, session: Mounted, seed: int) -> None:
    """With random sizes, segments and reads."""
    chance = random.Random(seed)
    sent: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            wire = (
                b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
                + b''.join(b'%x\r\n%s\r\n' % (len(chunk), chunk) for chunk in sent)
                + b'0\r\n\r\n'
            )
            while wire:
                size = chance.choice([1, 2, 3, 5, 17, 100, 5000, 70000])
                peer.send(wire[:size])
                wire = wire[size:]
                if chance.random() < 0.3:
                    gevent.sleep(0)

    client, server = session(), origin(script)
    for turn in range(60):
        sent[:] = [
            bytes([chance.randrange(97, 123)]) * chance.choice([1, 1, 2, 3, 10, 100, 9000])
            for _ in range(chance.randrange(30))
        ]
        with client.get(server.url, stream=True) as response:
            if turn % 2:
                assert list(response.iter_content(None)) == sent
            else:
                assert read_somehow(response, chance) == b''.join(sent)
    assert server.accepted == 1


@pytest.mark.parametrize('cookie', [b'', b'Set-Cookie: a=b\r\n'])
def test_a_generator_that_is_closed_early(origin: MakeOrigin, session: Mounted, cookie: bytes) -> None:
    """The rest can still be read, and never looks like the end."""
    response = opened(session, origin(CHUNKS.replace(b'\r\n\r\n', b'\r\n' + cookie + b'\r\n', 1)).url)
    for piece in response.iter_content(100):
        assert piece == b'one'
        break
    assert response.content == b'and twothree'


def test_chunks_that_are_encoded(serve: Serve, session: Mounted) -> None:
    """The decoded text of a chunk arrives with the chunk."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Encoding', 'gzip')
        encoded = gzip.compress(b'hello ' * 1000, mtime=0)
        for start in range(0, len(encoded), 7):
            response.write(encoded[start : start + 7])
        response.end()

    address = f'http://127.0.0.1:{serve(listener).where[1]}/'
    assert b''.join(opened(session, address).iter_content(None)) == b'hello ' * 1000
    assert b''.join(opened(session, address).iter_content(100)) == b'hello ' * 1000


@pytest.mark.parametrize(
    'said',
    [
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n',
    ],
)
def test_head_of_a_chunked_body(origin: MakeOrigin, session: Mounted, said: bytes) -> None:
    client = session()
    response = client.head(origin(said).url, stream=True)
    assert response.content == b''
    assert agent_of(client).statistics()['idle'] == 1


# -- the file and the socket ------------------------------------------------------------------------------------------


def test_the_file_of_http_client(origin: MakeOrigin, session: Mounted) -> None:
    said = b'HTTP/1.1 200 Fine\r\nContent-Length: 12\r\nX-A: 1\r\nX-A: 2\r\n\r\none\ntwo\nend\n'
    raw = opened(session, origin(said).url).raw
    found = raw._fp
    assert (found.status, found.code, found.reason, found.version) == (200, 200, 'Fine', 11)
    assert (found.length, found.will_close, found.chunked, found.chunk_left) == (12, False, False, None)
    assert (found.getheader('x-a'), found.getheader('none', 'other')) == ('1, 2', 'other')
    assert found.getheaders()[0] == ('Content-Length', '12')
    file = found.fp
    assert file.readline() == b'one\n'
    assert found.length == 8
    buffer = bytearray(4)
    assert (file.readinto(buffer), bytes(buffer)) == (4, b'two\n')
    assert [line.decode() for line in file] == ['end\n']
    assert file.closed
    assert found.fp is None


def test_the_file_as_text(origin: MakeOrigin, session: Mounted) -> None:
    said = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsch\xc3\xb6n\nja'
    response = opened(session, origin(said).url)
    assert io.TextIOWrapper(response.raw._fp.fp, 'utf-8').read() == 'sch\xf6n\nja'


def test_files_do_not_own_the_connection(origin: MakeOrigin, session: Mounted) -> None:
    """They are created on access, and a collected one closes nothing."""
    response = opened(session, origin(CHUNKS).url)
    for name in ('raw', 'read1', 'closed'):
        getattr(response.raw._fp.fp, name)
    assert response.raw._fp.fp.raw.fileno() > 0
    assert response.raw._fp.fp.raw._sock.makefile('rb').read() == b'oneand twothree'


def test_the_socket(origin: MakeOrigin, session: Mounted) -> None:
    server = origin(CHUNKS)
    response = opened(session, server.url)
    for found in (
        response.raw._fp.fp.raw._sock,
        response.raw.connection.sock,
        response.raw._connection.sock,
        response.raw._fp.fp.raw.sock,
    ):
        assert found.getpeername() == ('127.0.0.1', server.port)
        assert found.getsockname()[0] == '127.0.0.1'
        assert (found.family, found.type) == (stdlib.AF_INET, stdlib.SOCK_STREAM)
        assert not hasattr(found, 'getpeercert')
    with pytest.raises(io.UnsupportedOperation, match='101 Switching'):
        found.sendall(b'x')
    with pytest.raises(io.UnsupportedOperation, match='always blocks'):
        found.setblocking(False)
    assert response.content == b'oneand twothree'
    assert response.raw.connection is None
    # the addresses are known, and all else raises, since the connection belongs to the agent
    assert found.getpeername() == ('127.0.0.1', server.port)
    assert found.getsockname()[0] == '127.0.0.1'
    with pytest.raises(OSError, match='in use by another request'):
        found.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_OOBINLINE, 1)


def test_options_of_the_socket(origin: MakeOrigin, session: Mounted) -> None:
    response = opened(session, origin(once(CHUNKS[:-15], 'wait')).url)
    found = response.raw._fp.fp.raw._sock
    assert not found.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_OOBINLINE)
    found.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_OOBINLINE, 1)
    assert found.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_OOBINLINE)
    response.close()


def test_the_certificate_of_the_server(secure: Secure, session: Mounted, certificates: Certificates) -> None:
    """NTLM authentication is bound to it."""
    response = opened(session, secure_url(secure()), verify=certificates.ca)
    found = response.raw._fp.fp.raw._sock
    assert found.getpeercert(True).startswith(b'\x30')
    assert found.version() == 'TLSv1.3'
    assert found.selected_alpn_protocol() == 'http/1.1'


def test_the_timeout_of_the_socket(origin: MakeOrigin, session: Mounted) -> None:
    """docker-py removes it from long streams."""
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKS[:-15])
        go_on.wait()
        peer.send(CHUNKS[-15:])

    address = origin(script).url
    response = opened(session, address, timeout=(5, 0.1))
    found = response.raw._fp.fp.raw
    assert found.gettimeout() == 0.1
    found.settimeout(None)
    assert found.gettimeout() is None
    pieces = response.iter_content(None)
    assert [next(pieces), next(pieces)] == [b'one', b'and two']
    gevent.spawn_later(0.3, go_on.set)
    assert next(pieces) == b'three'
    assert list(pieces) == []
    go_on.clear()
    response = opened(session, address)
    assert response.raw._fp.fp.raw.gettimeout() is None
    response = opened(session, address)
    response.raw._fp.fp.raw.settimeout(0.05)
    with pytest.raises(requests.ConnectionError, match='Read timed out'):
        assert response.content
    go_on.set()


# -- giving up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('way', ['raw', 'socket', 'close'])
@pytest.mark.parametrize(
    'said',
    [CHUNKS[:-15], b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\noneand two', b'HTTP/1.1 200 OK\r\n\r\noneand two'],
)
def test_shutdown_wakes_the_reader(origin: MakeOrigin, session: Mounted, said: bytes, way: str) -> None:
    """It gets an error, never the end."""
    client = session()
    response = client.get(origin(once(said, 'wait')).url, stream=True)
    read = Log()

    def reader() -> None:
        while True:
            read.append(response.raw.read(5))

    reading = gevent.spawn(reader)
    read.wait_for_length(2)
    if way == 'raw':
        response.raw.shutdown()
    else:
        found = response.raw._fp.fp.raw._sock
        found.shutdown(stdlib.SHUT_RDWR) if way == 'socket' else found.close()
    with pytest.raises(ProtocolError):
        reading.get()
    assert agent_of(client).total_socket_count == 0


def test_shutdown_from_another_thread(origin: MakeOrigin, session: Mounted) -> None:
    response = opened(session, origin(once(CHUNKS[:-15], 'wait')).url)
    hub = gevent.get_hub()
    reading = gevent.spawn(lambda: b''.join(response.iter_content(None)))
    hub.threadpool.apply(response.raw.shutdown)
    with pytest.raises(exceptions.ChunkedEncodingError):
        reading.get()


def test_shutdown_after_the_end(origin: MakeOrigin, session: Mounted) -> None:
    client = session()
    response = client.get(origin(HELLO).url)
    with pytest.raises(RuntimeError, match='returned to the pool'):
        response.raw.shutdown()
    assert agent_of(client).statistics()['idle'] == 1


# -- another protocol -------------------------------------------------------------------------------------------------


def echo(peer: Peer) -> None:
    """Switch to a protocol that greets and then echoes."""
    peer.request()
    peer.send(SWITCHED + b'early ')
    while data := peer.socket.recv(100):
        peer.send(data.upper())
    peer.send(b'bye')


def test_101_with_another_protocol(origin: MakeOrigin, session: Mounted) -> None:
    client = session()
    response = client.get(origin(echo).url, stream=True, headers=UPGRADE)
    assert (response.status_code, response.headers['upgrade']) == (101, 'tcp')
    file = response.raw._fp.fp
    found = file.raw
    assert found.read(100) == b'early '
    assert found._sock.sendall(b'one') is None
    assert found._sock.recv(2) == b'ON'
    assert found._sock.recv(1, stdlib.MSG_PEEK) == b'E'
    assert found.write(b'two') == 3
    assert file.read(4) == b'ETWO'
    found._sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        found._sock.recv(1)
    found._sock.settimeout(None)
    found._sock.shutdown(stdlib.SHUT_WR)
    assert file.read() == b'bye'
    assert agent_of(client).total_socket_count == 0
    response.close()


@pytest.mark.parametrize('kind', ['poll', 'select'])
def test_waiting_for_the_descriptor(origin: MakeOrigin, session: Mounted, kind: str) -> None:
    """It is readable for buffered bytes and for new ones."""
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SWITCHED + b'early')
        go_on.wait()
        peer.send(b'late')
        peer.closed()

    response = opened(session, origin(script).url, headers=UPGRADE)
    found = response.raw._fp.fp.raw

    def wait() -> None:
        if kind == 'poll':
            poll = gevent.select.poll()
            poll.register(found, select.POLLIN)
            assert poll.poll()
        else:
            assert gevent.select.select([found], [], [])[0] == [found]

    wait()
    assert found._sock.recv(100) == b'early'
    gevent.spawn(go_on.set)
    wait()
    assert found._sock.recv(100) == b'late'
    response.close()


def test_101_without_a_user(origin: MakeOrigin, session: Mounted) -> None:
    """The connection is closed when the response is read or collected."""
    closed = Log()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SWITCHED)
        closed.append(peer.closed())

    address = origin(script).url
    assert session().get(address, headers=UPGRADE).content == b''
    closed.wait_for_length(1)
    response = opened(session, address, headers=UPGRADE)
    assert response.raw._fp.fp.raw.fileno() > 0
    del response
    closed.wait_for_length(2)
    with opened(session, address, headers=UPGRADE) as response:
        assert response.raw._fp.fp is not None
    closed.wait_for_length(3)
    assert response.raw._fp.fp is None


def test_frames_after_a_switch(origin: MakeOrigin, session: Mounted) -> None:
    """As docker-py reads the output of a command: the first frame can arrive with the head."""

    def frame(data: bytes) -> bytes:
        return struct.pack('>BxxxL', 1, len(data)) + data

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(SWITCHED + frame(b'one') + frame(b'two')[:3])
        peer.send(frame(b'two')[3:])

    response = opened(session, origin(script).url, headers=UPGRADE)
    file, frames = response.raw._fp.fp, []
    while header := file.read(8):
        frames.append(file.read(struct.unpack('>BxxxL', header)[1]))
    assert frames == [b'one', b'two']


def test_101_without_an_upgrade_is_an_error(origin: MakeOrigin, session: Mounted) -> None:
    with pytest.raises(requests.ConnectionError, match='101 Switching Protocols without a request'):
        session().get(origin(once(SWITCHED, 'wait')).url)


# -- other adapters ---------------------------------------------------------------------------------------------------


class Between(HTTPAdapter):
    """Create urllib3's pools, like the adapters of requests-toolbelt."""

    terms: dict[str, Any] = {}  # noqa: RUF012 - one for each subclass

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **others: Any) -> None:
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **self.terms)


def test_a_base_class_that_creates_urllib3s_pools(secure: Secure, certificates: Certificates) -> None:
    """Its arguments apply to the agents."""

    class Mixed(Between, AgentAdapter):
        terms = {'ca_certs': certificates.ca, 'server_hostname': 'a.example'}  # noqa: RUF012

    with requests.Session() as client:
        client.trust_env = False
        client.mount('https://', Mixed(max_sockets=3))
        assert client.get(secure_url(secure(certfile=certificates.other))).text == 'GET /'
        assert client.get_adapter('https://x').poolmanager.agents.get(True).max_sockets == 3

    class Refused(Between, AgentAdapter):
        terms = {'ssl_version': ssl.PROTOCOL_TLSv1_2}  # noqa: RUF012

    with pytest.raises(errors.InvalidInput, match='ssl_version'):
        Refused()
