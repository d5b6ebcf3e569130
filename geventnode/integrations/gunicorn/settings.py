"""Translate gunicorn's settings to options of the server.

The worker supports a setting, leaves it to gunicorn's master, ignores it with a warning, or refuses it. Refused
settings change the protocol on the socket and prevent the start. This module does not import gunicorn: a configuration
is any object with the attributes of ``gunicorn.config.Config``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from geventnode.http.server.deadlines import UPLOAD_RATE
from geventnode.protocol.forwarded import UNIX

__all__ = [
    'CLASSIFIED_SETTINGS',
    'CONNECTION_SETTINGS',
    'IGNORED_SETTINGS',
    'MAX_HEAD_SIZE',
    'alpn_protocols',
    'is_changed',
    'mount_path',
    'server_options',
    'serves_http2',
    'unknown_settings',
    'unsupported_reason',
    'uses_sendfile',
]

#: The limit in bytes for a head. gunicorn has only the product of its limits for fields, which is far larger.
MAX_HEAD_SIZE = 1048576

#: gunicorn's own upper bounds for its limits: bytes of the request line, number of fields.
MAX_LINE_SIZE, MAX_FIELDS = 8190, 32768

#: Settings of connections. An application that is an ``http.Server`` has its own options instead.
CONNECTION_SETTINGS = (
    'keepalive',
    'limit_request_line',
    'limit_request_fields',
    'limit_request_field_size',
    'forwarded_allow_ips',
    'secure_scheme_headers',
    'proxy_protocol',
    'proxy_allow_ips',
    'root_path',
    'http_protocols',
    'http2_cleartext',
    'http2_max_concurrent_streams',
    'http2_initial_window_size',
    'http2_max_frame_size',
    'http2_max_header_list_size',
)

#: Other settings that the worker itself reads.
WORKER_SETTINGS = (
    'access_log_format',
    'accesslog',
    'backlog',
    'ca_certs',
    'cert_reqs',
    'certfile',
    'ciphers',
    'graceful_timeout',
    'keyfile',
    'logger_class',
    'loglevel',
    'max_requests',
    'max_requests_jitter',
    'post_request',
    'pre_request',
    'preload_app',
    'sendfile',
    'ssl_context',
    'timeout',
    'worker_abort',
    'worker_connections',
    'worker_int',
    'workers',
)

#: Settings that gunicorn's master, loggers, hooks and helper processes apply for any worker.
MASTER_SETTINGS = (
    'bind',
    'capture_output',
    'chdir',
    'check_config',
    'child_exit',
    'config',
    'control_socket',
    'control_socket_disable',
    'control_socket_mode',
    'daemon',
    'default_proc_name',
    'dirty_apps',
    'dirty_graceful_timeout',
    'dirty_post_fork',
    'dirty_threads',
    'dirty_timeout',
    'dirty_worker_exit',
    'dirty_worker_init',
    'dirty_workers',
    'disable_redirect_access_to_syslog',
    'dogstatsd_tags',
    'enable_backlog_metric',
    'enable_stdio_inheritance',
    'errorlog',
    'group',
    'initgroups',
    'logconfig',
    'logconfig_dict',
    'logconfig_json',
    'nworkers_changed',
    'on_dirty_starting',
    'on_exit',
    'on_reload',
    'on_starting',
    'paste',
    'pidfile',
    'post_fork',
    'post_worker_init',
    'pre_exec',
    'pre_fork',
    'print_config',
    'proc_name',
    'pythonpath',
    'raw_env',
    'raw_paste_global_conf',
    'reload',
    'reload_engine',
    'reload_extra_files',
    'reuse_port',
    'spew',
    'statsd_host',
    'statsd_prefix',
    'syslog',
    'syslog_addr',
    'syslog_facility',
    'syslog_prefix',
    'umask',
    'user',
    'when_ready',
    'worker_class',
    'worker_exit',
    'worker_tmp_dir',
    'wsgi_app',
)

#: Reasons why a setting is ignored.
OTHER_PROTOCOLS = 'the worker speaks HTTP/1.1 and HTTP/2 only'
NO_ASGI = 'an application is a WSGI application, a request listener or an http.Server, not an ASGI application'

#: Settings that have no effect in this worker, with the reason.
IGNORED_SETTINGS = {
    'threads': 'requests run in greenlets',
    'http_parser': 'the parser is a part of the server',
    'uwsgi_allow_ips': OTHER_PROTOCOLS,
    'asgi_loop': NO_ASGI,
    'asgi_lifespan': NO_ASGI,
    'asgi_disconnect_grace_period': NO_ASGI,
    'websocket_max_message_size': NO_ASGI,
    'header_map': 'fields with an underscore in their name are always dropped',
    'forwarder_headers': 'no field of a request sets SCRIPT_NAME, PATH_INFO or REMOTE_USER',
    'permit_obsolete_folding': 'it would allow request smuggling',
    'strip_header_spaces': 'it would allow request smuggling',
    'permit_unconventional_http_method': 'any token is accepted as a method',
    'permit_unconventional_http_version': OTHER_PROTOCOLS,
    'casefold_http_method': 'methods are case-sensitive (RFC 9110, section 9.1)',
    'tmp_upload_dir': 'uploads are not stored',
    'ssl_version': 'the ssl_context hook sets the versions of TLS',
    'suppress_ragged_eofs': 'the framing of a request decides whether it is complete',
    'do_handshake_on_connect': 'a handshake never delays other connections',
}

#: Settings that change the protocol on the socket: their supported values, and why there are no others.
PROTOCOL_SETTINGS = {
    'protocol': (
        ('http',),
        'geventnode speaks HTTP only; set it to http, and let a proxy use HTTP (nginx: proxy_pass, not uwsgi_pass)',
    ),
    'http2_cleartext': (
        ('off', 'prior-knowledge'),
        'geventnode does not serve Upgrade: h2c, which RFC 9113 has removed; set it to prior-knowledge or off',
    ),
}

#: Every setting in the tables above.
CLASSIFIED_SETTINGS = frozenset(
    (*CONNECTION_SETTINGS, *WORKER_SETTINGS, *MASTER_SETTINGS, *IGNORED_SETTINGS, *PROTOCOL_SETTINGS)
)

#: The protocols of ``http_protocols``, as ALPN names them (RFC 7301).
ALPN_NAMES = {'h1': 'http/1.1', 'h2': 'h2'}


def unsupported_reason(cfg: Any) -> str | None:
    """Return why the worker cannot serve with ``cfg``, None if it can."""
    for name, (values, reason) in PROTOCOL_SETTINGS.items():
        setting = cfg.settings.get(name)
        if setting is not None and setting.get() not in values:
            return f'{name} = {setting.get()!r}: {reason}'
    if 'h2' in _http_protocols(cfg) and not _can_serve_http2():
        text = ','.join(_http_protocols(cfg))
        return f"http_protocols = {text!r}: HTTP/2 needs the extra http2; run: pip install 'geventnode[http2]'"
    return None


def _http_protocols(cfg: Any) -> list[str]:
    # gunicorn has the setting since 25.0
    setting = cfg.settings.get('http_protocols')
    return ['h1'] if setting is None else setting.get()


def _can_serve_http2() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ('hpack', 'hyperframe'))


def serves_http2(cfg: Any) -> bool:
    """Return whether clients can use HTTP/2 on the sockets of ``cfg``."""
    if 'h2' not in _http_protocols(cfg) or not _can_serve_http2():
        return False
    # gunicorn has the setting since 26.2
    cleartext = cfg.settings.get('http2_cleartext')
    return bool(cfg.is_ssl) or (cleartext is not None and cleartext.get() == 'prior-knowledge')


def alpn_protocols(cfg: Any) -> list[str]:
    """Return the protocols for ALPN, the preferred one first."""
    return [ALPN_NAMES[name] for name in _http_protocols(cfg)] if serves_http2(cfg) else ['http/1.1']


def unknown_settings(cfg: Any) -> list[str]:
    """Return the changed settings that are in no table of this module."""
    return [name for name in cfg.settings if name not in CLASSIFIED_SETTINGS and is_changed(cfg, name)]


def is_changed(cfg: Any, name: str) -> bool:
    """Return whether the setting exists and differs from its default."""
    setting = cfg.settings.get(name)
    return setting is not None and setting.get() != type(setting)().get()


def server_options(cfg: Any) -> dict[str, Any]:
    """Return the options of ``http.create_server`` for the configuration ``cfg``."""
    line = min(cfg.limit_request_line, MAX_LINE_SIZE) or None
    fields = cfg.limit_request_fields if 0 < cfg.limit_request_fields < MAX_FIELDS else MAX_FIELDS
    size = cfg.limit_request_field_size if cfg.limit_request_field_size > 0 else None
    options: dict[str, Any] = {
        # each part has a line end, and the head ends with an empty line
        'max_header_size': min(
            (line or MAX_HEAD_SIZE) + 4 + fields * (MAX_HEAD_SIZE if size is None else size + 2), MAX_HEAD_SIZE
        ),
        'max_request_line': line,
        'max_headers_count': fields,
        'max_field_size': size,
        'max_connections': cfg.worker_connections or None,
        'wait_when_full': True,
        # gunicorn's workers have no deadline for a whole request
        'min_body_rate': UPLOAD_RATE,
        'trusted_proxies': _trusted_proxies(cfg.forwarded_allow_ips),
        'scheme_headers': dict(cfg.secure_scheme_headers),
    }
    if cfg.keepalive:
        options['keep_alive_timeout'] = cfg.keepalive
    if cfg.proxy_protocol not in (False, 'off'):
        options['proxy_protocol'] = True
        options['trusted_proxies'] = _trusted_proxies(cfg.proxy_allow_ips)
        # the PROXY header names the client; the other setting names the proxies that report the scheme
        options['scheme_proxies'] = _trusted_proxies(cfg.forwarded_allow_ips)
    if serves_http2(cfg):
        options |= {
            'http2': True,
            'http2_max_concurrent_streams': cfg.http2_max_concurrent_streams,
            # a window of 0 would never open: a client sends nothing that an application could consume
            'http2_initial_window_size': max(cfg.http2_initial_window_size, 1),
            'http2_max_frame_size': cfg.http2_max_frame_size,
            # 0: only the limit of the head
            'http2_max_header_list_size': cfg.http2_max_header_list_size or None,
        }
    return options


def uses_sendfile(cfg: Any) -> bool:
    """Return whether the kernel can send files (``sendfile(2)``)."""
    setting = cfg.settings['sendfile'].get()
    # gunicorn's property is False for any value that is set, even True; without one it reads the environment
    return bool(cfg.sendfile if setting is None else setting)


def mount_path(cfg: Any, environment: Mapping[str, str]) -> str:
    """Return the ``SCRIPT_NAME`` of an application: ``root_path``, or that of ``environment``."""
    # gunicorn has the setting since 24.0
    setting = cfg.settings.get('root_path')
    path: str = (setting is not None and setting.get()) or environment.get('SCRIPT_NAME', '')
    return path.rstrip('/')


def _trusted_proxies(addresses: Any) -> list[str]:
    """Return gunicorn's ``addresses`` as ``trusted_proxies``. gunicorn always trusts Unix sockets."""
    return [UNIX, *(['0.0.0.0/0', '::/0'] if '*' in addresses else addresses)]
