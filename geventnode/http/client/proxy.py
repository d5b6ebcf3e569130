"""The proxies of an agent: their URLs, the environment that names them, and the way of a request through one.

A request for an ``http:`` URL is forwarded: it is sent to the proxy with the whole URL, and connections belong to the
proxy. Everything else goes through a tunnel to its origin, and connections belong to the origin.
:mod:`geventnode.http.client.tunnel` makes both kinds of connections.

The credentials of a proxy are in :attr:`Proxy.authorization` alone. Names, texts and errors do not have them.
"""

from __future__ import annotations

import base64
import importlib
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from geventnode.errors import AT_SIGNS, InvalidInput
from geventnode.http.client.no_proxy import NoProxy
from geventnode.http.client.origin import Origin, checked_port, find_credentials, host_name
from geventnode.protocol import is_host

if TYPE_CHECKING:
    from geventnode.tls.client import TLSSettings

__all__ = [
    'ProxiedOrigin',
    'Proxies',
    'Proxy',
    'ProxyEnvironment',
    'check_no_proxy',
    'check_proxy',
    'check_proxy_env',
    'check_proxy_tls',
    'find_proxies',
    'proxy_variables',
]

DEFAULT_PORTS = {'http': 80, 'https': 443}

#: The variables of an environment that are read.
VARIABLES = frozenset(
    {'REQUEST_METHOD'}
    | {spelt for name in ('http', 'https', 'all', 'no') for spelt in (f'{name}_proxy', f'{name}_proxy'.upper())}
)

#: The code of Node for a setting that cannot be used.
INVALID = 'ERR_PROXY_INVALID_CONFIG'

#: Makes the digests of credentials useless outside this process.
_DIGEST_KEY = os.urandom(16)

#: Blanks and control characters, which ``urlsplit`` drops without an error, and characters without bytes in UTF-8.
_unusable = re.compile('[\x00-\x20\x7f\ud800-\udfff]')

_scheme = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')


class Proxy:
    """An HTTP proxy. Never changed; its text is its URL without credentials."""

    __slots__ = ('authorization', 'host', 'name', 'port', 'scheme')

    def __init__(self, url: str, name: str = 'proxy') -> None:
        """Parse the URL of a proxy.

        :param url: ``http://user:password@host:port`` or ``https://...``; without a scheme it is ``http:``.
        :param name: the name of the setting, for errors.
        :raises InvalidInput: the URL is malformed, or for another kind of proxy.
        """
        found = _scheme.match(url)
        scheme = 'http' if found is None else found[1].lower()
        if scheme not in DEFAULT_PORTS:
            raise InvalidInput(
                f'{name} must be the http: or https: URL of a proxy; {scheme}: is not supported', INVALID
            )
        shown = _without_credentials(url)
        try:
            parts = urlsplit(url if found is not None else f'http://{url}')
            host, port = parts.hostname or '', parts.port
            if port == 0 or _unusable.search(url) or '\\' in parts.netloc:
                raise ValueError
            host = host_name(unquote(host))
            if not host or not is_host(f'[{host}]' if ':' in host else host):
                raise ValueError
        except ValueError:
            # the error of urlsplit() can have the credentials
            raise InvalidInput(f'{name} is not the URL of a proxy: {shown!r}', INVALID) from None
        if parts.path not in ('', '/') or parts.query or parts.fragment:
            raise InvalidInput(f'{name} has more than scheme, host and port: {shown!r}', INVALID)
        self.scheme = scheme
        self.host = host
        self.port = DEFAULT_PORTS[scheme] if port is None else checked_port(port)
        #: The value of Proxy-Authorization (RFC 7617); None without credentials.
        credentials = find_credentials(parts.netloc)
        self.authorization = None if credentials is None else f'Basic {base64.b64encode(credentials).decode("ascii")}'
        self.name = f'{scheme}://{f"[{host}]" if ":" in host else host}:{self.port}'

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name}>'

    def __copy__(self) -> Proxy:
        return self

    def __deepcopy__(self, memo: Any) -> Proxy:
        return self

    def __reduce__(self) -> Any:
        if self.authorization is not None:
            # a pickle can be stored, or sent to another process
            raise TypeError(f'the proxy {self} has credentials and cannot be pickled; pickle the URL')
        return type(self), (self.name,)


