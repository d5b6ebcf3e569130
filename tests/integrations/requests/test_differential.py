"""The adapter for ``requests`` against plain ``requests``: the same scripts, the same server, the same results.

A script gets a session and a URL, and returns or raises. It runs twice, with ``HTTPAdapter`` and with ``AgentAdapter``,
and three things are compared: its result, including attributes of urllib3's response; the class of its exception;
and the bytes that the server has received. For intended differences, :data:`ON_PURPOSE` has the adapter's result, and
``docs/requests.rst`` has the reason.
"""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import itertools
import pickle
import shutil
import ssl
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import gevent
import pytest
import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER, Retry, Timeout

from contrib.examples import connect_proxy
from geventnode.integrations.requests import AgentAdapter
from tests.certificates import Certificates
from tests.https_sites import Secure
from tests.https_sites import url as secure_url
from tests.origins import MakeOrigin, Peer, Received
from tests.servers import Serve
from tests.sessions import apart
from tests.sockets import settle

Script = Callable[[requests.Session, str], Any]


# -- the server -------------------------------------------------------------------------------------------------------


def said(body: bytes = b'ok', *fields: bytes, status: bytes = b'200 OK', framing: str = 'length') -> bytes:
    """Return a response; ``framing`` is ``'length'``, ``'chunked'``, or ``'none'``.

    With ``'none'`` it ends with its head, or with the connection.
    """
    head = b'HTTP/1.1 ' + status + b'\r\n' + b''.join(field + b'\r\n' for field in fields)
    if framing == 'length':
        return head + b'Content-Length: %d\r\n\r\n' % len(body) + body
    if framing == 'chunked':
        pieces = [body[start : start + 70] for start in range(0, len(body), 70)]
        return (
            head
            + b'Transfer-Encoding: chunked\r\n\r\n'
            + b''.join(b'%x\r\n%s\r\n' % (len(piece), piece) for piece in pieces)
            + b'0\r\n\r\n'
        )
    return head + b'\r\n' + body


TEXT = b'0123456789' * 30
LINES = b'one\ntwo\r\nthree\n\nfour'
ZIPPED = gzip.compress(b'hello world ' * 300, mtime=0)
RAW_DEFLATE = zlib.compressobj(wbits=-15)

