"""A real gunicorn with geventnode's worker: its applications, and the effects of gunicorn's settings."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

import pytest
from gunicorn.config import KNOWN_SETTINGS

from geventnode.integrations.gunicorn.settings import CLASSIFIED_SETTINGS
from tests.certificates import tls_certificates
from tests.system.gunicorns import OLDEST, Gunicorn, RawClient, folder_of
from tests.system.running import APPS, PATIENCE, PYTHONPATH

# -- applications -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('target', 'worker', 'mark', 'kept'),
    [
        ('gunicorned:application', 'Worker', 'wsgi', 2),
        ('gunicorned:listener', 'Worker', 'listener', 2),
        ('gunicorned:server', 'Worker', 'listener', 7),
        ('gunicorned:application', 'WSGIWorker', 'wsgi', 2),
    ],
)
def test_kinds_of_applications(tmp_path: Path, target: str, worker: str, mark: str, kept: int) -> None:
    """A server has its own options; the others get gunicorn's settings, with a ``keepalive`` of 2."""
    with Gunicorn(tmp_path, target, worker=f'geventnode.integrations.gunicorn.{worker}') as gunicorn:
        with gunicorn.connect() as client:
            response = client.get().response()
            assert response.getheader('X-Mark') == mark
            assert response.getheader('Keep-Alive') == f'timeout={kept}'


def test_a_server_with_its_own_options(tmp_path: Path) -> None:
    """A warning names gunicorn's settings that have no effect."""
    with Gunicorn(tmp_path, 'gunicorned:server', 'keepalive = 9\n') as gunicorn:
        gunicorn.wait_for('the application is an http.Server with its own options, which replace keepalive')


def test_a_server_ignores_keepalive(tmp_path: Path) -> None:
    """Its connections are kept alive despite the setting."""
    with Gunicorn(tmp_path, 'gunicorned:server', 'keepalive = 0\n') as gunicorn, gunicorn.connect() as client:
        gunicorn.wait_for('which replace keepalive')
        response = client.get().response()
        assert response.getheader('Keep-Alive') == 'timeout=7'
        response.read()
        assert client.get().response().status == 200


@pytest.mark.parametrize(
    ('source', 'complaint', 'status'),
    [
        ('from geventnode import http\nserver = http.create_server().listen(0, "127.0.0.1")', 'already listens', 4),
        ('server = 42', 'must be callable', 4),
        ('server = 1 / 0', 'ZeroDivisionError', 3),
    ],
)
def test_unservable_applications(tmp_path: Path, source: str, complaint: str, status: int) -> None:
    (tmp_path / 'broken.py').write_text(source)
    with Gunicorn(tmp_path, 'broken:server', cwd=tmp_path, status=status) as gunicorn:
        gunicorn.wait_for(complaint)
        gunicorn.finish()


def test_settings_without_effect(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', 'threads = 4\n') as gunicorn:
        gunicorn.wait_for('threads has no effect in this worker: requests run in greenlets')


SPOKEN = [('protocol', 'uwsgi'), ('http2_cleartext', 'upgrade')]


@pytest.mark.parametrize(('name', 'value'), SPOKEN)
def test_another_protocol_prevents_the_start(tmp_path: Path, name: str, value: str) -> None:
    """One line has the reason, and no process or file remains."""
    pid_file = tmp_path / 'pid'
    with Gunicorn(
        tmp_path, 'gunicorned:application', f'{name} = {value!r}\npidfile = {str(pid_file)!r}\n', status=1
    ) as gunicorn:
        said = gunicorn.finish().split('\n')
    assert [line for line in said if line] == [
        next(line for line in said if line.startswith(f"Error: {name} = '{value}': geventnode "))
    ]
    assert not pid_file.exists()


@pytest.mark.parametrize(('name', 'value'), SPOKEN)
def test_another_protocol_at_a_reload(tmp_path: Path, name: str, value: str) -> None:
    """The log has an error, and the workers continue with HTTP/1.1, without a lost request."""
    with Gunicorn(tmp_path) as gunicorn:
        gunicorn.booted()
        configuration = tmp_path / 'gunicorn.conf.py'
        configuration.write_text(f'{configuration.read_text()}{name} = {value!r}\n')
        gunicorn.signal(signal.SIGHUP)
        gunicorn.wait_for(rf"\[ERROR\] the setting is ignored: {name} = '{value}'")
        gunicorn.booted()
        assert gunicorn.ask() == (200, 'hello')


def test_the_settings_of_the_oldest_gunicorn() -> None:
    """The tables have all of them, and no setting that neither this nor the installed release has."""
    asked = 'from gunicorn.config import KNOWN_SETTINGS as known; print(*(each.name for each in known))'
    ran = subprocess.run(
        [sys.executable, '-c', asked],
        check=True,
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, 'PYTHONPATH': folder_of(OLDEST)},
    )
    oldest = set(ran.stdout.split())
    assert oldest - CLASSIFIED_SETTINGS == set()
    assert CLASSIFIED_SETTINGS - oldest - {setting.name for setting in KNOWN_SETTINGS} == set()


