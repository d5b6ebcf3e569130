"""A WebSocket: messages over an upgraded connection (RFC 6455), by calls or by events.

The input is decoded in the hub, where pings and close frames are answered, too. A greenlet that waits in ``receive()``
is switched to directly. Listeners for ``'message'`` run in a greenlet that exists only while there are messages, so an
idle WebSocket has no greenlet.

Back-pressure: when some messages wait for their reader, nothing more is decoded, and the socket pauses. ``send()``
blocks while the socket has as many queued bytes as its high-water mark. Pongs are not queued then: the last one is sent
later.

The end: after a close frame, or an error, ``_end`` has the exception that readers get after the last message. The
socket then gets some time to end, and ``'close'`` follows when it is closed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any, ClassVar, NamedTuple, TypedDict

import gevent
from gevent import getcurrent
from gevent.event import AsyncResult, Event
from zope.interface import implementer

from geventnode.errors import (
    ConnectionClosed,
    InvalidInput,
    PingTimeout,
    SendQueueFull,
    SendTimeout,
    StreamModeError,
    UnknownOption,
    WebSocketClosed,
    copy_for_raising,
)
from geventnode.events import EventEmitter
from geventnode.http.server.upgraded import UpgradedConnection, WebSocketCounts
from geventnode.interfaces import IWebSocket
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.socket import Socket
from geventnode.options import count, hint_for, seconds
from geventnode.websocket.deflate import Deflate, DeflateOptions, MessageDeflate
from geventnode.websocket.frames import (
    UNLIMITED,
    CloseFrame,
    FragmentFrame,
    FrameReader,
    PingFrame,
    PongFrame,
    encode_close,
    encode_frame,
)

__all__ = ['Settings', 'WebSocket', 'WebSocketOptions', 'settings']

#: Messages, and bytes of them, that wait for a reader before the socket pauses.
MAX_WAITING, MAX_WAITING_SIZE = 64, 65536

#: Running listeners for pings and pongs before the socket pauses.
MAX_EMITTING = 64

#: Seconds for the messages of one connection before others have their turn; the frames between two looks at the time,
#: and the bytes of a message after which there is another look.
TURN_TIME, TURN_CHECK, TURN_CHECK_SIZE = 0.001, 16, 16384

#: Seconds for the peer to read the last frame and to end the connection after this side has failed it.
LINGER_TIME = 2.0

#: The first bytes of frames.
TEXT, BINARY, PING, PONG, COMPRESSED = 0x81, 0x82, 0x89, 0x8A, 0x40

#: Close codes (RFC 6455, section 7.4.1).
NORMAL, GOING_AWAY, NO_CODE, ABNORMAL, INTERNAL_ERROR = 1000, 1001, 1005, 1006, 1011

#: Codes with which iteration ends instead of raising.
ORDERLY = frozenset({NORMAL, GOING_AWAY, NO_CODE})

#: The codes that a program can send: registered ones, and those of applications (section 7.4.2).
SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})

_Message = str | bytes


class WebSocketOptions(TypedDict, total=False):
    """The options of both sides."""

    close_timeout: float
    compression: bool | DeflateOptions
    max_fragments: int
    max_message_size: int | None
    max_send_queue: int
    ping_interval: float | None
    ping_timeout: float
    send_timeout: float | None


class Settings(NamedTuple):
    """The checked options."""

    compression: Deflate | None
    max_message_size: int
    max_fragments: int
    max_send_queue: int
    send_timeout: float | None
    ping_interval: float | None
    ping_timeout: float
    close_timeout: float


#: The names of the options of both sides.
OPTIONS = frozenset(WebSocketOptions.__annotations__)


def settings(options: Mapping[str, Any], others: frozenset[str]) -> Settings:
    """Return the settings of ``options``, of which ``others`` belong to the caller.

    :raises UnknownOption: an option does not exist; the error names the nearest one.
    """
    known = OPTIONS | others
    for name in options:
        if name not in known:
            raise UnknownOption(f'a WebSocket has no option {name!r}{hint_for(name, known)}')
    compression = options.get('compression', False)
    if not isinstance(compression, (bool, Mapping)):
        raise TypeError(f'compression must be True, False or a mapping, not {type(compression).__name__}')
    size = options.get('max_message_size', 1048576)
    return Settings(
        Deflate({} if compression is True else compression) if compression is not False else None,
        UNLIMITED if size is None else count('max_message_size', size),
        count('max_fragments', options.get('max_fragments', 4096)) or UNLIMITED,
        count('max_send_queue', options.get('max_send_queue', 1048576)),
        _time('send_timeout', options.get('send_timeout')),
        _time('ping_interval', options.get('ping_interval', 30.0)),
        seconds('ping_timeout', options.get('ping_timeout', 30.0)) or NEVER,
        seconds('close_timeout', options.get('close_timeout', 10.0)),
    )


def _time(name: str, value: Any) -> float | None:
    return None if value is None else seconds(name, value) or None


class _Input(UpgradedConnection):
    """Pass the input of the socket to its WebSocket; see :class:`geventnode.net.socket.Protocol`."""

    __slots__ = ('_websocket',)

    activity: ClassVar[str] = 'websocket'

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    def data_received(self, data: bytes) -> None:
        """Decode the input."""
        self._websocket._on_data(data)

    def eof_received(self) -> None:
        """Close after the peer has ended the connection."""
        self._websocket._on_eof()

    def send_failed(self, error: BaseException) -> bool:
        """Go on receiving: the peer can have sent a close frame before it disconnected."""
        self._websocket._on_send_failed()
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        """Note that the socket is closed."""
        self._websocket._finish(error)

    def queue_drained(self) -> None:
        """Send the data that had to wait."""
        self._websocket._on_drained()

    def _drain(self) -> None:
        self._websocket._begin_close(GOING_AWAY, '')


@implementer(IWebSocket)
class WebSocket(EventEmitter):
    """A WebSocket, of a server or a client.

    :func:`accept`, :func:`upgrade`, :func:`listener` and :func:`connect` make one. There are two ways to receive, and
    one WebSocket allows only one of them: by calls (:meth:`receive`, iteration), or with a listener for ``'message'``.
    Any greenlet can send, ping and close. As a context manager, it is closed at the end of the block: with 1000 or,
    after an exception, with 1011.

    Events: ``'message'`` (str or bytes), ``'ping'`` (bytes), ``'pong'`` (bytes), ``'error'`` (exception) if the
    connection was not closed by a close frame, and ``'close'`` (code, reason) once, as the last event.
    """

    events: ClassVar[frozenset[str]] = EventEmitter.events | {'message', 'ping', 'pong', 'error', 'close'}

    #: The subprotocol that both sides have agreed on; None without one.
    subprotocol: str | None = None
    #: The code of the close frame; see :class:`~geventnode.errors.WebSocketClosed`. None while the connection is open.
    close_code: int | None = None
    #: The text of the close frame.
    close_reason: str = ''
    #: On a server, the request of the handshake; on a client, the response to it.
    request: Any = None
    response: Any = None

    #: See :class:`geventnode.net.deadlines.HasDeadline`.
    _expires: float = NEVER
    #: The compression that both sides have agreed on.
    _deflate: MessageDeflate | None = None

    # -- receiving --

    #: Decoded messages without a reader, and their size.
    _messages: list[_Message] | None = None
    _waiting_size: int = 0
    #: Whether there is input that was not decoded, because too many messages wait.
    _held: bool = False
    #: Whether :meth:`_decode` runs.
    _decoding: bool = False
    #: The timer for the next turn of this connection.
    _turn: Any = None
    #: Whether messages are received by calls, or by events.
    _by_calls: bool = False
    _by_events: bool = False
    #: The greenlet that waits for a message.
    _receiver: Any = None
    _receiving: bool = False
    #: The greenlet that emits ``'message'``.
    _emitter: Any = None
    #: Whether :meth:`close` was called, so that further messages are discarded.
    _discards: bool = False

    # -- pings --

    #: The pings without a pong by their payload, the oldest first.
    _pings: dict[bytes, AsyncResult] | None = None
    #: The payload of a pong to send when the queue of the socket is shorter.
    _late_pong: bytes | None = None
    #: The greenlets that emit ``'ping'`` and ``'pong'``.
    _emitting: int = 0
    #: Whether a keep-alive ping was sent, and the bytes received before it.
    _probing: bool = False
    _bytes_before: int = 0

    # -- the end --

    _close_sent: bool = False
    _close_received: bool = False
    #: The exception for readers and writers; None while the connection is open.
    _end: WebSocketClosed | None = None
    #: Whether the socket is closed, and set when it is.
    _finished: bool = False
    _on_finished: Event | None = None
    _close_emitted: bool = False

    def __init__(
        self,
        socket: Socket,
        received: bytes,
        client: bool,
        options: Settings,
        counts: WebSocketCounts,
        deflate: MessageDeflate | None = None,
        subprotocol: str | None = None,
    ) -> None:
        self._hub = socket._hub
        #: The connection (:class:`geventnode.interfaces.ISocket`); reading from it or writing to it breaks the frames.
        self.socket = socket
        self._client = client
        self._settings = options
        self._counts = counts
        self._reader = FrameReader(client, options.max_message_size, options.max_fragments, deflate)
        if deflate is not None:
            self._deflate = deflate
        if subprotocol is not None:
            self.subprotocol = subprotocol
        counts.accepted += 1
        # both directions end with the close frames
        socket.allow_half_open = True
        if socket.destroyed:
            self._finish(None)
            return
        if options.ping_interval is not None:
            self._watch(options.ping_interval)
            self._bytes_before = socket.bytes_read
        if received:
            # these precede the bytes that the socket has buffered
            self._reader.feed(received)
            self._held = True
            # a reader that waits by then can answer a message before an error behind it ends the connection
            self._wait_for_turn()
        socket._set_protocol(_Input(self))
        if not self._held:
            socket._resume_reading()

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, *args: object) -> None:
        self.close(NORMAL if kind is None else INTERNAL_ERROR)

    def __repr__(self) -> str:
        state = (
            f'closed code={self.close_code}'
            if self._finished
            else 'closing'
            if self._close_sent or self._end is not None
            else 'open'
        )
        return f'<{type(self).__name__} {state} {"client" if self._client else "server"} on {self.socket!r}>'

    def _check_thread(self) -> None:
        self.socket._check_thread()

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message: text for ``str``, binary for bytes.

        Blocks until the queue of the connection has room; a peer that does not read delays it. Several greenlets can
        send; their messages never mix.

        :raises WebSocketClosed: the WebSocket is closed or closing.
        :raises SendTimeout: there was no room for ``send_timeout`` seconds. The connection is closed.
        :raises TypeError: the message is of another type.
        :raises InvalidInput: the text has characters that UTF-8 has no bytes for.
        """
        self._check_thread()
        first, payload = _payload(message)
        socket = self.socket
        if self._close_sent or self._end is not None:
            raise self._closed_error()
        if socket.writable_length >= socket.writable_high_water_mark:
            self._wait_for_room()
        self._send_message(first, payload)

    def send_nowait(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message without waiting.

        It is for one message to many peers, for instance.

        :raises SendQueueFull: ``max_send_queue`` bytes are queued already, because the peer does not read. The message
            is not sent.

        Other exceptions are those of :meth:`send`.
        """
        self._check_thread()
        first, payload = _payload(message)
        if self._close_sent or self._end is not None:
            raise self._closed_error()
        limit = self._settings.max_send_queue
        if self.socket.writable_length >= limit:
            raise SendQueueFull(
                f'the queue of this WebSocket has max_send_queue ({limit} bytes): its peer reads slowly'
            )
        self._send_message(first, payload)

    def _send_message(self, first: int, payload: bytes) -> None:
        size = len(payload)
        if self._deflate is not None:
            compressed = self._deflate.compress(payload)
            if compressed is not None:
                first |= COMPRESSED
                payload = compressed
        try:
            self.socket._send(encode_frame(first, payload, self._client))
        except ConnectionClosed as error:
            raise self._closed_error() from error
        counts = self._counts
        counts.messages_sent += 1
        counts.bytes_sent += size

    def _wait_for_room(self) -> None:
        """Blocks until the queue of the socket has room."""
        limit = self._settings.send_timeout
        try:
            with gevent.Timeout(limit) as timeout:
                self.socket._wait_for_drain()
        except gevent.Timeout as raised:
            if raised is not timeout:
                raise
            error = SendTimeout(f'the peer has not read for send_timeout ({limit:g} seconds)')
            self._abort(error)
            raise copy_for_raising(error) from None
        except ConnectionClosed as error:
            raise self._closed_error() from error
        if self._close_sent or self._end is not None:
            raise self._closed_error()

    def _send_control(self, frame: bytes) -> bool:
        """Send a control frame, and return whether the connection still takes data."""
        try:
            self.socket._send(frame)
        except ConnectionClosed:
            return False
        return True

    @property
    def buffered_amount(self) -> int:
        """Bytes that are queued because the peer does not read fast enough."""
        return self.socket.writable_length

    # -- receiving by calls -------------------------------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Return the next message: ``str`` for text, bytes for binary.

        Blocks until there is one. A call that is interrupted, by a timeout for example, loses no message.

        :param timeout: seconds after which ``TimeoutError`` is raised; None: no limit.
        :raises WebSocketClosed: the WebSocket is closed, and all messages were returned. For a failed connection it is
            one of its subclasses: ``WebSocketProtocolError``, ``MessageTooBig``, ``TooManyFragments``, ``PingTimeout``.
        :raises StreamModeError: there is a listener for ``'message'``, or another greenlet receives.
        """
        self._check_thread()
        if self._receiving or self._by_events:
            raise StreamModeError(
                'this WebSocket is received by another greenlet'
                if self._receiving
                else "this WebSocket is received by 'message' events: receive() cannot be mixed in"
            )
        self._by_calls = self._receiving = True
        try:
            if not self._messages:
                if timeout is None:
                    self._wait_for_message()
                else:
                    with gevent.Timeout(timeout, TimeoutError(f'no message has arrived for {timeout:g} seconds')):
                        self._wait_for_message()
            return self._take()
        finally:
            self._receiving = False

    def _wait_for_message(self) -> None:
        """Blocks until there is a message. Raises the error of a closed connection."""
        while not self._messages:
            if self._held and self._turn is None:
                self._decode()
                if self._messages:
                    return
            if self._end is not None and not self._held:
                raise copy_for_raising(self._end)
            self._receiver = getcurrent()
            try:
                self._hub.switch()
            finally:
                self._receiver = None

    def _take(self) -> _Message:
        messages = self._messages
        assert messages
        message = messages.pop(0)
        self._waiting_size -= len(message)
        if self._held and not messages:
            self._decode()
        return message

    def __iter__(self) -> Iterator[str | bytes]:
        """Yield messages until the peer closes the WebSocket.

        The iteration ends with 1000, 1001 and without a code. Any other end raises as :meth:`receive` does.
        """
        while True:
            try:
                message = self.receive()
            except WebSocketClosed as error:
                if error.close_code in ORDERLY:
                    return
                raise
            yield message

    # -- receiving by events ------------------------------------------------------------------------------------------

    def _check(self, event: str, listener: Any) -> None:
        super()._check(event, listener)
        if event == 'message' and self._by_calls:
            raise StreamModeError("this WebSocket is received by receive(): 'message' events cannot be mixed in")

    def _listener_added(self, event: str) -> None:
        if event == 'message':
            self._by_events = True
            self._start_emitter()
        elif event == 'close' and self._finished:
            self._start_emitter()

    def _start_emitter(self) -> None:
        if self._emitter is None and (self._messages or self._held or self._finished):
            self._emitter = gevent.spawn(self._emit_all)

    def _emit_all(self) -> None:
        """Emit the messages that have arrived, and then the end."""
        try:
            while self._by_events and (self._messages or self._held):
                if self._messages:
                    message = self._take()
                    self.emit('message', message)
                else:
                    self._decode()
                    if self._held and not self._messages:
                        # other connections have their turn first
                        return
            if self._finished and not self._close_emitted:
                self._close_emitted = True
                if self._end is not None and not self._close_received:
                    self._emit_error(copy_for_raising(self._end))
                self.emit('close', self.close_code, self.close_reason)
        except BaseException:
            # the peer must not take the silence after a failed listener for success
            if not self._finished:
                self._begin_close(INTERNAL_ERROR, '')
            self._discards = True
            self._messages = None
            self._waiting_size = 0
            raise
        finally:
            self._emitter = None
            if self._by_events and self._messages:
                self._start_emitter()

    # -- input: run by the hub, and by greenlets that have made room --------------------------------------------------

    def _on_data(self, data: bytes) -> None:
        """Decode the input."""
        if self._close_received or (self._end is not None and not self._held):
            # nothing follows a close frame or an error
            return
        self._reader.feed(data)
        if not self._decoding and self._turn is None:
            self._decode()

    def _decode(self) -> None:
        """Decode input while there is room for messages, and pass them on."""
        if self._decoding or self._emitting >= MAX_EMITTING:
            return
        self._decoding = True
        reader = self._reader
        done = 0
        began = 0.0
        try:
            while self._has_room():
                received = reader.next()
                if received is None:
                    self._resume()
                    return
                if isinstance(received, (str, bytes)):
                    self._on_message(received, reader.size)
                elif isinstance(received, PingFrame):
                    self._on_ping(received.payload)
                    if self._emitting >= MAX_EMITTING:
                        break
                elif isinstance(received, PongFrame):
                    self._on_pong(received.payload)
                    if self._emitting >= MAX_EMITTING:
                        break
                elif not isinstance(received, FragmentFrame):
                    self._on_close_frame(received)
                    return
                done += 1
                if not done % TURN_CHECK or reader.size > TURN_CHECK_SIZE:
                    now = monotonic()
                    if not began:
                        began = now
                    elif now - began > TURN_TIME:
                        self._wait_for_turn()
                        break
            self._held = True
            self.socket._pause_reading()
        except WebSocketClosed as error:
            self._held = False
            self._fail(error)
        finally:
            self._decoding = False

    def _has_room(self) -> bool:
        messages = self._messages
        return (
            messages is None
            or (len(messages) < MAX_WAITING and self._waiting_size < MAX_WAITING_SIZE)
            or self._discards
        )

    def _resume(self) -> None:
        if self._held:
            self._held = False
            self.socket._resume_reading()

    def _wait_for_turn(self) -> None:
        """Decode the rest after the input of other connections."""
        if self._turn is not None:
            # a reader has decoded before its time
            return
        self._turn = self._hub.loop.timer(0)
        self._turn.start(self._on_turn)

    def _on_turn(self) -> None:
        self._stop_turn()
        self._decode()
        if self._finished:
            # without a further message, nothing else passes on the end
            self._wake()
            if self._by_events or self._listeners:
                self._start_emitter()

    def _stop_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.stop()
            turn.close()

    def _on_message(self, message: _Message, size: int) -> None:
        counts = self._counts
        counts.messages_received += 1
        counts.bytes_received += size
        if self._discards:
            return
        messages = self._messages
        if messages is None:
            messages = self._messages = []
        messages.append(message)
        self._waiting_size += len(message)
        receiver = self._receiver
        if receiver is not None:
            receiver.switch()
        elif self._by_events:
            self._start_emitter()

    def _on_ping(self, payload: bytes) -> None:
        socket = self.socket
        if not self._close_sent:
            if socket.writable_length < socket.writable_high_water_mark:
                self._send_control(encode_frame(PONG, payload, self._client))
            else:
                # only the last ping needs a pong (RFC 6455, section 5.5.3)
                self._late_pong = payload
        if self.listener_count('ping'):
            self._start_emitting('ping', payload)

    def _start_emitting(self, event: str, payload: bytes) -> None:
        """Emit the event in a greenlet of its own: its listeners can block."""
        self._emitting += 1
        gevent.spawn(self._emit_control, event, payload)

    def _emit_control(self, event: str, payload: bytes) -> None:
        try:
            self.emit(event, payload)
        finally:
            self._emitting -= 1
            if self._held:
                self._wait_for_turn()

    def _on_pong(self, payload: bytes) -> None:
        pings = self._pings
        if pings and payload in pings:
            # it is the pong of the earlier ones, too
            for sent in tuple(pings):
                pings.pop(sent).set(None)
                if sent == payload:
                    break
        interval = self._settings.ping_interval
        if self._probing and interval is not None and not self._close_sent:
            self._probing = False
            self._bytes_before = self.socket.bytes_read
            self._watch(interval)
        if self.listener_count('pong'):
            self._start_emitting('pong', payload)

    def _on_close_frame(self, frame: CloseFrame) -> None:
        self._held = False
        self._close_received = True
        self.close_code, self.close_reason = frame
        code, reason = frame
        self._end = WebSocketClosed(
            f'the WebSocket was closed with {code}{f": {reason}" if reason else ""}', code, reason
        )
        if not self._close_sent:
            self._close_sent = True
            self._send_control(encode_close(code, '', self._client))
        self._end_connection(self._settings.close_timeout)
        self._wake()

    def _end_connection(self, timeout: float) -> None:
        """Let the connection end within ``timeout`` seconds: the server ends first (RFC 6455, section 7.1.1)."""
        socket = self.socket
        if self._finished:
            return
        if not self._client or not self._close_received:
            socket._end_nowait()
        self._watch(timeout)
        # to receive the peer's end
        socket._resume_reading()
        if socket._eof:
            socket.destroy()

    def _on_eof(self) -> None:
        """Close after the peer has ended the connection.

        The response to its close frame is sent before.
        """
        if not (self._close_received and self.socket._has_queued):
            self.socket.destroy()

    def _on_send_failed(self) -> None:
        """Limit the time in which the rest of the input is received."""
        self._close_sent = True
        self._watch(LINGER_TIME)

    def _on_drained(self) -> None:
        """Send the pong that had to wait."""
        payload, self._late_pong = self._late_pong, None
        if payload is not None and not self._close_sent:
            self._send_control(encode_frame(PONG, payload, self._client))
        if self._close_received and self.socket._eof:
            self.socket.destroy()

    def _finish(self, error: BaseException | None) -> None:
        """Note that the socket is closed."""
        if self._finished:
            return
        self._finished = True
        self._expires = NEVER
        deadlines(self._hub).forget(self)
        if self._turn is not None:
            self._stop_turn()
            # this can run in any greenlet, which would not continue after a switch to the receiver
            receiver, self._receiver = self._receiver, None
            self._decode()
            self._receiver = receiver
        if self._end is None:
            self._end = WebSocketClosed('the connection was lost without a close frame', self.close_code or ABNORMAL)
            self._end.__cause__ = error
        if self.close_code is None:
            self.close_code, self.close_reason = self._end.close_code, self._end.close_reason
        self._close_sent = True
        pings, self._pings = self._pings, None
        for waiter in (pings or {}).values():
            waiter.set_exception(copy_for_raising(self._end))
        if self._on_finished is not None:
            self._on_finished.set()
        self._wake()
        if self._by_events or self._listeners:
            self._start_emitter()

    def _wake(self) -> None:
        """Wake the reader, which finds the end."""
        if self._receiver is not None:
            self._hub.loop.run_callback(self._wake_receiver)

    def _wake_receiver(self) -> None:
        # the reader can have left meanwhile
        if self._receiver is not None:
            self._receiver.switch()

    # -- deadlines ----------------------------------------------------------------------------------------------------

    def _watch(self, timeout: float) -> None:
        self._expires = monotonic() + timeout
        deadlines(self._hub).watch(self)

    def _on_deadline(self, now: float) -> None:
        """Send a keep-alive ping, or close a dead or slow peer.

        See :class:`geventnode.net.deadlines.HasDeadline`.
        """
        socket = self.socket
        interval = self._settings.ping_interval
        if self._close_sent or self._end is not None or interval is None:
            socket.destroy()
            return
        timeout = self._settings.ping_timeout
        progress = socket._has_progress()
        if not progress and socket._has_queued and socket._unsent_since + interval + timeout <= now:
            # its own messages do not show that it receives
            limit = f'ping_interval and ping_timeout ({interval + timeout:g} seconds)'
            self._abort(PingTimeout(f'the peer has received nothing within {limit}', INTERNAL_ERROR, 'ping timeout'))
        elif self._held or socket.bytes_read != self._bytes_before:
            # the peer lives, or this side does not listen
            self._probing = False
            self._bytes_before = socket.bytes_read
            self._expires = now + interval
        elif not self._probing:
            self._probing = True
            self._expires = now + timeout
            # after all queued data: a peer that reads slowly is not dead
            self._send_control(encode_frame(PING, b'', self._client))
        elif socket._last_sent + timeout > now:
            # it has received a part of the data before the ping
            self._expires = socket._last_sent + timeout
        elif deadlines(self._hub).grants_grace(socket, now):
            self._expires = now
        else:
            limit = f'ping_timeout ({timeout:g} seconds)'
            self._abort(
                PingTimeout(f'the peer has not responded to a ping within {limit}', INTERNAL_ERROR, 'ping timeout')
            )

    # -- pings --------------------------------------------------------------------------------------------------------

    def ping(self, timeout: float | None = None) -> float:
        """Send a ping, and return the seconds until its pong.

        Blocks until the pong arrives. It arrives only while this side receives: a reader that is busy with earlier
        messages delays it.

        :param timeout: seconds; None: no limit.
        :raises PingTimeout: there was no pong within ``timeout`` seconds. The connection is closed.
        :raises WebSocketClosed: the WebSocket is closed or closing.
        """
        self._check_thread()
        if self._close_sent or self._end is not None:
            raise self._closed_error()
        payload = os.urandom(8)
        waiter: AsyncResult = AsyncResult()
        if self._pings is None:
            self._pings = {}
        self._pings[payload] = waiter
        began = monotonic()
        if not self._send_control(encode_frame(PING, payload, self._client)):
            raise self._closed_error()
        try:
            waiter.wait(timeout)
        finally:
            if self._pings is not None:
                self._pings.pop(payload, None)
        if not waiter.ready():
            error = PingTimeout(
                f'the peer has not responded to a ping within {timeout:g} seconds', INTERNAL_ERROR, 'ping timeout'
            )
            self._abort(error)
            raise copy_for_raising(error) from None
        waiter.get()
        return monotonic() - began

    # -- the end ------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it is closed or closing, and sends no message."""
        return self._close_sent or self._end is not None

    def close(self, code: int = NORMAL, reason: str = '') -> None:
        """Close the WebSocket: send a close frame, and wait for the peer's.

        Blocks until the connection is closed, at most ``close_timeout`` seconds. Messages that arrive meanwhile are
        discarded. A second call waits, too.

        :param code: 1000 to 1003, 1007 to 1014, or 3000 to 4999 (RFC 6455, section 7.4).
        :param reason: a text of at most 123 bytes in UTF-8.
        :raises InvalidInput: the code or the reason cannot be sent.
        """
        self._check_thread()
        _check_close(code, reason)
        self._discards = True
        self._begin_close(code, reason)
        if self._held and not self._finished:
            self._decode()
        if not self._finished:
            if self._on_finished is None:
                self._on_finished = Event()
            self._on_finished.wait()

    def _begin_close(self, code: int, reason: str) -> None:
        """Send a close frame, and limit the time of the peer."""
        if self._close_sent or self._end is not None or self._finished:
            return
        self._close_sent = True
        if self._send_control(encode_close(code, reason, self._client)):
            self._watch(self._settings.close_timeout)
        else:
            self.socket.destroy()

    def destroy(self, error: BaseException | None = None) -> WebSocket:
        """Close the connection at once, without a close frame.

        Returns the WebSocket. Readers and writers get ``WebSocketClosed`` with code 1006. A second call has no effect.

        :param error: the reason, which becomes its ``__cause__``.
        """
        self._check_thread()
        self.socket.destroy(error)
        return self

    def _fail(self, error: WebSocketClosed) -> None:
        """Fail the connection with the code of ``error`` (RFC 6455, section 7.1.7)."""
        if self._end is not None:
            return
        self._end = error
        self.close_code, self.close_reason = error.close_code, error.close_reason
        if not self._close_sent:
            self._close_sent = True
            self._send_control(encode_close(error.close_code, error.close_reason, self._client))
        # the peer gets time to read it: closing with unread input would reset the connection
        self._end_connection(LINGER_TIME)
        self._wake()

    def _abort(self, error: WebSocketClosed) -> None:
        """Fail the connection with the code of ``error`` at once."""
        if self._end is None:
            self._end = error
            self.close_code, self.close_reason = error.close_code, error.close_reason
            if not self._close_sent and error.close_code != ABNORMAL:
                self._close_sent = True
                self._send_control(encode_close(error.close_code, error.close_reason, self._client))
        self.socket.destroy()

    def _closed_error(self) -> BaseException:
        if self._end is not None:
            return copy_for_raising(self._end)
        return WebSocketClosed('this WebSocket is closing', self.close_code or ABNORMAL)


def _payload(message: Any) -> tuple[int, bytes]:
    """Return the first byte of the frame, and the payload."""
    if type(message) is str:
        try:
            return TEXT, message.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput('the message has characters that UTF-8 has no bytes for', 'ERR_INVALID_CHAR') from error
    if type(message) is bytes:
        return BINARY, message
    if isinstance(message, str):
        return _payload(str.__str__(message))
    if isinstance(message, (bytes, bytearray, memoryview)):
        return BINARY, memoryview(message).tobytes()
    raise TypeError(f'a message must be str or bytes, not {type(message).__name__}')


def _check_close(code: int, reason: str) -> None:
    if code not in SENDABLE:
        raise InvalidInput(f'a close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, not {code!r}')
    if not isinstance(reason, str):
        raise TypeError(f'the reason of a close frame must be str, not {type(reason).__name__}')
    with contextlib.suppress(UnicodeEncodeError):
        if len(reason.encode()) <= 123:
            return
    raise InvalidInput('the reason of a close frame must be valid text of at most 123 bytes in UTF-8')
