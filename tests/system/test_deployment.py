"""``contrib/deploy``: the configurations are valid and consistent, and survive restarts and kills."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from geventnode.http.server.readiness import DEFAULT_PATH
from tests.needed import need
from tests.system.frameworks import Gate
from tests.system.gunicorns import Gunicorn, RawClient
from tests.system.running import (
    APPS,
    NGINX,
    PATIENCE,
    PYTHONPATH,
    ROOT,
    Served,
    haproxy_with,
    nginx_with,
    run,
    run_program,
    tool,
)

DEPLOY = ROOT / 'contrib' / 'deploy'


@pytest.mark.parametrize('proxy', ['haproxy', 'nginx'])
def test_restarts_and_kills_under_load(proxy: str) -> None:
    """Restarts lose no request, kills only the active requests of the killed worker."""
    tool(proxy)
    ran = subprocess.run(
        [
            sys.executable,
            DEPLOY / 'rolling.py',
            '--proxy',
            proxy,
            '--requests',
            '1000',
            '--restarts',
            '2',
            '--kills',
            '2',
        ],
        env={**os.environ, 'PYTHONPATH': PYTHONPATH},
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r'2 restarts, \d+ requests: 0 failed', ran.stdout)
    assert re.search(r'2 kills, \d+ requests: \d+ failed, 0 of all failures unexplained', ran.stdout)


def setting(file: str, pattern: str) -> str:
    """Return the first group of ``pattern`` in a file of the directory."""
    found = re.search(pattern, (DEPLOY / file).read_text(), re.MULTILINE)
    assert found is not None, f'{file} has no {pattern}'
    return found[1]


#: The address of systemd's socket.
ADDRESS = setting('site.socket', r'^ListenStream=(.+)')

#: The prefixes of Unix sockets in the configurations of the proxies; see README.md.
UNIX = {'nginx': 'unix:', 'haproxy': 'unix@'}


def site(directory: Path, **options: Any) -> Gunicorn:
    """Return a gunicorn with the unchanged configuration and application."""
    configuration = (DEPLOY / 'gunicorn.conf.py').read_text().replace('from __future__ import annotations', '')
    return Gunicorn(
        directory, 'web:listener', configuration, cwd=DEPLOY, env={'PYTHONPATH': f'{DEPLOY}:{ROOT}'}, **options
    )


@contextlib.contextmanager
def behind(proxy: str, directory: Path, address: str, interval: str = '2s') -> Iterator[Path]:
    """Run a proxy with its configuration and the upstream ``address``; yield the path of its socket.

    The configuration must have the address of systemd's socket, which is replaced.

    :param interval: the time between two health checks.
    """
    tool(proxy)
    front = directory / 'front'
    text = (DEPLOY / f'{proxy}.{"cfg" if proxy == "haproxy" else "conf"}').read_text()
    assert re.search(rf'^ *server (\w+ )?{re.escape(ADDRESS)} ', text, re.MULTILINE), (
        f'{proxy} has another address than systemd'
    )
    text = text.replace(ADDRESS, address).replace('inter 2s', f'inter {interval}')
    with (
        haproxy_with(directory, text.replace('bind :80', 'bind {front}'))
        if proxy == 'haproxy'
        else nginx_with(directory, text.replace('listen 80;', f'listen unix:{front};'))
    ):
        yield front


def client_of(front: Path) -> RawClient:
    """Return a connection to a proxy."""

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(front))
        return connection

    return RawClient(connect)


def test_site_is_served(tmp_path: Path) -> None:
    """The unchanged configuration and application work."""
    with site(tmp_path) as gunicorn:
        assert gunicorn.ask('/page') == (200, 'You asked for /page\n')
        assert gunicorn.ask('/healthz') == (200, 'ready\n')
        with gunicorn.connect() as client:
            assert client.get().response().getheader('Keep-Alive') == 'timeout=75'


@pytest.mark.parametrize('proxy', ['haproxy', 'nginx'])
def test_site_is_served_through_a_proxy(tmp_path: Path, proxy: str) -> None:
    """The proxies reach the address of systemd's socket."""
    with site(tmp_path) as gunicorn:
        # a worker can take longer to start than HAProxy's checks allow
        assert gunicorn.ask('/healthz') == (200, 'ready\n')
        with behind(proxy, tmp_path, f'127.0.0.1:{gunicorn.port}') as front, client_of(front) as client:
            response = client.get('/page').response()
            assert (response.status, response.read()) == (200, b'You asked for /page\n')


