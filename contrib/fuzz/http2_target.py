"""Fuzz HTTP/2: the engine alone, and a server over connections in memory.

Rules for both: The output is valid HTTP/2, as its own reader in this file understands it. A stream ends once, and
nothing follows. No more is sent than the windows allow that the input can have opened. After GOAWAY with an error,
nothing follows.

Rules for the engine: It raises nothing. Events and output do not depend on how the input is cut. Buffered bytes, open
streams and window credit are within their limits.

Rules for the server: No exception is unhandled, and no error is logged. A response with the status 200 describes the
complete body that was received. The connection ends with its peer, and no connection, stream or byte count is leaked.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from hpack import Decoder

from contrib.fuzz.finding import Finding
from contrib.fuzz.http2_mutation import FrameMutator, split
from contrib.fuzz.peer import Peer
from contrib.fuzz.sample import Sample, ways
from contrib.fuzz.server_exchange import MemoryServer, ServerExchange
from contrib.fuzz.server_listeners import LISTENERS
from contrib.fuzz.target import ConnectionTarget, Target
from contrib.fuzz.turns import Steps, run_all, sending, settled, until
from contrib.fuzz.unhandled import errors_recorded
from geventnode.http2.codes import ErrorCode
from geventnode.http2.engine import (
    ConnectionFailed,
    DataReceived,
    Engine,
    HeadReceived,
    RequestRejected,
    StreamFailed,
    StreamReset,
    TrailersReceived,
)
from geventnode.http2.limits import ConnectionLimits
from geventnode.http2.preface import FIRST_BYTES
from geventnode.protocol import Limits
from tests.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)

__all__ = ['HTTP2EngineTarget', 'HTTP2ServerTarget']

#: The sizes of the payloads of frames that have a fixed one.
SIZES = {RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
MAX_WINDOW = 2**31 - 1

#: The names and values of an engine with low limits, which inputs exceed.
LOW: dict[str, Any] = {
    'max_concurrent_streams': 3,
    'initial_window_size': 1000,
    'max_header_list_size': 300,
    'max_continuations': 2,
    'max_resets': 3,
    'max_control_frames': 10,
    'max_empty_frames': 3,
    'max_window_updates': 5,
}

LIMITS = (
    ConnectionLimits(Limits()),
    ConnectionLimits(Limits(max_headers_count=4, max_body_size=20, max_field_size=50), **LOW),
    ConnectionLimits(Limits(require_host=False), initial_window_size=100_000, max_frame_size=20_000),
)


# -- the output -------------------------------------------------------------------------------------------------------


class OutputReader:
    """Read the frames of a server strictly, and keep the result of each stream.

    :param output: the bytes that the server has sent.
    :param sent: the bytes that were sent to it, which decide how much it can send.
    """

    def __init__(self, output: bytes, sent: bytes) -> None:
        self.fields: dict[int, list[dict[str, str]]] = defaultdict(list)
        self.bodies: dict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaways: list[tuple[int, int]] = []
        self._decoder = Decoder()
        self._block: tuple[int, int, bytes] | None = None
        position = 0
        while position < len(output):
            if self.goaways and self.goaways[-1][1]:
                raise Finding('output', 'a frame follows GOAWAY with an error')
            end = position + 9 + int.from_bytes(output[position : position + 3], 'big')
            if end > len(output):
                raise Finding('output', 'the last frame is incomplete')
            kind, flags = output[position + 3], output[position + 4]
            stream = int.from_bytes(output[position + 5 : position + 9], 'big')
            if not position and (kind, flags, stream) != (SETTINGS, 0, 0):
                raise Finding('output', 'the first frame is not SETTINGS')
            self._read(kind, flags, stream, output[position + 9 : end])
            position = end
        if self._block is not None:
            raise Finding('output', 'a header block is incomplete')
        self._check_windows(sent)

    def _read(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != SIZES.get(kind, len(payload)) or len(payload) > 16384:
            raise Finding('output', f'a frame of type {kind} has {len(payload)} bytes')
        if (self._block is not None) is not (kind == CONTINUATION):
            raise Finding('output', f'a frame of type {kind} in the wrong place')
        if kind in (DATA, HEADERS, CONTINUATION, RST_STREAM):
            self._read_of_stream(kind, flags, stream, payload)
        elif kind == WINDOW_UPDATE:
            if not 0 < int.from_bytes(payload, 'big') <= MAX_WINDOW:
                raise Finding('output', 'WINDOW_UPDATE is out of its range')
        elif stream:
            raise Finding('output', f'a frame of type {kind} is on a stream')
        elif kind == GOAWAY:
            self.goaways.append((int.from_bytes(payload[:4], 'big'), int.from_bytes(payload[4:8], 'big')))
        elif kind not in (SETTINGS, PING) or (kind == SETTINGS and (len(payload) % 6 or (flags & ACK and payload))):
            raise Finding('output', f'a frame of type {kind}')

    def _read_of_stream(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if not stream & 1:
            raise Finding('output', f'stream {stream} is none of the client')
        if kind == RST_STREAM:
            if stream in self.resets:
                raise Finding('stream', f'stream {stream} was reset twice')
            self.resets[stream] = int.from_bytes(payload, 'big')
            return
        if stream in self.ended or stream in self.resets:
            raise Finding('stream', f'a frame follows the end of stream {stream}')
        if kind == DATA:
            if not self.fields[stream] or ':status' not in self.fields[stream][-1]:
                raise Finding('stream', f'DATA without a response on stream {stream}')
            self.bodies[stream] += payload
        else:
            if kind == HEADERS:
                self._block = stream, flags, payload
            else:
                assert self._block is not None
                if self._block[0] != stream:
                    raise Finding('output', 'CONTINUATION of another stream')
                self._block = stream, self._block[1], self._block[2] + payload
            if not flags & END_HEADERS:
                return
            _, flags, block = self._block
            self._block = None
            pairs: Any = self._decoder.decode(block, raw=True)
            fields = {name.decode('latin-1'): value.decode('latin-1') for name, value in pairs}
            if any(name != name.lower() or '\r' in value or '\n' in value for name, value in fields.items()):
                raise Finding('output', f'bad fields: {fields}')
            self.fields[stream].append(fields)
        if flags & END_STREAM:
            self.ended.add(stream)

    def _check_windows(self, sent: bytes) -> None:
        """Check that the input can have opened the windows that were used."""
        initial, connection = 65535, 65535
        increments: Counter[int] = Counter()
        for each in split(sent):
            data = each.removeprefix(PREFACE)
            if len(data) < 9:
                continue
            stream, payload = int.from_bytes(data[5:9], 'big') & MAX_WINDOW, data[9:]
            if data[3] == WINDOW_UPDATE and len(payload) == 4:
                increments[stream] += int.from_bytes(payload, 'big') & MAX_WINDOW
            elif data[3] == SETTINGS:
                for start in range(0, len(payload) - 5, 6):
                    if payload[start : start + 2] == b'\x00\x04':
                        initial = max(initial, int.from_bytes(payload[start + 2 : start + 6], 'big'))
        if sum(map(len, self.bodies.values())) > connection + increments[0]:
            raise Finding('window', 'more bytes were sent than the window of the connection allows')
        for stream, body in self.bodies.items():
            if len(body) > initial + increments[stream]:
                raise Finding('window', f'more bytes were sent than the window of stream {stream} allows')


# -- the engine -------------------------------------------------------------------------------------------------------


class HTTP2EngineTarget(Target):
    """Feeds engines with different limits, and responds to each request at once when it is complete."""

    def __init__(self) -> None:
        super().__init__('http2-engine', FrameMutator())

    def _choices(self, rng: random.Random) -> dict[str, Any]:
        return {'limits': rng.choice((0, 1, 1, 2)), 'consumes': rng.random() < 0.8}

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` if one of ``samples`` breaks a rule."""
        for sample in samples:
            limits = LIMITS[sample.scenario['limits']]
            whole = drive(limits, [sample.data], sample.scenario['consumes'])
            others = drive(limits, sample.pieces(), sample.scenario['consumes'])
            if whole != others:
                raise Finding('cut', f'whole: {whole}, in pieces: {others}')
            OutputReader(whole[1], sample.data)


