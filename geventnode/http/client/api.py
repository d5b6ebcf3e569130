"""Making requests: what the caller says, checked and turned into a request."""

from __future__ import annotations

import base64
import contextlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from urllib.parse import SplitResult

from geventnode.errors import ConnectionClosed, InvalidHeader, InvalidInput, UnknownOption
from geventnode.events import EventEmitter
from geventnode.http.client.agent import Agent, global_agent
from geventnode.http.client.origin import DEFAULT_PORT, Origin, origin_from_options, parse_url, wrong_protocol
from geventnode.http.client.request import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_TIMEOUT,
    ClientRequest,
    response_limits,
)
from geventnode.http.header_fields import Fields, HeadersArgument, merge_headers
from geventnode.options import count, flag, hint_for, seconds
from geventnode.protocol import check_method, check_target, is_host

__all__ = ['NO_OPTIONS', 'OPTIONS', 'Client', 'Scheme', 'create_client', 'get', 'make_request', 'request']

Callback = Callable[..., object]

#: What ``request`` understands.
OPTIONS = frozenset(
    {
        'agent',
        'auth',
        'body',
        'connect_timeout',
        'create_connection',
        'deadline',
        'default_port',
        'family',
        'headers',
        'host',
        'hostname',
        'local_address',
        'max_header_size',
        'max_headers_count',
        'method',
        'path',
        'port',
        'protocol',
        'queue_timeout',
        'set_host',
        'socket_path',
        'timeout',
    }
)

#: Where no URL is given. None would be that of a variable that nobody has set.
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

TIMES = ('timeout', 'connect_timeout', 'queue_timeout', 'deadline')


class Scheme(NamedTuple):
    """What requests of one URL scheme have in common."""

    name: str
    default_port: int
    #: What such a request understands.
    options: frozenset[str]
    #: Makes an agent.
    agent: Callable[[], Agent]
    global_agent: Callable[[], Agent]
    #: Returns on what terms TLS is spoken, as the options and the agent have it.
    tls_settings: Callable[[dict[str, Any], Agent], Any]


HTTP = Scheme('http', DEFAULT_PORT, OPTIONS, Agent, global_agent, lambda options, agent: None)


def request(url_or_options: Any = NO_OPTIONS, callback: Callback | None = None, **options: Any) -> ClientRequest:
    """Return a request, which is sent as it is written: call its ``end()``.

    :param url_or_options: a URL as text (``http://user:password@host:port/path?query``) or as ``urlsplit`` returns it,
        or a mapping of options; without it, the options say everything.
    :param callback: a one-time ``'response'`` listener.
    :param host: name or IP address, ``hostname`` the same and stronger; ``'localhost'``.
    :param port: 80, or ``default_port``, which Host then leaves out.
    :param local_address: the local address to connect from.
    :param family: 4 or 6, to use only such addresses.
    :param socket_path: a Unix socket to use in place of host and port.
    :param method: ``'GET'``.
    :param path: the request-target with its query, ``'/'``.
    :param headers: a mapping, or (name, value) pairs; a list of values makes several lines. Host is added unless
        ``set_host`` is false.
    :param auth: ``'user:password'`` or ``'user'`` for Basic authentication, unless there is an Authorization header.
    :param body: bytes, text, a binary file or an iterable of chunks; sent and ended at once. Mappings and sets are
        refused: encode them with ``json.dumps`` or ``urllib.parse.urlencode``.
    :param agent: an ``Agent``; None for the global one; False for a connection of its own.
    :param create_connection: a function in place of the agent's; without an agent, nothing is pooled then.
    :param timeout: seconds of waiting for the server without any traffic before ``'timeout'``, or failure without a
        listener for it; None for never. 120. A ``body`` that is slow to yield its chunks does not count.
    :param connect_timeout: seconds for name resolution and connecting to every address. 60.
    :param queue_timeout: seconds to wait for a connection of the agent. None.
    :param deadline: seconds for the whole exchange, from now to the end of the response. None.
    :param max_header_size: bytes of a response's head. 16384.
    :param max_headers_count: fields of a response's head. 1000.

    Raises ``InvalidInput`` and ``TypeError`` for values that cannot be sent, ``UnknownOption``, ``QueueFull``.
    """
    if type(url_or_options) is str and (not options or (len(options) == 1 and 'agent' in options)):
        # the commonest calls, at a third of the cost
        agent = options.get('agent')
        if agent is None or type(agent) is Agent:
            target = parse_url(url_or_options)
            where = target.origin
            fields: Fields = {'host': where.host_pair}
            if target.auth is not None:
                _authorize(fields, target.auth)
            made = ClientRequest(agent or global_agent(), where, 'GET', target.path, fields, True)
            if callback is not None:
                made.once('response', callback)
            return made
    return make_request(HTTP, url_or_options, callback, options)


def get(url_or_options: Any = NO_OPTIONS, callback: Callback | None = None, **options: Any) -> ClientRequest:
    """As :func:`request`, and ended: a GET, unless told otherwise."""
    made = request(url_or_options, callback, **options)
    if 'body' not in options or options['body'] is None:
        made.end()
    return made


