"""The environ of a request (PEP 3333; RFC 3875, section 4.1).

Most of it is decided by the request line and the header section, and connections repeat those: the same head is the
same object to the parser. So a dict for each head that was seen lately is kept, and a request gets a copy, with what is
its own added.
"""
from __future__ import annotations

import weakref
from typing import Any
from urllib.parse import unquote_to_bytes

from geventnode import __version__
from geventnode.http import IncomingMessage, Server, ServerResponse
from geventnode.integrations.wsgi_input import NO_INPUT, ErrorStream, Input
from geventnode.protocol import RequestHead

__all__ = ['Environs', 'NotBelow', 'meta_variables']

#: Heads whose variables are kept, and how many fields they may have at most.
MAX_HEADS, MAX_FIELDS = 256, 64

#: Fields that never become variables: those that have a variable of their own, and one that programs would take for a
#: setting of theirs (CVE-2016-5385).
_NO_VARIABLES = frozenset({'content-type', 'content-length', 'proxy'})


class NotBelow(Exception):
    """The request is for something outside of ``script_name``."""


def meta_variables(head: RequestHead, script_name: str) -> dict[str, Any]:
    """Return the variables that ``head`` decides. Never switches. Raises :class:`NotBelow`.

    Names of fields with ``_`` are dropped: they would be taken for those with ``-``, which proxies check and remove.
    What was repeated is joined.

    :param script_name: the path below which the application is, ``''`` or without a slash at its end.
    """
    target = head.url
    path, _, query = target.partition('?')
    if path[:1] != '/':
        # absolute-form, or the asterisk of OPTIONS (RFC 9112, section 3.2)
        path = '/' + path.partition('://')[2].partition('/')[2] if '://' in path else ''
    if '%' in path:
        path = unquote_to_bytes(path).decode('latin-1')
    if script_name:
        if not (path + '/').startswith(script_name + '/'):
            raise NotBelow
        path = path[len(script_name):]
    variables: dict[str, Any] = {
        'REQUEST_METHOD': head.method, 'SCRIPT_NAME': script_name, 'PATH_INFO': path, 'QUERY_STRING': query,
        'REQUEST_URI': target, 'RAW_URI': target, 'SERVER_PROTOCOL': f'HTTP/{head.http_version}',
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


class Environs:
    """Makes the environs for one application.

    :param common: variables that are the same for every request.
    :param script_name: as for :func:`meta_variables`.
    """

    def __init__(self, common: dict[str, Any], script_name: str) -> None:
        self._common = {
            'wsgi.version': (1, 0), 'wsgi.url_scheme': 'http', 'wsgi.errors': ErrorStream(), 'wsgi.multithread': True,
            'wsgi.multiprocess': False, 'wsgi.run_once': False, 'wsgi.input_terminated': True,
            'SERVER_SOFTWARE': f'geventnode/{__version__}', **common}
        self._script_name = script_name
        #: The server of the last request, what it decides, and the environs that begin with that.
        self._server: Server | None = None
        self._place: dict[str, Any] = {}
        self._heads: dict[RequestHead, dict[str, Any]] = {}
        #: The same for every server.
        self._known: weakref.WeakKeyDictionary[Server, Any] = weakref.WeakKeyDictionary()

    def make(self, request: IncomingMessage, response: ServerResponse) -> dict[str, Any]:
        """Return the environ for ``request``. Never switches. Raises :class:`NotBelow`."""
        server = response.server
        if server is not self._server:
            self._turn_to(server, request)
        head = request._head
        known = self._heads.get(head)  # type: ignore[arg-type]  # a request's is a RequestHead
        environ = self._remember(head).copy() if known is None else known.copy()  # type: ignore[arg-type]  # as above
        socket = request.socket
        if server.forwarding is None and not socket.encrypted and socket.proxy_header is None:
            environ['REMOTE_ADDR'] = socket.remote_address or ''
            environ['REMOTE_PORT'] = str(socket.remote_port or '')
        else:
            self._tell_origin(environ, request)
        environ['wsgi.input'] = NO_INPUT if request.complete else Input(request)
        environ['geventnode.request'] = request
        environ['geventnode.response'] = response
        return environ

    def _turn_to(self, server: Server, request: IncomingMessage) -> None:
        """Use what belongs to ``server``, the one that ``request`` came to."""
        known = self._known.get(server)
        if known is None:
            address = request.socket.address()
            if isinstance(address, dict):
                place = {'SERVER_NAME': address['address'], 'SERVER_PORT': str(address['port'])}
            else:
                place = {'SERVER_NAME': address or 'localhost', 'SERVER_PORT': ''}
            known = self._known[server] = place, {}
        self._server = server
        self._place, self._heads = known

    def _remember(self, head: RequestHead) -> dict[str, Any]:
        environ = {**self._common, **self._place, **meta_variables(head, self._script_name)}
        if head.block.count <= MAX_FIELDS:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            self._heads[head] = environ
        return environ

    def _tell_origin(self, environ: dict[str, Any], request: IncomingMessage) -> None:
        """Tell where the request comes from where that is more than the socket's other end."""
        environ['REMOTE_ADDR'] = request.remote_address or ''
        environ['REMOTE_PORT'] = str(request.remote_port or '')
        environ['wsgi.url_scheme'] = request.scheme
        if request.scheme == 'https':
            environ['HTTPS'] = 'on'
        if request.host is not None:
            environ['HTTP_HOST'] = request.host
