"""The response to a request of HTTP/2: the class of the server's responses, with another head and another output.

The public methods are those of :class:`geventnode.http.ServerResponse`. Only the functions that render bytes of
HTTP/1.1 are replaced: the head is a list of fields, and the output is the stream, which divides the body into frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventnode.errors import ContentLengthMismatch
from geventnode.http.body_framing import frame_response
from geventnode.http.body_source import BodySource, check_file
from geventnode.http.outgoing import OutgoingState
from geventnode.http.server.response import ServerResponse
from geventnode.http.server.response_head import final_status_line
from geventnode.http.status import date_line
from geventnode.http2.fields import CONNECTION_FIELDS
from geventnode.protocol import Framing

if TYPE_CHECKING:
    from geventnode.http2.stream import Stream

__all__ = ['StreamResponse', 'encode_fields', 'response_class']

_OPEN, _FIXED, _BODY = OutgoingState.OPEN, OutgoingState.FIXED, OutgoingState.BODY

#: ``Date: `` and the line end around the value of :func:`date_line`.
_DATE_START, _DATE_END = len('Date: '), -2

#: Blanks around a value, which make a message malformed (RFC 9113, section 8.2.1). HTTP/1.1 ignores them.
_BLANKS = ' \t'

EncodedFields = list[tuple[bytes, bytes]]


def encode_fields(fields: Any) -> EncodedFields:
    """Return (name, value) pairs of text as bytes.

    Names are in lower case, values have no blanks around them, and fields about the connection are left out.
    """
    return [
        (lower.encode('latin-1'), value.strip(_BLANKS).encode('latin-1'))
        for lower, value in ((name.lower(), value) for name, value in fields)
        if lower not in CONNECTION_FIELDS
    ]


#: Names of fields as they are sent, None for those that are left out, and their largest number.
_names: dict[str, bytes | None] = dict.fromkeys(CONNECTION_FIELDS)
MAX_NAMES = 1024

#: The fields of statuses, and the line of the present second with its field.
_status_fields: dict[int, tuple[bytes, bytes]] = {}
_date: tuple[str, tuple[bytes, bytes]] = '', (b'', b'')


def _encode_name(lower: str) -> bytes | None:
    name = lower.encode('latin-1')
    if len(_names) < MAX_NAMES:
        _names[lower] = name
    return name


def _status_field(status: int) -> tuple[bytes, bytes]:
    field = _status_fields[status] = b':status', b'%d' % status
    return field


def _date_field() -> tuple[bytes, bytes]:
    global _date
    line = date_line()
    if line is not _date[0]:
        _date = line, (b'date', line[_DATE_START:_DATE_END].encode('latin-1'))
    return _date[1]


class StreamResponse(ServerResponse):
    """A response that is sent on a stream.

    It is mixed into the class of the server's responses.
    """

    _connection: Any

    def __init__(self, request: Any, connection: Stream) -> None:
        super().__init__(request, connection)  # type: ignore[arg-type]  # it has the same role
        self._out = connection
        # end() of the base class would send the bytes of HTTP/1.1
        self._is_plain = False

    # -- the head -------------------------------------------------------------------------------------------------

    def _build_head(self, length: int | None) -> str:
        """Pass the head to the stream, and return no text.

        The stream sends it with the first bytes.
        """
        status = self.status_code
        fields = self._fields
        # raises for a status that is none, before anything changes
        if self._status_line is None:
            final_status_line(status, self.status_message)
        kind, self._length, line = frame_response(
            status, self.request.method, '2.0', fields, self._removed_fields, self._trailers, length
        )
        self._has_body = kind is not Framing.NONE and self.request.method != 'HEAD'
        drops_length = kind is Framing.NONE and status != 304
        head: EncodedFields = [_status_fields.get(status) or _status_field(status)]
        for lower, (_, value) in fields.items():
            try:
                name = _names[lower]
            except KeyError:
                name = _encode_name(lower)
            if name is None or (drops_length and lower == 'content-length'):
                continue
            if type(value) is str:
                head.append((name, value.strip(_BLANKS).encode('latin-1')))
            else:
                head += [(name, item.strip(_BLANKS).encode('latin-1')) for item in value]
        if self.send_date and 'date' not in fields and 'date' not in self._removed_fields:
            head.append(_date_field())
        if line.startswith('Content-Length'):
            head.append((b'content-length', b'0' if self._length is None else b'%d' % self._length))
        self._out.set_head(head)
        return ''

    def _inform(self, head: str) -> None:
        if self._state is not _OPEN and self._state is not _FIXED:
            return
        self._check_alive()
        if self._out.writable_length >= self._out.writable_high_water_mark:
            self._wait_for_drain()
            if self._state is not _OPEN and self._state is not _FIXED:
                return
        lines = head.split('\r\n')
        status = lines[0].split(' ')[1]
        pairs = [tuple(line.split(': ', 1)) for line in lines[1:] if line]
        self._out.send_informational([(b':status', status.encode('ascii')), *encode_fields(pairs)])

    # -- the body -------------------------------------------------------------------------------------------------

    def _send_message(self, body: bytes | memoryview) -> bool:
        size = len(body)
        self._begin_body(size)
        if self._length is not None and size > self._length and self._has_body:
            self._state = _FIXED
            raise ContentLengthMismatch(f'Content-Length is {self._length}, and the body has {size} bytes')
        self.body_size = size
        return self._finish(body if self._has_body else b'')

    def _send_end(self) -> bool:
        return self._finish(b'')

    def _finish(self, body: bytes | memoryview) -> bool:
        """End the stream, unless the body is too short: the stream is then reset instead."""
        out: Stream = self._out
        if self._has_body and self._length is not None and self.body_size < self._length:
            return out.send(body)
        trailers = encode_fields(self._trailers) if self._trailers and self._has_body else None
        return out.finish(body, trailers)

    def send_file(self, file: Any, size: int | None = None) -> ServerResponse:
        """See :meth:`geventnode.http.ServerResponse.send_file`; the file is read. Blocks until it is sent or queued."""
        self._check_thread()
        check_file(file)
        self._send_corked()
        source = BodySource(file, size)
        if source.size is not None and (self._state is _OPEN or self._state is _FIXED):
            self._check_alive()
            self._begin_body(source.size)
        return self._send_chunks(source)


_classes: dict[type[ServerResponse], type[StreamResponse]] = {}


def response_class(base: type[ServerResponse]) -> type[StreamResponse]:
    """Return the class of responses by HTTP/2.

    :param base: the class of the server's responses.
    """
    found = _classes.get(base)
    if found is None:
        bases = (StreamResponse,) if base is ServerResponse else (StreamResponse, base)
        found = type(base.__name__, bases, {})
        if len(_classes) >= 64:
            # observers make classes, a sampler one for each server
            _classes.clear()
        _classes[base] = found
    return found
