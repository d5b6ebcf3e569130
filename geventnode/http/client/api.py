"""Make requests: check the options of the caller, and turn them into a request."""

from __future__ import annotations

import base64
import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast
from urllib.parse import SplitResult

from geventnode.errors import ConnectionClosed, InvalidHeader, InvalidInput, UnknownOption
from geventnode.events import EventEmitter
from geventnode.http.client.agent import Agent, global_agent
from geventnode.http.client.origin import (
    DEFAULT_PORT,
    Credentials,
    Origin,
    URLs,
    checked_port,
    make_origin,
    origin_from_options,
    wrong_protocol,
)
from geventnode.http.client.request import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_TIMEOUT,
    ClientRequest,
    response_limits,
)
from geventnode.http.header_fields import Fields, HeadersArgument, merge_headers
from geventnode.options import count, flag, hint_for, seconds
from geventnode.protocol import check_method, check_target, is_host

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from geventnode.net.connecting import Lookup

__all__ = [
    'NO_OPTIONS',
    'OPTIONS',
    'Client',
    'RequestOptions',
    'Scheme',
    'create_client',
    'get',
    'make_request',
    'request',
]

Callback = Callable[..., object]


class RequestOptions(TypedDict, total=False):
    """The options of :func:`request`."""

    agent: Agent | Literal[False] | None
    auth: str | None
    body: Any
    connect_timeout: float | None
    create_connection: Callable[..., Any] | None
    deadline: float | None
    default_port: int | None
    family: int | None
    headers: HeadersArgument | None
    host: str | None
    hostname: str | None
    local_address: str | None
    local_port: int | None
    lookup: Lookup | None
    max_header_size: int
    max_headers_count: int
    method: str | None
    path: str | None
    port: int | str | None
    protocol: str | None
    queue_timeout: float | None
    set_default_headers: bool
    set_host: bool
    socket_path: str | None
    timeout: float | None


#: The names of the options of :func:`request`.
OPTIONS = frozenset(RequestOptions.__annotations__)

#: The first argument of a call without a URL. It is not None, so that an unset variable raises.
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

TIMES = ('timeout', 'connect_timeout', 'queue_timeout', 'deadline')

#: Fields that are added unless ``set_default_headers`` is false, besides Host.
_DEFAULT_FIELDS = frozenset({'connection', 'content-length', 'transfer-encoding'})

#: Options of a request to a URL that change neither its origin nor its target.
_BESIDE_URL = frozenset(('agent', 'body', 'headers', 'max_header_size', 'max_headers_count', 'method', *TIMES))


@dataclass(frozen=True, slots=True)
class Scheme:
    """The properties of requests of one URL scheme."""

    name: str
    default_port: int
    #: The names of the options of such a request.
    options: frozenset[str]
    agent: type[Agent]
    global_agent: Callable[[], Agent]
    #: Parse its URLs.
    urls: URLs
    #: Return the TLS settings for the options of a request and its agent; None for plain HTTP.
    tls_settings: Callable[[Mapping[str, Any], Agent], Any] | None = None


HTTP = Scheme('http', DEFAULT_PORT, OPTIONS, Agent, global_agent, URLs('http', DEFAULT_PORT))