@pytest.mark.parametrize('proxy', ['haproxy', 'nginx'])
def test_site_is_served_at_a_unix_socket(tmp_path: Path, proxy: str) -> None:
    """The README's lines for a Unix socket work."""
    assert f'{UNIX[proxy]}/run/site/site.sock`' in (DEPLOY / 'README.md').read_text()
    path = tmp_path / 'site.sock'
    with site(tmp_path, bind=f'unix:{path}') as gunicorn:
        gunicorn.booted()
        with behind(proxy, tmp_path, f'{UNIX[proxy]}{path}') as front, client_of(front) as client:
            response = client.get('/page').response()
            assert (response.status, response.read()) == (200, b'You asked for /page\n')


@pytest.mark.parametrize('proxy', ['haproxy', 'nginx'])
def test_uploads_pass_a_proxy(tmp_path: Path, proxy: str) -> None:
    """The proxy does not limit bodies."""
    body = bytes(3_000_000)
    with Served('handlers:listener') as served, behind(proxy, tmp_path, f'127.0.0.1:{served.port}') as front:
        with client_of(front) as client:
            client.send(b'POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b' % (len(body), body))
            response = client.response()
            assert (response.status, response.read()) == (200, b'3000000')
        with client_of(front) as client:
            client.send(
                b'POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
                b'%x\r\n%b\r\n0\r\n\r\n' % (len(body), body)
            )
            response = client.response()
            assert (response.status, response.read()) == (200, b'3000000')


@contextlib.contextmanager
def django_behind(proxy: str, directory: Path) -> Iterator[tuple[Path, Gate]]:
    """Run a Django project in one worker behind a proxy; yield the path of the proxy's socket, and its gate."""
    need('django')
    configuration = (DEPLOY / 'gunicorn.conf.py').read_text().replace('from __future__ import annotations', '')
    with contextlib.closing(Gate()) as gate:
        env = {'PYTHONPATH': f'{APPS}:{ROOT}', 'GATE': str(gate.port), 'DIRECTORY': str(directory), 'WORKERS': '1'}
        with Gunicorn(directory, 'deployed:listener', configuration, cwd=APPS, env=env) as gunicorn:
            # Django can take longer to import than HAProxy's checks allow
            assert gunicorn.ask('/healthz') == (200, 'ready\n')
            with behind(proxy, directory, f'127.0.0.1:{gunicorn.port}') as front:
                yield front, gate


@pytest.mark.parametrize('proxy', ['haproxy', 'nginx'])
def test_posts_after_uploads_are_not_lost(tmp_path: Path, proxy: str) -> None:
    """The connection to the worker is kept after a Django view has read an upload.

    Otherwise a POST could be lost on a closing connection, which would be a 502.
    """
    requests = [
        b'POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b' % (size, bytes(size)) for size in (100_000, 10)
    ]
    with django_behind(proxy, tmp_path) as (front, _), client_of(front) as client:
        for _ in range(200):
            for request in requests:
                response = client.send(request).response()
                body = response.read()
                assert response.status == 200, body
                assert json.loads(body)['size'] == int(re.search(rb'Length: (\d+)', request)[1])


@pytest.mark.parametrize('proxy', ['haproxy', 'nginx'])
def test_events_pass_a_proxy(tmp_path: Path, proxy: str) -> None:
    """The client gets each event of a Django view before the next one is made, and the stream is complete."""
    with django_behind(proxy, tmp_path) as (front, gate), client_of(front) as client:
        response = client.get('/events').response()
        assert (response.status, response.getheader('Content-Type')) == (200, 'text/event-stream')
        assert response.read(len(b'data: one\n\n')) == b'data: one\n\n'
        gate.wait_for('events')
        gate.open('events')
        # the gate is a greenlet of this thread
        assert gevent.get_hub().threadpool.apply(response.read) == b'data: two\n\n'
        # the connection remains usable
        assert client.get().response().read() == b'hello\n'


