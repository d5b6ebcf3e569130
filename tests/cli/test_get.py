"""``geventnode get``: requests, output, and error messages."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from geventnode import __version__
from geventnode.cli.main import main
from tests.fetching import Get, RawServer, commands, raw_servers, url
from tests.http_proxies import Proxy
from tests.https_sites import Secure
from tests.https_sites import url as secure_url
from tests.origins import MakeOrigin
from tests.servers import Serve, Site

FORM = 'application/x-www-form-urlencoded'


@pytest.fixture
def get_command(capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Get]:
    yield from commands(capfdbinary)


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    yield from raw_servers()


class Seen(list[Any]):
    """The requests that a listener received: (method, url, headers, body)."""

    def listener(self, request: Any, response: Any) -> None:
        body = request.read()
        self.append((request.method, request.url, dict(request.raw_headers), body))
        response.end('done\n')


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def site(serve: Serve, seen: Seen) -> Site:
    return serve(seen.listener)


# -- requests ---------------------------------------------------------------------------------------------------------


def test_request_has_default_headers(site: Site, seen: Seen, get_command: Get) -> None:
    assert get_command(url(site, '/a?b=c#d')) == (0, b'done\n', '')
    assert seen == [
        (
            'GET',
            '/a?b=c',
            {
                'Host': f'127.0.0.1:{site.where[1]}',
                'User-Agent': f'geventnode/{__version__}',
                'Accept': '*/*',
                'Connection': 'close',
            },
            b'',
        )
    ]


@pytest.mark.parametrize(
    ('arguments', 'method', 'body', 'kind'),
    [
        (['-d', 'a=b'], 'POST', b'a=b', FORM),
        (['--data', ''], 'POST', b'', FORM),
        (['-d', 'a', '-X', 'PUT'], 'PUT', b'a', FORM),
        (['-d', 'a', '-X', 'GET'], 'GET', b'a', FORM),
        (['-d', 'a', '-H', 'content-type: text/plain'], 'POST', b'a', None),
        (['-d', 'a', '-H', 'Content-Type:'], 'POST', b'a', None),
        (['-d', 'é\udcff'], 'POST', b'\xc3\xa9\xff', FORM),
        (['-X', 'DELETE'], 'DELETE', b'', None),
    ],
)
def test_data_chooses_the_method(
    site: Site, seen: Seen, get_command: Get, arguments: list[str], method: str, body: bytes, kind: str | None
) -> None:
    assert get_command(*arguments, url(site)).status == 0
    ((sent, _, headers, received),) = seen
    assert (sent, received, headers.get('Content-Type')) == (method, body, kind)
    assert headers.get('Content-Length', '0') == str(len(body))


def test_given_headers_replace_automatic_ones(site: Site, seen: Seen, get_command: Get) -> None:
    """They replace automatic ones, keep their spelling, and can be empty or repeated."""
    given = ['X-One:  1 ', 'ACCEPT: text/html', 'X-Empty;', 'Cookie: a', 'X-Bytes: é', 'host: other']
    assert get_command(url(site), *(f'-H{each}' for each in given), '-H', 'Cookie: b').status == 0
    headers = seen[0][2]
    assert headers == {
        'host': 'other',
        'User-Agent': f'geventnode/{__version__}',
        'X-One': '1',
        'ACCEPT': 'text/html',
        'X-Empty': '',
        'Cookie': 'b',
        'X-Bytes': 'é'.encode().decode('latin-1'),
        'Connection': 'close',
    }


@pytest.mark.parametrize(
    ('removed', 'left'),
    [
        (['User-Agent', 'accept'], {'Host', 'Authorization', 'Connection'}),
        (['Authorization'], {'Host', 'User-Agent', 'Accept', 'Connection'}),
        (['Connection'], {'Host', 'User-Agent', 'Accept', 'Authorization'}),
        (['X-Unknown'], {'Host', 'User-Agent', 'Accept', 'Authorization', 'Connection'}),
    ],
)
def test_headers_can_be_removed(site: Site, seen: Seen, get_command: Get, removed: list[str], left: set[str]) -> None:
    where = url(site).replace('://', '://user:password@')
    assert get_command(where, *(f'-H{each}:' for each in removed)).status == 0
    assert set(seen[0][2]) == left


@pytest.mark.parametrize(('user', 'field'), [('key', 'Basic a2V5Og=='), ('', None), (':', None)])
def test_user_without_password_is_sent(site: Site, seen: Seen, get_command: Get, user: str, field: str | None) -> None:
    assert get_command(url(site).replace('://', f'://{user}@')).status == 0
    assert seen[0][2].get('Authorization') == field


def test_host_can_be_removed(serve: Serve, get_command: Get) -> None:
    """The server's 400 shows that the field was missing (RFC 9112, section 3.2)."""
    site = serve()
    assert get_command(url(site), '-H', 'Host:', '--include').output.startswith(b'HTTP/1.1 400 ')


