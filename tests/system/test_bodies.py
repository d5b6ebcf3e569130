"""Bodies of requests: five frameworks, every way to send one, and every way to read it, before the next request.

A view gets the sent bytes, however it reads them. The next request on the connection gets a response, unless the
previous response had ``Connection: close``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.needed import need
from tests.servers import Client, get
from tests.system.gunicorns import Gunicorn
from tests.system.running import Served
from tests.system.test_deployment import behind

need('bottle', 'django', 'falcon', 'flask', 'pyramid')

FRAMEWORKS = ['flask', 'django', 'falcon', 'bottle', 'pyramid']
KINDS = ['form', 'raw', 'chunked']
SIZES = [1_000, 100_000, 10_000_000]
LEFT = ['whole', 'length', 'part', 'none']

#: Bytes that a view reads of a partly read body (apps/bodies.py).
PART = 100

#: Bytes of an unread body that a server discards to keep a connection (``max_unread_body``).
DISCARDED = 65_536

#: More bytes than sockets and proxies buffer.
UNREAD = 1_000_000

CONTENT = random.Random(1).randbytes(max(SIZES))

FORM = (
    b'--boundary\r\nContent-Disposition: form-data; name="note"\r\n\r\nfirst\r\n'
    b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
    b'Content-Type: application/octet-stream\r\n\r\n%b\r\n--boundary--\r\n'
)


class Front:
    """The server that clients connect to.

    :ivar name: one of :data:`SERVERS` or :data:`PROXIES`.
    """

    def __init__(self, name: str, address: Any) -> None:
        self.name = name
        self._address = address

    def connect(self) -> Client:
        """Return a new connection."""
        return Client(self._address)

    def may_close(self, size: int, left: str) -> bool:
        """Return whether the connection may close after a response that did not announce it.

        nginx 1.22 does so if the response arrives before nginx has passed on the whole upload, as
        ``proxy_request_buffering off`` makes possible.
        """
        return self.name == 'nginx' and size > UNREAD and left in ('part', 'none')


@contextlib.contextmanager
def by_command(directory: Path) -> Iterator[Any]:
    """Yield the address of ``geventnode serve``."""
    with Served('bodies:application', program='geventnode serve with Flask') as served:
        yield '127.0.0.1', served.port


@contextlib.contextmanager
def by_worker(directory: Path) -> Iterator[Any]:
    """Yield the address of gunicorn."""
    with Gunicorn(directory, 'bodies:application') as gunicorn:
        yield '127.0.0.1', gunicorn.port


#: The servers without a proxy.
SERVERS: dict[str, Callable[[Path], Any]] = {'serve': by_command, 'gunicorn': by_worker}
PROXIES = ['nginx', 'haproxy']


@pytest.fixture(scope='module')
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the gunicorn behind the proxies."""
    with Gunicorn(tmp_path_factory.mktemp('upstream'), 'bodies:application', 'keepalive = 75') as gunicorn:
        # importing the frameworks takes longer than HAProxy's checks wait
        assert gunicorn.ask() == (200, 'next\n')
        yield f'127.0.0.1:{gunicorn.port}'


@pytest.fixture(scope='module', params=[*SERVERS, *PROXIES])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Return the server that clients connect to; a proxy has the configuration of ``contrib/deploy``."""
    name = request.param
    directory = tmp_path_factory.mktemp(name)
    if name in SERVERS:
        with SERVERS[name](directory) as address:
            yield Front(name, address)
    else:
        with behind(name, directory, request.getfixturevalue('upstream')) as path:
            yield Front(name, str(path))


@functools.cache
def sent(kind: str, size: int) -> tuple[list[str], bytes]:
    """Return the fields and the encoded body of a request."""
    content = CONTENT[:size]
    if kind == 'form':
        body = FORM % content
        return ['Content-Type: multipart/form-data; boundary=boundary', f'Content-Length: {len(body)}'], body
    if kind == 'raw':
        return ['Content-Type: application/octet-stream', f'Content-Length: {size}'], content
    pieces = [content[start : start + 60_000] for start in range(0, size, 60_000)]
    chunks = b''.join(b'%x\r\n%b\r\n' % (len(piece), piece) for piece in pieces)
    return ['Content-Type: application/octet-stream', 'Transfer-Encoding: chunked'], chunks + b'0\r\n\r\n'


@functools.cache
def summary(kind: str, size: int, left: str) -> dict[str, Any]:
    """Return the size and the digest of the bytes that a view reads."""
    content = CONTENT[:size]
    body = FORM % content if kind == 'form' else content
    read = {'whole': content, 'length': body, 'part': body[:PART], 'none': b''}[left]
    return {'size': len(read), 'sha256': hashlib.sha256(read).hexdigest()}


def send_accepted(client: Client, data: bytes) -> None:
    """Send ``data``, or as much as the server accepts before it closes."""
    with contextlib.suppress(ConnectionError):
        client.send(data)


def exchange(front: Front, framework: str, kind: str, size: int, left: str) -> str:
    """Send a request and, unless the response closes the connection, the next one; return the failures."""
    fields, body = sent(kind, size)
    head = '\r\n'.join([f'POST /{framework}/{left} HTTP/1.1', 'Host: a', *fields, '', ''])
    with contextlib.closing(front.connect()) as client:
        # a response can arrive before the whole request is sent
        sender = gevent.spawn(send_accepted, client, head.encode() + body)
        try:
            response = client.response()
            if response.status != 200:
                return f'{response.status}: {response.body[:200]!r}'
            if json.loads(response.body) != summary(kind, size, left):
                return f'read {response.body!r}'
            if 'close' in response.values('Connection'):
                return '' if left in ('part', 'none') and size > DISCARDED else 'closes'
            sender.join()
            try:
                following = client.send(get('/')).response()
            except (ConnectionError, EOFError) as error:
                return '' if front.may_close(size, left) else f'then {error!r}'
            return '' if following.body == b'next\n' else f'then {following.status}: {following.body[:200]!r}'
        finally:
            sender.kill()


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_the_next_request_gets_a_response(front: Front, framework: str) -> None:
    wrong = []
    for case in itertools.product(KINDS, SIZES, LEFT):
        try:
            found = exchange(front, framework, *case)
        except (OSError, EOFError) as error:
            found = repr(error)
        if found:
            wrong.append(f'{case}: {found}')
    assert not wrong, '\n'.join(wrong)
