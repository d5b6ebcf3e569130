"""The origin of a request: the key by which connections are shared; and the parts of its URL.

Both are cached, because programs send requests to the same servers again and again.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from geventnode.errors import GeventnodeError, InvalidInput, RequestTimeout, without_credentials
from geventnode.net.address import port_number
from geventnode.net.hostnames import ascii_name, shown_host
from geventnode.protocol import is_host

if TYPE_CHECKING:
    from geventnode.tls.client import TLSSettings

__all__ = [
    'DEFAULT_PORT',
    'Credentials',
    'Origin',
    'ParsedURL',
    'URLs',
    'checked_port',
    'find_credentials',
    'host_name',
    'make_origin',
    'origin_from_options',
    'parse_url',
    'wrong_protocol',
]

DEFAULT_PORT = 80

#: An IPv6 literal, which can have a zone (RFC 6874), and the colon of a port.
_LITERAL = re.compile(r'\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%25[^\]]+)?\](?::|$)')

#: A text that begins with a host and its port, and not with a scheme.
_HOST_AND_PORT = re.compile(r'[^/?#:]+:[0-9]+(?:[/?#]|$)')

#: Characters that, unescaped, end a host name or begin an address (RFC 3986, section 3.2).
_DELIMITERS = frozenset(':/?#[]@\\%')

#: Blanks and control characters, which ``urlsplit`` drops without an error.
_DROPPED = re.compile('[\x00-\x20\x7f]')

#: Entries, and characters of the longest key, of a table of authorities.
MAX_AUTHORITIES, MAX_AUTHORITY = 1024, 280

#: Characters of a path or a query (RFC 3986, sections 3.3 and 3.4); others are escaped, ``%`` is kept.
PATH_CHARACTERS = "/?%:@!$&'()*+,;=-._~[]|^`{}\\\"<>#"


class Origin:
    """The server of a connection, and the way to it. Shared between requests and never changed."""

    __slots__ = (
        'family',
        'host',
        'host_field',
        'host_pair',
        'local_address',
        'name',
        'port',
        'socket_path',
        'tls_settings',
    )

    def __init__(
        self,
        host: str,
        port: int,
        local_address: str | None,
        family: int,
        socket_path: str | None,
        default_port: int,
        tls_settings: TLSSettings | None,
        via: str | None = None,
    ) -> None:
        self.host: str = host
        self.port = port
        self.local_address = local_address
        self.family = family
        self.socket_path = socket_path
        #: The TLS settings; None for plain HTTP.
        self.tls_settings = tls_settings
        #: The key in the tables of an agent; see :meth:`geventnode.http.Agent.get_name`.
        self.name = _name(host, port, local_address, family, socket_path, tls_settings)
        if via is not None:
            self.name += f':{via}'
        #: The value of the Host field.
        self.host_field = _host_field(host, port, default_port)
        #: The field itself, as requests keep it.
        self.host_pair = 'Host', self.host_field

    @property
    def options(self) -> dict[str, Any]:
        """The argument of ``create_connection``."""
        options = {
            'host': self.host,
            'port': self.port,
            'local_address': self.local_address,
            'family': self.family,
            'socket_path': self.socket_path,
        }
        if self.tls_settings is not None:
            options |= {'tls_settings': self.tls_settings, 'name': self.name}
        return options

    # -- errors ----------------------------------------------------------------------------------------------------

    def locate(self, error: BaseException | None, phase: str) -> None:
        """Set host, port and phase of ``error``, unless it has them."""
        if isinstance(error, GeventnodeError) and error.phase is None:
            error.host, error.port, error.phase = self.host, self.port, phase

    def deadline_error(self, step: str = '') -> RequestTimeout:
        """Return the error for an exchange that missed its deadline.

        :param step: the step of its connect that was waited for.
        """
        return RequestTimeout(f'{self}: the exchange was not over within its deadline{_waited_for(step)}')

    def connect_timeout_error(self, seconds: float | None, step: str = '') -> RequestTimeout:
        """Return the error for a connect that took more than ``seconds``.

        :param step: as of :meth:`deadline_error`.
        """
        return RequestTimeout(f'{self}: no connection within connect_timeout ({seconds} seconds){_waited_for(step)}')

    def __str__(self) -> str:
        return self.host_field if self.socket_path is None else self.socket_path


def _waited_for(step: str) -> str:
    return f'; it waited for {step}' if step else ''


class Credentials(bytes):
    """Hold the user and the password of a URL.

    A colon is between them (RFC 7617, section 2).
    """

    __slots__ = ()


def find_credentials(authority: str) -> Credentials | None:
    """Return the credentials in the authority of a URL; None without any.

    Escapes can stand for any bytes, also for those of another encoding than UTF-8.

    :param authority: without surrogates, for which UTF-8 has no bytes.
    """
    # split before unquoting: a user can have an escaped colon, and no password
    user, _, password = authority.rpartition('@')[0].partition(':')
    return Credentials(unquote_to_bytes(user) + b':' + unquote_to_bytes(password)) if user or password else None


class ParsedURL:
    """The parts of a URL. Shared between requests and never changed."""

    __slots__ = ('auth', 'host', 'origin', 'path', 'port')

    def __init__(self, host: str, port: int | None, path: str, auth: Credentials | None, default_port: int) -> None:
        self.host = host
        self.port = port
        self.path = path
        self.auth = auth
        #: The origin, unless options change it.
        self.origin = make_origin(host, port or default_port, default_port=default_port)


def _name(
    host: str,
    port: int,
    local_address: str | None,
    family: int,
    socket_path: str | None,
    tls_settings: TLSSettings | None,
) -> str:
    name = f'{host}:{port}'
    if local_address is not None:
        name += f':{local_address}'
    if family:
        name += f':{4 if family == socket.AF_INET else 6 if family == socket.AF_INET6 else family}'
    if socket_path is not None:
        name += f':{socket_path}'
    if tls_settings is not None and (terms := tls_settings.digest(host)):
        name += f':{terms}'
    return name


def _host_field(host: str, port: int, default_port: int) -> str:
    """Return the value of Host: IPv6 in brackets and without a zone, no default port."""
    shown = f'[{host.partition("%")[0]}]' if ':' in host else host
    if port != default_port:
        shown += f':{port}'
    if not host or not is_host(shown):
        raise InvalidInput(f'host is no host name or address: {shown_host(host)!r}', 'ERR_INVALID_ARG_VALUE')
    return shown


def host_name(host: Any) -> str:
    """Return ``host`` for the resolver: without brackets, in ASCII (RFC 5890).

    Raises ``TypeError`` and ``InvalidInput``.
    """
    if not isinstance(host, str):
        raise TypeError(f'host must be str, not {type(host).__name__}')
    return ascii_name(host[1:-1] if host.startswith('[') and host.endswith(']') else host)


# typed: 0, 0.0 and False are the same key, and not all of them are a family
@lru_cache(maxsize=1024, typed=True)
def make_origin(
    host: str,
    port: int,
    local_address: str | None = None,
    family: int = 0,
    socket_path: str | None = None,
    default_port: int = DEFAULT_PORT,
    tls_settings: TLSSettings | None = None,
    via: str | None = None,
) -> Origin:
    """Return the origin with these properties. Raises ``TypeError`` and ``InvalidInput`` for bad values.

    :param via: the proxy; connections through it are not shared with direct ones.
    """
    for name, value in (('local_address', local_address), ('socket_path', socket_path)):
        if value is not None and (not isinstance(value, str) or not value or '\0' in value):
            raise InvalidInput(f'{name} must be a non-empty str, not {value!r}')
    if isinstance(family, bool) or not isinstance(family, int):
        raise TypeError(f'family must be 0, 4, 6 or one of socket.AF_*, not {type(family).__name__}')
    family = {4: int(socket.AF_INET), 6: int(socket.AF_INET6)}.get(family, family)
    if family not in (0, socket.AF_INET, socket.AF_INET6):
        raise InvalidInput(f'family must be 0, 4, 6 or one of socket.AF_*, not {family!r}')
    return Origin(
        host_name(host), checked_port(port), local_address, int(family), socket_path, default_port, tls_settings, via
    )


def checked_port(port: Any) -> int:
    """Return ``port``, an int or a decimal str, as an int.

    Raises ``TypeError`` and ``InvalidInput``.
    """
    try:
        number = port_number(port)
    except ValueError as error:
        raise InvalidInput(f'port must be from 1 to 65535, not {port!r}') from error
    if not number:
        raise InvalidInput('port must be from 1 to 65535, not 0')
    return number


def origin_from_options(
    options: Mapping[str, Any], usual_port: int = DEFAULT_PORT, tls_settings: TLSSettings | None = None
) -> Origin:
    """Return the origin of a request with ``options``. Raises as :func:`make_origin` does."""
    default_port = options.get('default_port')
    default_port = usual_port if default_port is None else checked_port(default_port)
    port, family = options.get('port'), options.get('family')
    # None and the empty text mean that the option is not given; other false values are mistakes
    host = next(
        (host for host in (options.get('hostname'), options.get('host')) if host is not None and host != ''),
        'localhost',
    )
    parts = (
        host,
        default_port if port is None else port,
        options.get('local_address'),
        0 if family is None else family,
        options.get('socket_path'),
        default_port,
        tls_settings,
    )
    try:
        return make_origin(*parts)
    except TypeError:
        # not hashable: the call without the cache raises the error that names the value
        return make_origin.__wrapped__(*parts)


@lru_cache(maxsize=1024)
def parse_url(url: str, scheme: str = 'http', default_port: int = DEFAULT_PORT) -> ParsedURL:
    """Return the parts of ``url``, without its fragment.

    The fragment is never sent (RFC 9110, section 4.2). Characters outside ASCII are escaped in the path and the
    query, as browsers do.

    Raises ``InvalidInput`` for another scheme than ``scheme``, for blanks and control characters, and for a bad host or
    port.
    """
    if _DROPPED.search(url):
        raise _invalid(url, 'has blanks or control characters')
    try:
        url.encode()
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        if without_credentials(url) != url:
            # the error can quote them
            raise _invalid(url, 'is malformed') from None
        raise _invalid(url, 'is malformed', f' ({error})') from error
    if parts.scheme != scheme:
        raise _wrong_scheme(url, parts.scheme, scheme)
    if '\\' in parts.netloc:
        # browsers end the host there, RFC 3986 does not: two programs would find different hosts
        raise _invalid(url, 'has a backslash in its authority')
    host = parts.netloc.rpartition('@')[2]
    if not parts.hostname or (host.startswith('[') and not _LITERAL.match(host)):
        raise _invalid(url, 'has no host')
    # urlsplit() makes the name lower-case, but a zone must not be changed
    name = host[1 : host.index(']')].replace('%25', '%') if host.startswith('[') else parts.hostname
    if not host.startswith('['):
        name = unquote(name)
        if not _DELIMITERS.isdisjoint(name):
            raise _invalid(url, 'has an escaped delimiter in its host')
    auth = find_credentials(parts.netloc) if '@' in parts.netloc else None
    path = quote(parts.path or '/', safe=PATH_CHARACTERS)
    if parts.query:
        path += '?' + quote(parts.query, safe=PATH_CHARACTERS)
    if port == 0:
        raise _invalid(url, 'has port 0')
    return ParsedURL(host_name(name), port, path, auth, default_port)


class URLs:
    """Parse the URLs of one scheme.

    Programs request other paths of the same servers again and again. So the part before the path is parsed once and
    kept, unless it has credentials, and a usual path is only checked.

    :param scheme: ``'http'`` or ``'https'``.
    :param default_port: the port of URLs without one.
    """

    def __init__(self, scheme: str, default_port: int) -> None:
        self._scheme = scheme
        self._default_port = default_port
        #: The position after the colon and the slashes.
        self._begin = len(scheme) + 3
        self._authorities: dict[str, ParsedURL] = {}

    def split(self, url: str) -> tuple[ParsedURL, str]:
        """Return the parts of ``url``, and its path with the query.

        The ``path`` of the parts can be that of another URL.

        Raises as :func:`parse_url` does.
        """
        end = url.find('/', self._begin)
        known = self._authorities.get(url[:end]) if end > 0 else None
        if known is not None:
            path = url[end:]
            # nothing to escape, no fragment to remove, no empty query
            if path.isascii() and path.isprintable() and ' ' not in path and '#' not in path and path[-1] != '?':
                return known, path
        parsed = parse_url(url, self._scheme, self._default_port)
        if known is None and end > 0:
            self._keep(url[:end])
        return parsed, parsed.path

    def _keep(self, begin: str) -> None:
        """Keep the parts of a URL that has a path after ``begin``."""
        # with ? or #, it does not end where the authority ends
        if len(begin) > MAX_AUTHORITY or '@' in begin or '?' in begin or '#' in begin:
            return
        if len(self._authorities) >= MAX_AUTHORITIES:
            self._authorities.clear()
        self._authorities[begin] = parse_url.__wrapped__(begin, self._scheme, self._default_port)


def wrong_protocol(found: Any, scheme: str, where: str = '') -> InvalidInput:
    """Return the error for a request of ``scheme`` with another protocol."""
    hint = ''
    if found in ('http:', 'https:'):
        module = f'geventnode.{found[:-1]}'
        hint = f': use {module}.get or {module}.request'
    return InvalidInput(
        f'protocol {found!r} is not supported, expected {scheme + ":"!r}{where}{hint}', 'ERR_INVALID_PROTOCOL'
    )


def _invalid(url: str, problem: str, reason: str = '') -> InvalidInput:
    """Return the error for a URL. It does not have the credentials."""
    return InvalidInput(f'URL {problem}: {without_credentials(url)!r}{reason}', 'ERR_INVALID_URL')


def _wrong_scheme(url: str, found: str, scheme: str) -> InvalidInput:
    # by the letter of RFC 3986 the scheme of 'localhost:8000' is 'localhost'
    if not found or _HOST_AND_PORT.match(url):
        meant = url[2:] if url.startswith('//') else url
        proposal = without_credentials(f'{scheme}://{meant}')
        hint = '' if meant[:1] in ('', '/', '?', '#') else f': did you mean {proposal!r}?'
        return InvalidInput(f'URL has no scheme: {without_credentials(url)!r}{hint}', 'ERR_INVALID_PROTOCOL')
    return wrong_protocol(f'{found}:', scheme, f' in {without_credentials(url)!r}')