def make_request(
    scheme: Scheme, url_or_options: Any, callback: Callback | None, options: dict[str, Any]
) -> ClientRequest:
    """As :func:`request`, of any scheme."""
    return _make(scheme, _combined(scheme, url_or_options, options), callback)


def _combined(scheme: Scheme, url_or_options: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return all options in one dict, those of a URL among them."""
    if isinstance(url_or_options, SplitResult):
        url_or_options = url_or_options.geturl()
    if isinstance(url_or_options, str):
        target = parse_url(url_or_options, scheme.name, scheme.default_port)
        combined = {'hostname': target.host, 'port': target.port, 'path': target.path, 'auth': target.auth}
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
    where = origin_from_options(options, scheme.default_port, scheme.tls_settings(options, agent))
    method = check_method(_text('method', options) or 'GET').upper()
    path = _text('path', options) or (where.host_field if method == 'CONNECT' else '/')
    # Host is the authority of the target, be the connection to a proxy (RFC 9112, section 3.2)
    host = path if method == 'CONNECT' and is_host(path, port_required=True) else None
    made = ClientRequest(agent, where, method, check_target(path), _fields(options, where, host), keep_alive)
    if get_option('create_connection') is not None:
        made._create_connection = options['create_connection']
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
        # a used connection may turn out to be dead: the outcome says so
        with contextlib.suppress(ConnectionClosed):
            made.flush_headers()
    return made


def _text(name: str, options: Mapping[str, Any]) -> str | None:
    """Return an option that is text, None where it is not given. Raises ``TypeError``."""
    value: str | None = options.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f'{name} must be str, not {type(value).__name__}')
    return value


def _agent(scheme: Scheme, agent: Any, create_connection: Any) -> tuple[Agent, bool]:
    """Return the agent to use, and whether its connections serve more than one request."""
    if create_connection is not None and not callable(create_connection):
        raise TypeError(f'create_connection must be callable, not {type(create_connection).__name__}')
    if agent is False or (agent is None and create_connection is not None):
        return scheme.agent(), False
    if agent is None:
        return scheme.global_agent(), True
    if not isinstance(agent, Agent):
        raise TypeError(f'agent must be an Agent, None or False, not {type(agent).__name__}')
    return agent, True


def _fields(options: dict[str, Any], where: Origin, host: str | None) -> Fields:
    """Return the header fields that the options ask for, with ``host`` in Host, or the host that is connected to."""
    fields: Fields = {}
    if flag('set_host', options.get('set_host', True)):
        fields['host'] = where.host_pair if host is None else ('Host', host)
    headers: Any = options.get('headers')
    if headers is not None:
        if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable):
            raise TypeError(f'headers must be a mapping or an iterable of pairs, not {type(headers).__name__}')
        fields = merge_headers(fields, headers)
        if not is_host(fields.get('host', ('', ''))[1]):
            raise InvalidHeader(
                f'Host is not a host with an optional port: {fields["host"][1]!r}', 'ERR_HTTP_INVALID_HEADER_VALUE'
            )
    auth = _text('auth', options)
    if auth is not None and 'authorization' not in fields:
        # without a password there is nothing behind the colon, which is there all the same (RFC 7617, section 2)
        credentials = auth if ':' in auth else f'{auth}:'
        if credentials != ':':
            _authorize(fields, credentials)
    return fields


def _authorize(fields: Fields, auth: str) -> None:
    try:
        encoded = base64.b64encode(auth.encode())
    except UnicodeError as error:
        raise InvalidInput('auth has characters that UTF-8 has no bytes for', 'ERR_INVALID_CHAR') from error
    fields['authorization'] = 'Authorization', 'Basic ' + encoded.decode('ascii')


def _time(name: str, value: Any) -> float | None:
    return None if value is None else seconds(name, value) or None


class Client(EventEmitter):
    """What :func:`create_client` returns: one server, one connection at a time."""

    events = EventEmitter.events | {'error'}

    def __init__(self, port: int = DEFAULT_PORT, host: str = 'localhost') -> None:
        self.port = port
        self.host = host
        self.agent = Agent(max_sockets=1)

    def request(
        self, method: str = 'GET', path: str | HeadersArgument | None = None, headers: HeadersArgument | None = None
    ) -> ClientRequest:
        """Return a request to this client's server.

        As in the reference document, the method can be left out: ``request(path)``, ``request(path, headers)``. Errors
        of the request are also emitted here, if there is a listener.
        """
        if isinstance(method, str) and method.startswith('/'):
            if path is not None and headers is None:
                headers = cast(HeadersArgument, path)
            elif path is not None:
                raise TypeError(f'request() takes a method, a path and headers, not {method!r}, {path!r} and headers')
            method, path = 'GET', method
        made = request(host=self.host, port=self.port, method=method, path=path, headers=headers, agent=self.agent)
        if self.listener_count('error'):
            made.on('error', lambda error: self.emit('error', error))
        return made


def create_client(port: int = DEFAULT_PORT, host: str = 'localhost') -> Client:
    """Return a client for one server.

    .. deprecated:: 0.1
       As in the reference document: use :func:`request`.
    """
    warnings.warn('http.create_client() is deprecated: use http.request()', DeprecationWarning, stacklevel=2)
    return Client(port, host)
