"""The environ of a request (PEP 3333; RFC 3875, section 4.1).

Most of it is decided by the request line and the header section, and connections repeat those: the same head is the
same object to the parser. So a dict for each head that was seen lately is kept, and a request gets a copy, with what is
its own added. What a connection decides is asked of it once: a server may have several addresses, or all of a machine.
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

__all__ = ['EnvironBuilder', 'OutsideScriptName', 'meta_variables']

#: Heads whose variables are kept, and how many fields they may have at most.
MAX_HEADS, MAX_FIELDS = 256, 64

#: Connections that are remembered. A limit, because each of many that are idle may cost next to nothing.
MAX_CONNECTIONS = 1024

#: Local addresses of one server that are remembered: somebody may have routed a whole network to it.
MAX_ADDRESSES = 16

#: Fields that never become variables: those that have a variable of their own, the coding that the server has removed
#: from the body, which some frameworks would remove again, and one that programs would take for a setting of theirs
#: (CVE-2016-5385).
_NO_VARIABLES = frozenset({'content-type', 'content-length', 'proxy', 'transfer-encoding'})


class OutsideScriptName(Exception):
    """The request is for something outside of ``script_name``."""


def meta_variables(head: RequestHead, script_name: str) -> dict[str, Any]:
    """Return the variables that ``head`` decides. Raises :class:`OutsideScriptName`.

    Names of fields with ``_`` are dropped: they would be taken for those with ``-``, which proxies check and remove.
    What was repeated is joined.

    :param script_name: the path below which the application is, ``''`` or without a slash at its end.
    """
    target = head.url
    path, _, query = target.partition('?')
    if path[:1] != '/':
        # absolute-form, or the asterisk of OPTIONS, which stays as it is (RFC 9112, section 3.2)
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
    for name, value in head.block.fields.items():
        if '_' not in name and name not in _NO_VARIABLES:
            variables['HTTP_' + name.upper().replace('-', '_')] = value if type(value) is str else ', '.join(value)
    if head.host is not None:
        # an absolute-form knows it better than Host does (RFC 9112, section 3.2.2)
        variables['HTTP_HOST'] = head.host
    fields = head.block.fields
    if 'content-type' in fields:
        variables['CONTENT_TYPE'] = fields['content-type']
    if head.content_length is not None:
        variables['CONTENT_LENGTH'] = str(head.content_length)
    return variables


class _LocalAddress:
    """An address that a server is reached at, and the environs that begin with that."""

    __slots__ = ('heads', 'variables')

    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = variables
        self.heads: dict[RequestHead, dict[str, Any]] = {}


class _Connection(NamedTuple):
    """What is the same for every request of a connection."""

    place: _LocalAddress
    #: REMOTE_ADDR and REMOTE_PORT, None where the socket's other end may not be the whole truth.
    remote_address: str | None
    remote_port: str


class EnvironBuilder:
    """Makes the environs for one application.

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

    def make(self, request: IncomingMessage, response: ServerResponse) -> dict[str, Any]:
        """Return the environ for ``request``. Raises :class:`OutsideScriptName`."""
        server = response.server
        place, address, port = self._connections.get(request.socket) or self._add_connection(request.socket, server)
        head = request._head
        known = place.heads.get(head)  # type: ignore[arg-type]  # a request's is a RequestHead
        if known is not None:
            environ = known.copy()
        else:
            environ = self._remember(head, place).copy()  # type: ignore[arg-type]  # as above
            # one that is known asks for no upgrade
            if head.upgrade and request.complete:
                environ.update(dict.fromkeys(ENVIRON_KEYS, LazySocket(response)))
        if address is not None and server.forwarding is None:
            environ['REMOTE_ADDR'] = address
            environ['REMOTE_PORT'] = port
        else:
            self._set_client(environ, request)
        environ['wsgi.input'] = EMPTY_INPUT if request.complete else Input(request)
        environ['geventnode.request'] = request
        environ['geventnode.response'] = response
        return environ

    def _add_connection(self, socket: Socket, server: Server) -> _Connection:
        """Return what the connection ``socket`` of ``server`` decides, and remember it."""
        direct = not socket.encrypted and socket.proxy_header is None
        known = _Connection(
            self._local_address(socket, server),
            (socket.remote_address or '') if direct else None,
            str(socket.remote_port or ''),
        )
        if len(self._connections) >= MAX_CONNECTIONS:
            self._connections.clear()
        self._connections[socket] = known
        return known

    def _local_address(self, socket: Socket, server: Server) -> _LocalAddress:
        # a connection that is closed already has no address any more
        address = socket.address() or server.address() or 'localhost'
        name, port = (address['address'], str(address['port'])) if isinstance(address, dict) else (address, '')
        places = self._addresses.setdefault(server, {})
        place = places.get((name, port))
        if place is None:
            if len(places) >= MAX_ADDRESSES:
                places.clear()
            place = places[name, port] = _LocalAddress(
                {
                    'SERVER_NAME': name,
                    'SERVER_PORT': port,
                    'wsgi.multiprocess': self._common['wsgi.multiprocess'] or server.multiprocess,
                }
            )
        return place

    def _remember(self, head: RequestHead, place: _LocalAddress) -> dict[str, Any]:
        environ = {**self._common, **place.variables, **meta_variables(head, self._script_name)}
        if head.block.count <= MAX_FIELDS and not head.upgrade:
            if len(place.heads) >= MAX_HEADS:
                place.heads.clear()
            place.heads[head] = environ
        return environ

    def _set_client(self, environ: dict[str, Any], request: IncomingMessage) -> None:
        """Tell where the request comes from where that is more than the socket's other end."""
        environ['REMOTE_ADDR'] = request.remote_address or ''
        environ['REMOTE_PORT'] = str(request.remote_port or '')
        environ['wsgi.url_scheme'] = request.scheme
        if request.scheme == 'https':
            environ['HTTPS'] = 'on'
        if request.host is not None:
            environ['HTTP_HOST'] = request.host
