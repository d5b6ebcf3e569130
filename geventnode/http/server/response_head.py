"""The status lines of responses, and the fields that servers add."""

from __future__ import annotations

from geventnode.errors import InvalidInput
from geventnode.http.status import STATUS_CODES
from geventnode.protocol import status_line

__all__ = ['RESPONSE_FRAMING_FIELDS', 'STANDARD_LINES', 'final_status_line']

#: Fields that affect how the message is framed, or that the server adds if they are missing.
RESPONSE_FRAMING_FIELDS = frozenset(
    {'connection', 'content-length', 'date', 'keep-alive', 'trailer', 'transfer-encoding'}
)


#: The first lines of final responses with standard reason phrases, without their line ends.
STANDARD_LINES = {status: status_line(status, reason)[:-2] for status, reason in STATUS_CODES.items() if status >= 200}


def final_status_line(status: int, reason: str | None) -> str:
    """Return the status line of a final response, without its line end.

    :param reason: the reason phrase; None: the standard one.

    Raises ``TypeError`` for a status that is not an int, ``InvalidInput`` for one outside 200 to 999.
    """
    if type(status) is not int:
        raise TypeError(f'a status code must be int, not {type(status).__name__}')
    if not 200 <= status <= 999:
        raise InvalidInput(f'a final status must be from 200 to 999, not {status!r}', 'ERR_HTTP_INVALID_STATUS_CODE')
    if reason is not None:
        return status_line(status, reason)[:-2]
    return STANDARD_LINES.get(status) or status_line(status, 'unknown')[:-2]