def _without_credentials(url: str) -> str:
    """Return ``url``, which can be malformed, without user and password."""
    url = url.translate(AT_SIGNS)
    found = _scheme.match(url)
    start = 0 if found is None else found.end()
    return url[:start] + url[start:].rpartition('@')[2]


class ProxyEnvironment(NamedTuple):
    """The proxy that an environment names for one scheme of URLs."""

    proxy: Proxy | None
    no_proxy: NoProxy


# -- the options of an agent ------------------------------------------------------------------------------------------


def check_proxy(name: str, value: Any) -> Proxy | None:
    """Return the proxy that ``value`` is or names. Raises ``InvalidInput`` and ``TypeError``."""
    if value is None or isinstance(value, Proxy):
        return value
    if not isinstance(value, str):
        raise TypeError(f'{name} must be the URL of a proxy or None, not {type(value).__name__}')
    return Proxy(value, name)


def check_no_proxy(name: str, value: Any) -> NoProxy | None:
    """Return the rules that ``value`` is or has. Raises ``InvalidInput`` and ``TypeError``."""
    if value is None or isinstance(value, NoProxy):
        return value
    if not isinstance(value, Iterable) or isinstance(value, (bytes, Mapping)):
        raise TypeError(f'{name} must be str or an iterable of str, not {type(value).__name__}')
    return NoProxy(value, name)


def check_proxy_env(protocol: str, name: str, value: Any) -> ProxyEnvironment | None:
    """Return the proxy of an environment; True is that of the process.

    A name in lower case has precedence, as in curl and Node. Raises ``InvalidInput`` and ``TypeError``.

    :param protocol: ``'http:'`` or ``'https:'``.
    """
    if value is None or value is False or isinstance(value, ProxyEnvironment):
        return value or None
    if value is True:
        value = os.environ
    if not isinstance(value, Mapping):
        raise TypeError(f'{name} must be True, False or a mapping, not {type(value).__name__}')
    scheme = protocol[:-1]
    names = [f'{scheme}_proxy', f'{scheme}_proxy'.upper(), 'all_proxy', 'ALL_PROXY']
    if value.get('REQUEST_METHOD'):
        # In CGI, the client of the server sets HTTP_PROXY by a field "Proxy" (RFC 3875, section 4.1.18): "httpoxy"
        names = [each for each in names if each != 'HTTP_PROXY']
    return ProxyEnvironment(
        next((check_proxy(each, value[each]) for each in names if value.get(each)), None),
        NoProxy(value.get('no_proxy') or value.get('NO_PROXY') or '', 'NO_PROXY'),
    )


def proxy_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the variables that :func:`check_proxy_env` reads."""
    return {name: value for name, value in environment.items() if name in VARIABLES}


def check_proxy_tls(name: str, value: Any) -> dict[str, Any] | None:
    """Return a copy of TLS options. Raises ``InvalidInput``, ``TypeError`` and ``UnknownOption``."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f'{name} must be a mapping of TLS options, not {type(value).__name__}')
    options = dict(value)
    _tls_settings(options)
    return options


def _tls_settings(options: dict[str, Any]) -> TLSSettings:
    # imported late: a program that patches the standard library must do so before the first import of ssl
    client: Any = importlib.import_module('geventnode.tls.client')
    settings: TLSSettings = client.parse_tls_options(options)
    return settings


# -- the way of a request ---------------------------------------------------------------------------------------------


