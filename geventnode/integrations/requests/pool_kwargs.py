"""Translate urllib3's keyword arguments for pools to TLS settings of an agent.

An unsupported argument raises an error with its name. No argument that affects security is ignored silently.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any

from urllib3.util.ssl_ import resolve_cert_reqs

from geventnode import https
from geventnode.errors import InvalidInput, UnknownOption
from geventnode.options import hint_for
from geventnode.tls.client import TLSSettings
from geventnode.tls.context_source import is_context
from geventnode.tls.contexts import VERSIONS, load_authorities

__all__ = [
    'POOL_ATTRIBUTES',
    'check_pool_kwargs',
    'merge_pool_kwargs',
    'proxy_tls_settings',
    'split_proxy_kwargs',
    'tls_settings',
    'verifies_identity',
]

CA_KWARGS = ('ca_certs', 'ca_cert_dir', 'ca_cert_data')
CERTIFICATE_KWARGS = ('cert_file', 'key_file', 'key_password')

#: The agent's option for each argument, except ``cert_reqs`` and the authorities.
OPTIONS = {
    'ssl_context': 'context',
    'cert_file': 'certfile',
    'key_file': 'keyfile',
    'key_password': 'password',
    'ssl_minimum_version': 'minimum_version',
    'server_hostname': 'servername',
}

#: The options that are allowed together with a context: the name of the server is not a part of a context.
ALLOWED_WITH_CONTEXT = frozenset({'ssl_context', 'server_hostname'})

#: Arguments that ``requests`` overrides for each request, so that plain ``requests`` ignores them, too.
IGNORED_KWARGS = frozenset({'timeout', 'retries', 'headers', 'maxsize', 'block', 'num_pools', 'blocksize', 'strict'})

#: The supported values of an argument, and the reason or the remedy for all others.
RESTRICTED_KWARGS: dict[str, tuple[tuple[Any, ...], str]] = {
    'ssl_minimum_version': (tuple(VERSIONS.values()), 'TLS 1.2 is the oldest supported version'),
    'ssl_version': ((ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_CLIENT), 'use ssl_minimum_version or ssl_context'),
    'ssl_maximum_version': ((ssl.TLSVersion.MAXIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_3), 'set it on an ssl_context'),
    'socket_options': ((), 'give the adapter an agent that overrides create_connection'),
}

#: Arguments about the identity in the certificate.
IDENTITY_KWARGS = ('assert_hostname', 'assert_fingerprint')

KNOWN_KWARGS = frozenset(
    {*OPTIONS, *CA_KWARGS, *IGNORED_KWARGS, *RESTRICTED_KWARGS, *IDENTITY_KWARGS, 'cert_reqs', 'source_address'}
)

#: urllib3's arguments for TLS to a proxy (``ProxyManager``), and the corresponding arguments for TLS to the server.
PROXY_KWARGS = {f'proxy_{name}': name for name in ('ssl_context', *IDENTITY_KWARGS)}

#: Hexadecimal digits of SHA-256 or SHA-1, with or without colons.
_FINGERPRINT = re.compile(r'(?:[0-9a-f]{2}:?){31}[0-9a-f]{2}|(?:[0-9a-f]{2}:?){19}[0-9a-f]{2}', re.IGNORECASE)

#: Arguments that subclasses of ``HTTPAdapter`` can set as attributes of a pool.
POOL_ATTRIBUTES = KNOWN_KWARGS - IGNORED_KWARGS


def check_pool_kwargs(pool_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are not None, checked.

    Raises ``InvalidInput`` for a value that is not supported, ``UnknownOption``, ``TypeError``.
    """
    found = {name: value for name, value in pool_kwargs.items() if value is not None}
    for name, value in found.items():
        if name not in KNOWN_KWARGS:
            raise UnknownOption(f'AgentAdapter does not support {name!r}{hint_for(name, KNOWN_KWARGS)}')
        supported, remedy = RESTRICTED_KWARGS.get(name, ((value,), ''))
        if value not in supported:
            raise InvalidInput(f'AgentAdapter does not support {name}={value!r}: {remedy}')
    if isinstance(found.get('ca_cert_data'), bytes):
        raise InvalidInput('ca_cert_data must be PEM text as str')
    others = sorted(found.keys() & OPTIONS.keys() - ALLOWED_WITH_CONTEXT)
    if others and 'ssl_context' in found:
        raise InvalidInput(f'{", ".join(others)} cannot be combined with ssl_context: set it on the context')
    _check_identity(found)
    _check_source(found.get('source_address'))
    return found


