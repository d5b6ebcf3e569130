"""The limits of an HTTP/2 connection, and counters of cheap frames.

A client can send frames that are legal one by one, and that make a server work without end. Each kind has a limit for a
period of time; ``docs/http2.rst`` explains the options that set them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from geventnode.protocol import Limits

__all__ = ['DEFAULT_WINDOW', 'HARD_FACTOR', 'MAX_WINDOW', 'ConnectionLimits', 'FrameCounter']

#: The flow-control window of every connection and stream before any frame changes it (RFC 9113, section 6.9.2).
DEFAULT_WINDOW = 65535

#: The largest flow-control window (RFC 9113, section 6.9.1).
MAX_WINDOW = 2**31 - 1

#: A header list of more than this many times the limit ends the connection; below it, the request is refused with 431.
HARD_FACTOR = 4


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of one connection.

    The names are those of the server's options, without ``http2_``.
    """

    #: The limits that HTTP/1.1 has, too.
    message: Limits
    #: Requests that one client can have open at the same time. More are refused with REFUSED_STREAM.
    max_concurrent_streams: int = 100
    #: Bytes of a request body that a client can send before the application has read any.
    initial_window_size: int = DEFAULT_WINDOW
    #: The same of a body that the application has read as fast as it arrived, or ``initial_window_size`` if larger.
    max_window_size: int = 1048576
    #: Bytes of the largest frame that is accepted.
    max_frame_size: int = 16384
    #: Bytes of the names and values of a head, plus 32 for each field; None: ``max_header_size``.
    max_header_list_size: int | None = None
    #: CONTINUATION frames of one head.
    max_continuations: int = 16
    #: Seconds in which the next limits count.
    flood_window: float = 10.0
    #: Streams that the client resets, or makes the server reset.
    max_resets: int = 500
    #: PING, SETTINGS, PRIORITY and GOAWAY frames, frames of unknown types, repeated resets, and ignored heads.
    max_control_frames: int = 1000
    #: DATA frames without data that do not end a stream, and empty parts of a head.
    max_empty_frames: int = 100
    #: WINDOW_UPDATE frames, beyond ten for each DATA frame that the server sends.
    max_window_updates: int = 1000
    #: The size of a header list, and the size at which the connection ends.
    header_list: int = field(init=False, compare=False)
    hard_header_list: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        size = self.max_header_list_size
        size = self.message.max_header_size if size is None else size
        object.__setattr__(self, 'header_list', size)
        object.__setattr__(self, 'hard_header_list', size * HARD_FACTOR)

    @property
    def largest_window(self) -> int:
        """Bytes of the largest window of a stream."""
        return max(self.initial_window_size, self.max_window_size)

    @property
    def connection_window(self) -> int:
        """Bytes that a client can send on all streams together.

        It is enough for the windows of all streams, so that a stream without a reader stops no other one.
        """
        return min(max(self.largest_window * self.max_concurrent_streams, DEFAULT_WINDOW), MAX_WINDOW)


class FrameCounter:
    """Count the frames of one connection in periods of ``flood_window`` seconds."""

    __slots__ = ('_ends', '_reset_streams', 'control_frames', 'data_sent', 'empty_frames', 'resets', 'window_updates')

    def __init__(self) -> None:
        self._ends = 0.0
        self._reset()

    def _reset(self) -> None:
        self.resets = 0
        self.control_frames = 0
        self.empty_frames = 0
        self.window_updates = 0
        #: DATA frames that the server has sent.
        self.data_sent = 0
        self._reset_streams: set[int] | None = None

    def was_reset(self, number: int) -> bool:
        """Return whether the client has reset the stream in this period."""
        return self._reset_streams is not None and number in self._reset_streams

    def remember_reset(self, number: int) -> None:
        """Remember that the client has reset the stream."""
        if self._reset_streams is None:
            self._reset_streams = set()
        self._reset_streams.add(number)

    def advance(self, now: float, period: float) -> None:
        """Begin another period if the present one is over.

        :param now: the monotonic time.
        """
        if now >= self._ends:
            self._ends = now + period
            self._reset()
