"""What gunicorn's settings are called here, and which of them mean nothing to this library's server.

gunicorn itself is not imported: its configuration is an object with attributes.
"""
from __future__ import annotations

from typing import Any

from geventnode.protocol.trust import UNIX

__all__ = ['CONNECTION_SETTINGS', 'LARGEST_HEAD', 'MEANINGLESS', 'changed', 'server_options', 'uses_sendfile']

#: Bytes. gunicorn has no limit for a head but the product of the other two; nobody sends more.
LARGEST_HEAD = 1048576

#: gunicorn's own bounds of what it takes for its limits.
LARGEST_LINE, MOST_FIELDS = 8190, 32768

#: Settings that say how connections are treated: a server that the application has made has its own.
CONNECTION_SETTINGS = ('keepalive', 'limit_request_line', 'limit_request_fields', 'limit_request_field_size',
                       'forwarded_allow_ips', 'secure_scheme_headers', 'proxy_protocol', 'proxy_allow_ips')

#: Settings that mean nothing here, and why.
MEANINGLESS = {
    'threads': 'requests run in greenlets',
    'protocol': 'HTTP/1.1 is what is spoken',
    'http_protocols': 'HTTP/1.1 is what is spoken',
    'http2_cleartext': 'HTTP/1.1 is what is spoken',
    'header_map': 'fields with an underscore in their name are always dropped',
    'forwarder_headers': 'no field of a request sets SCRIPT_NAME, PATH_INFO or REMOTE_USER',
    'permit_obsolete_folding': 'it would open a door for request smuggling',
    'strip_header_spaces': 'it would open a door for request smuggling',
    'permit_unconventional_http_method': 'any token is a method already',
    'permit_unconventional_http_version': 'HTTP/1.1 is what is spoken',
    'casefold_http_method': 'methods are case-sensitive (RFC 9110, section 9.1)',
    'tmp_upload_dir': 'nothing is stored',
}


def changed(cfg: Any, name: str) -> bool:
    """Return whether the setting ``name`` is there, and has another value than its default. Never switches."""
    setting = cfg.settings.get(name)
    return setting is not None and setting.get() != type(setting)().get()


def server_options(cfg: Any) -> dict[str, Any]:
    """Return the options of ``http.create_server`` that say what the configuration ``cfg`` says. Never switches."""
    line = min(cfg.limit_request_line, LARGEST_LINE) or None
    fields = cfg.limit_request_fields if 0 < cfg.limit_request_fields < MOST_FIELDS else MOST_FIELDS
    size = cfg.limit_request_field_size if cfg.limit_request_field_size > 0 else None
    options: dict[str, Any] = {
        # a line end behind each part, and one more
        'max_header_size': min((line or LARGEST_HEAD) + 4 + fields * (LARGEST_HEAD if size is None else size + 2),
                               LARGEST_HEAD),
        'max_request_line': line, 'max_headers_count': fields, 'max_field_size': size,
        'max_connections': cfg.worker_connections or None, 'wait_when_full': True,
        'trusted_proxies': _trusted(cfg.forwarded_allow_ips), 'scheme_headers': dict(cfg.secure_scheme_headers),
    }
    if cfg.keepalive:
        options['keep_alive_timeout'] = cfg.keepalive
    if cfg.proxy_protocol not in (False, 'off'):
        options['proxy_protocol'] = True
        options['trusted_proxies'] = _trusted(cfg.proxy_allow_ips)
        # the header names the client, and the other setting the proxies
        options['scheme_proxies'] = _trusted(cfg.forwarded_allow_ips)
    return options


def uses_sendfile(cfg: Any) -> bool:
    """Return whether files may go from kernel to kernel. Never switches."""
    said = cfg.settings['sendfile'].get()
    # the property says False of whatever is set, True included; otherwise it knows the environment of the process
    return bool(cfg.sendfile if said is None else said)


def _trusted(addresses: Any) -> list[str]:
    """Return ``addresses`` as we call them: gunicorn takes the word of whoever is on a Unix socket."""
    return [UNIX, *(['0.0.0.0/0', '::/0'] if '*' in addresses else addresses)]
