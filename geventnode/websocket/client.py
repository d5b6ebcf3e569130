"""Connect WebSockets, through an agent.

The handshake is a request of the agent, so that its options apply: TLS, names, addresses, limits. After a failed
handshake the connection is destroyed, and serves no other request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from geventnode import http, https
from geventnode.errors import InvalidInput, WebSocketHandshakeError, without_credentials
from geventnode.http.client.api import OPTIONS as REQUEST_OPTIONS
from geventnode.http.client.api import RequestOptions
from geventnode.http.header_fields import merge_headers
from geventnode.http.server.upgraded import WebSocketCounts
from geventnode.options import seconds
from geventnode.tls.client import TLSOptions
from geventnode.tls.contexts import CLIENT_OPTIONS
from geventnode.websocket.connection import OPTIONS, WebSocket, WebSocketOptions, settings
from geventnode.websocket.deflate import make_offer
from geventnode.websocket.handshake import VERSION, check_response, check_subprotocols, make_key

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ['ConnectOptions', 'connect']

#: The options that only a client has, besides those of requests.
OWN_OPTIONS = frozenset({'handshake_timeout', 'subprotocols'})

#: The options of a request that have no use in a handshake.
UNUSED = frozenset({'body', 'deadline', 'method', 'path', 'hostname', 'host', 'port', 'protocol'})

SCHEMES = {'ws': 'http', 'wss': 'https', 'http': 'http', 'https': 'https'}


class ConnectOptions(RequestOptions, TLSOptions, WebSocketOptions, total=False):
    """The options of :func:`connect`."""

    handshake_timeout: float | None
    subprotocols: Sequence[str]


def connect(url: str, **options: Unpack[ConnectOptions]) -> WebSocket:
    """Open a WebSocket, and return it.

    Blocks until the server has accepted it. Redirects are not followed.

    :param url: ``ws://host:port/path?query``, or with ``wss``, over TLS. ``http`` and ``https`` mean the same.
    :param subprotocols: the wanted ones in the order of preference. ().
    :param headers: further fields of the request: ``Origin``, ``Cookie``, ``Authorization``.
    :param handshake_timeout: seconds for all of it, from this call on; None: no limit. 30.
    :param compression: True to offer ``permessage-deflate`` (RFC 7692), or its options, as for :func:`accept`. False.
    :param options: further ones of :func:`accept` (``max_message_size``, ``max_fragments``, ``max_send_queue``,
        ``send_timeout``, ``ping_interval``, ``ping_timeout``, ``close_timeout``), of :func:`geventnode.http.request`
        (``agent``, ``auth``, ``connect_timeout``, ``local_address``, ``socket_path``, ...), and the TLS options of
        :func:`geventnode.tls.connect`.
    :raises WebSocketHandshakeError: the server has not accepted; ``status`` and ``headers`` are those of its response.
    :raises RequestTimeout: a deadline has passed.
    :raises ConnectError: there is no connection. Further errors are those of :func:`geventnode.http.request`.
    :raises UnknownOption: an option does not exist; the error names the nearest one.
    """
    scheme, separator, rest = url.partition('://')
    if not separator or scheme.lower() not in SCHEMES:
        raise InvalidInput(
            f'a WebSocket needs a URL that begins with ws:// or wss://, not {without_credentials(url)!r}'
        )
    if '#' in rest:
        # RFC 6455, section 3
        raise InvalidInput(f'the URL of a WebSocket has no fragment: {without_credentials(url)!r}')
    checked = settings(options, (OWN_OPTIONS | REQUEST_OPTIONS | CLIENT_OPTIONS) - UNUSED)
    check_subprotocols(options.get('subprotocols'))
    subprotocols = tuple(options.get('subprotocols', ()))
    given: dict[str, Any] = {
        name: value for name, value in options.items() if name not in OPTIONS and name not in OWN_OPTIONS
    }
    key = make_key()
    fields = merge_headers({}, given.pop('headers', None) or {})
    own = {
        'Connection': 'Upgrade',
        'Upgrade': 'websocket',
        'Sec-WebSocket-Key': key,
        'Sec-WebSocket-Version': VERSION,
    }
    if subprotocols:
        own['Sec-WebSocket-Protocol'] = ', '.join(subprotocols)
    if checked.compression is not None:
        own['Sec-WebSocket-Extensions'] = make_offer(checked.compression)
    for name, value in own.items():
        fields[name.lower()] = name, value
    limit = options.get('handshake_timeout', 30.0)
    deadline = None if limit is None else seconds('handshake_timeout', limit) or None
    secure = SCHEMES[scheme.lower()] == 'https'
    target = f'{SCHEMES[scheme.lower()]}://{rest}'
    make: Any = https.get if secure else http.get
    request = make(target, headers=list(fields.values()), deadline=deadline, **given)
    response = request.get_response()
    try:
        subprotocol, deflate = check_response(
            response.status_code, response.headers, key, subprotocols, checked.compression
        )
        if not response._upgraded:
            raise WebSocketHandshakeError('the server has not upgraded the connection', 101, response.headers)
    except BaseException:
        response.socket.destroy()
        request.destroy()
        raise
    made = WebSocket(response.socket, response.head, True, checked, _counts, deflate, subprotocol)
    made.response = response
    return made


#: All WebSockets of clients count here; nothing reads it.
_counts = WebSocketCounts()