#: The responses by path on a connection that is kept.
KEPT: dict[str, bytes] = {
    'length': said(TEXT),
    'chunked': said(TEXT, framing='chunked'),
    'empty': said(b''),
    'empty-chunked': said(b'', framing='chunked'),
    'large': said(TEXT * 1000),
    'large-chunked': said(TEXT * 30, framing='chunked'),
    '204': said(b'', status=b'204 No Content', framing='none'),
    '304': said(b'', b'Content-Length: 100', status=b'304 Not Modified', framing='none'),
    '205': said(b'', status=b'205 Reset Content'),
    '404': said(b'none', status=b'404 Not Found'),
    '500': said(b'error', status=b'500 Error'),
    '999': said(b'odd', status=b'999 Odd'),
    'no-reason': said(status=b'200'),
    'gzip': said(ZIPPED, b'Content-Encoding: gzip'),
    'gzip-chunked': said(ZIPPED, b'Content-Encoding: gzip', framing='chunked'),
    'deflate': said(zlib.compress(TEXT), b'Content-Encoding: deflate'),
    'raw-deflate': said(RAW_DEFLATE.compress(TEXT) + RAW_DEFLATE.flush(), b'Content-Encoding: deflate'),
    'no-gzip': said(b'not gzip at all', b'Content-Encoding: gzip'),
    'cut-gzip': said(ZIPPED[:-20], b'Content-Encoding: gzip'),
    'unknown-coding': said(TEXT, b'Content-Encoding: unknown'),
    'two-codings': said(gzip.compress(ZIPPED, mtime=0), b'Content-Encoding: gzip, gzip'),
    'cookies': said(b'', b'Set-Cookie: a=1; Path=/', b'Set-Cookie: b=2; HttpOnly; Path=/'),
    'latin': said(b'', b'X-Name: caf\xe9'),
    'repeated': said(b'', b'X-A: 1', b'X-A: 2', b'x-a: 3'),
    'folded': said(b'', b'X-Folded: one\r\n two'),
    'empty-field': said(b'', b'X-Empty:'),
    'many-fields': said(b'', *[b'X-%d: %s' % (number, b'y' * 500) for number in range(80)]),
    'text': said('sch\xf6n'.encode('latin-1'), b'Content-Type: text/plain; charset=latin-1'),
    'html': said(b'<meta charset=utf-8>', b'Content-Type: text/html'),
    'json': said(b'{"a": [1, 2]}', b'Content-Type: application/json'),
    'lines': said(LINES),
    'lines-chunked': said(LINES, framing='chunked'),
    'link': said(b'', b'Link: <http://x/>; rel="next"'),
    **{
        f'to-{status}': said(b'elsewhere', b'Location: /echo', status=b'%d Elsewhere' % status)
        for status in (301, 302, 303, 307, 308)
    },
    'loop': said(b'', b'Location: /loop', status=b'302 Found'),
    'nowhere': said(status=b'302 Found'),
    'to-nothing': said(b'', b'Location: http://', status=b'302 Found'),
    'to-fragment': said(b'', b'Location: /length#there', status=b'302 Found'),
    'to-blank': said(b'', b'Location: /echo?a=b c', status=b'302 Found'),
    'to-utf8': said(b'', 'Location: /\xe9'.encode(), status=b'302 Found'),
    'to-chunked': said(TEXT, b'Location: /length', status=b'302 Found', framing='chunked'),
    'to-cookie': said(b'', b'Location: /echo', b'Set-Cookie: k=v', status=b'302 Found'),
    'asks': said(b'', b'WWW-Authenticate: Basic realm="x"', status=b'401 Unauthorized'),
    'digest': said(b'', b'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"', status=b'401 Unauthorized'),
    'extension': said(b'x', framing='chunked').replace(b'1\r\nx', b'1;a=b\r\nx'),
    'trailers': said(b'x', framing='chunked')[:-2] + b'X-Trailer: 1\r\n\r\n',
    'continue': b'HTTP/1.1 100 Continue\r\n\r\n' + said(TEXT),
    'busy': said(b'busy', b'Retry-After: 0', status=b'503 Busy'),
}
#: The responses by path before the connection closes.
CLOSED: dict[str, bytes] = {
    'closing': said(TEXT, b'Connection: close'),
    'until-close': said(TEXT, framing='none'),
    'cut-length': said(TEXT)[:-5],
    'cut-chunk': said(TEXT, framing='chunked')[:-12],
    'cut-last-chunk': said(TEXT, framing='chunked')[:-5],
    'cut-status': b'HTTP/1.1 20',
    'nothing': b'',
    'other-protocol': b'SSH-2.0-x\r\n\r\n',
    'no-status': b'HTTP/1.1 abc OK\r\n\r\n',
    'two-lengths': said(b'ok', b'Content-Length: 3'),
    'no-chunk': said(b'x', framing='chunked').replace(b'1\r', b'z\r'),
    'http2': b'HTTP/2 200\r\ncontent-length: 2\r\n\r\nok',
    'extra': said(b'ok') + b'extra',
    'early-hints': b'HTTP/1.1 103 Early Hints\r\n\r\n' + said(TEXT),
    'cut-head': b'HTTP/1.1 200 OK\r\nContent-Le',
    'line-feeds': said(b'ok').replace(b'\r\n', b'\n'),
    'identity': said(b'ok', b'Transfer-Encoding: identity'),
    'blank': said(b'ok', b'X-Blank:  a  '),
}


class Server:
    """Respond by path, and record the received bytes."""

    def __init__(self, origin: MakeOrigin) -> None:
        self.received: list[Received] = []
        self.origin = origin(self.script)

    def script(self, peer: Peer) -> None:
        """See :class:`tests.origins.Origin`."""
        while True:
            request = peer.request()
            self.received.append(request)
            method, target, _ = request.line.split(' ')
            path = target.partition('://')[2].partition('/')[2] if '://' in target else target[1:]
            name = path.partition('?')[0].partition(';')[0]
            if name in ('silent', 'stops'):
                peer.send(b'' if name == 'silent' else said(TEXT)[:-5])
                peer.closed()
                return
            if name == 'digest' and request.value('Authorization'):
                name = 'length'
            body = f'{method} {len(request.body)} {hashlib.sha256(request.body).hexdigest()}'.encode()
            answer = said(body) if name == 'echo' else KEPT.get(name) or CLOSED.get(name, said(status=b'404 No'))
            if method == 'HEAD' and name not in CLOSED:
                # the last head, after informational ones
                answer = answer[: answer.index(b'\r\n\r\n', answer.rindex(b'HTTP/1.1')) + 4]
            peer.send(answer)
            if name in CLOSED:
                return

    def take(self) -> list[Any]:
        """Return the bytes received since the last call."""
        found = [
            (
                request.line,
                sorted(
                    (name.lower(), 'Digest' if value.startswith('Digest') else value) for name, value in request.headers
                ),
                hashlib.sha256(request.body).hexdigest(),
            )
            for request in self.received
        ]
        self.received.clear()
        return found


# -- scripts ----------------------------------------------------------------------------------------------------------


