"""On what terms TLS is spoken: urllib3's keyword arguments in the words of this package.

What cannot be said in them is refused by name. Nothing that somebody has asked for in the name of security is left out
without a word.
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

#: What has a word here, beside ``cert_reqs`` and the authorities.
OPTIONS = {
    'ssl_context': 'context',
    'cert_file': 'certfile',
    'key_file': 'keyfile',
    'key_password': 'password',
    'ssl_minimum_version': 'minimum_version',
    'server_hostname': 'servername',
}

#: What may stand beside a context: who is to be found, and whether.
ALLOWED_WITH_CONTEXT = frozenset({'ssl_context', 'server_hostname'})

#: What ``requests`` says anew for each request, so that it has no effect on plain ``requests`` either.
IGNORED_KWARGS = frozenset({'timeout', 'retries', 'headers', 'maxsize', 'block', 'num_pools', 'blocksize', 'strict'})

#: What is refused but for these values, and why, or what to do in its place.
UNSUPPORTED_VALUES: dict[str, tuple[tuple[Any, ...], str]] = {
    'ssl_minimum_version': (tuple(VERSIONS.values()), 'TLS 1.2 is the least that is spoken'),
    'ssl_version': ((ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_CLIENT), 'use ssl_minimum_version or ssl_context'),
    'ssl_maximum_version': ((ssl.TLSVersion.MAXIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_3), 'set it on an ssl_context'),
    'socket_options': ((), 'give the adapter an agent that overrides create_connection'),
}

#: Terms for the identity in the certificate.
IDENTITY_KWARGS = ('assert_hostname', 'assert_fingerprint')

KNOWN_KWARGS = frozenset(
    {*OPTIONS, *CA_KWARGS, *IGNORED_KWARGS, *UNSUPPORTED_VALUES, *IDENTITY_KWARGS, 'cert_reqs', 'source_address'}
)

#: Terms of the TLS connection to a proxy, and their names among those for destinations (urllib3's ``ProxyManager``).
PROXY_KWARGS = {f'proxy_{name}': name for name in ('ssl_context', *IDENTITY_KWARGS)}

#: Hexadecimal digits of SHA-256 or SHA-1, with or without colons.
_FINGERPRINT = re.compile(r'(?:[0-9a-f]{2}:?){31}[0-9a-f]{2}|(?:[0-9a-f]{2}:?){19}[0-9a-f]{2}', re.IGNORECASE)

#: What may be set on a pool as an attribute.
POOL_ATTRIBUTES = KNOWN_KWARGS - IGNORED_KWARGS


def check_pool_kwargs(pool_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is set in ``pool_kwargs``, keyword arguments for urllib3's pools. Raises ``InvalidInput``
    for what is not supported, ``TypeError``, ``UnknownOption``."""
    found = {name: value for name, value in pool_kwargs.items() if value is not None}
    for name, value in found.items():
        if name not in KNOWN_KWARGS:
            raise UnknownOption(f'AgentAdapter has no use for {name!r}{hint_for(name, KNOWN_KWARGS)}')
        supported, instead = UNSUPPORTED_VALUES.get(name, ((value,), ''))
        if value not in supported:
            raise InvalidInput(f'{name}={value!r} is not supported by AgentAdapter: {instead}')
    if isinstance(found.get('ca_cert_data'), bytes):
        raise InvalidInput('ca_cert_data must be PEM text as str')
    others = sorted(found.keys() & OPTIONS.keys() - ALLOWED_WITH_CONTEXT)
    if others and 'ssl_context' in found:
        raise InvalidInput(f'ssl_context decides about everything: set {", ".join(others)} on it')
    _check_identity(found)
    _check_source(found.get('source_address'))
    return found


def _check_source(address: Any) -> None:
    """Check where connections begin."""
    if address is None:
        return
    if not isinstance(address, tuple) or len(address) != 2 or not isinstance(address[0], str):
        raise InvalidInput(f'source_address must be a tuple of an address and 0, not {address!r}')
    if address[1] != 0:
        raise InvalidInput(f'the port of source_address must be 0, not {address[1]!r}: two connections cannot share it')


def _check_identity(found: Mapping[str, Any], prefix: str = '') -> None:
    """Check the context, the name and the fingerprint among terms, which messages name with ``prefix``."""
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
    """Return the terms for destinations, unchecked, and those for the proxy. Raises ``InvalidInput``,
    ``TypeError``, ``UnknownOption``."""
    others = {name: value for name, value in pool_kwargs.items() if name not in PROXY_KWARGS}
    for name, value in others.items():
        if name.startswith('proxy_') and value is not None:
            raise UnknownOption(f'AgentAdapter has no use for {name!r}{hint_for(name, PROXY_KWARGS)}')
    found = {
        PROXY_KWARGS[name]: value for name, value in pool_kwargs.items() if name in PROXY_KWARGS and value is not None
    }
    _check_identity(found, 'proxy_')
    return others, found


