"""The access log: one line for each exchange, in the combined format of Apache and nginx.

A line is written when an exchange ends, as :mod:`geventnode.http.server.observers` defines it.

A client can send any character, and log readers rely on line ends and quotes. So quotes, backslashes and all characters
other than printable ASCII are written as ``\\xHH``, as nginx does; simple readers split such lines correctly.
"""

from __future__ import annotations

import logging
import re
from time import localtime, time
from typing import Any

from geventnode.http.server.observers import CLIENT_CLOSED_REQUEST, ExchangeObserver, observe_exchanges
from geventnode.http.server.response import ServerResponse
from geventnode.http.server.server import Server

__all__ = ['CLIENT_CLOSED_REQUEST', 'AccessLog', 'access_line', 'log_access']

log = logging.getLogger('geventnode.access')

# strftime() depends on the locale; the format has English names
MONTHS = ('Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec')

_unsafe = re.compile(r'[^ !#-\[\]-~]')

_second = 0
_time = ''


def _escape(text: str) -> str:
    """Return ``text`` escaped for quotes."""
    if _unsafe.search(text) is None:
        return text
    return _unsafe.sub(lambda found: f'\\x{ord(found[0]):02X}', text)


def _timestamp() -> str:
    """Return the local time for a line, rendered once a second."""
    global _second, _time
    now = int(time())
    if now != _second:
        moment = localtime(now)
        sign = '-' if moment.tm_gmtoff < 0 else '+'
        hours, minutes = divmod(abs(moment.tm_gmtoff) // 60, 60)
        _second = now
        _time = (
            f'{moment.tm_mday:02}/{MONTHS[moment.tm_mon - 1]}/{moment.tm_year}:'
            f'{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} {sign}{hours:02}{minutes:02}'
        )
    return _time


def access_line(response: ServerResponse, status_code: int) -> str:
    """Return the line for one exchange, without a line end.

    ``host - - [time] "request line" status bytes "referer" "user-agent"``: the host is the IP address of the client, as
    forwarded by trusted proxies, or ``-`` on a Unix socket. The fields of the user are always ``-``. The time is that
    of writing, so that the lines are in order. Bytes are those of the body that were written, without their framing;
    ``-`` if there are none, or none are sent, as for HEAD.

    :param status_code: the status that the client received.
    """
    request = response.request
    headers = request.headers
    size = response.body_size if response._has_body else 0
    return (
        f'{request.remote_address or "-"} - - [{_timestamp()}] '
        f'"{_escape(f"{request.method} {request.url} HTTP/{request.http_version}")}" {status_code} {size or "-"} '
        f'"{_escape(headers.get("referer") or "-")}" "{_escape(headers.get("user-agent") or "-")}"'
    )


class AccessLog(ExchangeObserver):
    """Logs the exchanges of one server."""

    def exchange_ended(self, response: Any, status_code: int) -> None:
        if log.isEnabledFor(logging.INFO) and not response.passed_on:
            log.info('%s', access_line(response, status_code))


def log_access(server: Server) -> None:
    """Log each exchange that ``server`` begins from now on.

    The logger is ``geventnode.access``, the level INFO, and the lines are in the combined format of Apache and nginx. A
    second call has no effect.

    Input that is no request has no line; see the logger ``geventnode.error``. Neither has a request that is passed to
    an ``'upgrade'`` or ``'connect'`` listener, because it has no response.
    """
    observers = getattr(server.response_class, 'observers', ())
    if not any(isinstance(each, AccessLog) for each in observers):
        observe_exchanges(server, AccessLog())