def _check_source(address: Any) -> None:
    """Check the local address of connections."""
    if address is None:
        return
    if not isinstance(address, tuple) or len(address) != 2 or not isinstance(address[0], str):
        raise InvalidInput(f'source_address must be a tuple of an address and 0, not {address!r}')
    if address[1] != 0:
        raise InvalidInput(f'the port of source_address must be 0, not {address[1]!r}: two connections cannot share it')


def _check_identity(found: Mapping[str, Any], prefix: str = '') -> None:
    """Check the arguments about identity; ``prefix`` is for messages."""
    context, name, fingerprint = (found.get(each) for each in ('ssl_context', *IDENTITY_KWARGS))
    if context is not None and not is_context(context):
        raise TypeError(f'{prefix}ssl_context must be an ssl.SSLContext, not {type(context).__name__}')
    if name is not None and name is not False and (not isinstance(name, str) or not name):
        raise InvalidInput(f'{prefix}assert_hostname must be a host name or False, not {name!r}')
    if name is not None and context is not None and context.check_hostname:
        raise InvalidInput(f'{prefix}assert_hostname={name!r}: set check_hostname of {prefix}ssl_context to false')
    if fingerprint is not None and not (isinstance(fingerprint, str) and _FINGERPRINT.fullmatch(fingerprint)):
        raise InvalidInput(
            f'{prefix}assert_fingerprint must be SHA-256 or SHA-1 in hexadecimal digits, not {fingerprint!r}'
        )