def test_body_without_content_length_is_chunked(site: Site, seen: Seen, get_command: Get) -> None:
    assert get_command(url(site), '-d', 'abc', '-H', 'Content-Length:').status == 0
    assert seen[0][2]['Transfer-Encoding'] == 'chunked'
    assert seen[0][3] == b'abc'


def test_expect_waits_for_100(site: Site, seen: Seen, get_command: Get) -> None:
    assert get_command(url(site), '-d', 'abc', '-H', 'Expect: 100-continue') == (0, b'done\n', '')
    assert seen[0][3] == b'abc'


def test_file_is_sent_with_its_length(site: Site, seen: Seen, get_command: Get, tmp_path: Path) -> None:
    """The file is sent unchanged, line ends included, with its length."""
    file = tmp_path / 'data'
    file.write_bytes(b'a\r\n\0' * 100_000)
    assert get_command(url(site), '-d', f'@{file}').status == 0
    ((method, _, headers, body),) = seen
    assert (method, body) == ('POST', file.read_bytes())
    assert headers['Content-Length'] == '400000'
    assert headers['Content-Type'] == FORM


# -- output -----------------------------------------------------------------------------------------------------------


def test_include_writes_the_final_head(raw_server: RawServer, get_command: Get) -> None:
    head = b'HTTP/1.1 404 Nothing here\r\nX-A: 1\r\nset-cookie: a\r\nset-cookie: \xe9\r\nContent-Length: 2\r\n\r\n'
    assert get_command(raw_server(b'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n' + head + b'ab'), '--include') == (
        0,
        head + b'ab',
        '',
    )


def test_include_writes_trailers(raw_server: RawServer, get_command: Get) -> None:
    """They are no part of the body, and written after it only with --include."""
    head = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
    reply = raw_server(head + b'3\r\nabc\r\n0\r\nX-Sum: 7\r\nx-b:  two \r\n\r\n')
    assert get_command(reply, '--include') == (0, head + b'abcX-Sum: 7\r\nx-b: two\r\n', '')
    assert get_command(reply) == (0, b'abc', '')


def test_head_has_no_body(site: Site, get_command: Get) -> None:
    ran = get_command('-X', 'HEAD', '--include', url(site))
    assert ran.status == 0
    assert b'\r\nContent-Length: 5\r\n' in ran.output
    assert ran.output.endswith(b'\r\n\r\n')


def test_redirects_are_not_followed(serve: Serve, get_command: Get) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_head(302, {'Location': '/other'})
        response.end(request.url)

    assert get_command(url(serve(listener))) == (0, b'/', '')


@pytest.mark.parametrize('status', [200, 302, 399])
def test_fail_accepts_status_below_400(raw_server: RawServer, get_command: Get, status: int) -> None:
    where = raw_server(b'HTTP/1.1 %d \r\nContent-Length: 2\r\n\r\nok' % status)
    assert get_command('--fail', where) == (0, b'ok', '')


@pytest.mark.parametrize('reason', ['Not Found', ''])
def test_fail_writes_no_body(raw_server: RawServer, get_command: Get, reason: str) -> None:
    where = raw_server(f'HTTP/1.1 404 {reason}\r\nContent-Length: 2\r\n\r\nno'.encode())
    complaint = f'geventnode: the server responded 404 {reason}'.rstrip() + '\n'
    assert get_command('--fail', where) == (22, b'', complaint)


def test_fail_with_include_writes_the_head(raw_server: RawServer, get_command: Get) -> None:
    """The head is written and the body is not, as curl does."""
    head = b'HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n'
    assert get_command('--fail', '--include', raw_server(head + b'no')) == (
        22,
        head,
        'geventnode: the server responded 500 Oh\n',
    )