def described(result: Any) -> Any:
    """Return a comparable description of a result or an exception."""
    if isinstance(result, requests.Response):
        raw = result.raw
        fields = {
            name: 'Digest' if value.startswith('Digest') else value
            for name, value in result.request.headers.items()
            if isinstance(value, str)
        }
        return {
            'status': (result.status_code, result.reason, result.ok, result.is_redirect),
            'headers': list(raw.headers.items()),
            'url': result.url,
            'encoding': result.encoding,
            'links': result.links,
            'history': [(each.status_code, each.url, each.content) for each in result.history],
            'cookies': sorted(result.cookies.items()),
            'request': fields,
            'content': attempt(lambda: result.content),
            'raw': (
                raw.version,
                raw.status,
                raw.closed,
                raw.isclosed(),
                raw.tell(),
                raw.length_remaining,
                raw.chunked,
                raw.geturl(),
                repr(raw.retries),
            ),
        }
    if isinstance(result, Exception):
        return type(result).__name__, isinstance(result, (requests.RequestException, HTTPError))
    if isinstance(result, (list, tuple)):
        return [described(each) for each in result]
    return result


def attempt(function: Callable[[], Any]) -> Any:
    """Return the description of the result or the exception of ``function``."""
    try:
        return described(function())
    except Exception as error:
        return described(error)


def run(adapter: type[HTTPAdapter], script: Script, url: str) -> Any:
    """Run ``script`` with a new session."""
    with requests.Session() as session, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        session.trust_env = False
        session.mount('http://', adapter())
        session.mount('https://', adapter())
        return attempt(lambda: script(session, url))


def compare(origin: MakeOrigin, scripts: dict[str, Script], group: str) -> None:
    """Run ``scripts`` with both adapters, and compare."""
    server = Server(origin)
    url = server.origin.url
    differences = {}
    for name, script in scripts.items():
        plain, plainly = apart(run, HTTPAdapter, script, url), server.take()
        ours, sent = run(AgentAdapter, script, url), server.take()
        wanted = ON_PURPOSE.get(f'{group} {name}')
        if wanted is not None:
            if not (wanted(ours, sent) if callable(wanted) else ours == wanted):
                differences[name] = (ours, sent), 'something else, on purpose'
        elif (plain, plainly) != (ours, sent):
            differences[name] = (ours, sent), (plain, plainly)
    # collects the cycles of http.client, and connections that the server has closed
    gc.collect()
    settle()
    assert differences == {}


def headers(*wanted: tuple[str, str]) -> Callable[[Any, Any], bool]:
    """The response has these headers."""
    return lambda ours, sent: ours['headers'] == list(wanted)


def sends(*names: str) -> Callable[[Any, Any], bool]:
    """The request has headers of these names."""
    return lambda ours, sent: [name for name, _ in sent[0][1]] == list(names)


def once(ours: Any, sent: list[Any]) -> bool:
    """Check that the server got one request, and the result is its response."""
    return len(sent) == 1 and ours['status'][0] == 503


REFUSED = ('ConnectionError', True)
#: The intended differences of the adapter: a result, or a check of the result and of the sent bytes.
ON_PURPOSE: dict[str, Any] = {
    # see "Invalid responses": http.client is lenient, and takes 103 for the final response
    **{f'{method} {name}': REFUSED for method in ('GET', 'POST', 'HEAD') for name in ('cut-head', 'line-feeds')},
    **{f'{method} identity': REFUSED for method in ('GET', 'POST')},
    **{f'{method} blank': headers(('X-Blank', 'a'), ('Content-Length', '2')) for method in ('GET', 'POST', 'HEAD')},
    # as newer releases of urllib3
    **{
        f'{method} folded': headers(('X-Folded', 'one two'), ('Content-Length', '0'))
        for method in ('GET', 'POST', 'HEAD')
    },
    **{f'{method} early-hints': headers(('Content-Length', '300')) for method in ('GET', 'POST', 'HEAD')},
    # see "Differences from plain requests": headers that are None, and invalid ones
    'headers all None': sends('host'),
    'headers User-Agent': sends('accept', 'accept-encoding', 'connection', 'host'),
    **{f'headers {name}': ('InvalidHeader', True) for name in ('beyond latin-1', 'name', 'NUL', 'Host')},
    # every read of an incomplete body raises
    **{
        f'reading drained {name}': ('ProtocolError', True)
        for name in ('cut-length', 'cut-chunk', 'cut-last-chunk', 'no-chunk')
    },
    # a generator or pipe cannot be sent a second time
    **{f'again {name}': once for name in ('iterator', 'text iterator', 'no pieces', 'empty pieces', 'unsized file')},
    # TRACE has no body (RFC 9110, section 9.3.8)
    **{
        f'TRACE {name}': ('BodyNotAllowed', False)
        for name in (
            'bytes',
            'text',
            'form',
            'pairs',
            'iterator',
            'text iterator',
            'no pieces',
            'empty pieces',
            'file',
            'empty file',
            'text file',
            'unsized file',
            'begun file',
            'bytearray',
            'memoryview',
            'large',
            'not bytes',
        )
    },
    # requests does not translate these exceptions of urllib3
    'urls label': REFUSED,
    'urls long label': REFUSED,
    # CONNECT has HTTP/1.1, and no default port in Host
    'proxies tunnel': sends('connection', 'host'),
    'proxies port': lambda ours, sent: ('host', 'some.example') in sent[0][1],
}


