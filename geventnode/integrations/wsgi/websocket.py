"""Offer a WebSocket to WSGI applications: ``environ['geventnode.websocket']``.

The value is a function that takes the options of :func:`geventnode.websocket.accept`, accepts the WebSocket that the
request asks for, and returns it. When the application has returned, the WebSocket is closed with 1000, or with 1011 if
the application failed. A refused handshake gets its HTTP response at once, and ends the application with
``RequestRefused``, which no framework turns into a response of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from geventnode.errors import RequestRefused, WebSocketClosed, WebSocketHandshakeError
from geventnode.http import ServerResponse

if TYPE_CHECKING:
    from geventnode.websocket import WebSocket

__all__ = ['ENVIRON_KEY', 'AcceptWebSocket', 'finish_websocket', 'is_end_of_websocket']

ENVIRON_KEY = 'geventnode.websocket'


class AcceptWebSocket:
    """Accept the WebSocket of a request, once.

    :param response: the response that the application replaces.
    """

    __slots__ = ('_response',)

    def __init__(self, response: ServerResponse) -> None:
        self._response = response

    def __call__(self, **options: Any) -> WebSocket:
        """Accept the WebSocket, and return it.

        :param options: those of :func:`geventnode.websocket.accept`.

        Raises ``RequestRefused`` after a refusal was sent, and ``HeadersSent`` in a second call.
        """
        # the library for frames is needed by WebSockets only
        from geventnode.websocket import upgrade

        try:
            made = _accepted[self._response] = upgrade(self._response, **options)
        except WebSocketHandshakeError as error:
            raise RequestRefused(str(error)) from error
        return made

    def __repr__(self) -> str:
        return f'<{type(self).__name__}>'


def finish_websocket(response: ServerResponse, status_code: int, error: BaseException | None) -> None:
    """Close the WebSocket that the application has accepted, if it has. Blocks until it is closed.

    :param status_code: the status that the application has passed to ``start_response()``.
    :param error: the exception of the application.
    """
    made = _accepted.pop(response, None)
    if made is None or (made._by_events and error is None and status_code < 500):
        return
    if error is not None and not isinstance(error, Exception):
        made.destroy()
        return
    failed = status_code >= 500 or (error is not None and not (isinstance(error, WebSocketClosed) and made.closed))
    made.close(1011 if failed else 1000)


def is_end_of_websocket(response: ServerResponse, error: BaseException) -> bool:
    """Return whether ``error`` only reports the end of the application's WebSocket."""
    made = _accepted.get(response)
    return made is not None and made.closed and isinstance(error, WebSocketClosed)


_accepted: WeakKeyDictionary[ServerResponse, WebSocket] = WeakKeyDictionary()
