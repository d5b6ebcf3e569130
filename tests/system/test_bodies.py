"""Bodies of requests: five frameworks, every way to send one, and every way to read it, before the next request.

A view gets the sent bytes, however it reads them. The next request on the connection gets a response, unless the
previous response had ``Connection: close``.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.servers import Client, get
from tests.system.gunicorns import Gunicorn
from tests.system.running import Served
from tests.system.test_deployment import behind

for module in ('bottle', 'django', 'falcon', 'flask', 'pyramid'):
    pytest.importorskip(module, reason=f'{module} is not installed; it is in the extra "test"')

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

    :ivar name: which one of :data:`FRONTS` it is.
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
    with Served('bodies:application') as served:
        yield '127.0.0.1', served.port


@contextlib.contextmanager
def by_worker(directory: Path) -> Iterator[Any]:
    """Yield the address of gunicorn."""
    with Gunicorn(directory, 'bodies:application') as gunicorn:
        yield '127.0.0.1', gunicorn.port


@contextlib.contextmanager
def behind_proxy(proxy: str, directory: Path) -> Iterator[Any]:
    """Yield the address of a proxy before gunicorn, with the configuration of ``contrib/deploy``."""
    with Gunicorn(directory, 'bodies:application', 'keepalive = 75') as gunicorn:
        # importing the frameworks takes longer than HAProxy's checks wait
        assert gunicorn.ask() == (200, 'next\n')
        with behind(proxy, directory, f'127.0.0.1:{gunicorn.port}') as path:
            yield str(path)


FRONTS: dict[str, Callable[[Path], Any]] = {
    'serve': by_command,
    'gunicorn': by_worker,
    'nginx': lambda directory: behind_proxy('nginx', directory),
    'haproxy': lambda directory: behind_proxy('haproxy', directory),
}


@pytest.fixture(scope='module', params=FRONTS)
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Return the server that clients connect to."""
    with FRONTS[request.param](tmp_path_factory.mktemp(request.param)) as address:
        yield Front(request.param, address)


def message(framework: str, kind: str, size: int, left: str) -> tuple[bytes, bytes]:
    """Return a request, and the bytes that its view reads."""
    content = CONTENT[:size]
    fields = [f'POST /{framework}/{left} HTTP/1.1', 'Host: a']
    body = content
    if kind == 'form':
        body = FORM % content
        fields.append('Content-Type: multipart/form-data; boundary=boundary')
    else:
        fields.append('Content-Type: application/octet-stream')
    read = {'whole': content, 'length': body, 'part': body[:PART], 'none': b''}[left]
    if kind == 'chunked':
        fields.append('Transfer-Encoding: chunked')
        body = (
            b''.join(
                b'%x\r\n%b\r\n' % (len(piece), piece)
                for piece in (content[start : start + 60_000] for start in range(0, size, 60_000))
            )
            + b'0\r\n\r\n'
        )
    else:
        fields.append(f'Content-Length: {len(body)}')
    return '\r\n'.join((*fields, '', '')).encode() + body, read


def send_accepted(client: Client, data: bytes) -> None:
    """Send ``data``, or as much as the server accepts before it closes."""
    with contextlib.suppress(ConnectionError):
        client.send(data)


def exchange(front: Front, framework: str, kind: str, size: int, left: str) -> str:
    """Send a request and, unless the response closes the connection, the next one; return the failures."""
    data, read = message(framework, kind, size, left)
    with contextlib.closing(front.connect()) as client:
        # a response can arrive before the whole request is sent
        sender = gevent.spawn(send_accepted, client, data)
        try:
            response = client.response()
            if response.status != 200:
                return f'{response.status}: {response.body[:200]!r}'
            if json.loads(response.body) != {'size': len(read), 'sha256': hashlib.sha256(read).hexdigest()}:
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
