"""Check the settings of TLS, and make ``ssl`` contexts of them. The defaults are safe.

Contexts are cached by their settings: loading certificates takes milliseconds, and sessions can only be resumed within
one context. A new one is made when a file has changed (``ContextSource``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

from geventnode.errors import InvalidInput, UnknownOption
from geventnode.options import flag, hint_for
from geventnode.tls.context_source import ContextSource, is_context

__all__ = [
    'CLIENT_OPTIONS',
    'SERVER_OPTIONS',
    'ContextSettings',
    'check_server_context',
    'checking_context',
    'client_context',
    'client_settings',
    'load_authorities',
    'server_settings',
    'server_source',
]

#: The options of a context; ``context``, an ``ssl.SSLContext`` of the user, replaces all others.
COMMON = frozenset(
    {
        'context',
        'certfile',
        'keyfile',
        'password',
        'ca',
        'ciphers',
        'minimum_version',
        'alpn_protocols',
        'reject_unauthorized',
    }
)
SERVER_OPTIONS = COMMON | {'request_cert'}
CLIENT_OPTIONS = COMMON | {'servername'}

VERSIONS = {'TLSv1.2': ssl.TLSVersion.TLSv1_2, 'TLSv1.3': ssl.TLSVersion.TLSv1_3}

DEFAULT_ALPN = ('http/1.1',)


class ContextSettings(NamedTuple):
    """The settings of a context.

    Connections with equal settings belong to the same pool.
    """

    context: ssl.SSLContext | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: str | None = None
    ca: tuple[str, ...] = ()
    ciphers: str | None = None
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    alpn_protocols: tuple[str, ...] = DEFAULT_ALPN
    request_cert: bool = False
    reject_unauthorized: bool = True

    def digest(self) -> str:
        """Return a string that identifies the settings without revealing them."""
        context = self.context and id(self.context)
        return hashlib.sha256(repr((context, *self[1:])).encode()).hexdigest()[:16]


def client_settings(options: Mapping[str, Any]) -> ContextSettings:
    """Return the settings for the options of a client.

    Raises ``InvalidInput``, ``TypeError`` and ``UnknownOption``.
    """
    return _settings(options, CLIENT_OPTIONS)


def server_settings(options: Mapping[str, Any]) -> ContextSettings:
    """Return the settings for the options of a server.

    Raises ``InvalidInput``, ``TypeError`` and ``UnknownOption``.
    """
    settings = _settings(options, SERVER_OPTIONS)
    if settings.context is not None:
        check_server_context('context', settings.context)
    elif settings.certfile is None:
        raise InvalidInput('a TLS server needs certfile, the path of its certificate, or context')
    return settings


def check_server_context(name: str, value: Any) -> None:
    """Raise unless a server can use ``value`` as its context.

    The error is a ``TypeError`` or ``InvalidInput``.
    """
    if _context(name, value).protocol is ssl.PROTOCOL_TLS_CLIENT:
        raise InvalidInput(f'{name} is an ssl.SSLContext for clients; a server needs PROTOCOL_TLS_SERVER')


def _settings(options: Mapping[str, Any], known: frozenset[str]) -> ContextSettings:
    for name in options:
        if name not in known:
            raise UnknownOption(f'TLS has no option {name!r}{hint_for(name, known)}')
    found = {
        name: _CHECKS[name](name, value)
        for name, value in options.items()
        if name != 'servername' and value is not None
    }
    context = found.get('context')
    if context is not None and len(found) > 1:
        others = ', '.join(sorted(found.keys() - {'context'}))
        raise InvalidInput(f'context replaces all other settings: set {others} on it')
    if 'keyfile' in found and 'certfile' not in found:
        raise InvalidInput('keyfile needs a certfile; set both')
    return ContextSettings(**found)


# -- checks -----------------------------------------------------------------------------------------------------------


def _context(name: str, value: Any) -> ssl.SSLContext:
    if not is_context(value):
        raise TypeError(f'{name} must be an ssl.SSLContext, not {type(value).__name__}')
    return cast(ssl.SSLContext, value)


def _path(name: str, value: Any) -> str:
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError(f'{name} must be a path as str, not {type(path).__name__}')
    if not os.path.exists(path):
        raise InvalidInput(f'{name}: no such file: {path!r}')
    return path


def _text(name: str, value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode('latin-1')
    if not isinstance(value, str):
        raise TypeError(f'{name} must be str, not {type(value).__name__}')
    return value


def _authorities(name: str, value: Any) -> tuple[str, ...]:
    """Return certificates of authorities: paths, or PEM text, one or several."""
    if isinstance(value, (str, bytes, os.PathLike)):
        value = [value]
    found = []
    for each in value:
        text = each.decode('latin-1') if isinstance(each, bytes) else os.fspath(each)
        found.append(text if '-----BEGIN' in text else _path(name, text))
    if not found:
        raise InvalidInput(f'{name} must name at least one authority')
    return tuple(found)


def _version(name: str, value: Any) -> ssl.TLSVersion:
    version = VERSIONS.get(value, value)
    if version not in VERSIONS.values():
        raise InvalidInput(f'{name} must be {" or ".join(map(repr, VERSIONS))}, not {value!r}: older ones are broken')
    return ssl.TLSVersion(version)


def _protocols(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f'{name} must be a sequence of str, not {type(value).__name__}')
    protocols = tuple(value)
    for protocol in protocols:
        if not isinstance(protocol, str):
            raise TypeError(f'{name} must be a sequence of str, not of {type(protocol).__name__}')
        if not protocol.isascii() or not 1 <= len(protocol) <= 255:
            raise InvalidInput(f'{name}: a protocol has 1 to 255 ASCII characters, not {protocol!r} (RFC 7301)')
    return protocols


_CHECKS: dict[str, Any] = {
    'context': _context,
    'certfile': _path,
    'keyfile': _path,
    'password': _text,
    'ca': _authorities,
    'ciphers': _text,
    'minimum_version': _version,
    'alpn_protocols': _protocols,
    'request_cert': flag,
    'reject_unauthorized': flag,
}


# -- contexts ---------------------------------------------------------------------------------------------------------


def client_context(settings: ContextSettings, check_hostname: bool = True) -> ssl.SSLContext:
    """Return the context of a client.

    It verifies chain and host name unless ``reject_unauthorized`` is false.

    :param check_hostname: whether the context checks the name; false if the caller does.

    Raises ``InvalidInput`` for files that cannot be used.
    """
    if settings.context is not None:
        return settings.context
    return _client_source(settings, check_hostname).current()


@lru_cache(maxsize=64)
def _client_source(settings: ContextSettings, check_hostname: bool) -> ContextSource:
    return ContextSource(partial(_make_client_context, settings, check_hostname), _files(settings, True))


def checking_context(settings: ContextSettings, check_hostname: bool) -> ssl.SSLContext:
    """Return a verifying context of TLS 1.2.

    It verifies as that of :func:`client_context` does by default.

    Raises as that function does.
    """
    verifying = settings._replace(
        reject_unauthorized=True, certfile=None, keyfile=None, password=None, minimum_version=ssl.TLSVersion.TLSv1_2
    )
    return _checking_source(verifying, check_hostname).current()


@lru_cache(maxsize=16)
def _checking_source(settings: ContextSettings, check_hostname: bool) -> ContextSource:
    def make() -> ssl.SSLContext:
        context = _make_client_context(settings, check_hostname)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    return ContextSource(make, _files(settings, True))


def _make_client_context(settings: ContextSettings, check_hostname: bool) -> ssl.SSLContext:
    context = _trusting_only(settings.ca) if settings.ca else ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    # as urllib3 does: a server can request the certificate after it has read the request (RFC 8446, section 4.6.2)
    context.post_handshake_auth = True
    context.check_hostname = check_hostname and settings.reject_unauthorized
    if not settings.reject_unauthorized:
        context.verify_mode = ssl.CERT_NONE
    return _configured(context, settings)


def server_source(settings: ContextSettings) -> ContextSource:
    """Return the source of a server's context. Raises ``InvalidInput`` as :func:`client_context` does."""
    if settings.context is not None:
        context = settings.context
        return ContextSource(lambda: context)
    return ContextSource(partial(_make_server_context, settings), _files(settings, settings.request_cert))