def drive(limits: ConnectionLimits, pieces: Sequence[bytes], consumes: bool) -> tuple[list[Any], bytes]:
    """Return the events and the output of an engine.

    :param consumes: whether the application reads.
    """
    engine = Engine(limits)
    events: list[Any] = []
    output = b''
    for piece in pieces:
        failed = engine.failed
        for event in engine.receive(piece, 1.0):
            if failed or (events and events[-1][0] is ConnectionFailed):
                raise Finding('order', f'{event} after the connection has failed')
            events.append(described(event))
            respond(engine, event, consumes)
            check_engine(engine)
        check_engine(engine)
        held = len(engine._buffer) + len(engine._block or b'')
        most = limits.max_frame_size + 9 + limits.hard_header_list
        if held > most:
            raise Finding('memory', f'{held} bytes are buffered, more than {most}')
        output += engine.take_output()
    return events, output + engine.take_output()


def described(event: Any) -> tuple[Any, ...]:
    """Return an event in a form that can be compared."""
    kind = type(event)
    stream = getattr(event, 'stream', None)
    identifier = None if stream is None else stream.id
    if kind is HeadReceived:
        return kind, identifier, event.head.method, event.head.url, event.head.raw_headers
    details = [
        getattr(event, name) for name in ('data', 'trailers', 'code', 'message', 'limit') if hasattr(event, name)
    ]
    if kind is RequestRejected:
        details = [event.error.status, str(event.error)]
    return kind, identifier, *details


