"""The answers that the server gives on its own, when there is no request to hand to anybody or its listener failed."""

from __future__ import annotations

from geventnode.http.status import STATUS_CODES, date_line
from geventnode.protocol import status_line

__all__ = ['error_response']


def error_response(status_code: int, *, head_only: bool = False, detail: str = '') -> bytes:
    """Return a whole response with ``Connection: close``; nothing of the request is repeated in it.

    :param head_only: leave the body out, as for HEAD.
    :param detail: a line for the body, ASCII.
    """
    reason = STATUS_CODES[status_code]
    text = f'{status_code} {reason}\n'
    if detail:
        text += f'{detail}\n'
    body = '' if head_only else text
    return (
        f'{status_line(status_code, reason)}{date_line()}Connection: close\r\n'
        f'Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n\r\n'
        f'{body}'
    ).encode('latin-1')