@pytest.mark.parametrize('proxy', ['haproxy', 'nginx'])
def test_upgrades_pass_a_proxy(tmp_path: Path, proxy: str) -> None:
    """An upgrade passes, as for WebSockets; ordinary requests share connections before and after.

    HAProxy can use a new connection for the first request of a client (http-reuse safe).
    """

    def ports() -> set[bytes]:
        found = set()
        with client_of(front) as client:
            for _ in range(50):
                response = client.get('/port').response()
                assert response.status == 200
                found.add(response.read())
        return found

    with Served('upgrading:server') as served, behind(proxy, tmp_path, f'127.0.0.1:{served.port}') as front:
        assert len(ports()) <= 2
        with client_of(front) as client:
            response = client.get('/', 'Connection: Upgrade', 'Upgrade: echo').response()
            assert (response.status, response.getheader('Upgrade')) == (101, 'echo')
            for word in (b'one', b'two'):
                client.send(word)
                assert client.socket.recv(3, socket.MSG_WAITALL) == word
            assert len(ports()) <= 2
            client.socket.shutdown(socket.SHUT_WR)
            assert client.closed()


#: An application that becomes unavailable for load balancers on request, and still serves.
LEAVING = """
from geventnode.http import readiness

def answer(request, response):
    if request.url == '/leave':
        response.server.available = False
    response.end('served')

listener = readiness(answer)
"""


def test_haproxy_avoids_an_unavailable_server(tmp_path: Path) -> None:
    """An unavailable server still listens; the intervals of checks are shorter than in the file.

    The first one is also the time that HAProxy waits for an answer; the second one follows a check that failed.
    """
    (tmp_path / 'leaving.py').write_text(LEAVING)
    with Served('leaving:listener', cwd=tmp_path) as served:
        with behind('haproxy', tmp_path, f'127.0.0.1:{served.port}', '1s fastinter 10ms') as front:
            with client_of(front) as client:
                for path in ('/', '/leave'):
                    response = client.get(path).response()
                    assert (response.status, response.read()) == (200, b'served')
            status = 200
            while status == 200:
                with client_of(front) as client:
                    status = client.get().response().status
            assert status == 503
        with RawClient(lambda: socket.create_connection(('127.0.0.1', served.port))) as client:
            assert client.get().response().status == 200


@pytest.mark.parametrize('proxy', ['haproxy', 'nginx'])
def test_configuration_is_accepted_without_warnings(tmp_path: Path, proxy: str) -> None:
    """A proxy warns of a directive some versions before it no longer knows it."""
    path = DEPLOY / 'haproxy.cfg'
    arguments = ['-c', '-f']
    if proxy == 'nginx':
        rest = (DEPLOY / 'nginx.conf').read_text().replace('listen 80;', f'listen unix:{tmp_path}/front;')
        path = tmp_path / 'nginx.conf'
        path.write_text(NGINX.format(directory=tmp_path, rest=rest))
        arguments = ['-t', '-p', str(tmp_path), '-e', 'stderr', '-c']
    ran = subprocess.run([tool(proxy), *arguments, path], text=True, capture_output=True, timeout=PATIENCE, check=False)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    assert re.findall(r'.*\bwarn.*', said, re.IGNORECASE) == []


# -- the files ---------------------------------------------------------------------------------------------------------

#: The places of command lines of gunicorn.
COMMANDS = {
    'site.service': r'^ExecStart=/srv/site/\.venv/bin/(.+)',
    'Dockerfile': r'^CMD (\[.+\])',
    'README.md': r'cd contrib/deploy && (gunicorn .+)`',
    'gunicorn.conf.py': r'^""".+: (gunicorn .+)',
}


def command(file: str) -> list[str]:
    """Return the command line in a file, after the program."""
    found = setting(file, COMMANDS[file])
    program, *arguments = json.loads(found) if found.startswith('[') else shlex.split(found)
    assert program == 'gunicorn'
    return arguments


def settings_in(printed: str) -> dict[str, str]:
    """Return the settings that gunicorn has printed because of ``--print-config``."""
    return dict(re.findall(r'^(\w+) += (.*)$', printed, re.MULTILINE))


#: The variables that gunicorn's configuration reads.
ENVIRONMENT = set(re.findall(r"os\.environ\.get\('(\w+)'", (DEPLOY / 'gunicorn.conf.py').read_text()))


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that gunicorn's configuration reads."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures('unset')
@pytest.mark.parametrize('file', COMMANDS)
def test_command_lines_agree(file: str) -> None:
    """gunicorn accepts the command lines, which are all the same, and loads the application."""
    status, printed, errors = run_program('gunicorn', [*command(file), '--print-config'], DEPLOY)
    assert status == 0, printed + errors
    assert settings_in(printed)['bind'] == repr([ADDRESS])
    assert command(file) == command('Dockerfile')