def request(
    url_or_options: str | SplitResult | Mapping[str, Any] = NO_OPTIONS,
    callback: Callback | None = None,
    **options: Unpack[RequestOptions],
) -> ClientRequest:
    """Return a request, to be written and ended by the caller.

    Nothing is sent before the first ``write()``, ``end()`` or ``flush_headers()``, except with ``body``.

    :param url_or_options: a URL as text (``http://user:password@host:port/path?query``) or as ``urlsplit`` returns it,
        or a mapping of options; without it, the keyword arguments are all options.
    :param callback: a one-time ``'response'`` listener.
    :param host: a name or an IP address; ``hostname`` is the same and has precedence. ``'localhost'``.
    :param port: 1 to 65535; the Host field leaves out ``default_port``. 80.
    :param local_address: the local address to connect from.
    :param local_port: the local port of a new connection; one at a time can have it.
    :param lookup: a function that resolves the name for a new connection, of the name and of 4, 6 or 0 (both); it
        returns an IP address, or several. It can block, within ``connect_timeout``.
    :param family: 4 or 6, to use only such addresses.
    :param socket_path: a Unix socket to use instead of host and port.
    :param method: ``'GET'``.
    :param path: the request-target with its query. ``'/'``.
    :param protocol: ``'http:'``; any other value raises.
    :param headers: a mapping, or (name, value) pairs; a list of values makes several lines. Host is added unless
        ``set_host`` is false.
    :param set_default_headers: False to add neither Host, Connection, Content-Length nor Transfer-Encoding; a body then
        needs one of the last two in ``headers``. True.
    :param auth: ``'user:password'`` or ``'user'`` for Basic authentication (RFC 7617), unless there is an Authorization
        header.
    :param body: bytes, text, a binary file or an iterable of chunks; it is sent, and the request ended, at once.
        Mappings and sets raise: encode them with ``json.dumps`` or ``urllib.parse.urlencode``.
    :param agent: an ``Agent``; None for the global one; False for a connection that only this request uses.
    :param create_connection: a function to call instead of the agent's; without an agent, the connection is not pooled.
    :param timeout: seconds of waiting for the server without any traffic, after which ``'timeout'`` is emitted or,
        without a listener, the request fails; None for no limit. A ``body`` that is slow to yield its chunks does not
        count. 120.
    :param connect_timeout: seconds for resolving the name and connecting to every address. 60.
    :param queue_timeout: seconds to wait for a connection of the agent. None.
    :param deadline: seconds for the whole exchange, from this call to the end of the response. None.
    :param max_header_size: bytes of the head of the response. 16384.
    :param max_headers_count: fields in the head of the response. 1000.
    :raises InvalidInput: a value cannot be sent; ``TypeError`` if its type is wrong.
    :raises UnknownOption: an option does not exist; the error names the nearest one.
    :raises QueueFull: a ``body`` was given, and ``max_queued`` requests wait for the server already.
    """
    return make_request(HTTP, url_or_options, callback, options)


def get(
    url_or_options: str | SplitResult | Mapping[str, Any] = NO_OPTIONS,
    callback: Callback | None = None,
    **options: Unpack[RequestOptions],
) -> ClientRequest:
    """Return a request that was ended: a GET, unless ``method`` is given.

    It is sent while the program waits, for instance in ``get_response()``. The parameters and errors are those of
    :func:`request`.
    """
    made = make_request(HTTP, url_or_options, callback, options)
    if 'body' not in options or options['body'] is None:
        made.end()
    return made


def make_request(
    scheme: Scheme, url_or_options: Any, callback: Callback | None, options: Mapping[str, Any]
) -> ClientRequest:
    """Return a request of ``scheme``; see :func:`request`."""
    agent, headers = options.get('agent'), options.get('headers')
    # whether there are no other options
    usual = len(options) == (agent is not None) + (headers is not None)
    if type(url_or_options) is str and (usual or _BESIDE_URL.issuperset(options)):
        if agent is None:
            agent = scheme.global_agent()
        if type(agent) is scheme.agent:
            # the most common calls: no option competes with a part of the URL
            url, path = scheme.urls.split(url_or_options)
            origin = url.origin
            if scheme.tls_settings is not None:
                origin = make_origin(
                    url.host,
                    origin.port,
                    default_port=scheme.default_port,
                    tls_settings=scheme.tls_settings(options, agent),
                )
            fields: Fields = {'host': origin.host_pair}
            if headers is not None:
                fields = _merge(fields, headers)
            if url.auth is not None and 'authorization' not in fields:
                _authorize(fields, url.auth)
            method = 'GET' if usual else _method(options)
            if method != 'CONNECT':
                made = agent._new_request(agent, origin, method, path, fields, True)
                if not usual or callback is not None or 'expect' in fields:
                    _begin(made, options, callback)
                return made
    return _make(scheme, _combined(scheme, url_or_options, options), callback)


