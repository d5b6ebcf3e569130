"""The head of a request: what it says of the body and of the connection."""

from __future__ import annotations

from geventnode.errors import BodyNotAllowed
from geventnode.http.client.request_events import RequestOutcome
from geventnode.http.header_fields import check_transfer_encoding
from geventnode.protocol import connection_options

__all__ = ['FramedRequest']

#: Methods whose requests have no body unless one is given (Node 20's list).
WITHOUT_BODY = frozenset({'GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT'})

#: Methods whose requests never have a body (RFC 9110, sections 9.3.6 and 9.3.8).
NEVER_A_BODY = frozenset({'CONNECT', 'TRACE'})

#: Fields that have a say in how the message is framed, or in what becomes of the connection.
REQUEST_FRAMING_FIELDS = frozenset({'connection', 'content-length', 'trailer', 'transfer-encoding', 'upgrade'})


class FramedRequest(RequestOutcome):
    """A request that knows how to frame itself."""

    path: str
    should_keep_alive: bool
    #: Whether the server is asked for another protocol.
    wants_upgrade: bool = False

    #: Whether the head is sent before it is known whether there is a body.
    _flushing: bool = False

    def _start(self, length: int | None) -> str:
        fields = self._fields
        lines = [f'{self.method} {self.path} HTTP/1.1\r\n']
        for name, value in fields.values():
            if type(value) is str:
                lines.append(f'{name}: {value}\r\n')
            else:
                lines += [f'{name}: {item}\r\n' for item in value]
        if (
            not length
            and length is not None
            and self.method in WITHOUT_BODY
            and not self._removed
            and self._trailers is None
            and fields.keys().isdisjoint(REQUEST_FRAMING_FIELDS)
        ):
            lines.append('Connection: keep-alive\r\n\r\n' if self.should_keep_alive else 'Connection: close\r\n\r\n')
        else:
            lines += self._connection_line(), self._choose_framing(length), '\r\n'
        return ''.join(lines)

    def _connection_line(self) -> str:
        given = self._fields.get('connection')
        if given is None:
            if 'connection' in self._removed:
                return ''
            return 'Connection: keep-alive\r\n' if self.should_keep_alive else 'Connection: close\r\n'
        value = given[1]
        options = connection_options(value if isinstance(value, list) else [value])
        if 'close' in options:
            self.should_keep_alive = False
        self.wants_upgrade = 'upgrade' in options and 'upgrade' in self._fields
        return ''

    def _choose_framing(self, length: int | None) -> str:
        """Decide how the body ends, and return the field that says so, if it has to be added (RFC 9112, section
        6.3)."""
        fields = self._fields
        if 'transfer-encoding' in fields:
            check_transfer_encoding(fields)
            self._chunked = True
        elif 'content-length' in fields:
            self._length = int(fields['content-length'][1])
        elif length is None and self._flushing and self.method in WITHOUT_BODY:
            self._length = 0
        elif length == 0 and not self._trailers and 'trailer' not in fields:
            self._length = 0
            return '' if self.method in WITHOUT_BODY or 'content-length' in self._removed else 'Content-Length: 0\r\n'
        elif (
            length is not None
            and 'content-length' not in self._removed
            and not self._trailers
            and ('trailer' not in fields)
        ):
            self._length = length
            self._check_body_allowed(length)
            return f'Content-Length: {length}\r\n'
        elif 'transfer-encoding' in self._removed:
            raise BodyNotAllowed(
                'a request with a body needs Content-Length or Transfer-Encoding, and both were '
                'removed (RFC 9112, section 6.3)'
            )
        else:
            self._chunked = True
            self._check_body_allowed(1)
            return 'Transfer-Encoding: chunked\r\n'
        self._check_body_allowed(1 if self._chunked else self._length or 0)
        return ''

    def _check_body_allowed(self, length: int) -> None:
        if length and self.method in NEVER_A_BODY:
            raise BodyNotAllowed(f'a {self.method} request has no body (RFC 9110, section 9.3)')

    def flush_headers(self) -> None:
        self._check_thread()
        self._flushing = True
        try:
            super().flush_headers()
        finally:
            self._flushing = False