def merge_pool_kwargs(usual: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``usual`` updated with ``said``.

    Authorities and certificates are replaced as a whole. Raises as :func:`check_pool_kwargs` does.
    """
    kept = dict(usual)
    for together in (CA_KWARGS, CERTIFICATE_KWARGS):
        if any(said.get(name) is not None for name in together):
            for name in together:
                kept.pop(name, None)
    return check_pool_kwargs({**kept, **said})


def tls_settings(agent: https.Agent, pool_kwargs: Mapping[str, Any], authorities: str | None) -> TLSSettings:
    """Return the terms, checked, in the words of ``agent``. Raises ``InvalidInput``.

    :param authorities: those to trust when ``pool_kwargs`` name none; None: those of the agent.
    """
    return _with_identity(agent._tls_settings(_tls_options(pool_kwargs, authorities)), pool_kwargs)


def proxy_tls_settings(
    agent: https.Agent, pool_kwargs: Mapping[str, Any], authorities: str | None, proxy_kwargs: Mapping[str, Any]
) -> TLSSettings:
    """Return the terms of the connection to a proxy that speaks TLS. Raises ``InvalidInput``.

    The proxy is verified as destinations are. The client certificate is for destinations only: the proxy gets the one
    in its own context, or none.

    :param terms: those of the destination, checked.
    :param authorities: as of :func:`tls_settings`.
    :param proxy_terms: as of :func:`split_proxy_kwargs`.
    """
    context = proxy_kwargs.get('ssl_context')
    if context is not None:
        return _with_identity(agent._tls_settings({'context': context}), proxy_kwargs)
    if 'ssl_context' in pool_kwargs or agent._tls_settings({}).settings.context is not None:
        raise InvalidInput(
            'the ssl_context of the destination, which may hold a client certificate, is not used for '
            'the proxy: pass proxy_ssl_context to proxy_manager_for()'
        )
    private = {*CERTIFICATE_KWARGS, 'server_hostname'}
    peer = agent._tls_settings(
        _tls_options({name: value for name, value in pool_kwargs.items() if name not in private}, authorities)
    )
    settings = peer.settings._replace(certfile=None, keyfile=None, password=None)
    return _with_identity(peer._replace(settings=settings, servername=None), proxy_kwargs)


def _with_identity(peer: TLSSettings, pool_kwargs: Mapping[str, Any]) -> TLSSettings:
    """Return ``peer`` with the name and the fingerprint that ``pool_kwargs`` ask for."""
    fingerprint = pool_kwargs.get('assert_fingerprint') or ''
    return peer._replace(
        checked_name=pool_kwargs.get('assert_hostname'), fingerprint=fingerprint.replace(':', '').lower()
    )


def verifies_identity(pool_kwargs: Mapping[str, Any], proxy_kwargs: Mapping[str, Any] | None = None) -> bool:
    """Return whether ``pool_kwargs`` let no other host answer in the name of the server.

    :param proxy_terms: those of the proxy, if the connection is to one.
    """
    context = None if proxy_kwargs is None else proxy_kwargs.get('ssl_context')
    verified = _verifies(pool_kwargs) if context is None else context.verify_mode != ssl.CERT_NONE
    return verified or (pool_kwargs if proxy_kwargs is None else proxy_kwargs).get('assert_fingerprint') is not None


def _verifies(pool_kwargs: Mapping[str, Any]) -> bool:
    """Return whether ``pool_kwargs`` ask for certificates to be verified."""
    return resolve_cert_reqs(pool_kwargs.get('cert_reqs')) != ssl.CERT_NONE


def _tls_options(pool_kwargs: Mapping[str, Any], authorities: str | None) -> dict[str, Any]:
    """Return the options of TLS that say what ``pool_kwargs``, checked, do. Raises ``InvalidInput``.

    :param authorities: those to trust when ``pool_kwargs`` name none; None: those of the agent.
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
    """Raise ``InvalidInput`` when ``context`` verifies less than ``pool_kwargs`` ask for, or what they do not."""
    wanted = _verifies(pool_kwargs)
    if (context.verify_mode != ssl.CERT_NONE) is not wanted:
        raise InvalidInput(
            'ssl_context does not verify certificates: set verify_mode on it, or pass verify=False'
            if wanted
            else 'verify=False, and ssl_context verifies certificates: set verify_mode on it'
        )
    if wanted and not context.check_hostname and all(pool_kwargs.get(name) is None for name in IDENTITY_KWARGS):
        raise InvalidInput('ssl_context does not check host names: set check_hostname on it, or pass assert_hostname')


def _knows_authorities(context: ssl.SSLContext) -> bool:
    try:
        return bool(context.cert_store_stats()['x509'])
    except NotImplementedError:
        # truststore's asks the system, connection by connection
        return True


def _add_authorities(context: ssl.SSLContext, trusted: list[Any], usual: str | None) -> None:
    """Let ``context`` trust those that were named; the usual ones only if it knows none."""
    if not trusted and usual is not None and not _knows_authorities(context):
        trusted = [usual]
    load_authorities(context, trusted)