def respond(engine: Engine, event: Any, consumes: bool) -> None:
    """Handle an event as a connection with an application does."""
    kind = type(event)
    if kind is RequestRejected:
        engine.send_head(event.stream, [(b':status', b'431')], True)
        engine.reset(event.stream, ErrorCode.NO_ERROR)
    elif kind is DataReceived and consumes:
        engine.consumed(event.stream, len(event.data))
    if kind in (HeadReceived, DataReceived, TrailersReceived) and event.stream.ended and not event.stream.local_ended:
        engine.send_head(event.stream, [(b':status', b'200'), (b'x', b'y')], False)
        size = max(0, min(engine.sendable(event.stream), 5))
        engine.send_data(event.stream, b'hello'[:size], True)
    elif kind in (StreamReset, StreamFailed) and event.stream is not None and event.stream.id in engine.streams:
        raise Finding('stream', f'{event.stream.id} is open after {kind.__name__}')


def check_engine(engine: Engine) -> None:
    """Check the limits of an engine's state."""
    limits = engine.limits
    if len(engine.streams) > limits.max_concurrent_streams:
        raise Finding('streams', f'{len(engine.streams)} are open')
    if engine.failed:
        return
    unconsumed = sum(stream.unconsumed for stream in engine.streams.values())
    if engine._receive_window + engine._uncredited + unconsumed != limits.connection_window:
        raise Finding('credit', f'of the connection: {engine._receive_window} + {engine._uncredited} + {unconsumed}')
    for stream in engine.streams.values():
        window = stream.receive_window + stream.uncredited + stream.unconsumed
        if not stream.ended and (window != stream.window_size or window > max(limits.largest_window, 65535)):
            raise Finding(
                'credit',
                f'of stream {stream.id}: {stream.receive_window} + {stream.uncredited} + {stream.unconsumed}',
            )
        if stream.send_window > MAX_WINDOW:
            raise Finding('window', f'of stream {stream.id}: {stream.send_window}')


# -- the server -------------------------------------------------------------------------------------------------------


class HTTP2Server(MemoryServer):
    """A server of which the requests of a connection share the listener of its exchange."""

    def _listen(self, request: Any, response: Any) -> None:
        if request.http_version == '2.0':
            self.exchanges[request.socket] = self.exchanges[request.socket._socket]
        super()._listen(request, response)

    def _tunnel(self, request: Any, socket: Any, head: bytes) -> None:
        if request.http_version == '2.0':
            self.exchanges[socket] = self.exchanges[socket._stream.connection.socket]
        super()._tunnel(request, socket, head)


