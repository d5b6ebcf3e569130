"""Build the environ of a request (PEP 3333; RFC 3875, section 4.1).

A server address has a template with every variable that all requests have. An environ is a copy of it: the variables of
the request replace the template's values, and one pass over the header fields adds theirs. A copy of a dict is as large
as the original, so that it is not enlarged step by step.

Some clients repeat the whole head, and the parser then returns the same object. From the second such request on, the
variables are kept with the head. Those of a connection are kept with its socket.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from geventnode import __version__
from geventnode.http import IncomingMessage, Server, ServerResponse
from geventnode.integrations.wsgi.input import EMPTY_INPUT, ErrorStream, Input
from geventnode.integrations.wsgi.socket import ENVIRON_KEYS, LazySocket
from geventnode.integrations.wsgi.websocket import ENVIRON_KEY, AcceptWebSocket
from geventnode.net import Socket
from geventnode.protocol import RequestHead

__all__ = ['EnvironBuilder', 'OutsideScriptName', 'meta_variables', 'request_environ']

#: The number of header fields of a head that is kept with its variables.
MAX_FIELDS = 64

#: The number of field names in the cache, and of characters in each.
MAX_NAMES, MAX_NAME = 1024, 64

#: The number of local addresses of one server in the cache: a whole network can be routed to it.
MAX_ADDRESSES = 16

#: Fields without an ``HTTP_`` variable of the same value. Two have a CGI variable of their own. The server has removed
#: the transfer coding, and some frameworks would decode the body again. ``HTTP_PROXY`` would configure clients
#: (CVE-2016-5385). The values of Set-Cookie are a list.
_SPECIAL = frozenset({'content-type', 'content-length', 'proxy', 'set-cookie', 'transfer-encoding'})

#: The key of the special fields, and of those with ``_`` in their name.
_OTHER = ''

#: Marks a head that one request had.
_SEEN: tuple[None, dict[str, Any]] = None, {}

#: The ``HTTP_`` variables of field names that arrived lately, and the key of the other names.
_variables: dict[str, str] = {}

#: The values of SERVER_PROTOCOL by the version of the request.
_PROTOCOLS = {version: f'HTTP/{version}' for version in ('1.0', '1.1')}

#: Variables that every environ has and that each request sets.
_OF_REQUEST = (
    'REQUEST_METHOD',
    'PATH_INFO',
    'QUERY_STRING',
    'REQUEST_URI',
    'RAW_URI',
    'SERVER_PROTOCOL',
    'REMOTE_ADDR',
    'REMOTE_PORT',
    'wsgi.early_hints',
    'geventnode.request',
    'geventnode.response',
)


def _add_variable(name: str) -> str:
    """Add a field name to the table, and return its variable."""
    variable = _OTHER if '_' in name or name in _SPECIAL else 'HTTP_' + name.upper().replace('-', '_')
    # clients choose the names
    if len(_variables) < MAX_NAMES and len(name) <= MAX_NAME:
        _variables[name] = variable
    return variable


class OutsideScriptName(Exception):
    """The path of the request does not begin with ``script_name``."""


def meta_variables(head: RequestHead, script_name: str) -> dict[str, Any]:
    """Return the variables that depend on ``head`` only.

    Fields with ``_`` in their name are dropped: an application could not distinguish them from those with ``-``, which
    proxies check and remove. The values of a repeated field are joined.

    :param script_name: the path of the application, ``''`` or without a slash at its end.

    Raises :class:`OutsideScriptName`.
    """
    variables: dict[str, Any] = {'SCRIPT_NAME': script_name}
    _set_head(variables, head, script_name)
    return variables


def _set_head(environ: dict[str, Any], head: RequestHead, script_name: str) -> None:
    """Set the variables of ``head``. Raises :class:`OutsideScriptName`."""
    target = head.url
    path, _, query = target.partition('?')
    if path[:1] != '/':
        # absolute-form; the asterisk-form of OPTIONS is kept (RFC 9112, section 3.2)
        path = '/' + path.partition('://')[2].partition('/')[2] if '://' in path else path
    if '%' in path:
        path = unquote_to_bytes(path).decode('latin-1')
    if script_name:
        if not (path + '/').startswith(script_name + '/'):
            raise OutsideScriptName
        path = path[len(script_name) :]
    environ['REQUEST_METHOD'] = head.method
    environ['PATH_INFO'] = path
    environ['QUERY_STRING'] = query
    environ['REQUEST_URI'] = environ['RAW_URI'] = target
    environ['SERVER_PROTOCOL'] = _PROTOCOLS.get(head.http_version) or f'HTTP/{head.http_version}'
    fields = head.fields
    known = _variables
    try:
        for name, value in fields.items():
            environ[known[name]] = value
    except KeyError:
        for name, value in fields.items():
            environ[known.get(name) or _add_variable(name)] = value
    if _OTHER in environ:
        del environ[_OTHER]
        if 'set-cookie' in fields:
            environ['HTTP_SET_COOKIE'] = ', '.join(fields['set-cookie'])
        if 'content-type' in fields:
            environ['CONTENT_TYPE'] = fields['content-type']
        if head.content_length is not None:
            environ['CONTENT_LENGTH'] = str(head.content_length)
    if target[0] != '/' and head.host is not None:
        # an absolute-form takes precedence over Host (RFC 9112, section 3.2.2)
        environ['HTTP_HOST'] = head.host


class _LocalAddress:
    """The template for all requests to a local address."""

    __slots__ = ('template',)

    def __init__(self, template: dict[str, Any]) -> None:
        self.template = template


class _Connection(NamedTuple):
    """The variables that one builder gives to all requests of a connection."""

    builder: EnvironBuilder
    local_address: _LocalAddress
    #: REMOTE_ADDR, None if TLS or a PROXY header decides about the client's address or scheme.
    remote_address: str | None
    remote_port: str


class EnvironBuilder:
    """Build the environs for one application.

    :param common: variables that are the same for every request.
    :param script_name: as for :func:`meta_variables`.
    """

    def __init__(self, common: dict[str, Any], script_name: str) -> None:
        self._common = {
            'wsgi.version': (1, 0),
            'wsgi.url_scheme': 'http',
            'wsgi.errors': ErrorStream(),
            'wsgi.multithread': True,
            'wsgi.multiprocess': False,
            'wsgi.run_once': False,
            'wsgi.input_terminated': True,
            'SERVER_SOFTWARE': f'geventnode/{__version__}',
            'SCRIPT_NAME': script_name,
            'wsgi.input': EMPTY_INPUT,
            # replaced for each request
            **dict.fromkeys(_OF_REQUEST),
            **common,
        }
        self._script_name = script_name
        self._addresses: weakref.WeakKeyDictionary[Server, dict[Any, _LocalAddress]] = weakref.WeakKeyDictionary()

    def build(self, request: IncomingMessage, response: ServerResponse) -> dict[str, Any]:
        """Return the environ for ``request``. Raises :class:`OutsideScriptName`."""
        socket = request.socket
        connection: _Connection | None = socket._derived
        if connection is None or connection.builder is not self:
            connection = socket._derived = self._describe_connection(socket, response.server)
        _, local_address, address, port = connection
        head: RequestHead = request._head  # type: ignore[assignment]  # a request's is one
        kept = head.derived
        if kept is not None and kept[0] is local_address:
            environ: dict[str, Any] = kept[1].copy()
        else:
            environ = local_address.template.copy()
            _set_head(environ, head, self._script_name)
            if head.upgrade:
                # not kept, because of the lazy socket
                if request.complete:
                    environ.update(dict.fromkeys(ENVIRON_KEYS, LazySocket(response)))
                environ[ENVIRON_KEY] = AcceptWebSocket(response)
            elif kept is None:
                head.derived = _SEEN
            elif head.count <= MAX_FIELDS:
                head.derived = local_address, environ.copy()
        if address is not None and response.server._forwarded_policy is None:
            environ['REMOTE_ADDR'] = address
            environ['REMOTE_PORT'] = port
        else:
            _set_client(environ, request)
        if not request.complete:
            environ['wsgi.input'] = Input(request)
        environ['geventnode.request'] = request
        environ['geventnode.response'] = response
        return environ

    def _describe_connection(self, socket: Socket, server: Server) -> _Connection:
        """Return the variables of a connection."""
        direct = not socket.encrypted and socket.proxy_header is None
        return _Connection(
            self,
            self._find_local_address(socket, server),
            (socket.remote_address or '') if direct else None,
            str(socket.remote_port or ''),
        )

    def _find_local_address(self, socket: Socket, server: Server) -> _LocalAddress:
        # a closed connection has no address
        address = socket.address() or server.address() or 'localhost'
        name, port = (address['address'], str(address['port'])) if isinstance(address, dict) else (address, '')
        known = self._addresses.setdefault(server, {})
        found = known.get((name, port))
        if found is None:
            if len(known) >= MAX_ADDRESSES:
                known.clear()
            found = known[name, port] = _LocalAddress(
                {
                    **self._common,
                    'SERVER_NAME': name,
                    'SERVER_PORT': port,
                    'wsgi.multiprocess': self._common['wsgi.multiprocess'] or server.multiprocess,
                }
            )
        return found


def request_environ(request: IncomingMessage) -> dict[str, Any]:
    """Return an environ for logs and hooks, without WSGI's own variables."""
    environ = meta_variables(request._head, '')  # type: ignore[arg-type]  # a request's is a RequestHead
    _set_client(environ, request)
    environ['geventnode.request'] = request
    return environ


def _set_client(environ: dict[str, Any], request: IncomingMessage) -> None:
    """Set the client's address, scheme and host, as trusted proxies report them."""
    environ['REMOTE_ADDR'] = request.remote_address or ''
    environ['REMOTE_PORT'] = str(request.remote_port or '')
    environ['wsgi.url_scheme'] = request.scheme
    if request.scheme == 'https':
        environ['HTTPS'] = 'on'
    if request.host is not None:
        environ['HTTP_HOST'] = request.host
