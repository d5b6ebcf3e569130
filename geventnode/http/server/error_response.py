"""Responses of the server's own: for input that is no request, and for failed listeners."""

from __future__ import annotations

from geventnode.http.status import STATUS_CODES, date_line
from geventnode.protocol import status_line

__all__ = ['error_response']


def error_response(status_code: int, *, head_only: bool = False, detail: str = '') -> bytes:
    """Return a complete response with ``Connection: close``.

    It repeats nothing of the request.

    :param head_only: omit the body, as for HEAD.
    :param detail: a second line of the body, in ASCII.
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