SERVERS: tuple[dict[str, Any], ...] = (
    {},
    {f'http2_{name}': value for name, value in LOW.items()},
    {'max_header_size': 120, 'max_headers_count': 4, 'max_body_size': 20, 'max_requests_per_socket': 3},
    {'greenlet_per_request': True, 'cancel_on_disconnect': True, 'max_buffered': 20_000},
)


class HTTP2ServerTarget(ConnectionTarget):
    """Feeds servers with different options."""

    def __init__(self) -> None:
        super().__init__('http2-server', FrameMutator())
        # one without a listener for CONNECT
        self._servers = [HTTP2Server(number > 0, http2=True, **options) for number, options in enumerate(SERVERS)]

    def _choices(self, rng: random.Random) -> dict[str, Any]:
        return {
            'server': rng.randrange(len(SERVERS)),
            'listener': rng.choice(('read', *LISTENERS)),
            'reset': rng.random() < 0.3,
            'both': False,
        }

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` if one of ``samples`` breaks a rule."""
        runs = [
            HTTP2Exchange(self._servers[sample.scenario['server']], pieces, sample.scenario)
            for sample in samples
            for pieces in ways(sample)
        ]
        try:
            with errors_recorded() as errors:
                run_all(runs)
            left = [server for server in self._servers if server._sockets or server._buffer_limit.used]
            if left:
                raise Finding('leak', f'{[(server._sockets, server._buffer_limit.used) for server in left]}')
        finally:
            for server in self._servers:
                server.clear()
        if errors:
            raise Finding('unhandled error', '; '.join(errors))
        for sample, exchange in zip(samples, runs, strict=True):
            # other input is HTTP/1.1; if sending fails, the output has any end
            if sample.data.startswith(FIRST_BYTES) and exchange.complete and sample.scenario['breaks_after'] is None:
                check_responses(OutputReader(exchange.output, sample.data))


def check_responses(found: OutputReader) -> None:
    """Check the responses: their statuses, and that bodies have their lengths.

    A client may take RST_STREAM with NO_ERROR for the end of a complete response (RFC 9113, section 8.1).
    """
    for stream, code in found.resets.items():
        if code == ErrorCode.NO_ERROR and stream not in found.ended:
            raise Finding('body', f'the response of stream {stream} is incomplete, and was reset without an error')
    for stream, parts in found.fields.items():
        statuses = [fields[':status'] for fields in parts if ':status' in fields]
        final = [status for status in statuses if status[0] != '1']
        if len(final) > 1 or (not final and stream in found.ended):
            raise Finding('responses', f'stream {stream}: {statuses}')
        if not final or stream not in found.ended:
            continue
        length = parts[statuses.index(final[0])].get('content-length')
        body = found.bodies[stream]
        if length is not None and body and int(length) != len(body):
            raise Finding('body', f'{len(body)} bytes instead of {length}: {body[:100]!r}')


class HTTP2Exchange(ServerExchange):
    """A peer that sends ``pieces`` and disconnects.

    :ivar complete: whether all the output has arrived.
    """

    complete = False

    def steps(self) -> Steps:
        """Run the exchange; see :class:`contrib.fuzz.turns.Exchange`."""
        scenario = self._scenario
        peer = Peer(scenario['room'], scenario['breaks_after'])
        socket = self._server.accept(peer, self)
        self.peers.append(peer)

        def progress() -> tuple[int, int, int, bool]:
            protocol: Any = socket._protocol
            return len(peer.received), peer.unread, getattr(protocol, 'served', 0), socket.destroyed

        yield from sending(peer, self._pieces, scenario['hurry'])
        yield from settled(progress)
        if not scenario['reset']:
            peer.end(reset=False)
            yield from settled(progress)
            yield from until(lambda: socket.destroyed or stalled(socket._protocol), socket)
            # a reset after the end is noticed only by sending
            socket.destroy()
        else:
            peer.end(reset=True)
        self.complete = not scenario['reset']
        peer.drain()
        self.output = bytes(peer.received)
        yield from until(lambda: socket.destroyed and not self.working, socket)


def stalled(protocol: Any) -> bool:
    """Return whether a connection waits for the windows of its peer, with a deadline."""
    return any(stream._has_queued for stream in getattr(protocol, 'streams', {}).values())
