"""Put the parts of a response's head in order, in one place.

The application decides the beginning of a head, its status line and its fields. The server adds the parts that differ
from response to response: Date, the fields about the connection, and the field that declares how the body ends.
"""

from __future__ import annotations

from geventnode.errors import InvalidInput
from geventnode.http.header_fields import Fields
from geventnode.http.status import STATUS_CODES, date_line
from geventnode.protocol import status_line

__all__ = ['RESPONSE_FRAMING_FIELDS', 'PreparedHead', 'final_status_line', 'render_head']

#: Fields that affect how the message is framed, or that the server adds if they are missing.
RESPONSE_FRAMING_FIELDS = frozenset(
    {'connection', 'content-length', 'date', 'keep-alive', 'trailer', 'transfer-encoding'}
)


_STANDARD_LINES = {status: status_line(status, reason) for status, reason in STATUS_CODES.items()}


def final_status_line(status: int, reason: str | None) -> str:
    """Return the status line of a final response.

    :param reason: the reason phrase; None: the standard one.

    Raises ``TypeError`` for a status that is not an int, ``InvalidInput`` for one outside 200 to 999.
    """
    if type(status) is not int:
        raise TypeError(f'a status code must be int, not {type(status).__name__}')
    if not 200 <= status <= 999:
        raise InvalidInput(f'a final status must be from 200 to 999, not {status!r}', 'ERR_HTTP_INVALID_STATUS_CODE')
    if reason is not None:
        return status_line(status, reason)
    return _STANDARD_LINES.get(status) or status_line(status, 'unknown')


def render_head(start: str, date: str, connection: str, framing: str) -> str:
    """Return a head without the empty line that ends it.

    :param start: the status line and the fields of the application.
    :param date: the Date field, or ``''``.
    :param connection: the fields about the connection, or ``''``.
    :param framing: the field that declares how the body ends, or ``''``.
    """
    return f'{start}{date}{connection}{framing}'


class PreparedHead:
    """The beginning of a head, checked and rendered: immutable.

    The only one of :data:`RESPONSE_FRAMING_FIELDS` that it can have is Content-Length, which is not rendered: the
    server adds these fields. It spells the name of a declared length as ``fields`` does.

    :param lines: the rendered fields without Content-Length.
    :param length: the value of Content-Length, None without one.
    """

    __slots__ = (
        '_connection',
        '_date',
        '_framing',
        '_prefix',
        'fields',
        'length',
        'line',
        'start',
        'status_code',
        'status_message',
    )

    def __init__(
        self, status: int, fields: Fields, lines: str, reason: str | None = None, length: int | None = None
    ) -> None:
        self.status_code = status
        self.status_message = reason
        self.fields = fields
        self.length = length
        self.line = final_status_line(status, reason)
        self.start = self.line + lines
        self._framing = 'Content-Length: ' if length is None else ''.join((fields['content-length'][0], ': '))
        self._date = self._connection = ''
        self._prefix = b''

    def prefix(self, connection: str) -> bytes:
        """Return the head up to the value of Content-Length, its last field.

        :param connection: the fields about the connection.
        """
        date = date_line()
        # rendered again only when one of them has changed
        if self._date is not date or self._connection is not connection:
            self._prefix = render_head(self.start, date, connection, self._framing).encode('latin-1')
            self._date = date
            self._connection = connection
        return self._prefix