class Proxies:
    """Find the way of each request of an agent."""

    def __init__(self, proxy: Proxy, no_proxy: NoProxy | None, tls_options: dict[str, Any] | None) -> None:
        self.proxy = proxy
        self._no_proxy = no_proxy
        #: The TLS settings for the connection to the proxy; None for an ``http:`` proxy.
        self.tls_settings = _tls_settings(tls_options or {}) if proxy.scheme == 'https' else None
        self._bypasses = lru_cache(maxsize=1024)(no_proxy.has) if no_proxy is not None else None
        self._origin = lru_cache(maxsize=1024)(ProxiedOrigin)

    def applies_to(self, origin: Origin) -> bool:
        """Return whether requests to ``origin`` use the proxy. A Unix socket is reached without one."""
        if origin.socket_path is not None:
            return False
        return self._bypasses is None or not self._bypasses(origin.host, origin.port)

    def way_to(self, origin: Origin) -> Origin:
        """Return the way of an ordinary request to ``origin``."""
        if not self.applies_to(origin):
            return origin
        find = self.forward if origin.tls_settings is None else self.tunnel
        return find(origin, self.proxy.authorization)

    def forward(self, origin: Origin, authorization: str | None) -> ProxiedOrigin:
        """Return the way of a request that the proxy forwards. All origins share it.

        :param authorization: the value of Proxy-Authorization.
        """
        return self._origin(self.proxy, self.tls_settings, authorization, None, origin.local_address, origin.family)

    def tunnel(self, origin: Origin, authorization: str | None) -> ProxiedOrigin:
        """Return the way through a tunnel to ``origin``; see :meth:`forward`."""
        return self._origin(self.proxy, self.tls_settings, authorization, origin, origin.local_address, origin.family)


def find_proxies(
    proxy: Proxy | None,
    environment: ProxyEnvironment | None,
    no_proxy: NoProxy | None,
    tls_options: dict[str, Any] | None,
) -> Proxies | None:
    """Return the proxies of an agent with these options; None without one.

    Raises ``InvalidInput`` for TLS options that have no effect.
    """
    if proxy is not None and proxy.scheme != 'https' and tls_options is not None:
        raise InvalidInput(f'proxy_tls has no effect on {proxy}: the URL of the proxy must begin with https:', INVALID)
    if environment is not None:
        proxy = environment.proxy if proxy is None else proxy
        no_proxy = environment.no_proxy if no_proxy is None else no_proxy
    return None if proxy is None else Proxies(proxy, no_proxy, tls_options)


class ProxiedOrigin(Origin):
    """The way of a request through a proxy.

    Host and port are the peer's: the origin's for a tunnel, otherwise the proxy's. The name, by which connections are
    shared, has the proxy in it, and a digest of the credentials.
    """

    __slots__ = ('authorization', 'proxy', 'proxy_tls_settings', 'target')

    def __init__(
        self,
        proxy: Proxy,
        proxy_tls_settings: TLSSettings | None,
        authorization: str | None,
        origin: Origin | None,
        local_address: str | None,
        family: int,
    ) -> None:
        default_port = DEFAULT_PORTS[proxy.scheme]
        if origin is None:
            super().__init__(proxy.host, proxy.port, local_address, family, None, default_port, None)
        else:
            super().__init__(origin.host, origin.port, local_address, family, None, 0, origin.tls_settings)
        self.proxy = proxy
        self.proxy_tls_settings = proxy_tls_settings
        self.authorization = authorization
        #: The target of CONNECT; None for requests that the proxy forwards.
        self.target = None if origin is None else self.host_field
        if origin is not None:
            self.host_field, self.host_pair = origin.host_field, origin.host_pair
        self.name += f':via {proxy}'
        if authorization is not None:
            # it loads OpenSSL: a twelfth of the processor time in which this package is imported
            from hashlib import blake2b

            self.name += f':{blake2b(authorization.encode(), digest_size=8, key=_DIGEST_KEY).hexdigest()}'
        if proxy_tls_settings is not None and (terms := proxy_tls_settings.digest(proxy.host)):
            self.name += f':{terms}'

    @property
    def options(self) -> dict[str, Any]:
        """The argument of ``create_connection``, which connects to the proxy."""
        return {
            'host': self.proxy.host,
            'port': self.proxy.port,
            'local_address': self.local_address,
            'family': self.family,
            'socket_path': None,
        }

    def __str__(self) -> str:
        return f'proxy {self.proxy}' if self.target is None else f'{self.host_field} (through the proxy {self.proxy})'
