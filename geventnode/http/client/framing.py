"""The head of a request: what it says of the body and of the connection."""

from __future__ import annotations

from geventnode.http.body_framing import NO_BODY_BY_DEFAULT, frame_request
from geventnode.http.client.request_events import RequestOutcome
from geventnode.protocol import Framing, connection_options

__all__ = ['FramedRequest']

_CHUNKED = Framing.CHUNKED

#: Fields that have a say in how the message is framed, or in what becomes of the connection.
REQUEST_FRAMING_FIELDS = frozenset({'connection', 'content-length', 'trailer', 'transfer-encoding', 'upgrade'})


class FramedRequest(RequestOutcome):
    """A request that knows how to frame itself."""

    path: str
    should_keep_alive: bool
    #: Whether the server is asked for another protocol.
    _wants_upgrade: bool = False

    #: Whether the head is sent before it is known whether there is a body.
    _flushing: bool = False

    def _build_head(self, length: int | None) -> str:
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
            and self.method in NO_BODY_BY_DEFAULT
            and not self._removed_fields
            and self._trailers is None
            and fields.keys().isdisjoint(REQUEST_FRAMING_FIELDS)
        ):
            lines.append('Connection: keep-alive\r\n\r\n' if self.should_keep_alive else 'Connection: close\r\n\r\n')
        else:
            lines += self._connection_line(), self._frame_body(length), '\r\n'
        return ''.join(lines)

    def _connection_line(self) -> str:
        given = self._fields.get('connection')
        if given is None:
            if 'connection' in self._removed_fields:
                return ''
            return 'Connection: keep-alive\r\n' if self.should_keep_alive else 'Connection: close\r\n'
        value = given[1]
        options = connection_options(value if isinstance(value, list) else [value])
        if 'close' in options:
            self.should_keep_alive = False
        self._wants_upgrade = 'upgrade' in options and 'upgrade' in self._fields
        return ''

    def _frame_body(self, length: int | None) -> str:
        """Set how the body ends, and return the field line that declares it."""
        kind, self._length, line = frame_request(
            self.method, self._fields, self._removed_fields, bool(self._trailers), length, self._flushing
        )
        self._chunked = kind is _CHUNKED
        return line

    def flush_headers(self) -> None:
        self._check_thread()
        self._flushing = True
        try:
            super().flush_headers()
        finally:
            self._flushing = False
