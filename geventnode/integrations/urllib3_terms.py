"""On what terms TLS is spoken: urllib3's keyword arguments in the words of this package.

What cannot be said in them is refused by name. Nothing that somebody has asked for in the name of security is left out
without a word.
"""
from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from urllib3.util.ssl_ import resolve_cert_reqs

from geventnode.errors import InvalidInput, UnknownOption
from geventnode.options import hint_for
from geventnode.tls.contexts import VERSIONS, load_authorities

__all__ = ['SET_ON_POOLS', 'check_terms', 'merge_terms', 'tls_options', 'verifies']

AUTHORITIES = ('ca_certs', 'ca_cert_dir', 'ca_cert_data')
CERTIFICATE = ('cert_file', 'key_file', 'key_password')

#: What has a word here, beside ``cert_reqs`` and the authorities.
OPTIONS = {
    'ssl_context': 'context', 'cert_file': 'certfile', 'key_file': 'keyfile', 'key_password': 'password',
    'ssl_minimum_version': 'minimum_version', 'server_hostname': 'servername',
}

#: What may stand beside a context: who is to be found, and whether.
BESIDE_CONTEXT = frozenset({'ssl_context', 'server_hostname'})

#: What ``requests`` says anew for each request, so that it has no effect on plain ``requests`` either.
WITHOUT_EFFECT = frozenset({'timeout', 'retries', 'headers', 'maxsize', 'block', 'num_pools', 'blocksize', 'strict'})

#: What is refused but for these values, and why, or what to do in its place.
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    'ssl_minimum_version': (tuple(VERSIONS.values()), 'TLS 1.2 is the least that is spoken'),
    'ssl_version': ((ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_CLIENT), 'use ssl_minimum_version or ssl_context'),
    'ssl_maximum_version': ((ssl.TLSVersion.MAXIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_3), 'set it on an ssl_context'),
    'assert_hostname': ((), 'use server_hostname, or False and an ssl_context whose check_hostname is false'),
    'assert_fingerprint': ((), 'trust the certificate itself, with ca_certs or an ssl_context'),
    'source_address': ((), 'give the adapter an agent that overrides create_connection'),
    'socket_options': ((), 'give the adapter an agent that overrides create_connection'),
}

KNOWN = frozenset({*OPTIONS, *AUTHORITIES, *WITHOUT_EFFECT, *REFUSED, 'cert_reqs'})

#: What may be set on a pool as an attribute.
SET_ON_POOLS = KNOWN - WITHOUT_EFFECT


def check_terms(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is set in ``terms``, keyword arguments for urllib3's pools. Never switches. Raises ``InvalidInput``
    for what is not supported, ``TypeError``, ``UnknownOption``."""
    found = {name: value for name, value in terms.items() if value is not None}
    for name, value in found.items():
        if name not in KNOWN:
            raise UnknownOption(f'AgentAdapter has no use for {name!r}{hint_for(name, KNOWN)}')
        supported, instead = REFUSED.get(name, ((value,), ''))
        if value not in supported and not (name == 'assert_hostname' and value is False and 'ssl_context' in found):
            raise InvalidInput(f'{name}={value!r} is not supported by AgentAdapter: {instead}')
    if isinstance(found.get('ca_cert_data'), bytes):
        raise InvalidInput('ca_cert_data must be PEM text as str')
    context = found.get('ssl_context')
    if context is not None:
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f'ssl_context must be an ssl.SSLContext, not {type(context).__name__}')
        others = sorted(found.keys() & OPTIONS.keys() - BESIDE_CONTEXT)
        if others:
            raise InvalidInput(f'ssl_context decides about everything: set {", ".join(others)} on it')
        if found.get('assert_hostname') is False and context.check_hostname:
            raise InvalidInput('assert_hostname=False: set check_hostname of ssl_context to false')
    return found


def merge_terms(usual: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``usual`` terms with what was ``said`` in place of it; who names authorities, or a certificate, names
    all that belongs to it. Never switches. Raises as :func:`check_terms` does."""
    kept = dict(usual)
    for together in (AUTHORITIES, CERTIFICATE):
        if any(said.get(name) is not None for name in together):
            for name in together:
                kept.pop(name, None)
    return check_terms({**kept, **said})


def verifies(terms: Mapping[str, Any]) -> bool:
    """Return whether ``terms`` ask for certificates to be verified. Never switches."""
    return resolve_cert_reqs(terms.get('cert_reqs')) != ssl.CERT_NONE


def tls_options(terms: Mapping[str, Any], authorities: str | None) -> dict[str, Any]:
    """Return the options of TLS that say what ``terms``, checked, do. Never switches. Raises ``InvalidInput``.

    :param authorities: whom to trust when ``terms`` name nobody; None: whom the agent trusts.
    """
    options = {OPTIONS[name]: value for name, value in terms.items() if name in OPTIONS}
    trusted = [terms[name] for name in AUTHORITIES if terms.get(name)]
    context = terms.get('ssl_context')
    if context is not None:
        _check_context(context, terms)
        if verifies(terms):
            _add_authorities(context, trusted, authorities)
    elif not verifies(terms):
        options['reject_unauthorized'] = False
    elif trusted or authorities:
        options['ca'] = tuple(trusted) or authorities
    return options


def _check_context(context: ssl.SSLContext, terms: Mapping[str, Any]) -> None:
    """Raise ``InvalidInput`` when ``context`` verifies less than ``terms`` ask for, or what they do not."""
    wanted = verifies(terms)
    if (context.verify_mode != ssl.CERT_NONE) is not wanted:
        raise InvalidInput('ssl_context does not verify certificates: set verify_mode on it, or pass verify=False'
                           if wanted else 'verify=False, and ssl_context verifies certificates: set verify_mode on it')
    if wanted and not context.check_hostname and terms.get('assert_hostname') is not False:
        raise InvalidInput('ssl_context does not check host names: set check_hostname on it, or pass '
                           'assert_hostname=False')


def _add_authorities(context: ssl.SSLContext, trusted: list[Any], usual: str | None) -> None:
    """Let ``context`` trust those that were named; the usual ones only if it knows none."""
    if not trusted and usual is not None and not context.cert_store_stats()['x509']:
        trusted = [usual]
    load_authorities(context, trusted)