def test_error_message_has_no_control_characters(raw_server: RawServer, get_command: Get) -> None:
    """U+009B begins a control sequence, as ESC [ does."""
    where = raw_server(b'HTTP/1.1 404 a\x9b2Jb\xe9\r\nContent-Length: 0\r\n\r\n')
    assert get_command('--fail', where).errors == 'geventnode: the server responded 404 a?2Jb\u00e9\n'


# -- mistakes in the command line -------------------------------------------------------------------------------------


def test_unusable_file_of_authorities_is_named_by_its_option(get_command: Get) -> None:
    assert get_command('https://127.0.0.1:1/', '--cacert', 'nowhere') == (
        2,
        b'',
        "geventnode: --cacert: no such file: 'nowhere'\n",
    )


@pytest.mark.parametrize(
    'arguments',
    [
        ['get'],
        ['get', 'http://h/', 'http://h/'],
        ['get', 'http://h/', '--timeout', 'x'],
        ['get', 'http://h/', '--timeout', '-1'],
        ['get', 'http://h/', '-H'],
        ['get', 'http://h/', '--unknown'],
    ],
)
def test_wrong_command_line_prints_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert capsys.readouterr().err.startswith('usage: ')


@pytest.mark.parametrize(
    'where',
    [
        '',
        'localhost',
        'localhost:80',
        '/path',
        'ftp://localhost/',
        'http://',
        'http://a b/',
        'http://a/\n',
        'http://a:b/',
        'http://a:0/',
        'http://[::1/',
        'http://a/\udcff',
    ],
)
def test_bad_url_is_refused(get_command: Get, where: str) -> None:
    ran = get_command(where)
    assert (ran.status, ran.output, ran.errors.count('\n')) == (2, b'', 1)
    assert ran.errors.startswith('geventnode: ')


@pytest.mark.parametrize(
    'arguments',
    [
        ['-H', 'no colon'],
        ['-H', ''],
        ['-H', ': value'],
        ['-H', 'a b: value'],
        ['-H', 'a b:'],
        ['-H', 'A: \x01'],
        ['-H', 'A;b'],
        ['-H', 'A: b\r\nC: d'],
        ['-H', 'Content-Length: x'],
        ['-X', 'a b'],
        ['-d', 'a', '-d', 'b'],
        ['-d', 'abc', '-H', 'Content-Length: 2'],
        ['-d', 'abc', '-X', 'TRACE'],
        ['-d', '@/nowhere/at/all'],
        ['-d', '@/'],
        ['-d', '@\0'],
        ['-o', '/nowhere/at/all'],
        ['-o', '/'],
        ['-o', 'a\0'],
        ['-d', 'a', '-H', 'Expect: 100-continue', '-H', 'Connection:'],
    ],
)
def test_bad_option_is_refused(site: Site, seen: Seen, get_command: Get, arguments: list[str]) -> None:
    ran = get_command(url(site), *arguments)
    assert (ran.status, ran.output, ran.errors.count('\n')) == (2, b'', 1), ran
    assert ran.errors.startswith('geventnode: ')
    assert seen == []


# -- failures ---------------------------------------------------------------------------------------------------------


def test_untrusted_certificate_has_a_remedy(secure: Secure, get_command: Get) -> None:
    assert get_command(secure_url(secure())) == (
        1,
        b'',
        (
            'geventnode: certificate of the peer refused: unable to get local issuer certificate; --cacert FILE '
            'trusts its authority\n'
        ),
    )


def test_refused_connection_is_reported(serve: Serve, get_command: Get) -> None:
    site = serve()
    where = url(site)
    site.close()
    assert get_command(where) == (
        1,
        b'',
        f'geventnode: connect 127.0.0.1:{where.split(":")[2][:-1]}: {os.strerror(errno.ECONNREFUSED)}\n',
    )