def split_proxy_kwargs(pool_kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments for pools and those for TLS to the proxy.

    Raises ``InvalidInput``, ``TypeError``, ``UnknownOption``.
    """
    others = {name: value for name, value in pool_kwargs.items() if name not in PROXY_KWARGS}
    for name, value in others.items():
        if name.startswith('proxy_') and value is not None:
            raise UnknownOption(f'AgentAdapter does not support {name!r}{hint_for(name, PROXY_KWARGS)}')
    found = {
        PROXY_KWARGS[name]: value for name, value in pool_kwargs.items() if name in PROXY_KWARGS and value is not None
    }
    _check_identity(found, 'proxy_')
    return others, found


def merge_pool_kwargs(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``defaults`` updated with ``given``.

    Authorities, and a certificate with its key, are replaced as a whole. Raises as :func:`check_pool_kwargs` does.
    """
    kept = dict(defaults)
    for together in (CA_KWARGS, CERTIFICATE_KWARGS):
        if any(given.get(name) is not None for name in together):
            for name in together:
                kept.pop(name, None)
    return check_pool_kwargs({**kept, **given})


def tls_settings(agent: https.Agent, pool_kwargs: Mapping[str, Any], authorities: str | None) -> TLSSettings:
    """Return the TLS settings of ``agent`` updated with the checked ``pool_kwargs``.

    :param authorities: the file of trusted authorities if ``pool_kwargs`` name none; None: the agent's own.

    Raises ``InvalidInput``.
    """
    return _with_identity(agent._tls_settings(_tls_options(pool_kwargs, authorities)), pool_kwargs)


def proxy_tls_settings(
    agent: https.Agent, pool_kwargs: Mapping[str, Any], authorities: str | None, proxy_kwargs: Mapping[str, Any]
) -> TLSSettings:
    """Return the TLS settings of the connection to an ``https:`` proxy.

    The proxy is verified like a server. The client certificate is for servers only: the proxy gets the certificate of
    its own context, or no certificate.

    :param pool_kwargs: the checked arguments for the server.
    :param authorities: as for :func:`tls_settings`.
    :param proxy_kwargs: as returned by :func:`split_proxy_kwargs`.

    Raises ``InvalidInput``.
    """
    context = proxy_kwargs.get('ssl_context')
    if context is not None:
        return _with_identity(agent._tls_settings({'context': context}), proxy_kwargs)
    if 'ssl_context' in pool_kwargs or agent._tls_settings({}).settings.context is not None:
        raise InvalidInput(
            'the ssl_context of the server is not used for the proxy, because it can hold a client certificate: pass '
            'proxy_ssl_context to proxy_manager_for()'
        )
    private = {*CERTIFICATE_KWARGS, 'server_hostname'}
    found = agent._tls_settings(
        _tls_options({name: value for name, value in pool_kwargs.items() if name not in private}, authorities)
    )
    settings = found.settings._replace(certfile=None, keyfile=None, password=None)
    return _with_identity(found._replace(settings=settings, servername=None), proxy_kwargs)


def _with_identity(found: TLSSettings, pool_kwargs: Mapping[str, Any]) -> TLSSettings:
    """Return ``found`` with the host name and the fingerprint of ``pool_kwargs``."""
    fingerprint = pool_kwargs.get('assert_fingerprint') or ''
    return found._replace(
        checked_name=pool_kwargs.get('assert_hostname'), fingerprint=fingerprint.replace(':', '').lower()
    )


def verifies_identity(pool_kwargs: Mapping[str, Any], proxy_kwargs: Mapping[str, Any] | None = None) -> bool:
    """Return whether the identity of the other end is verified.

    :param proxy_kwargs: the arguments for the proxy if the connection leads to one.
    """
    context = None if proxy_kwargs is None else proxy_kwargs.get('ssl_context')
    verified = _verifies(pool_kwargs) if context is None else context.verify_mode != ssl.CERT_NONE
    return verified or (pool_kwargs if proxy_kwargs is None else proxy_kwargs).get('assert_fingerprint') is not None


def _verifies(pool_kwargs: Mapping[str, Any]) -> bool:
    """Return whether ``pool_kwargs`` require verified certificates."""
    return resolve_cert_reqs(pool_kwargs.get('cert_reqs')) != ssl.CERT_NONE


def _tls_options(pool_kwargs: Mapping[str, Any], authorities: str | None) -> dict[str, Any]:
    """Return an agent's TLS options for the checked ``pool_kwargs``. Raises ``InvalidInput``.

    :param authorities: as for :func:`tls_settings`.
    """
    options = {OPTIONS[name]: value for name, value in pool_kwargs.items() if name in OPTIONS}
    trusted = [pool_kwargs[name] for name in CA_KWARGS if pool_kwargs.get(name)]
    context = pool_kwargs.get('ssl_context')
    if context is not None:
        _check_context(context, pool_kwargs)
        if _verifies(pool_kwargs):
            _add_authorities(context, trusted, authorities)
    elif not _verifies(pool_kwargs):
        options['reject_unauthorized'] = False
    elif trusted or authorities:
        options['ca'] = tuple(trusted) or authorities
    return options


def _check_context(context: ssl.SSLContext, pool_kwargs: Mapping[str, Any]) -> None:
    """Raise ``InvalidInput`` if ``context`` and ``pool_kwargs`` disagree about verification."""
    required = _verifies(pool_kwargs)
    if (context.verify_mode != ssl.CERT_NONE) is not required:
        raise InvalidInput(
            'ssl_context does not verify certificates: set verify_mode on it, or pass verify=False'
            if required
            else 'verify=False contradicts ssl_context, which verifies certificates: set verify_mode on it'
        )
    if required and not context.check_hostname and all(pool_kwargs.get(name) is None for name in IDENTITY_KWARGS):
        raise InvalidInput('ssl_context does not check host names: set check_hostname on it, or pass assert_hostname')


def _knows_authorities(context: ssl.SSLContext) -> bool:
    try:
        return bool(context.cert_store_stats()['x509'])
    except NotImplementedError:
        # truststore's context verifies with the system's own store
        return True


def _add_authorities(context: ssl.SSLContext, trusted: list[Any], default: str | None) -> None:
    """Add ``trusted`` authorities, or the default ones if ``context`` has none."""
    if not trusted and default is not None and not _knows_authorities(context):
        trusted = [default]
    load_authorities(context, trusted)
