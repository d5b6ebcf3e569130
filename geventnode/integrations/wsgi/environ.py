"""Build the environ of a request (PEP 3333; RFC 3875, section 4.1).

The request line and the header section determine most of it, and some clients repeat both: the parser returns the
same object for the same head. From the second request on, the variables are kept with the head, and each request gets
a copy with its own variables added. A head that no other request has costs one pass over its fields, and is not kept.
Those that depend on the connection are computed once per connection: a server can have several addresses, or all
addresses of a machine.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from geventnode import __version__
from geventnode.http import IncomingMessage, Server, ServerResponse
from geventnode.integrations.wsgi.input import EMPTY_INPUT, ErrorStream, Input
from geventnode.integrations.wsgi.socket import ENVIRON_KEYS, LazySocket
from geventnode.net import Socket
from geventnode.protocol import RequestHead

__all__ = ['EnvironBuilder', 'OutsideScriptName', 'meta_variables', 'request_environ']

#: The number of header fields of a head that is kept with its variables.
MAX_FIELDS = 64

#: The number of field names in the cache, and of characters in each.
MAX_NAMES, MAX_NAME = 1024, 64

#: The number of connections in the cache. Idle connections must not add to the memory without a limit.
MAX_CONNECTIONS = 1024

#: The number of local addresses of one server in the cache: a whole network can be routed to it.
MAX_ADDRESSES = 16

#: Fields that have no ``HTTP_`` variable. Two have a CGI variable of their own. The server has removed the transfer
#: coding, and some frameworks would decode the body again. ``HTTP_PROXY`` would configure clients (CVE-2016-5385).
_NO_VARIABLES = frozenset({'content-type', 'content-length', 'proxy', 'transfer-encoding'})


#: The key of the fields that have no variable.
_DROPPED = ''


#: Marks a head that one request had.
_SEEN: tuple[None, dict[str, Any]] = None, {}


class _VariableNames(dict[str, str]):
    """Cache the ``HTTP_`` variables of field names.

    Fields that are dropped have the variable ``''``.
    """

    def __missing__(self, name: str) -> str:
        dropped = '_' in name or name in _NO_VARIABLES
        variable = _DROPPED if dropped else 'HTTP_' + name.upper().replace('-', '_')
        # clients choose the names
        if len(self) < MAX_NAMES and len(name) <= MAX_NAME:
            self[name] = variable
        return variable


_variable = _VariableNames().__getitem__


class OutsideScriptName(Exception):
    """The path of the request does not begin with ``script_name``."""


def meta_variables(head: RequestHead, script_name: str) -> dict[str, Any]:
    """Return the variables that depend on ``head`` only.

    Fields with ``_`` in their name are dropped: an application could not distinguish them from those with ``-``, which
    proxies check and remove. The values of a repeated field are joined.

    :param script_name: the path of the application, ``''`` or without a slash at its end.

    Raises :class:`OutsideScriptName`.
    """
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
    variables: dict[str, Any] = {
        'REQUEST_METHOD': head.method,
        'SCRIPT_NAME': script_name,
        'PATH_INFO': path,
        'QUERY_STRING': query,
        'REQUEST_URI': target,
        'RAW_URI': target,
        'SERVER_PROTOCOL': f'HTTP/{head.http_version}',
    }
    fields = head.block.fields
    variables.update(zip(map(_variable, fields), fields.values(), strict=True))
    variables.pop(_DROPPED, None)
    if 'set-cookie' in fields:
        variables['HTTP_SET_COOKIE'] = ', '.join(fields['set-cookie'])
    if head.host is not None:
        # an absolute-form takes precedence over Host (RFC 9112, section 3.2.2)
        variables['HTTP_HOST'] = head.host
    if 'content-type' in fields:
        variables['CONTENT_TYPE'] = fields['content-type']
    if head.content_length is not None:
        variables['CONTENT_LENGTH'] = str(head.content_length)
    return variables


class _LocalAddress:
    """The variables of all requests to a local address."""

    __slots__ = ('variables',)

    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = variables


class _Connection(NamedTuple):
    """Variables that all requests of a connection share."""

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
            **common,
        }
        self._script_name = script_name
        self._connections: weakref.WeakKeyDictionary[Socket, _Connection] = weakref.WeakKeyDictionary()
        self._addresses: weakref.WeakKeyDictionary[Server, dict[Any, _LocalAddress]] = weakref.WeakKeyDictionary()

    def build(self, request: IncomingMessage, response: ServerResponse) -> dict[str, Any]:
        """Return the environ for ``request``. Raises :class:`OutsideScriptName`."""
        server = response.server
        local_address, address, port = self._connections.get(request.socket) or self._add_connection(
            request.socket, server
        )
        head: RequestHead = request._head  # type: ignore[assignment]  # a request's is one
        kept = head.derived
        if kept is not None and kept[0] is local_address:
            environ: dict[str, Any] = kept[1].copy()
        else:
            environ = self._add_head(head, local_address)
            # heads that request an upgrade are not kept
            if head.upgrade and request.complete:
                environ.update(dict.fromkeys(ENVIRON_KEYS, LazySocket(response)))
        if address is not None and server._forwarded_policy is None:
            environ['REMOTE_ADDR'] = address
            environ['REMOTE_PORT'] = port
        else:
            _set_client(environ, request)
        environ['wsgi.input'] = EMPTY_INPUT if request.complete else Input(request)
        environ['geventnode.request'] = request
        environ['geventnode.response'] = response
        return environ

    def _add_connection(self, socket: Socket, server: Server) -> _Connection:
        """Return the variables of a connection, and add them to the cache."""
        direct = not socket.encrypted and socket.proxy_header is None
        known = _Connection(
            self._find_local_address(socket, server),
            (socket.remote_address or '') if direct else None,
            str(socket.remote_port or ''),
        )
        if len(self._connections) >= MAX_CONNECTIONS:
            self._connections.clear()
        self._connections[socket] = known
        return known

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

    def _add_head(self, head: RequestHead, local_address: _LocalAddress) -> dict[str, Any]:
        """Return the variables of ``head``, and cache them from its second request."""
        environ = {**local_address.variables, **meta_variables(head, self._script_name)}
        if head.block.count <= MAX_FIELDS and not head.upgrade:
            head.derived = _SEEN if head.derived is None else (local_address, environ.copy())
        return environ


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