@pytest.mark.parametrize(
    ('reply', 'output', 'complaint'),
    [
        (b'', b'', 'closed the connection without a response'),
        (b'HTTP/1.1 200 OK\r\nA', b'', 'ended the connection within a head'),
        (b'SSH-2.0\r\n\r\n', b'', 'the response is not valid HTTP: '),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab', b'ab', 'ended the connection in the middle of a body'),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n', b'ab', 'in the middle of a body'),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nx\r\n', b'ab', 'not valid HTTP: '),
    ],
)
def test_bad_response_is_reported(
    raw_server: RawServer, get_command: Get, reply: bytes, output: bytes, complaint: str
) -> None:
    ran = get_command(raw_server(reply))
    assert (ran.status, ran.output, ran.errors.count('\n')) == (1, output, 1)
    assert ran.errors.startswith('geventnode: ')
    assert complaint in ran.errors


def test_upgrade_is_reported(raw_server: RawServer, get_command: Get) -> None:
    where = raw_server(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nabc')
    assert get_command(where, '-H', 'Connection: Upgrade', '-H', 'Upgrade: x') == (
        1,
        b'',
        'geventnode: the server switched to another protocol (101 Switching Protocols)\n',
    )


def test_timeout_includes_the_body(serve: Serve, get_command: Get) -> None:
    """The limit is for the whole exchange, the body included."""

    def listener(request: Any, response: Any) -> None:
        response.write('begun')
        while not request.aborted:
            gevent.idle()

    ran = get_command(url(serve(listener)), '--timeout', '0.2')
    assert (ran.status, ran.output, ran.errors.count('\n')) == (1, b'begun', 1)
    assert 'deadline' in ran.errors


def test_timeout_of_0_is_no_limit(site: Site, get_command: Get) -> None:
    """0 means no limit."""
    assert get_command(url(site), '--timeout', '0').status == 0


@pytest.mark.parametrize(('stream', 'arguments'), [('stdout', []), ('stdin', ['-d', '@-'])])
def test_closed_standard_stream_is_not_used(
    site: Site, seen: Seen, monkeypatch: pytest.MonkeyPatch, get_command: Get, stream: str, arguments: list[str]
) -> None:
    """The descriptor of a stream that was closed at the start can belong to another file; it is not used."""
    monkeypatch.setattr(sys, stream, None)
    ran = get_command(url(site), *arguments)
    assert ran.status == 2
    assert ran.errors.endswith(f'{os.strerror(errno.EBADF)}\n')
    assert seen == []


def test_closed_standard_error_is_not_used(monkeypatch: pytest.MonkeyPatch, get_command: Get) -> None:
    monkeypatch.setattr(sys, 'stderr', None)
    assert get_command('http://127.0.0.1/', '-H', 'bad') == (2, b'', '')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_exchange_then_process(
    serve: Serve, get_command: Get, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    """The incomplete file is removed, then the signal ends the process."""
    raised: list[int] = []
    # the signal can be ignored if this suite runs in the background of a shell
    before = signal.signal(number, signal.SIG_DFL)
    monkeypatch.setattr(signal, 'raise_signal', raised.append)

    def listener(request: Any, response: Any) -> None:
        response.write('begun')
        os.kill(os.getpid(), number)
        while not request.aborted:
            gevent.idle()

    try:
        ran = get_command(url(serve(listener)), '-o', tmp_path / 'file')
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert (ran.output, ran.errors, raised) == (b'', '', [number])
    assert list(tmp_path.iterdir()) == []


# -- the progress bar -------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


Look = Callable[[], Terminal]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Call it to replace standard error; within the test, because pytest replaces it before."""

    def start() -> Terminal:
        made = Terminal()
        monkeypatch.setattr(sys, 'stderr', made)
        return made

    return start


def test_progress_bar_on_a_terminal(site: Site, get_command: Get, look: Look, tmp_path: Path) -> None:
    pytest.importorskip('tqdm', reason='the extra cli is not installed')
    terminal = look()
    assert get_command(url(site), '-o', tmp_path / 'file').status == 0
    assert '100%' in terminal.getvalue()
    assert '5.00/5.00' in terminal.getvalue()
    assert (tmp_path / 'file').read_bytes() == b'done\n'


@pytest.mark.parametrize('reply', [b'HTTP/1.1 200 OK\r\n\r\nabc', b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'])
def test_progress_bar_without_a_percentage(
    raw_server: RawServer, get_command: Get, look: Look, tmp_path: Path, reply: bytes
) -> None:
    """Without a length there is no percentage; a failure is a line of its own."""
    pytest.importorskip('tqdm', reason='the extra cli is not installed')
    terminal = look()
    ran = get_command(raw_server(reply), '-o', tmp_path / 'file')
    assert ran.status == int(b'Content-Length' in reply)
    assert '3.00' in terminal.getvalue()
    if ran.status:
        assert terminal.getvalue().splitlines()[-1].startswith('geventnode: ')


@pytest.mark.parametrize('output', [[], ['-o', '-']])
def test_no_progress_bar_beside_the_body(site: Site, get_command: Get, look: Look, output: list[str]) -> None:
    terminal = look()
    assert get_command(url(site), *output).output == b'done\n'
    assert terminal.getvalue() == ''


def test_no_progress_bar_without_tqdm(
    site: Site, get_command: Get, look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = look()
    monkeypatch.setitem(sys.modules, 'tqdm', None)
    assert get_command(url(site), '-o', tmp_path / 'file').status == 0
    assert terminal.getvalue() == ''


def test_no_progress_bar_without_a_terminal(site: Site, get_command: Get, tmp_path: Path) -> None:
    assert get_command(url(site), '-o', tmp_path / 'file') == (0, b'', '')


# -- proxies ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch, origin: MakeOrigin) -> tuple[Proxy, str]:
    """Return a proxy and its URL, with an environment that names no proxy."""
    for name in tuple(os.environ):
        if name.lower().endswith('_proxy'):
            monkeypatch.delenv(name)
    script = Proxy()
    return script, origin(script).url


@pytest.mark.parametrize(
    ('environment', 'arguments', 'used'),
    [
        ({'http_proxy': ''}, (), False),
        ({'http_proxy': 'PROXY'}, (), True),
        ({'HTTP_PROXY': 'PROXY'}, (), False),
        ({'ALL_PROXY': 'PROXY'}, (), True),
        ({'http_proxy': 'PROXY', 'no_proxy': '127.0.0.1'}, (), False),
        ({'http_proxy': 'PROXY', 'NO_PROXY': '127.0.0.0/8'}, (), False),
        ({'http_proxy': 'PROXY'}, ('--noproxy', '*'), False),
        ({'http_proxy': 'PROXY', 'no_proxy': '*'}, ('--noproxy', ''), True),
        ({'http_proxy': 'PROXY'}, ('-x', ''), False),
        ({'http_proxy': 'http://127.0.0.1:1'}, ('--proxy', 'PROXY'), True),
        ({}, ('--proxy', 'PROXY', '--noproxy', '127.0.0.1'), False),
        ({'no_proxy': '127.0.0.1'}, ('--proxy', 'PROXY'), False),
        ({'NO_PROXY': '192.168.*'}, (), False),
        ({'NO_PROXY': '192.168.*'}, ('--proxy', ''), False),
        ({'NO_PROXY': '192.168.*', 'http_proxy': 'PROXY'}, ('--noproxy', ''), True),
    ],
)
def test_proxy_is_chosen_as_by_curl(
    monkeypatch: pytest.MonkeyPatch,
    proxied: tuple[Proxy, str],
    site: Site,
    seen: Seen,
    get_command: Get,
    environment: dict[str, str],
    arguments: tuple[str, ...],
    used: bool,
) -> None:
    script, where = proxied
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace('PROXY', where))
    ran = get_command(*(where if each == 'PROXY' else each for each in arguments), url(site))
    assert ran == (0, b'hello' if used else b'done\n', '')
    assert [len(script.requests), len(seen)] == ([1, 0] if used else [0, 1])


def test_failing_proxy_is_named_without_credentials(
    monkeypatch: pytest.MonkeyPatch, proxied: tuple[Proxy, str], get_command: Get
) -> None:
    assert get_command('-x', 'http://user:secret@127.0.0.1:1', 'http://a.example/') == (
        1,
        b'',
        'geventnode: proxy http://127.0.0.1:1: no connection: connect 127.0.0.1:1: Connection refused\n',
    )
    monkeypatch.setenv('http_proxy', 'http://user:secret@x/y')
    assert get_command('http://a.example/') == (
        2,
        b'',
        "geventnode: http_proxy has more than scheme, host and port: 'http://x/y'\n",
    )
