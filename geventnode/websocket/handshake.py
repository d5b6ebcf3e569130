"""The opening handshake (RFC 6455, section 4), without I/O: decide about a request, and check a response."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from wsproto.utilities import generate_accept_token

from geventnode.errors import InvalidInput, WebSocketHandshakeError, without_credentials
from geventnode.http.incoming import IncomingMessage
from geventnode.http.same_origin import same_origin
from geventnode.protocol import connection_options, list_elements
from geventnode.websocket.deflate import Deflate, MalformedExtensions, MessageDeflate, accept_offer, accept_response

__all__ = [
    'Accepted',
    'Origins',
    'accept_token',
    'asks_for_websocket',
    'check_origins',
    'check_request',
    'check_response',
    'check_subprotocols',
    'make_key',
]

VERSION = '13'

#: Which origins can connect; see :func:`geventnode.websocket.accept`.
Origins = None | Literal['*'] | Iterable[str] | Callable[[Any], object]

_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Accepted(NamedTuple):
    """The decision about a request that can be accepted."""

    #: The fields of the response, without ``Upgrade`` and ``Connection``.
    fields: dict[str, str]
    subprotocol: str | None
    deflate: MessageDeflate | None


def accept_token(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key`` (RFC 6455, section 4.2.2)."""
    return generate_accept_token(key.encode('ascii')).decode('ascii')


def make_key() -> str:
    """Return a new ``Sec-WebSocket-Key``."""
    return base64.b64encode(os.urandom(16)).decode('ascii')


def asks_for_websocket(request: IncomingMessage) -> bool:
    """Return whether ``request`` asks for a WebSocket, possibly beside other protocols.

    Source: RFC 6455, section 4.2.1.
    """
    headers = request.headers
    upgrades = list_elements(headers.get('upgrade', '').lower())
    return 'websocket' in upgrades and 'upgrade' in connection_options([headers.get('connection', '')])


def check_origins(origins: Any) -> None:
    """Raise ``InvalidInput`` for one origin instead of a collection: parts of its text would be allowed, too."""
    if isinstance(origins, str) and origins != '*':
        raise InvalidInput(f"origins must be None, '*', a collection or a function, not {origins!r}: put it into a set")


def check_subprotocols(subprotocols: Any) -> None:
    """Raise ``TypeError`` for a text: each of its characters would be a subprotocol."""
    if isinstance(subprotocols, str):
        raise TypeError(f'subprotocols must be a sequence of str, not {subprotocols!r}: put it into a tuple')


def _one(request: IncomingMessage, name: str) -> str | None:
    """Return the value of a field that must occur once."""
    values: list[str] = request.headers_distinct.get(name, [])
    return values[0].strip() if len(values) == 1 else None


def check_request(
    request: IncomingMessage,
    origins: Origins,
    subprotocols: Sequence[str] | Callable[[list[str]], str | None],
    compression: Deflate | None,
) -> Accepted:
    """Return the response to a request.

    Raises ``WebSocketHandshakeError`` with the status of a refusal: 426 for a request of another protocol or version,
    403 for an origin that is not allowed, and 400 for any other fault.
    """
    headers = request.headers
    if not asks_for_websocket(request):
        raise WebSocketHandshakeError('the request does not ask for a WebSocket', 426)
    if request.method != 'GET' or request.http_version == '1.0':
        raise WebSocketHandshakeError('a WebSocket needs a GET request of HTTP/1.1', 400)
    if _one(request, 'sec-websocket-version') != VERSION:
        raise WebSocketHandshakeError(f'the request is not one of version {VERSION}', 426)
    key = _one(request, 'sec-websocket-key')
    if key is None or not _is_key(key):
        raise WebSocketHandshakeError('Sec-WebSocket-Key is not the base64 of 16 bytes', 400)
    if not _is_allowed(request, origins):
        raise WebSocketHandshakeError(f'the origin is not allowed: {headers.get("origin")!r}', 403)
    fields = {'Sec-WebSocket-Accept': accept_token(key)}
    offered = _tokens(headers.get('sec-websocket-protocol', ''))
    subprotocol = (
        subprotocols(offered)
        if callable(subprotocols)
        else next((each for each in subprotocols if each in offered), None)
    )
    if subprotocol is not None:
        if subprotocol not in offered:
            raise InvalidInput(f'the client has not offered the subprotocol {subprotocol!r}')
        fields['Sec-WebSocket-Protocol'] = subprotocol
    deflate = None
    extensions = headers.get('sec-websocket-extensions')
    if extensions:
        try:
            agreed = accept_offer(extensions, compression or Deflate({}))
        except MalformedExtensions as error:
            raise WebSocketHandshakeError(str(error), 400) from None
        if agreed is not None and compression is not None:
            fields['Sec-WebSocket-Extensions'], deflate = agreed
    return Accepted(fields, subprotocol, deflate)


def _is_key(key: str) -> bool:
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _tokens(field: str) -> list[str]:
    """Return the subprotocols in a field.

    Raises ``WebSocketHandshakeError`` if one is malformed (RFC 6455, section 4.1).
    """
    found = list_elements(field)
    if not all(_token.fullmatch(each) for each in found):
        raise WebSocketHandshakeError('Sec-WebSocket-Protocol is malformed', 400)
    return found


def _is_allowed(request: IncomingMessage, origins: Origins) -> bool:
    if origins == '*':
        return True
    if origins is None:
        return same_origin(request)
    if callable(origins):
        return bool(origins(request))
    origin = request.headers.get('origin')
    return origin is None or origin in origins


def check_response(
    status: int,
    headers: Mapping[str, Any],
    key: str,
    subprotocols: Sequence[str],
    compression: Deflate | None,
) -> tuple[str | None, MessageDeflate | None]:
    """Return the subprotocol and the compression of a response.

    Raises ``WebSocketHandshakeError`` if the server has not accepted, or has accepted something that was not offered
    (RFC 6455, section 4.1).
    """

    def failed(problem: str) -> WebSocketHandshakeError:
        return WebSocketHandshakeError(problem, status, headers)

    if status != 101:
        location = headers.get('location')
        raise failed(
            f'the server has responded {status} instead of accepting a WebSocket'
            + (
                f'; it redirects to {without_credentials(location)!r}, and redirects are not followed'
                if location
                else ''
            )
        )
    if headers.get('upgrade', '').strip().lower() != 'websocket' or 'upgrade' not in connection_options(
        [headers.get('connection', '')]
    ):
        raise failed('the server has upgraded to another protocol')
    if headers.get('sec-websocket-accept', '').strip() != accept_token(key):
        raise failed('the server has responded with a wrong Sec-WebSocket-Accept')
    subprotocol: str | None = headers.get('sec-websocket-protocol')
    if subprotocol is not None and subprotocol not in subprotocols:
        raise failed(f'the server has chosen a subprotocol that was not offered: {subprotocol!r}')
    try:
        return subprotocol, accept_response(headers.get('sec-websocket-extensions', ''), compression)
    except ValueError as error:
        raise failed(str(error)) from None