def test_root_path(tmp_path: Path) -> None:
    """It is SCRIPT_NAME of a WSGI application, instead of the environment's."""
    with Gunicorn(
        tmp_path, 'gunicorned:application', 'root_path = "/app/"\n', env={'SCRIPT_NAME': '/other'}
    ) as gunicorn:
        assert gunicorn.ask('/app/scheme') == (200, 'http')
        assert gunicorn.ask('/other/scheme')[0] == 404


def test_root_path_of_a_listener(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:listener', 'root_path = "/app"\n') as gunicorn:
        gunicorn.wait_for('root_path has no effect on a request listener')
        assert gunicorn.ask('/elsewhere')[0] == 200


def test_a_bad_root_path(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', 'root_path = "app"\n', status=4) as gunicorn:
        gunicorn.wait_for('^root_path, or SCRIPT_NAME in the environment: script_name must begin with a slash')
        gunicorn.finish()


def test_an_application_with_other_parameter_names(tmp_path: Path) -> None:
    """It is a WSGI application."""
    with Gunicorn(tmp_path, 'targets:short') as gunicorn:
        assert gunicorn.ask() == (200, 'application')


@pytest.mark.parametrize('target', ['gunicorned:application', 'gunicorned:ready'])
@pytest.mark.parametrize('workers', [1, 2])
def test_multiprocess(tmp_path: Path, target: str, workers: int) -> None:
    """Also for an application that a listener calls."""
    with Gunicorn(tmp_path, target, workers=workers) as gunicorn:
        assert gunicorn.ask('/multiprocess') == (200, str(workers > 1))


@pytest.mark.parametrize(
    ('configuration', 'wrapper'), [('', 'FileWrapper'), ('sendfile = False\n', '_ReadingFileWrapper')]
)
def test_sendfile(tmp_path: Path, configuration: str, wrapper: str) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', configuration) as gunicorn:
        assert gunicorn.ask('/wrapper') == (200, wrapper)


# -- patching ---------------------------------------------------------------------------------------------------------


def test_patched_in_the_worker(tmp_path: Path) -> None:
    with Gunicorn(tmp_path) as gunicorn:
        assert gunicorn.ask('/patched') == (200, 'True')


@pytest.mark.parametrize('target', ['early:application', 'early:server'])
def test_patched_in_the_master_before_a_preloaded_application(tmp_path: Path, target: str) -> None:
    """There is no warning, because no module was imported earlier; workers start and stop as usual."""
    (tmp_path / 'early.py').write_text(
        'from ssl import SSLContext\nimport gevent.monkey\nPATCHED = gevent.monkey.is_module_patched("ssl")\n'
        'import os\nMASTER = os.getpid()\nfrom geventnode import http\n'
        'def application(environ, start_response):\n'
        '    start_response("200 OK", [])\n    return [f"{PATCHED} {MASTER != os.getpid()}".encode()]\n'
        'server = http.create_server(\n'
        '    lambda request, response: response.end(f"{PATCHED} {MASTER != os.getpid()}"))\n'
    )
    with Gunicorn(tmp_path, target, 'preload_app = True\n', workers=2, cwd=tmp_path) as gunicorn:
        assert gunicorn.ask() == (200, 'True True')
        gunicorn.signal(signal.SIGHUP)
        gunicorn.exited(2)
        assert gunicorn.ask() == (200, 'True True')
        assert 'MonkeyPatch' not in ''.join(gunicorn.said)
        assert 'imported' not in ''.join(gunicorn.said)


def test_modules_that_were_imported_too_early(tmp_path: Path) -> None:
    """The log has a warning about the imports of the configuration file."""
    (tmp_path / 'http_library.py').write_text('from ssl import SSLContext\nclass Own(SSLContext):\n    pass\n')
    with Gunicorn(
        tmp_path, 'gunicorned:application', f'import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport http_library\n'
    ) as gunicorn:
        gunicorn.wait_for('A module was imported before the standard library was patched')


# -- connections ------------------------------------------------------------------------------------------------------


def test_keepalive(tmp_path: Path) -> None:
    """An idle connection is kept for the given time, longer than by a balancer."""
    with Gunicorn(tmp_path, 'gunicorned:application', 'keepalive = 75\n') as gunicorn, gunicorn.connect() as client:
        response = client.get().response()
        assert response.getheader('Keep-Alive') == 'timeout=75'


def test_no_keepalive(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', 'keepalive = 0\n') as gunicorn, gunicorn.connect() as client:
        response = client.get().response()
        assert response.getheader('Connection') == 'close'
        response.read()
        assert client.closed()


def test_silent_connections_do_not_delay_others(tmp_path: Path) -> None:
    """Another client gets its response while some have sent half a head."""
    with Gunicorn(tmp_path) as gunicorn, ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(gunicorn.connect()).send(b'GET / HT')
        assert gunicorn.ask() == (200, 'hello')


def test_idle_connections_make_room(tmp_path: Path) -> None:
    """At ``worker_connections``, idle connections are closed for new ones."""
    with Gunicorn(tmp_path, 'gunicorned:application', 'worker_connections = 2\nkeepalive = 1000\n') as gunicorn:
        with gunicorn.connect() as first, gunicorn.connect() as second:
            for client in (first, second):
                response = client.get().response()
                # no client waits yet: the response keeps the connection alive
                assert (response.read(), response.getheader('Connection')) == (b'hello', 'keep-alive')
            with gunicorn.connect() as third:
                assert third.get().response().read() == b'hello'
                # the longest idle one
                assert first.closed()
                assert second.get().response().read() == b'hello'


def test_more_connections_wait(tmp_path: Path) -> None:
    """They are not closed, and served as soon as there is room."""
    with Gunicorn(tmp_path, 'gunicorned:application', 'worker_connections = 1\n') as gunicorn:
        with gunicorn.slow_request() as (client, response), gunicorn.connect() as waiting:
            waiting.get()
            client.send(b'67890')
            assert response.read() == b'1234567890'
            assert waiting.response().read() == b'hello'


#: The method, the version and the blanks are 13 bytes, the name and the colon six.
LIMITS = 'limit_request_line = 113\nlimit_request_fields = 4\nlimit_request_field_size = 86\n'


def test_limits(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', LIMITS) as gunicorn:

        def status(path: str, *values: str) -> int:
            with gunicorn.connect() as client:
                return client.get(path, *(f'Field:{value}' for value in values)).response().status

        assert (status('/' + 99 * 'a'), status('/' + 100 * 'a')) == (200, 414)
        assert (status('/', 80 * 'b'), status('/', 81 * 'b')) == (200, 431)
        # including Host
        assert (status('/', *'bcd'), status('/', *'bcde')) == (200, 431)


def test_no_limit_for_a_line(tmp_path: Path) -> None:
    """Only the limit for a head."""
    with Gunicorn(tmp_path, 'gunicorned:application', 'limit_request_line = 0\n') as gunicorn:
        assert gunicorn.ask('/' + 20_000 * 'a') == (200, 'hello')


def test_slow_upload(tmp_path: Path) -> None:
    """It continues while its client makes progress."""
    with Gunicorn(tmp_path, 'gunicorned:application', UPLOADS) as gunicorn, gunicorn.connect() as client:
        client.send(b'POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n')
        began = monotonic()
        sent = 0
        while monotonic() - began < 1.5:
            client.send(b'x' * 1000)
            sent += 1000
            sleep(0.02)
        response = client.send(b'x' * (100_000 - sent)).response()
        assert (response.status, len(response.read())) == (200, 100_000)


#: The limit is five minutes; a hook changes it, as users do.
UPLOADS = """
def post_worker_init(worker):
    assert (worker.server.request_timeout, worker.server.min_body_rate) == (300, 500)
    worker.server.request_timeout = 0.4
"""


def test_idle_greenlets_are_bounded(tmp_path: Path) -> None:
    """After a burst, the given number of greenlets remains with their locals; a hook sets it."""
    (tmp_path / 'bursting.py').write_text(BURSTING)
    with Gunicorn(tmp_path, 'bursting:application', IDLE_WORKERS, cwd=tmp_path) as gunicorn, ExitStack() as stack:
        clients = [stack.enter_context(gunicorn.connect()).get('/hold') for _ in range(20)]
        assert [client.response().read() for client in clients] == [b'held'] * 20
        assert gunicorn.ask('/count') == (200, '3')


IDLE_WORKERS = """
def post_worker_init(worker):
    worker.server.max_idle_workers = 3
"""

#: Twenty concurrent requests, each of which sets a greenlet-local.
BURSTING = """
import weakref
from gevent.event import Event
from gevent.local import local

class Connection:
    pass

all_connected, own, connections = Event(), local(), weakref.WeakSet()

def application(environ, start_response):
    start_response('200 OK', [])
    if environ['PATH_INFO'] == '/count':
        return [str(len(connections)).encode()]
    own.connection = Connection()
    connections.add(own.connection)
    if len(connections) == 20:
        all_connected.set()
    all_connected.wait()
    return [b'held']
"""


# -- proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('allowed', 'believed'), [('127.0.0.0/8', True), ('10.0.0.1', False)])
def test_forwarded(tmp_path: Path, allowed: str, believed: bool) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', f'forwarded_allow_ips = {allowed!r}\n') as gunicorn:
        for fields, scheme in [
            ({'X-Forwarded-Proto': 'https'}, 'https'),
            ({'X-Forwarded-Ssl': 'on'}, 'https'),
            ({'X-Forwarded-Protocol': 'ssl'}, 'https'),
            ({}, 'http'),
            ({'X-Forwarded-Proto': 'https', 'X-Forwarded-Ssl': 'off'}, 'http'),
        ]:
            assert gunicorn.ask('/scheme', **fields) == (200, scheme if believed else 'http')
        # as with gunicorn's own workers, the address is the proxy's
        assert gunicorn.ask('/address', X_Forwarded_For='1.2.3.4') == (200, '127.0.0.1')


def test_other_scheme_headers(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', 'secure_scheme_headers = {"FRONT": "tls"}\n') as gunicorn:
        assert gunicorn.ask('/scheme', Front='tls') == (200, 'https')
        assert gunicorn.ask('/scheme', X_Forwarded_Proto='https') == (200, 'http')


def test_below_a_path(tmp_path: Path) -> None:
    """The environment of the process names it, and no field of a request, not even from a trusted proxy."""
    with Gunicorn(tmp_path, env={'SCRIPT_NAME': '/app'}) as gunicorn, gunicorn.connect() as client:
        for path, status in [('/app/scheme', 200), ('/other/scheme', 404)]:
            response = client.get(path, 'SCRIPT_NAME: /other').response()
            assert (response.status, response.read()) == (status, b'http' if status == 200 else b'')


@pytest.mark.parametrize(('allowed', 'answered'), [('127.0.0.1', True), ('10.0.0.1', False)])
def test_the_proxy_protocol(tmp_path: Path, allowed: str, answered: bool) -> None:
    with (
        Gunicorn(
            tmp_path, 'gunicorned:application', f'proxy_protocol = True\nproxy_allow_ips = {allowed!r}\n'
        ) as gunicorn,
        gunicorn.connect() as client,
    ):
        if answered:
            client.send(b'PROXY TCP4 1.2.3.4 5.6.7.8 1000 443\r\n').get('/address')
            assert client.response().read() == b'1.2.3.4'
        else:
            assert client.closed()


@pytest.mark.parametrize(('allowed', 'scheme'), [('127.0.0.1', b'https'), ('1.2.3.4', b'http')])
def test_proxy_protocol_and_scheme_of_one_proxy(tmp_path: Path, allowed: str, scheme: bytes) -> None:
    """The address of the proxy must be allowed for the scheme, not that of the client."""
    with (
        Gunicorn(
            tmp_path, 'gunicorned:application', f'proxy_protocol = True\nforwarded_allow_ips = {allowed!r}\n'
        ) as gunicorn,
        gunicorn.connect() as client,
    ):
        client.send(b'PROXY TCP4 1.2.3.4 5.6.7.8 1000 443\r\n').get('/scheme', 'X-Forwarded-Proto: https')
        assert client.response().read() == scheme
        client.get('/address', 'X-Forwarded-For: 9.9.9.9')
        assert client.response().read() == b'1.2.3.4'


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('configuration', 'client', 'version'),
    [
        ('', None, None),
        ('cert_reqs = 2\nca_certs = {ca!r}\n', 'client', None),
        (
            (
                'def ssl_context(config, default):\n    import ssl\n    context = default()\n'
                '    context.maximum_version = ssl.TLSVersion.TLSv1_2\n    return context\n'
            ),
            None,
            'TLSv1.2',
        ),
        ('do_handshake_on_connect = True\nciphers = "ECDHE+AESGCM"\n', None, None),
    ],
)
def test_tls(tmp_path: Path, configuration: str, client: str | None, version: str | None) -> None:
    certificates = tls_certificates()
    context = certificates.client_context()
    context.set_alpn_protocols(['h2', 'http/1.1'])
    if client is not None:
        context.load_cert_chain(getattr(certificates, client))
    settings = f'certfile = {certificates.server!r}\n' + configuration.replace('{ca!r}', repr(certificates.ca))
    with Gunicorn(tmp_path, 'gunicorned:application', settings) as gunicorn:

        def connect() -> ssl.SSLSocket:
            plain = socket.create_connection(('127.0.0.1', gunicorn.port), PATIENCE)
            return context.wrap_socket(plain, server_hostname='localhost')

        with RawClient(connect) as connection:
            assert connection.get('/scheme').response().read() == b'https'
            assert connection.socket.selected_alpn_protocol() == 'http/1.1'
            assert version is None or connection.socket.version() == version


def test_a_client_certificate_is_required(tmp_path: Path) -> None:
    certificates = tls_certificates()
    settings = f'certfile = {certificates.server!r}\ncert_reqs = 2\nca_certs = {certificates.ca!r}\n'
    with Gunicorn(tmp_path, 'gunicorned:application', settings) as gunicorn:
        with socket.create_connection(('127.0.0.1', gunicorn.port), PATIENCE) as plain:
            with certificates.client_context().wrap_socket(plain, server_hostname='localhost') as connection:
                with pytest.raises(ssl.SSLError):
                    # TLS 1.3: the server's refusal arrives after the handshake
                    connection.recv(1)


SNI_HOOK = """
import ssl

def ssl_context(conf, default_ssl_context_factory):
    def sni_callback(connection, server_hostname, context):
        if server_hostname == 'a.example':
            new_context = default_ssl_context_factory()
            new_context.load_cert_chain({other!r})
            new_context.load_verify_locations({ca!r})
            new_context.verify_mode = ssl.CERT_REQUIRED
            connection.context = new_context

    context = default_ssl_context_factory()
    context.sni_callback = sni_callback
    return context

certfile = {server!r}
"""


def test_a_certificate_by_name(tmp_path: Path) -> None:
    """As documented by gunicorn for ``ssl_context``."""
    certificates = tls_certificates()
    hook = SNI_HOOK.format(other=certificates.other, ca=certificates.ca, server=certificates.server)
    with Gunicorn(tmp_path, 'gunicorned:application', hook) as gunicorn:

        def status(name: str, client: str | None = None) -> str:
            context = certificates.client_context()
            if client is not None:
                context.load_cert_chain(client)
            with socket.create_connection(('127.0.0.1', gunicorn.port), PATIENCE) as plain:
                with context.wrap_socket(plain, server_hostname=name) as connection:
                    connection.sendall(b'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' % name.encode())
                    return connection.recv(1000).decode().partition('\r\n')[0]

        assert status('localhost') == 'HTTP/1.1 200 OK'
        assert status('a.example', certificates.client) == 'HTTP/1.1 200 OK'
        with pytest.raises(OSError, match=r'(?i)alert|reset'):
            status('a.example')


def test_a_renewed_certificate(tmp_path: Path) -> None:
    certificates = tls_certificates()
    path = tmp_path / 'site.pem'
    shutil.copy(certificates.server, path)
    with Gunicorn(tmp_path, 'gunicorned:application', f'certfile = {str(path)!r}\n') as gunicorn:
        address = '127.0.0.1', gunicorn.port
        first = ssl.get_server_certificate(address, timeout=PATIENCE)
        shutil.copy(certificates.other, path)
        renewed = ssl.get_server_certificate(address, timeout=PATIENCE)
        assert (first in Path(certificates.server).read_text(), renewed in path.read_text()) == (True, True)
        path.write_text('half')
        assert ssl.get_server_certificate(address, timeout=PATIENCE) == renewed
        gunicorn.wait_for('certificates have changed and cannot be used, the previous ones stay in use')


# -- listening --------------------------------------------------------------------------------------------------------


def test_several_addresses(tmp_path: Path) -> None:
    path = tmp_path / 'socket'
    with Gunicorn(tmp_path, 'gunicorned:application', '', '-b', f'unix:{path}', bind='127.0.0.1:0') as gunicorn:
        gunicorn.port = int(gunicorn.wait_for(r'Listening at: http://127\.0\.0\.1:(\d+),unix:')[1])
        assert gunicorn.ask() == (200, 'hello')

        def connect() -> socket.socket:
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            return client

        with RawClient(connect) as client:
            assert client.get('/address').response().read() == b''
    assert not path.exists()


def test_reuse_port(tmp_path: Path) -> None:
    """Each worker has its own socket."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(('127.0.0.1', 0))
        port = reserved.getsockname()[1]
        with Gunicorn(
            tmp_path, 'gunicorned:application', 'reuse_port = True\n', workers=2, bind=f'127.0.0.1:{port}'
        ) as gunicorn:
            gunicorn.port = port
            gunicorn.booted(2)
            while True:
                try:
                    assert gunicorn.ask() == (200, 'hello')
                    break
                except ConnectionRefusedError:
                    # it binds in the new process
                    pass


#: Duplicates the given descriptor as number 3, as systemd does, and executes gunicorn.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')
os.execv(sys.executable, [sys.executable, '-m', 'gunicorn', *sys.argv[2:]])
"""


def test_socket_activation(tmp_path: Path) -> None:
    with Gunicorn(tmp_path) as model, socket.create_server(('127.0.0.1', 0)) as listening:
        command = [sys.executable, '-c', ACTIVATE, str(listening.fileno()), *model.process.args[3:]]
        command.remove('-b')
        command = [each for each in command if not each.startswith('fd://')]
        with subprocess.Popen(
            command,
            cwd=APPS,
            pass_fds=[listening.fileno()],
            env={**os.environ, 'PYTHONPATH': PYTHONPATH},
            stderr=subprocess.PIPE,
        ) as process:
            model.port = listening.getsockname()[1]
            assert model.ask() == (200, 'hello')
            process.terminate()
            process.communicate(timeout=PATIENCE)
            assert process.returncode == 0


# -- reload -----------------------------------------------------------------------------------------------------------


def test_reload(tmp_path: Path) -> None:
    """A changed file stops the worker, and the next one has the new application."""
    source = 'def application(environ, start_response):\n    start_response("200 OK", [])\n    return [b"%s"]\n'
    module = tmp_path / 'changing.py'
    module.write_text(source % 'old')
    os.utime(module, (1000, 1000))
    with Gunicorn(
        tmp_path,
        'changing:application',
        'reload = True\nreload_engine = "poll"\n',
        cwd=tmp_path,
        env={'PYTHONDONTWRITEBYTECODE': '1'},
    ) as gunicorn:
        assert gunicorn.ask() == (200, 'old')
        # the worker has read the times of the files before the request
        module.write_text(source % 'new')
        gunicorn.wait_for('Worker reloading')
        gunicorn.booted()
        assert gunicorn.ask() == (200, 'new')
