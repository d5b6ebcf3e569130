"""The access log: one line for each exchange, in the combined format of Apache and nginx, or as a JSON object.

A line is written when an exchange ends, as :mod:`geventnode.http.server.observers` defines it.

A client can send any character, and log readers rely on line ends and quotes. So quotes, backslashes and all characters
other than printable ASCII are written as ``\\xHH`` in the combined format, as nginx does; simple readers split such
lines correctly. In JSON they are written as ``\\u00HH`` (RFC 8259, section 7): a line of either format is ASCII.

Several processes can write to one pipe, and the kernel keeps apart only writes of up to ``PIPE_BUF`` bytes (POSIX,
``write``), which are 4096 on Linux. A JSON object that would be longer has shortened texts, so that each line of the
pipe is one object.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import datetime, timezone
from time import localtime, monotonic, time
from typing import Any, Literal

from geventnode.errors import InvalidInput
from geventnode.http.server.observers import CLIENT_CLOSED_REQUEST, ExchangeObserver, observe_exchanges
from geventnode.http.server.response import ServerResponse
from geventnode.http.server.server import Server

__all__ = ['CLIENT_CLOSED_REQUEST', 'AccessLog', 'access_line', 'is_complete', 'json_access_line', 'log_access']

log = logging.getLogger('geventnode.access')

# strftime() depends on the locale; the format has English names
MONTHS = ('Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec')

#: Bytes of the longest JSON object with its line end. Windows has no PIPE_BUF, and that of macOS, 512, has no room for
#: the fields.
MAX_LINE = 4096

#: Characters of a text in a JSON object that would be too long: five of them fit, beside the rest of the object.
MAX_TEXT = 640

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


def json_access_line(response: Any, status_code: int) -> str:
    """Return a JSON object for one exchange, without a line end.

    :doc:`/logging` describes the fields. Characters other than printable ASCII are escaped. As in ``headers``, each
    character from U+0080 to U+00FF is one byte of the client. With its line end, the object has at most 4096 bytes.

    :param response: the :class:`ServerResponse`, of which an observer was notified.
    :param status_code: the status that the client received.
    """
    request = response.request
    headers = request.headers
    values = {
        'time': datetime.now(timezone.utc).isoformat(timespec='milliseconds').replace('+00:00', 'Z'),
        'client_address': request.remote_address,
        'method': request.method,
        'target': request.url,
        'http_version': request.http_version,
        'scheme': request.scheme,
        'host': request.host,
        'status': status_code,
        'body_size': response.body_size if response._has_body else 0,
        'duration': round(monotonic() - response.began, 6),
        'complete': is_complete(response, status_code),
        'referer': headers.get('referer'),
        'user_agent': headers.get('user-agent'),
    }
    line = _encode(values)
    return line if len(line) < MAX_LINE else _shortened(values)


def _shortened(values: dict[str, Any]) -> str:
    """Return a JSON object with shortened texts, and with their names."""
    names = []
    for name, value in values.items():
        if isinstance(value, str) and len(_encode(value)) - 2 > MAX_TEXT:
            names.append(name)
            values[name] = _begin(value)
    return _encode({**values, 'shortened': names})


def _begin(text: str) -> str:
    """Return the beginning of ``text`` up to ``MAX_TEXT`` characters in JSON."""
    room = MAX_TEXT
    for position, character in enumerate(text):
        room -= len(_encode(character)) - 2
        if room < 0:
            return text[:position]
    return text


_encode = json.JSONEncoder(separators=(',', ':')).encode


def is_complete(response: Any, status_code: int) -> bool:
    """Return whether all of a response was passed to the socket: the application's, or the server's instead."""
    if response.destroyed:
        # the server sends an error response instead, if no head was sent
        return not response._head_sent and status_code != CLIENT_CLOSED_REQUEST
    length = response._length
    return length is None or not response._has_body or response.body_size >= length


class AccessLog(ExchangeObserver):
    """Logs the exchanges of one server.

    :param render: returns the line for a response and the status that the client received.
    """

    def __init__(self, render: Callable[[Any, int], str]) -> None:
        self._render = render

    def exchange_ended(self, response: Any, status_code: int) -> None:
        if log.isEnabledFor(logging.INFO) and not response.passed_on:
            log.info('%s', self._render(response, status_code))


#: The functions that render a line, by the names of the formats.
FORMATS: dict[str, Callable[[Any, int], str]] = {'combined': access_line, 'json': json_access_line}


def log_access(server: Server, log_format: Literal['combined', 'json'] = 'combined') -> None:
    """Log each exchange that ``server`` begins from now on.

    The logger is ``geventnode.access``, and the level INFO. A second call has no effect.

    Input that is no request has no line; see the logger ``geventnode.error``. Neither has a request that is passed to
    an ``'upgrade'`` or ``'connect'`` listener, because it has no response.

    :param log_format: ``'combined'``, the format of Apache and nginx, or ``'json'``, an object in each line;
        :doc:`/logging` describes its fields.
    :raises InvalidInput: there is no such format.
    """
    if log_format not in FORMATS:
        raise InvalidInput(f"log_format must be 'combined' or 'json', not {log_format!r}")
    observers = getattr(server.response_class, 'observers', ())
    if not any(isinstance(each, AccessLog) for each in observers):
        observe_exchanges(server, AccessLog(FORMATS[log_format]))