@pytest.mark.parametrize('service', ['site.service', 'serve.service'])
def test_units_are_valid(tmp_path: Path, service: str) -> None:
    """systemd accepts the units; the program is replaced by one of this machine."""
    systemd_analyze = tool('systemd-analyze')
    for name, source in (('site.service', service), ('site.socket', 'site.socket')):
        text = (DEPLOY / source).read_text()
        (tmp_path / name).write_text(re.sub(r'(?m)^ExecStart=\S+', f'ExecStart={sys.executable}', text))
    ran = subprocess.run(
        [systemd_analyze, 'verify', '--man=no', tmp_path / 'site.service', tmp_path / 'site.socket'],
        check=False,
        text=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    # unknown settings are only reported; reports about other units of this machine do not matter
    assert not re.findall(r'.*\bsite\.(?:service|socket)\b.*', ran.stderr)


def test_units_refer_to_each_other() -> None:
    for name in ('site.service', 'serve.service'):
        assert setting(name, r'^Requires=(.+)') == 'site.socket'
        assert setting(name, r'^WorkingDirectory=(.+)') == '/srv/site'
    assert int(setting('site.service', r'^LimitNOFILE=(\d+)')) > int(
        setting('gunicorn.conf.py', r'^worker_connections = (\d+)')
    )


def test_service_without_gunicorn_reloads() -> None:
    """The command of the unit serves at the socket of systemd, and SIGHUP, as in the unit, loads it anew."""
    program, serve, *arguments = shlex.split(setting('serve.service', r'^ExecStart=/srv/site/\.venv/bin/(.+)'))
    assert (program, serve) == ('geventnode', 'serve')
    assert setting('serve.service', r'^ExecReload=(.+)') == '/bin/kill -s HUP $MAINPID'
    activate = (
        'import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1"); '
        'os.execv(sys.executable, [sys.executable, "-m", "geventnode", *sys.argv[2:]])'
    )
    with (
        socket.create_server(('127.0.0.1', 0)) as listener,
        subprocess.Popen(
            [sys.executable, '-c', activate, str(listener.fileno()), serve, *arguments],
            cwd=DEPLOY,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
            env={**os.environ, 'PYTHONPATH': PYTHONPATH},
        ) as process,
    ):
        try:
            assert any(line.startswith('To load new code') for line in process.stdout)
            process.send_signal(signal.SIGHUP)
            assert any('reloaded: process' in line for line in process.stdout)
            with RawClient(lambda: socket.create_connection(listener.getsockname())) as client:
                assert client.get('/', 'X-Forwarded-Proto: https').response().read() == b'You asked for /\n'
            # the old process can have accepted the connection before its SIGTERM, and then prints that it is open
            logged = next(line for line in process.stdout if line.startswith('{'))
            assert json.loads(logged)['scheme'] == 'https'
        finally:
            process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def copied(directory: Path) -> None:
    """Copy the files into ``directory`` as the Dockerfile copies them into the image."""
    text = (DEPLOY / 'Dockerfile').read_text()
    home = directory / setting('Dockerfile', r'^WORKDIR /(.+)')
    for line in re.findall(r'^COPY (.+)', text, re.MULTILINE):
        *sources, target = line.split()
        into = directory / target[1:] if target.startswith('/') else home / target
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                into.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, into)


@pytest.mark.usefixtures('unset')
def test_image_has_its_files(tmp_path: Path) -> None:
    """The copied files exist and suffice for pip, and gunicorn starts with the environment of Kubernetes."""
    copied(tmp_path)
    run(sys.executable, 'setup.py', '-q', 'egg_info', cwd=tmp_path / 'src')
    extra = setting('Dockerfile', r"pip install '/src\[(\w+)\]'")
    assert f'[{extra}]' in (tmp_path / 'src' / 'geventnode.egg-info' / 'requires.txt').read_text()
    env = dict(re.findall(r'\{name: ([A-Z_]+), value: "(.+)"\}', (DEPLOY / 'kubernetes.yaml').read_text()))
    env['BIND'] = setting('Dockerfile', r'^ENV BIND=(.+)')
    assert set(env) <= ENVIRONMENT
    printed = run(
        sys.executable,
        '-m',
        'gunicorn',
        *command('Dockerfile'),
        '--print-config',
        cwd=tmp_path / 'srv' / 'site',
        env={**os.environ, **env, 'PYTHONPATH': str(tmp_path / 'src')},
    )
    found = settings_in(printed)
    assert found['bind'] == repr([env['BIND']])
    assert found['workers'] == env['WORKERS'] == setting('kubernetes.yaml', r'requests: \{cpu: "(\d+)"')
    assert env['FORWARDED_ALLOW_IPS'] in found['forwarded_allow_ips']
    assert setting('Dockerfile', r'^STOPSIGNAL (\w+)') == 'SIGTERM'