def _combined(scheme: Scheme, url_or_options: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options in one dict, those of a URL among them."""
    if isinstance(url_or_options, SplitResult):
        url_or_options = url_or_options.geturl()
    if isinstance(url_or_options, str):
        url, path = scheme.urls.split(url_or_options)
        combined = {'hostname': url.host, 'port': url.port, 'path': path, 'auth': url.auth}
    elif isinstance(url_or_options, Mapping):
        combined = dict(url_or_options)
    else:
        raise TypeError(f'a request takes a URL or a mapping of options, not {type(url_or_options).__name__}')
    if 'host' in options and 'hostname' not in options:
        combined.pop('hostname', None)
    combined.update(options)
    for name in combined:
        if name not in scheme.options:
            raise UnknownOption(f'a request has no option {name!r}{hint_for(name, scheme.options)}')
    return combined


def _make(scheme: Scheme, options: dict[str, Any], callback: Callback | None) -> ClientRequest:
    get_option = options.get
    protocol = f'{scheme.name}:'
    if get_option('protocol') not in (None, protocol):
        raise wrong_protocol(options['protocol'], scheme.name)
    agent, keep_alive = _agent(scheme, get_option('agent'), get_option('create_connection'))
    if agent.protocol != protocol:
        raise InvalidInput(
            f'agent is one for {agent.protocol!r}, expected one for {protocol!r}', 'ERR_INVALID_PROTOCOL'
        )
    tls_settings = None if scheme.tls_settings is None else scheme.tls_settings(options, agent)
    origin = origin_from_options(options, scheme.default_port, tls_settings)
    method = _method(options)
    path = _text('path', options) or (origin.host_field if method == 'CONNECT' else '/')
    # Host is the authority of the target, also on a connection to a proxy (RFC 9112, section 3.2)
    host = path if method == 'CONNECT' and is_host(path, port_required=True) else None
    # the text itself: a subclass of str can format as another one
    target = str.__str__(check_target(path))
    made = agent._new_request(agent, origin, method, target, _fields(options, origin, host), keep_alive)
    if get_option('create_connection') is not None:
        made._create_connection = options['create_connection']
    connect_options = {name: options[name] for name in ('local_port', 'lookup') if get_option(name) is not None}
    if connect_options:
        made._own_connect_options = _checked_connect_options(connect_options)
    if not flag('set_default_headers', get_option('set_default_headers', True)):
        made._removed_fields = _DEFAULT_FIELDS
    _begin(made, options, callback)
    return made


def _begin(made: ClientRequest, options: Mapping[str, Any], callback: Callback | None) -> None:
    """Apply the options beside the head, and send a given body."""
    get_option = options.get
    if not options.keys().isdisjoint(TIMES):
        made._set_time_limits(
            *(
                _time(name, get_option(name, default))
                for name, default in zip(TIMES, (DEFAULT_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, None, None), strict=True)
            )
        )
    if 'max_header_size' in options or 'max_headers_count' in options:
        made._limits = response_limits(
            count('max_header_size', get_option('max_header_size', 16384)),
            count('max_headers_count', get_option('max_headers_count', 1000)),
        )
    if callback is not None:
        made.once('response', callback)
    if get_option('body') is not None:
        made.end(options['body'])
    elif made.has_header('Expect'):
        # the failure of a reused connection is reported by get_response()
        with contextlib.suppress(ConnectionClosed):
            made.flush_headers()


def _checked_connect_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return ``options`` for a new connection. Raises ``TypeError`` and ``InvalidInput``."""
    if 'lookup' in options and not callable(options['lookup']):
        raise TypeError(f'lookup must be callable, not {type(options["lookup"]).__name__}')
    if 'local_port' in options:
        try:
            options['local_port'] = checked_port(options['local_port'])
        except (InvalidInput, TypeError) as error:
            raise type(error)(f'local_{error}') from None
    return options


def _method(options: Mapping[str, Any]) -> str:
    """Return the method, in upper case. Raises ``TypeError`` and ``InvalidInput``."""
    # not the result of an upper() that a subclass of str overrides
    return str.upper(check_method(_text('method', options) or 'GET'))


def _text(name: str, options: Mapping[str, Any]) -> str | None:
    """Return an option that is text, None if it is not given. Raises ``TypeError``."""
    value: str | None = options.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f'{name} must be str, not {type(value).__name__}')
    return value