# -- scripts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('method', ['GET', 'POST', 'HEAD'])
def test_responses(origin: MakeOrigin, method: str) -> None:
    def script(name: str) -> Script:
        return lambda session, url: session.request(method, f'{url}/{name}', data=b'x' if method == 'POST' else None)

    names = [*KEPT, *CLOSED]
    if method == 'HEAD':
        # urllib3 logs the traceback, through which pytest keeps the connection
        names.remove('cut-head')
    compare(origin, {name: script(name) for name in names}, method)


def by_read1(raw: Any) -> bytes:
    """Read available pieces."""
    return b''.join(iter(lambda: raw.read1(10), b''))


def by_readinto(raw: Any) -> list[Any]:
    """Read into a buffer."""
    buffer = bytearray(20)
    return [(raw.readinto(buffer), bytes(buffer), raw.tell()) for _ in range(20)]


def copied(raw: Any) -> bytes:
    """Read like shutil."""
    target = io.BytesIO()
    shutil.copyfileobj(raw, target)
    return target.getvalue()


def closed(response: Any) -> list[Any]:
    """Read a closed response."""
    response.close()
    return [response.raw.closed, response.raw.read(), list(response.iter_content(10))]


READING: dict[str, Callable[[Any], Any]] = {
    'content': lambda response: [response.content, response.raw.closed],
    'pieces of 1': lambda response: b''.join(response.iter_content(1)),
    'pieces of 100': lambda response: list(response.iter_content(100)),
    'as it comes': lambda response: list(response.iter_content(None)) if response.raw.chunked else response.content,
    'lines': lambda response: list(response.iter_lines()),
    'lines of pieces': lambda response: list(response.iter_lines(chunk_size=1)),
    'lines by delimiter': lambda response: list(response.iter_lines(delimiter=b'e')),
    'text': lambda response: [response.text, response.apparent_encoding],
    'raw': lambda response: [response.raw.read(), response.raw.closed, response.raw.tell()],
    'raw pieces': lambda response: [
        *(response.raw.read(size) for size in (3, 3, 0)),
        response.raw.read(),
        response.raw.read(3),
        response.raw.closed,
        response.raw.tell(),
        response.raw.length_remaining,
    ],
    'raw decoded': lambda response: response.raw.read(decode_content=True),
    'raw decoded pieces': lambda response: [
        response.raw.read(7, decode_content=True),
        response.raw.read(decode_content=True),
    ],
    'raw stream': lambda response: list(response.raw.stream(64, decode_content=True)),
    'raw lines': lambda response: list(response.raw),
    'raw data': lambda response: response.raw.data,
    'read1': lambda response: by_read1(response.raw),
    'copied': lambda response: copied(response.raw),
    'drained': lambda response: [response.raw.drain_conn(), response.raw.closed, response.raw.read()],
    'closed': closed,
}


@pytest.mark.parametrize('way', READING)
def test_reading(origin: MakeOrigin, way: str) -> None:
    names = [
        'length',
        'chunked',
        'empty',
        'empty-chunked',
        '204',
        '304',
        '404',
        'gzip',
        'gzip-chunked',
        'deflate',
        'raw-deflate',
        'no-gzip',
        'cut-gzip',
        'unknown-coding',
        'two-codings',
        'lines',
        'lines-chunked',
        'text',
        'large-chunked',
        'to-302',
        'trailers',
        'extension',
        'continue',
        'closing',
        'until-close',
        'cut-length',
        'cut-chunk',
        'cut-last-chunk',
        'no-chunk',
        'extra',
    ]

    def script(name: str) -> Script:
        return lambda session, url: READING[way](session.get(f'{url}/{name}', stream=True, allow_redirects=False))

    compare(origin, {name: script(name) for name in names}, f'reading {way}')


def test_reading_into_a_buffer(origin: MakeOrigin) -> None:
    def script(name: str) -> Script:
        return lambda session, url: by_readinto(session.get(f'{url}/{name}', stream=True).raw)

    compare(origin, {name: script(name) for name in ('length', 'chunked', 'gzip', 'empty', 'until-close')}, 'readinto')


