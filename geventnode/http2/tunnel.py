"""The socket of a tunnel: one stream of an HTTP/2 connection, as a duplex.

It is the socket that ``'connect'`` listeners get.

A listener for HTTP/1.1 writes its response to CONNECT as bytes, and then speaks the other protocol. The same listener
serves HTTP/2: heads that it writes first become the heads of the stream. Without one, the response is 200. A malformed
or incomplete head destroys the tunnel: without its head, the rest would look like bytes of the other protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventnode.errors import InvalidInput, ParseError
from geventnode.http2.codes import ErrorCode
from geventnode.http2.response import encode_fields
from geventnode.protocol.head import ResponseHead, parse_response_head
from geventnode.stream.duplex import DuplexBase
from geventnode.stream.writable import Writable

if TYPE_CHECKING:
    from geventnode.http2.stream import Stream

__all__ = ['TunnelSocket']

#: The first bytes of a head that a listener writes.
HEAD_START = b'HTTP/1.1 '

#: Bytes of the longest head that a listener can write.
MAX_HEAD = 65536


class TunnelSocket(DuplexBase, Writable):
    """A duplex with the bytes of one stream.

    It has the addresses and certificates of the connection, too.

    :param stream: the stream of a request with the method CONNECT (RFC 9113, section 8.5).
    """

    def __init__(self, stream: Stream) -> None:
        Writable.__init__(self, self._write_data, self._end_stream, stream.writable_high_water_mark)
        self._stream = stream
        self._hub = stream.hub
        #: The first bytes of the listener, until they are a head or known to be none; None afterwards.
        self._start: bytes | None = b''

    def __getattr__(self, name: str) -> Any:
        if name == 'set_timeout':
            raise InvalidInput('a tunnel of HTTP/2 has no timeout of its own; use a gevent.Timeout')
        return getattr(self._stream.connection.shared_socket, name)

    # -- receiving ------------------------------------------------------------------------------------------------

    def _fetch(self) -> bytes:
        return self._stream.read_tunnel()

    def _at_end(self) -> bool:
        return self._stream.at_tunnel_end

    # -- sending --------------------------------------------------------------------------------------------------

    def _write_data(self, data: bytes) -> None:
        """Send ``data``. Blocks until the queue of the stream has room."""
        stream = self._stream
        if self._start is not None:
            data = self._take_head(self._start + data)
            if not data:
                return
        stream.send(data)
        stream._wait_for_drain()

    def _take_head(self, data: bytes) -> bytes:
        """Set the head if ``data`` has it; return the other bytes.

        Informational heads before it are sent. Raises ``InvalidInput`` for a malformed head, which destroys the tunnel.
        """
        while HEAD_START.startswith(data[: len(HEAD_START)]):
            head, end, rest = data.partition(b'\r\n\r\n')
            if not end:
                if len(data) > MAX_HEAD:
                    raise InvalidInput(f'the response to CONNECT has a head of more than {MAX_HEAD} bytes')
                self._start = data
                return b''
            parsed = _parsed(head + end)
            fields = parsed.raw_headers
            if parsed.status_code < 200:
                self._stream.send_informational([_status_field(parsed), *encode_fields(fields)])
                data = rest
                continue
            self._start = None
            if parsed.status_code < 300:
                # RFC 9110, section 9.3.6
                fields = [pair for pair in fields if pair[0].lower() != 'content-length']
            self._stream.set_head([_status_field(parsed), *encode_fields(fields)])
            if not rest:
                self._stream.send(b'')
            return rest
        self._start = None
        self._stream.set_head([(b':status', b'200')])
        return data

    def _end_stream(self) -> None:
        """End the stream. Blocks until the client's windows have allowed the rest: then the tunnel can be destroyed."""
        start, self._start = self._start, None
        if start is not None:
            if start.startswith(HEAD_START):
                raise InvalidInput('the response to CONNECT has an incomplete head; end it with an empty line')
            self._stream.set_head([(b':status', b'200')])
        self._stream.finish(start or b'', None)
        self._stream.wait_until_sent()

    def _flush_now(self) -> None:
        """Do nothing: there are no earlier responses on the stream."""

    # -- the end --------------------------------------------------------------------------------------------------

    def _on_end(self) -> None:
        if self.writable_finished:
            self.destroy()

    def _finalize(self) -> None:
        super()._finalize()
        if self.readable_ended:
            self.destroy()

    def _destroy(self) -> None:
        self._stream.tunnel_destroyed(ErrorCode.CANCEL)


def _parsed(data: bytes) -> ResponseHead:
    """Return the head that a listener has written. Raises ``InvalidInput`` if it is malformed."""
    try:
        head = parse_response_head(data)
    except ParseError as error:
        raise InvalidInput(f'the response to CONNECT has a malformed head: {error}; write one of HTTP/1.1') from None
    if head.upgrade:
        # RFC 9113, section 8.6
        raise InvalidInput('the response to CONNECT has the status 101, which HTTP/2 does not have; write 200')
    return head


def _status_field(head: ResponseHead) -> tuple[bytes, bytes]:
    return b':status', b'%d' % head.status_code