def _agent(scheme: Scheme, agent: Any, create_connection: Any) -> tuple[Agent, bool]:
    """Return the agent, and whether its connections serve several requests."""
    if create_connection is not None and not callable(create_connection):
        raise TypeError(f'create_connection must be callable, not {type(create_connection).__name__}')
    if agent is False or (agent is None and create_connection is not None):
        return scheme.agent(), False
    if agent is None:
        return scheme.global_agent(), True
    if not isinstance(agent, Agent):
        raise TypeError(f'agent must be an Agent, None or False, not {type(agent).__name__}')
    return agent, True


def _fields(options: dict[str, Any], origin: Origin, host: str | None) -> Fields:
    """Return the header fields of the request.

    :param host: the value of Host; None for the host of ``origin``.
    """
    fields: Fields = {}
    if flag('set_host', options.get('set_host', True)) and options.get('set_default_headers', True):
        fields['host'] = origin.host_pair if host is None else ('Host', host)
    headers: Any = options.get('headers')
    if headers is not None:
        fields = _merge(fields, headers)
    auth = options.get('auth')
    credentials = auth if isinstance(auth, Credentials) else _credentials(options)
    if credentials is not None and 'authorization' not in fields:
        _authorize(fields, credentials)
    return fields


def _credentials(options: Mapping[str, Any]) -> bytes | None:
    """Return the bytes of the option ``auth``."""
    auth = _text('auth', options)
    if auth in (None, '', ':'):
        return None
    try:
        # the colon is always there, also without a password (RFC 7617, section 2)
        return (auth if ':' in auth else f'{auth}:').encode()
    except UnicodeError as error:
        raise InvalidInput('auth has characters that UTF-8 has no bytes for', 'ERR_INVALID_CHAR') from error


def _merge(fields: Fields, headers: Any) -> Fields:
    """Return ``fields`` with the headers of the caller. Raises as :func:`merge_headers` does."""
    if type(headers) is not dict and isinstance(headers, (str, bytes)):
        raise TypeError(f'headers must be a mapping or an iterable of pairs, not {type(headers).__name__}')
    merged = merge_headers(fields, headers)
    host = merged.get('host')
    if host is not None and host is not fields.get('host') and not is_host(host[1]):
        raise InvalidHeader(f'Host is not a host with an optional port: {host[1]!r}', 'ERR_HTTP_INVALID_HEADER_VALUE')
    return merged


def _authorize(fields: Fields, credentials: bytes) -> None:
    fields['authorization'] = 'Authorization', 'Basic ' + base64.b64encode(credentials).decode('ascii')


def _time(name: str, value: Any) -> float | None:
    return None if value is None else seconds(name, value) or None


class Client(EventEmitter):
    """A client of one server; :func:`create_client` returns it.

    It has one connection at a time.

    Events: ``'error'`` (exception), the error of a request.
    """

    events = EventEmitter.events | {'error'}

    def __init__(self, port: int = DEFAULT_PORT, host: str = 'localhost') -> None:
        self.port = port
        self.host = host
        self.agent = Agent(max_sockets=1)

    def request(
        self, method: str = 'GET', path: str | HeadersArgument | None = None, headers: HeadersArgument | None = None
    ) -> ClientRequest:
        """Return a request to the server.

        The caller writes and ends it. The method can be left out, as in Node: ``request(path)``, ``request(path,
        headers)``. If this client has a listener for ``'error'``, an error of the request is emitted here, too.

        :param method: the method, or a path that begins with ``/``.
        :param path: the request-target, or the headers if ``method`` is a path. ``'/'``.
        :param headers: a mapping, or (name, value) pairs.
        """
        if isinstance(method, str) and method.startswith('/'):
            if path is not None and headers is None:
                headers = cast(HeadersArgument, path)
            elif path is not None:
                raise TypeError(f'request() takes a method, a path and headers, not {method!r}, {path!r} and headers')
            method, path = 'GET', method
        made = request(
            host=self.host,
            port=self.port,
            method=method,
            path=cast('str | None', path),
            headers=headers,
            agent=self.agent,
        )
        if self.listener_count('error'):
            made.on('error', lambda error: self.emit('error', error))
        return made


def create_client(port: int = DEFAULT_PORT, host: str = 'localhost') -> Client:
    """Return a client for one server.

    .. deprecated:: 0.1
       As in Node (``http.createClient``): use :func:`request`.
    """
    warnings.warn('http.create_client() is deprecated: use http.request()', DeprecationWarning, stacklevel=2)
    return Client(port, host)