class Unsized:
    """A file of unknown length and position."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        """Read like a file."""
        return self._file.read(size)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)


def begun() -> io.BytesIO:
    """Return a partly read file."""
    file = io.BytesIO(b'012345')
    file.seek(2)
    return file


BODIES: dict[str, Callable[[], Any]] = {
    'none': lambda: None,
    'nothing': lambda: b'',
    'bytes': lambda: b'abc',
    'text': lambda: '\xe4bc',
    'form': lambda: {'a': 'b', 'c': ['d', 'e']},
    'pairs': lambda: (('a', '1'), ('b', '2')),
    'iterator': lambda: iter([b'a', b'bc']),
    'text iterator': lambda: iter(['a', 'bc']),
    'no pieces': lambda: iter([]),
    'empty pieces': lambda: iter([b'', b'a', b'']),
    'file': lambda: io.BytesIO(b'file'),
    'empty file': lambda: io.BytesIO(b''),
    'text file': lambda: io.StringIO('text'),
    'unsized file': lambda: Unsized(b'file'),
    'begun file': begun,
    'bytearray': lambda: bytearray(b'abc'),
    'memoryview': lambda: memoryview(b'abc'),
    'large': lambda: b'x' * 1000000,
    'number': lambda: 5,
    'object': object,
    'not bytes': lambda: iter([1]),
}


@pytest.mark.parametrize(
    'method', ['POST', 'put', 'PATCH', 'DELETE', 'GET', 'OPTIONS', 'HEAD', 'TRACE', 'QUERY', 'X-OWN']
)
def test_bodies(origin: MakeOrigin, method: str) -> None:
    def script(make: Callable[[], Any]) -> Script:
        return lambda session, url: session.request(method, f'{url}/echo', data=make())

    compare(origin, {name: script(make) for name, make in BODIES.items()}, method)


@pytest.mark.parametrize('path', ['to-307', 'to-302', 'digest', 'busy'])
def test_bodies_that_are_sent_twice(origin: MakeOrigin, path: str) -> None:
    policy = Retry(2, status_forcelist=[503], allowed_methods=None, raise_on_status=False)

    def script(make: Callable[[], Any]) -> Script:
        def ask(session: requests.Session, url: str) -> Any:
            adapter: Any = session.get_adapter(url)
            adapter.max_retries = policy
            return session.post(
                f'{url}/{path}', data=make(), auth=HTTPDigestAuth('user', 'word') if path == 'digest' else None
            )

        return ask

    compare(origin, {name: script(make) for name, make in BODIES.items()}, 'again' if path == 'busy' else path)


def test_slow_bodies(origin: MakeOrigin) -> None:
    def script(make: Callable[[], Any]) -> Script:
        return lambda session, url: session.post(f'{url}/continue', data=make(), headers={'Expect': '100-continue'})

    compare(origin, {name: script(BODIES[name]) for name in ('bytes', 'iterator', 'file')}, 'expect')


def test_headers(origin: MakeOrigin) -> None:
    def script(fields: dict[str, Any]) -> Script:
        return lambda session, url: session.get(f'{url}/echo', headers=fields)

    compare(
        origin,
        {
            name: script(fields)
            for name, fields in {
                'bytes': {'X-A': b'b'},
                'number': {'X-A': 5},
                'line end': {'X-A': 'a\nb'},
                'leading': {'X-A': ' a'},
                'trailing': {'X-A': 'a '},
                'latin-1': {'X-A': '\xe9'},
                'beyond latin-1': {'X-A': '\u20ac'},
                'empty': {'X-A': ''},
                'other host': {'Host': 'other.example'},
                'host as bytes': {'Host': b'other.example'},
                'Host': {'Host': 'a b'},
                'close': {'Connection': 'close'},
                'keep-alive': {'Connection': 'Keep-Alive'},
                'both': {'x-a': '1', 'X-A': '2'},
                'name': {'X A': 'b'},
                'cookie': {'Cookie': 'a=b'},
                'authorization': {'Authorization': 'Bearer x'},
                'range': {'Range': 'bytes=0-5'},
                'identity': {'Accept-Encoding': 'identity'},
                'TE': {'TE': 'trailers'},
                'upgrade': {'Upgrade': 'h2c', 'Connection': 'Upgrade'},
                'no name': {'': 'x'},
                'long': {'X-L': 'y' * 20000},
                'length': {'Content-Length': '0'},
                'tab': {'X-A': 'a\tb'},
                'NUL': {'X-A': 'a\0b'},
                'folded': {'X-A': 'a\r\n b'},
                'no host': {'Host': None},
                'no Connection': {'Connection': None},
                'User-Agent': {'User-Agent': None},
                'all None': {'User-Agent': None, 'Accept': None, 'Accept-Encoding': None, 'Connection': None},
                'skipped': {'Accept-Encoding': SKIP_HEADER, 'User-Agent': SKIP_HEADER},
                'skipped Host': {'Host': SKIP_HEADER},
                'skipped other': {'X-A': SKIP_HEADER},
            }.items()
        },
        'headers',
    )


def test_urls(origin: MakeOrigin) -> None:
    def script(path: str) -> Script:
        return lambda session, url: session.get(path if ':' in path else url + path, timeout=5)

    compare(
        origin,
        {
            **{
                path: script(path)
                for path in (
                    '/echo?a=b&c=d',
                    '/echo#x',
                    '/echo?a b',
                    '/echo?\xe4=\xf6',
                    '/echo?%zz',
                    '/a/../echo',
                    '/%65cho',
                    '//echo',
                    '/echo?a+b',
                    '/echo;x',
                    '',
                    '?x',
                    '/echo?a[]=1',
                    '/echo?a|b',
                    '/echo?"x"',
                    '/echo\\x',
                    '/*',
                    '/echo?\x01',
                    '/ec\tho',
                    '/echo?\n',
                    '/echo?%c3%a4',
                    'http://',
                    'http://:80/',
                    'http://x:99999/',
                    'http://[::1/',
                    'http://*.x/',
                    'ftp://x/',
                    'mailto:x',
                    'http:x',
                    'http://127.0.0.1:0/',
                    'http://127.0.0.1:1/',
                    'http://127.0.0.1:-1/',
                    'http://127.0.0.1:x/',
                    'HTTP://127.0.0.1:1',
                    'http://unknown.invalid/',
                    'http://256.1.1.1/',
                )
            },
            'label': script('http://a..b/'),
            'long label': script(f'http://{"a" * 70}.x/'),
        },
        'urls',
    )


def pause(session: requests.Session) -> Iterator[bytes]:
    """Yield a body for longer than the read timeout."""
    yield b'a'
    (gevent.sleep if isinstance(session.get_adapter('http://x'), AgentAdapter) else time.sleep)(0.3)
    yield b'b'


def fails(before: int) -> Iterator[bytes]:
    """Yield a part of a body, and raise."""
    yield from itertools.repeat(b'x', before)
    raise LookupError('mine')


def test_timeouts_and_failures(origin: MakeOrigin) -> None:
    def get(path: str, **options: Any) -> Script:
        return lambda session, url: session.get(f'{url}/{path}', **options)

    compare(
        origin,
        {
            'silent': get('silent', timeout=0.1),
            'silent for reading': get('silent', timeout=(5, 0.1)),
            'silent by object': get('silent', timeout=Timeout(0.1)),
            'silent in all': get('silent', timeout=Timeout(total=0.1)),
            'stops': get('stops', timeout=0.1),
            'stops in stream': lambda session, url: session.get(f'{url}/stops', timeout=0.1, stream=True).content,
            'stops in raw': lambda session, url: session.get(f'{url}/stops', timeout=0.1, stream=True).raw.read(),
            'stops in pieces': lambda session, url: list(
                session.get(f'{url}/stops', timeout=0.1, stream=True).iter_content(3)
            ),
            'zero': get('length', timeout=0),
            'negative': get('length', timeout=-1),
            'text': get('length', timeout='x'),
            'three': get('length', timeout=(1, 2, 3)),
            'bool': get('length', timeout=True),
            'slow body': lambda session, url: session.post(f'{url}/echo', data=pause(session), timeout=(5, 0.1)),
            'no body': lambda session, url: session.post(f'{url}/echo', data=fails(0)),
            'half a body': lambda session, url: session.post(f'{url}/echo', data=fails(2)),
            'no authorities': get('length', verify='/none'),
            'no certificate': get('length', cert='/none'),
        },
        'times',
    )


def test_proxies(origin: MakeOrigin) -> None:
    def get(target: str, proxy: str = '{}', kind: str = 'http', **options: Any) -> Script:
        return lambda session, url: session.get(
            target, proxies={kind: proxy.format(url, url.partition('//')[2])}, **options
        )

    compare(
        origin,
        {
            'plain': get('http://some.example/echo?x'),
            'user': get('http://some.example/echo', 'http://u:p@{1}'),
            'no scheme': get('http://some.example/echo', '{1}'),
            'all': get('http://some.example/echo', kind='all'),
            'host': get('http://some.example/echo', headers={'Host': 'other'}),
            'redirect': get('http://some.example/to-302'),
            'fragment': get('http://u:p@some.example/echo#f'),
            'port': get('http://some.example:80/echo'),
            'other port': get('http://some.example:8080/echo'),
            'tunnel': get('https://some.example/echo', kind='https'),
            'none': get('http://some.example/', 'http://127.0.0.1:1'),
            'malformed': get('http://some.example/', 'http://'),
            'unknown': get('http://some.example/', 'unknown://127.0.0.1:1'),
        },
        'proxies',
    )


def test_sessions(origin: MakeOrigin) -> None:
    """The features of ``requests`` that use the adapter."""

    def with_limit(session: requests.Session, url: str) -> Any:
        session.max_redirects = 2
        return session.get(f'{url}/loop')

    def with_cookie(session: requests.Session, url: str) -> Any:
        session.cookies.set('q', 'r')
        return session.get(f'{url}/echo')

    def twice(session: requests.Session, url: str) -> Any:
        prepared = session.prepare_request(requests.Request('POST', f'{url}/echo', data=b'abc'))
        return [session.send(prepared), session.send(prepared)]

    def hooked(response: requests.Response, *args: Any, **options: Any) -> requests.Response:
        response.headers['X-Hooked'] = 'yes'
        return response

    def reopened(session: requests.Session, url: str) -> Any:
        session.close()
        return session.get(f'{url}/length')

    def pieces_twice(session: requests.Session, url: str) -> Any:
        response = session.get(f'{url}/length', stream=True)
        return [list(response.iter_content(500)), response.content]

    def state(session: requests.Session, url: str) -> Any:
        raw: Any = session.get(f'{url}/large', stream=True).raw
        return [
            raw.readable(),
            raw.writable(),
            raw.seekable(),
            raw.closed,
            raw.isclosed(),
            bool(raw.connection),
            raw.enforce_content_length,
            raw.auto_close,
            raw.decode_content,
            raw.supports_chunked_reads(),
            raw.getheader('content-length'),
            raw.info()['content-length'],
            raw.reason,
            raw.status,
            raw.length_remaining,
            raw.release_conn(),
            isinstance(raw.fileno(), int),
        ]

    def as_text(session: requests.Session, url: str) -> Any:
        raw: Any = session.get(f'{url}/lines', stream=True).raw
        raw.auto_close = False
        return io.TextIOWrapper(raw).read()

    compare(
        origin,
        {
            'basic': lambda session, url: session.get(f'{url}/echo', auth=('u', 'p')),
            'digest': lambda session, url: session.get(f'{url}/digest', auth=HTTPDigestAuth('u', 'p')),
            'user in URL': lambda session, url: session.get(url.replace('//', '//u:p@') + '/echo'),
            'user alone': lambda session, url: session.get(url.replace('//', '//key@') + '/echo'),
            'json': lambda session, url: session.post(f'{url}/echo', json={'a': 1}),
            'empty json': lambda session, url: session.post(f'{url}/echo', json={}),
            'parameters': lambda session, url: session.get(
                f'{url}/echo', params={'a': ['1', '2'], 'b': None, 'c': '\xfc'}
            ),
            'cookies': lambda session, url: [session.get(f'{url}/cookies'), session.get(f'{url}/echo')],
            'own cookies': lambda session, url: session.get(f'{url}/echo', cookies={'a': 'b'}),
            'kept cookies': with_cookie,
            'hook': lambda session, url: session.get(f'{url}/length', hooks={'response': hooked}),
            'prepared twice': twice,
            'too many redirects': with_limit,
            'closed and open': reopened,
            'pieces twice': pieces_twice,
            'state': state,
            'no redirects': lambda session, url: session.get(f'{url}/to-302', allow_redirects=False),
            'next': lambda session, url: session.get(f'{url}/to-302', allow_redirects=False).next.url,
            'as text': as_text,
            'buffered': lambda session, url: io.BufferedReader(session.get(f'{url}/lines', stream=True).raw).readline(),
            'pickled': lambda session, url: pickle.loads(pickle.dumps(session)).get(f'{url}/length'),
            'pickled response': lambda session, url: pickle.loads(pickle.dumps(session.get(f'{url}/length'))).content,
            'raised': lambda session, url: session.get(f'{url}/404').raise_for_status(),
            'decoded': lambda session, url: session.get(f'{url}/json').json(),
            'not decoded': lambda session, url: session.get(f'{url}/length').json(),
            'raw json': lambda session, url: session.get(f'{url}/json', stream=True).raw.json(),
            'unicode lines': lambda session, url: list(
                session.get(f'{url}/html', stream=True).iter_lines(decode_unicode=True)
            ),
            'busy': lambda session, url: session.get(f'{url}/busy'),
        },
        'sessions',
    )


def test_threads(origin: MakeOrigin) -> None:
    """Several threads share a session, with the same results."""
    server = Server(origin)
    url = server.origin.url
    with requests.Session() as session:
        session.trust_env = False
        session.mount('http://', AgentAdapter(max_sockets=2))

        def ask(name: str) -> bytes:
            try:
                return session.get(f'{url}/{name}').content
            finally:
                session.close()
                gevent.get_hub().destroy()

        threads = gevent.get_hub().threadpool
        asking = [threads.spawn(ask, name) for name in ('length', 'chunked', 'length', 'chunked')]
        assert [each.get() for each in asking] == [TEXT] * 4


# -- TLS --------------------------------------------------------------------------------------------------------------


def test_tls(secure: Secure, serve: Serve, certificates: Certificates) -> None:
    """Trusted certificates and errors, including TLS proxies and tunnels."""

    def listener(request: Any, response: Any) -> None:
        subject = request.connection.get_peer_certificate().get('subject', {}) if request.connection.encrypted else {}
        response.end(f'{request.method} {request.url} for {request.headers["host"]} by {subject.get("CN")}')

    asking = {'ca': certificates.ca, 'request_cert': True, 'reject_unauthorized': False}
    sites = {
        name: secure(listener, certfile=getattr(certificates, name), **asking)
        for name in ('server', 'other', 'expired', 'self_signed')
    }
    strict = secure(listener, ca=certificates.ca, request_cert=True)
    proxy = serve(listener)
    proxy.server.on('connect', connect_proxy.open_tunnel)
    plain, right = f'http://127.0.0.1:{proxy.where[1]}', secure_url(sites['server'])
    old = certificates.server_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        'trusted': (right, {'verify': certificates.ca}),
        'by address': (secure_url(sites['server'], host='127.0.0.1'), {'verify': certificates.ca}),
        'not trusted': (right, {}),
        'not verified': (right, {'verify': False}),
        'other authority': (right, {'verify': certificates.self_signed}),
        'other name': (secure_url(sites['other']), {'verify': certificates.ca}),
        'other name, not verified': (secure_url(sites['other']), {'verify': False}),
        'expired': (secure_url(sites['expired']), {'verify': certificates.ca}),
        'self-signed': (secure_url(sites['self_signed']), {'verify': certificates.ca}),
        'old': (secure_url(secure(listener, context=old, certfile=None)), {'verify': certificates.ca}),
        'certificate': (right, {'verify': certificates.ca, 'cert': certificates.client}),
        'certificate and key': (right, {'verify': certificates.ca, 'cert': (certificates.client, certificates.client)}),
        'no certificate': (secure_url(strict), {'verify': certificates.ca}),
        'no authorities': (right, {'verify': '/none'}),
        'certificate that is none': (right, {'cert': '/none'}),
        'no TLS': (f'https://127.0.0.1:{proxy.where[1]}/', {}),
        'TLS': (right.replace('https:', 'http:'), {}),
        'tunnel': (right, {'verify': certificates.ca, 'proxies': {'https': plain}}),
        'tunnel to another': (secure_url(sites['other']), {'verify': certificates.ca, 'proxies': {'https': plain}}),
        'tunnel with certificate': (
            right,
            {'verify': certificates.ca, 'cert': certificates.client, 'proxies': {'https': plain}},
        ),
        'proxy': ('http://some.example/', {'verify': certificates.ca, 'proxies': {'http': right}}),
        'proxy, not trusted': ('http://some.example/', {'proxies': {'http': right}}),
        'proxy, not verified': ('http://some.example/', {'verify': False, 'proxies': {'http': right}}),
        'proxy of another name': (
            'http://some.example/',
            {'verify': certificates.ca, 'proxies': {'http': secure_url(sites['other'])}},
        ),
        'proxy and certificate': (
            'http://some.example/',
            {'verify': certificates.ca, 'cert': certificates.client, 'proxies': {'http': right}},
        ),
    }

    def script(address: str, options: dict[str, Any]) -> Script:
        def ask(session: requests.Session, url: str) -> Any:
            response = session.get(address, **options)
            return [response.status_code, response.text]

        return ask

    found = {
        name: (run(AgentAdapter, script(*case), ''), apart(run, HTTPAdapter, script(*case), ''))
        for name, case in cases.items()
    }
    if tuple(map(int, version('urllib3').split('.')[:2])) < (2, 8):
        # the client certificate is for the server, not for the proxy
        ours, theirs = found.pop('proxy and certificate')
        assert (ours[1], theirs[1]) == (
            'GET http://some.example/ for some.example by None',
            'GET http://some.example/ for some.example by client',
        )
    # requests does not verify proxies for http: URLs
    for name in ('proxy, not trusted', 'proxy of another name'):
        assert found.pop(name)[0] == ('ProxyError', True)
    assert {name: both for name, both in found.items() if both[0] != both[1]} == {}