def _make_server_context(settings: ContextSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if settings.request_cert:
        _check_exclusive(context)
        if settings.ca:
            load_authorities(context, settings.ca)
        else:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED if settings.reject_unauthorized else ssl.CERT_OPTIONAL
    return _configured(context, settings)


def _check_exclusive(context: ssl.SSLContext) -> None:
    """Raise ``InvalidInput`` unless ``context`` trusts only the authorities given to it."""
    try:
        context.cert_store_stats()
    except NotImplementedError:
        raise InvalidInput(
            'request_cert: ssl.SSLContext has been replaced (truststore.inject_into_ssl), and contexts of that kind '
            "also trust the system's authorities; make a context before that, and pass it"
        ) from None


def _files(settings: ContextSettings, verifies: bool) -> list[str]:
    """Return the paths from which a context with ``settings`` is made."""
    files = [path for path in (settings.certfile, settings.keyfile) if path is not None]
    files += [authority for authority in settings.ca if '-----BEGIN' not in authority]
    if verifies and not settings.ca:
        usual = ssl.get_default_verify_paths()
        files += [path for path in (usual.cafile, usual.capath) if path is not None]
    return files


def _trusting_only(authorities: Sequence[str]) -> ssl.SSLContext:
    """Return Python's default context with ``authorities`` instead of those of the system."""
    first, *others = authorities
    with _about(first):
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, **_locations(first))
    load_authorities(context, others)
    return context