def test_addresses_agree() -> None:
    """systemd and gunicorn listen at the same address; containers and manifests have the same port."""
    assert setting('gunicorn.conf.py', r"^bind = os\.environ\.get\('BIND', '(.+)'\)") == ADDRESS
    assert setting('site.socket', r'^Backlog=(\d+)') == setting('gunicorn.conf.py', r'^backlog = (\d+)')
    port = setting('Dockerfile', r'^EXPOSE (\d+)')
    assert setting('Dockerfile', r'^ENV BIND=0\.0\.0\.0:(\d+)') == port
    assert setting('kubernetes.yaml', r'containerPort: (\d+)') == port
    name = setting('kubernetes.yaml', r'containerPort: \d+, name: (\w+)')
    manifests = (DEPLOY / 'kubernetes.yaml').read_text()
    # two probes and the service
    assert re.findall(r'(?:\bport|targetPort): ([a-z]\w*)', manifests) == [name] * 3
    assert (
        set(re.findall(r'\bapp: (\w+)', manifests))
        == {setting('Dockerfile', r'build .* -t (\w+) ')}
        == {setting('kubernetes.yaml', r'image: (\w+):')}
    )


@pytest.mark.parametrize(
    ('file', 'pattern'), [('haproxy.cfg', r'option httpchk GET (\S+)'), ('kubernetes.yaml', r'httpGet: \{path: (\S+),')]
)
def test_health_checks_use_the_default_path(file: str, pattern: str) -> None:
    assert setting(file, pattern) == DEFAULT_PATH


def test_timeouts_agree() -> None:
    """The proxy closes connections first, and the supervisor waits longest before it kills, as documented."""

    def number(file: str, pattern: str) -> int:
        return int(setting(file, pattern))

    page = '../../docs/deployment.rst'
    kept = number('gunicorn.conf.py', r'^keepalive = (\d+)')
    assert kept == number(page, r'^gunicorn, in ``contrib/deploy`` +(\d+) s')
    upstream = number('nginx.conf', r'keepalive_timeout (\d+)s')
    assert kept > upstream == number(page, r'^nginx to the workers +(\d+) s')
    assert kept > number(page, r'^cloud balancers, mostly +(\d+) s')
    assert number('haproxy.cfg', r'timeout http-keep-alive (\d+)s') == number(
        page, r'^client of nginx or HAProxy +(\d+) s'
    )
    assert number('haproxy.cfg', r'timeout server (\d+)s') == number('nginx.conf', r'proxy_read_timeout (\d+)s')
    assert number('haproxy.cfg', r'timeout connect (\d+)s') == number('nginx.conf', r'proxy_connect_timeout (\d+)s')
    grace = number('gunicorn.conf.py', r'^graceful_timeout = (\d+)')
    assert grace == number(page, r"^gunicorn's worker +(\d+) s")
    stop = number('site.service', r'^TimeoutStopSec=(\d+)')
    assert stop == number('serve.service', r'^TimeoutStopSec=(\d+)')
    assert grace < stop == number(page, r'^systemd +(\d+) s')
    waits = number('kubernetes.yaml', r'"sleep", "(\d+)"')
    assert waits == number(page, r'including the (\d+) s of ``preStop``')
    killed = number('kubernetes.yaml', r'terminationGracePeriodSeconds: (\d+)')
    assert grace + waits < killed == number(page, r'^Kubernetes +(\d+) s')
    assert number('haproxy.cfg', r'inter (\d+)s') * number('haproxy.cfg', r'fall (\d+)') == number(
        page, r'HAProxy needs (\d+) s'
    )
    assert number('haproxy.cfg', r'server one .* maxconn (\d+)') == number(
        'gunicorn.conf.py', r'^worker_connections = (\d+)'
    )
