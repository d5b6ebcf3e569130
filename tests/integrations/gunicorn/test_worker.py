"""The worker for gunicorn, without gunicorn itself: settings, hooks, loggers and patching."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gunicorn.config import KNOWN_SETTINGS, Config
from gunicorn.glogging import Logger

from geventnode import http
from geventnode.integrations.gunicorn import JSONAccessLogger, ListenerWorker, Worker, WSGIWorker
from geventnode.integrations.gunicorn import worker as module
from geventnode.integrations.gunicorn.observers import GunicornObserver
from geventnode.integrations.gunicorn.settings import (
    CLASSIFIED_SETTINGS,
    CONNECTION_SETTINGS,
    IGNORED_SETTINGS,
    MASTER_SETTINGS,
    MAX_HEAD_SIZE,
    PROTOCOL_SETTINGS,
    WORKER_SETTINGS,
    alpn_protocols,
    is_changed,
    mount_path,
    server_options,
    serves_http2,
    unsupported_reason,
    uses_sendfile,
)
from geventnode.integrations.wsgi.environ import request_environ
from tests.servers import Log, Serve, get, ok


def config(**settings: Any) -> Config:
    made = Config()
    for name, value in settings.items():
        made.set(name, value)
    return made


# -- settings ---------------------------------------------------------------------------------------------------------


def test_default_settings() -> None:
    options = server_options(config())
    assert options == {
        'max_header_size': 4094 + 4 + 100 * 8192,
        'max_request_line': 4094,
        'max_headers_count': 100,
        'max_field_size': 8190,
        'max_connections': 1000,
        'wait_when_full': True,
        'keep_alive_timeout': 2,
        'min_body_rate': 500,
        'trusted_proxies': ['unix', '127.0.0.1', '::1'],
        'scheme_headers': {'X-FORWARDED-PROTOCOL': 'ssl', 'X-FORWARDED-PROTO': 'https', 'X-FORWARDED-SSL': 'on'},
    }
    # the server accepts all options
    http.create_server(**options)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        # gunicorn's values for no limit
        ({'limit_request_line': 0}, {'max_request_line': None, 'max_header_size': MAX_HEAD_SIZE}),
        ({'limit_request_line': 8190}, {'max_request_line': 8190, 'max_header_size': 8190 + 4 + 100 * 8192}),
        ({'limit_request_line': 9000}, {'max_request_line': 8190}),
        ({'limit_request_fields': 0}, {'max_headers_count': 32768, 'max_header_size': MAX_HEAD_SIZE}),
        ({'limit_request_field_size': 0}, {'max_field_size': None, 'max_header_size': MAX_HEAD_SIZE}),
        ({'worker_connections': 0}, {'max_connections': None}),
        ({'forwarded_allow_ips': '*'}, {'trusted_proxies': ['unix', '0.0.0.0/0', '::/0']}),
        ({'forwarded_allow_ips': '10.0.0.0/8'}, {'trusted_proxies': ['unix', '10.0.0.0/8']}),
        ({'secure_scheme_headers': {'A': 'b'}}, {'scheme_headers': {'A': 'b'}}),
        (
            {'proxy_protocol': True, 'proxy_allow_ips': '1.2.3.4', 'forwarded_allow_ips': '5.6.7.8'},
            {'proxy_protocol': True, 'trusted_proxies': ['unix', '1.2.3.4'], 'scheme_proxies': ['unix', '5.6.7.8']},
        ),
        ({'keepalive': 75}, {'keep_alive_timeout': 75}),
    ],
)
def test_settings(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    options = server_options(config(**settings))
    assert {name: options[name] for name in expected} == expected
    http.create_server(**options)


def test_keepalive_0_is_not_passed_to_the_server() -> None:
    """0 is unlimited for the server; such a worker closes each connection after its response."""
    assert 'keep_alive_timeout' not in server_options(config(keepalive=0))


@pytest.mark.parametrize(
    ('said', 'environment', 'used'),
    [(None, None, True), (False, None, False), (True, None, True), (None, '0', False), (None, 'yes', True)],
)
def test_sendfile(monkeypatch: pytest.MonkeyPatch, said: bool | None, environment: str | None, used: bool) -> None:
    if environment is not None:
        monkeypatch.setenv('SENDFILE', environment)
    assert uses_sendfile(config() if said is None else config(sendfile=said)) is used


def test_is_changed() -> None:
    assert not any(is_changed(config(), name) for name in IGNORED_SETTINGS)
    assert is_changed(config(threads=2), 'threads')
    assert not is_changed(config(), 'a_setting_of_another_version')


def test_check_config(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger('checking')
    Worker.check_config(config(threads=2, header_map='refuse'), log)
    assert [record.getMessage().partition(' has')[0] for record in caplog.records] == ['threads', 'header_map']


def test_every_setting_of_gunicorn_is_classified() -> None:
    """A setting of a new release fails this test until a table has it."""
    assert {setting.name for setting in KNOWN_SETTINGS} - CLASSIFIED_SETTINGS == set()


def test_a_setting_is_in_one_table() -> None:
    names = [*CONNECTION_SETTINGS, *WORKER_SETTINGS, *MASTER_SETTINGS, *IGNORED_SETTINGS, *PROTOCOL_SETTINGS]
    # one that some values are refused for
    names.remove('http2_cleartext')
    assert sorted(names) == sorted(CLASSIFIED_SETTINGS)


def test_an_unknown_setting_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class BrandNew:
        def __init__(self, value: str | None = None) -> None:
            self.get = lambda: value

    cfg = config()
    cfg.settings['brand_new'] = BrandNew('set')
    Worker.check_config(cfg, logging.getLogger('checking'))
    assert caplog.messages == ['brand_new is unknown to this worker and can have no effect: this gunicorn is newer']


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('protocol', 'uwsgi', 'geventnode speaks HTTP only; set it to http'),
        ('http2_cleartext', 'upgrade', 'geventnode does not serve Upgrade: h2c, which RFC 9113 has removed; set it to'),
        ('http2_cleartext', 'both', 'geventnode does not serve Upgrade: h2c, which RFC 9113 has removed; set it to'),
    ],
)
def test_another_protocol_is_refused(name: str, value: str, reason: str) -> None:
    assert unsupported_reason(config()) is None
    cfg = config(worker_class='geventnode.integrations.gunicorn.Worker', **{name: value})
    with pytest.raises(RuntimeError, match=f"^{name} = '{value}': {reason}"):
        cfg.worker_class  # noqa: B018 - gunicorn's property looks the class up


# -- HTTP/2 -----------------------------------------------------------------------------------------------------------

TLS = {'certfile': 'cert.pem', 'keyfile': 'key.pem'}
CLEARTEXT = {'http_protocols': 'h2,h1', 'http2_cleartext': 'prior-knowledge'}


@pytest.mark.parametrize(
    ('settings', 'serves', 'alpn'),
    [
        ({}, False, ['http/1.1']),
        (TLS, False, ['http/1.1']),
        ({'http_protocols': 'h2,h1', **TLS}, True, ['h2', 'http/1.1']),
        ({'http_protocols': 'h1,h2', **TLS}, True, ['http/1.1', 'h2']),
        # a client without ALPN gets HTTP/1.1, as from gunicorn
        ({'http_protocols': 'h2', **TLS}, True, ['h2']),
        ({'http_protocols': 'h2,h1'}, False, ['http/1.1']),
        ({'http2_cleartext': 'prior-knowledge'}, False, ['http/1.1']),
        ({'http2_cleartext': True, 'http_protocols': 'h2'}, True, ['h2']),
        (CLEARTEXT, True, ['h2', 'http/1.1']),
    ],
)
def test_http_protocols(settings: dict[str, Any], serves: bool, alpn: list[str]) -> None:
    cfg = config(**settings)
    assert unsupported_reason(cfg) is None
    assert serves_http2(cfg) is serves
    assert server_options(cfg).get('http2', False) is serves
    assert alpn_protocols(cfg) == alpn


def test_defaults_of_http2_are_those_of_gunicorn() -> None:
    options = server_options(config(**CLEARTEXT))
    assert {name: value for name, value in options.items() if name.startswith('http2')} == {
        'http2': True,
        'http2_max_concurrent_streams': 100,
        'http2_initial_window_size': 65535,
        'http2_max_frame_size': 16384,
        'http2_max_header_list_size': 65536,
    }
    http.create_server(**options)


@pytest.mark.parametrize(
    ('name', 'value', 'expected'),
    [
        ('http2_max_concurrent_streams', 7, 7),
        ('http2_initial_window_size', 1048576, 1048576),
        ('http2_initial_window_size', 0, 1),
        ('http2_max_frame_size', 65536, 65536),
        ('http2_max_header_list_size', 20000, 20000),
        ('http2_max_header_list_size', 0, None),
    ],
)
def test_settings_of_http2(name: str, value: int, expected: int | None) -> None:
    options = server_options(config(**CLEARTEXT, **{name: value}))
    assert options[name] == expected
    server = http.create_server(**options)
    assert getattr(server, name) == expected
    # without HTTP/2, the setting has no effect
    assert name not in server_options(config(**{name: value}))


def test_http2_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('geventnode.integrations.gunicorn.settings._can_serve_http2', lambda: False)
    cfg = config(**CLEARTEXT)
    reason = unsupported_reason(cfg)
    assert reason == ("http_protocols = 'h2,h1': HTTP/2 needs the extra http2; run: pip install 'geventnode[http2]'")
    # after a reload, the worker goes on with HTTP/1.1
    assert not serves_http2(cfg)
    assert 'http2' not in server_options(cfg)


def test_a_gunicorn_without_http2() -> None:
    cfg = config()
    for name in [name for name in cfg.settings if name.startswith('http2_') or name == 'http_protocols']:
        del cfg.settings[name]
    assert unsupported_reason(cfg) is None
    assert not serves_http2(cfg)
    assert 'http2' not in server_options(cfg)
    http.create_server(**server_options(cfg))


@pytest.mark.parametrize(
    ('root_path', 'environment', 'expected'),
    [
        ('', {}, ''),
        ('', {'SCRIPT_NAME': '/env/'}, '/env'),
        ('/set', {}, '/set'),
        ('/set/', {'SCRIPT_NAME': '/env'}, '/set'),
    ],
)
def test_mount_path(root_path: str, environment: dict[str, str], expected: str) -> None:
    assert mount_path(config(root_path=root_path), environment) == expected


def test_kinds_of_workers() -> None:
    assert [each.kind for each in (Worker, WSGIWorker, ListenerWorker)] == [None, 'wsgi', 'listener']


# -- patching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('preload', [True, False])
def test_the_master_is_patched_with_preload_app(monkeypatch: pytest.MonkeyPatch, preload: bool) -> None:
    """gunicorn loads the class before it imports a preloaded application."""
    patched: list[bool] = []
    monkeypatch.setattr(module, '_patch', lambda: patched.append(True) or [])
    found = config(worker_class='geventnode.integrations.gunicorn.Worker', preload_app=preload).worker_class
    assert found is Worker
    assert patched == [True] * preload


def test_warnings_of_patching_are_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, '_patch', lambda: ['ssl was imported.'])
    monkeypatch.setattr(Worker, '_patch_warnings', [])
    cfg = config(worker_class='geventnode.integrations.gunicorn.Worker', preload_app=True)
    assert cfg.worker_class is Worker
    Worker.check_config(cfg, logging.getLogger('checking'))
    assert caplog.messages[0].startswith('ssl was imported. A module was imported before the standard library')
    assert Worker._patch_warnings == []


# -- hooks and loggers ------------------------------------------------------------------------------------------------


def test_hooks_and_access_log_of_an_exchange(serve: Serve) -> None:
    """Both hooks get the same request object, with attributes of the first one."""
    log = Log()

    def before(view: Any) -> None:
        view.mark = 1
        log.append(
            (
                'before',
                view.method,
                view.uri,
                view.path,
                view.query,
                view.version,
                view.scheme,
                dict(view.headers)['X-A'],
            )
        )

    def after(view: Any, environ: Any, answer: Any) -> None:
        log.append(
            ('after', view.mark, environ['PATH_INFO'], environ['HTTP_X_A'], answer.status, answer.sent, answer.headers)
        )

    def write(answer: Any, view: Any, environ: Any, taken: Any) -> None:
        log.append(('log', answer.status_code, taken.total_seconds() >= 0))

    def listener(request: Any, response: Any) -> None:
        response.write_head(404, 'Nothing', {'A': ['b', 'c']})
        response.end('12345')

    exchanges = GunicornObserver(lambda response: log.append('began'), before, after, write)
    server = http.create_server(listener)
    exchanges.add_pre_request(server)
    http.observe_exchanges(server, exchanges)
    serve(server).get('/a%20b?c', 'X-A: b')
    log.wait_for_length(4)
    assert log == [
        'began',
        ('before', 'GET', '/a%20b?c', '/a%20b', 'c', (1, 1), 'http', 'b'),
        ('log', 404, True),
        ('after', 1, '/a b', 'b', '404 Nothing', 5, [('a', 'b'), ('a', 'c')]),
    ]
    gevent.idle()
    assert not exchanges.pending


def test_hooks_get_the_environ_of_the_application(serve: Serve) -> None:
    from geventnode.integrations.wsgi import wsgi

    seen: list[Any] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        environ['mine'] = 'too'
        start_response('204 No Content', [])
        return []

    exchanges = GunicornObserver(
        lambda response: None, access=lambda answer, view, environ, taken: seen.append(environ)
    )
    server = http.create_server(wsgi(exchanges.record_environs(application)))
    http.observe_exchanges(server, exchanges)
    serve(server).get('/')
    assert (seen[0]['mine'], seen[0]['RAW_URI']) == ('too', '/')


def test_nothing_is_made_without_hooks_and_log(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('geventnode.integrations.gunicorn.observers.RequestView', lambda request: pytest.fail('made'))
    exchanges = GunicornObserver(lambda response: None)
    server = http.create_server(ok)
    exchanges.add_pre_request(server)
    http.observe_exchanges(server, exchanges)
    assert exchanges.record_environs(ok) is ok
    assert serve(server).get('/').status == 200


def test_a_client_that_disconnects(serve: Serve) -> None:
    """The hub reports it, and must not block in a logger."""
    log = Log()
    exchanges = GunicornObserver(
        log.note('began'),
        access=lambda answer, *rest: log.append((answer.status, gevent.getcurrent() is gevent.get_hub())),
    )
    server = http.create_server(lambda request, response: None)
    http.observe_exchanges(server, exchanges)
    client = serve(server).send(get())
    log.wait_for('began')
    client.abort()
    log.wait_for(('499', False))


def test_upgrades_that_a_listener_gets_are_not_logged(serve: Serve) -> None:
    """The listener responds itself, with any status."""
    log = Log()
    exchanges = GunicornObserver(
        log.note('began'),
        post_request=lambda *arguments: log.append('after'),
        access=lambda answer, *rest: log.append(answer.status_code),
    )
    server = http.create_server(ok)
    server.on('upgrade', lambda request, socket, head: socket.end('HTTP/1.1 403 Forbidden\r\n\r\n'))
    http.observe_exchanges(server, exchanges)
    site = serve(server)
    assert site.send(get('/', 'Connection: Upgrade', 'Upgrade: x')).rest() == b'HTTP/1.1 403 Forbidden\r\n\r\n'
    assert site.get('/').status == 200
    log.wait_for('after')
    assert log == ['began', 'began', 200, 'after']


def test_json_needs_an_enabled_log() -> None:
    """Without a handler, no line is rendered."""
    logger = JSONAccessLogger(config())
    logger.access(None, None, None, None)


def test_atoms_of_gunicorns_own_logger(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """All atoms have values."""
    atoms = [*'hlurmUqHsbBfaTDMLp', '{x-a}i', '{a}o', '{raw_uri}e']
    cfg = config(accesslog='-', access_log_format=' '.join(f'%({atom})s' for atom in atoms))
    logger = Logger(cfg)
    monitored = logging.getLogger('gunicorn.access')
    handlers, monitored.handlers = monitored.handlers, [caplog.handler]
    try:
        exchanges = GunicornObserver(lambda response: None, access=logger.access)
        server = http.create_server(lambda request, response: response.end('12345'))
        http.observe_exchanges(server, exchanges)
        serve(server).get('/p?q', 'X-A: b', 'Referer: r', 'User-Agent: me')
    finally:
        monitored.handlers = handlers
        for name in ('gunicorn.error', 'gunicorn.access'):
            logging.getLogger(name).propagate = True
    assert caplog.messages[0].startswith('127.0.0.1 - - GET /p?q HTTP/1.1 GET /p q HTTP/1.1 200 5 5 r me ')
    assert caplog.messages[0].endswith(' b - /p?q')


@pytest.mark.parametrize(
    ('fields', 'expected'),
    [
        ([('A', 'b'), ('A', 'c')], {'HTTP_A': 'b, c'}),
        ([('A_B', 'c')], {}),
        ([('Content-Type', 'text/plain')], {'CONTENT_TYPE': 'text/plain'}),
    ],
)
def test_environ_without_an_application(serve: Serve, fields: list[tuple[str, str]], expected: dict[str, str]) -> None:
    seen: list[dict[str, Any]] = []

    def listener(request: Any, response: Any) -> None:
        seen.append(request_environ(request))
        response.end()

    serve(listener).get('/%41?%41', *(f'{name}: {value}' for name, value in fields))
    found = {name: value for name, value in seen[0].items() if name.startswith(('HTTP_', 'CONTENT_'))}
    found.pop('HTTP_HOST')
    assert found == expected
    assert (seen[0]['PATH_INFO'], seen[0]['QUERY_STRING'], seen[0]['RAW_URI']) == ('/A', '%41', '/%41?%41')


def test_the_stack_of_a_blocked_loop_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """``handle_abort`` logs the stack before it calls the hook and exits."""
    lines: list[str] = []
    worker = Worker.__new__(Worker)
    worker.log = SimpleNamespace(error=lambda message, *args: lines.append(message % args))
    worker.cfg = SimpleNamespace(worker_abort=lambda worker: lines.append('hook'))
    with pytest.raises(SystemExit):
        worker.handle_abort(6, __import__('sys')._getframe())
    assert 'test_the_stack_of_a_blocked_loop_is_logged' in lines[0]
    assert lines[1] == 'hook'