def load_authorities(context: ssl.SSLContext, authorities: Iterable[str]) -> None:
    """Let ``context`` trust ``authorities`` as well: paths of files or directories, or PEM text.

    Raises ``InvalidInput``.
    """
    for authority in authorities:
        with _about(authority):
            context.load_verify_locations(**_locations(authority))


def _locations(authority: str) -> dict[str, str]:
    if '-----BEGIN' in authority:
        return {'cadata': authority}
    return {'capath' if os.path.isdir(authority) else 'cafile': authority}


@contextlib.contextmanager
def _about(authority: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise InvalidInput(f'ca: no certificates can be loaded from {authority[:64]!r}: {error}') from error


def _configured(context: ssl.SSLContext, settings: ContextSettings) -> ssl.SSLContext:
    context.minimum_version = settings.minimum_version
    if settings.ciphers is not None:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError as error:
            raise InvalidInput(f'ciphers: OpenSSL does not know any of {settings.ciphers!r}') from error
    if settings.alpn_protocols:
        context.set_alpn_protocols(list(settings.alpn_protocols))
    if settings.certfile is not None:
        # without a function OpenSSL would prompt on the terminal
        password = settings.password or ''
        try:
            context.load_cert_chain(settings.certfile, settings.keyfile, lambda: password)
        except (OSError, ValueError) as error:
            where = ' and '.join(filter(None, (settings.certfile, settings.keyfile)))
            reason = _chain_problem(settings, settings.certfile, error)
            raise InvalidInput(f'certfile, keyfile or password: {where} cannot be used: {reason}') from error
    return context


def _chain_problem(settings: ContextSettings, certfile: str, error: Exception) -> str:
    """Return the reason why ``error`` occurred: OpenSSL has one text, "PEM lib", for most of them."""
    if not isinstance(error, ssl.SSLError):
        return getattr(error, 'strerror', None) or str(error)
    if error.reason == 'KEY_VALUES_MISMATCH':
        return 'the key is not that of the first certificate in the file'
    keyfile = settings.keyfile or certfile
    if not (os.path.isfile(certfile) and os.path.isfile(keyfile)):
        # a pipe can be read only once
        return str(error)
    try:
        with open(certfile, 'rb') as chain, open(keyfile, 'rb') as keys:
            certificates, key = chain.read(), keys.read()
    except OSError as unreadable:
        # OpenSSL has not come to the key
        return f'{unreadable.filename}: {unreadable.strerror}'
    if b'CERTIFICATE-----' not in certificates:
        return f'{certfile} has no certificate in PEM format'
    if b'PRIVATE KEY-----' not in key:
        return f'{keyfile} has no private key in PEM format{"" if settings.keyfile else "; set keyfile, too"}'
    if b'ENCRYPTED' in key and _is_chain(certfile):
        wrong = 'password is wrong' if settings.password else 'set password, or use a key without encryption'
        return f'the key is encrypted; {wrong}'
    return str(error)


def _is_chain(certfile: str) -> bool:
    """Return whether OpenSSL can read the certificates of ``certfile``."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certfile)
    except ssl.SSLError:
        return False
    return True
