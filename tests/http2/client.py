"""A client of HTTP/2 on a socket: the state machine of ``h2``, which shares no code with the server.

The client does not check its own fields, so that a test can send those of an attacker. Bytes beyond the state machine
go through :meth:`Client.send_raw`.
"""

from __future__ import annotations

import socket as stdlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from gevent import socket
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import Settings

from tests.servers import GUARD, Serve, Site

__all__ = ['Client', 'Connect', 'Response', 'connect_h2']

Fields = list[tuple[bytes, bytes]]


@dataclass
class Response:
    """The parts of a response that have arrived."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    raw_headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] = field(default_factory=dict)
    #: The statuses and fields of the informational responses.
    informational: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    #: Whether the stream has ended, and the code of a RST_STREAM.
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive."""
        return self.ended or self.reset is not None


class Client:
    """One connection.

    :param where: the address of the server.
    :param credit: whether the client opens its windows as data arrives.
    :param wrap: makes another socket of the connected one, as TLS does.
    :param settings: values for the first SETTINGS frame, by ``h2.settings.SettingCodes``.
    """

    #: The site of a client that ``connect_h2`` has made.
    site: Any

    def __init__(
        self,
        where: Any,
        *,
        credit: bool = True,
        wrap: Callable[[Any], Any] | None = None,
        settings: dict[Any, int] | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self._socket: Any = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        if receive_buffer is not None:
            self._socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(GUARD)
        self._socket.connect(where)
        if self._socket.family == socket.AF_INET:
            # a small frame would wait until the server's kernel acknowledges the one before
            self._socket.setsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY, 1)
        if wrap is not None:
            self._socket = wrap(self._socket)
        self.credit = credit
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=True,
            )
        )
        # h2 refuses every frame after GOAWAY, and so the responses to requests that the server still serves
        machine = self.h2.state_machine
        machine._transitions = {
            **machine._transitions,
            (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (
                machine._transitions[ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY][0],
                ConnectionState.CLIENT_OPEN,
            ),
        }
        if settings:
            self.h2.local_settings = Settings(client=True, initial_values=settings)
        self.h2.initiate_connection()
        self.responses: dict[int, Response] = {}
        #: All events, in their order.
        self.events: list[Event] = []
        #: The code and the last stream of each GOAWAY.
        self.goaways: list[tuple[int, int]] = []
        self.closed = False
        self.flush()

    # -- sending --------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send the output of the state machine."""
        self._socket.sendall(self.h2.data_to_send())

    def send_raw(self, data: bytes) -> None:
        """Send bytes that the state machine does not know."""
        self._socket.sendall(data)

    def head(self, method: str, path: str, *fields: tuple[str, str]) -> Fields:
        """Return the fields of a request."""
        pairs = [(':method', method), (':scheme', 'http'), (':authority', 'localhost'), (':path', path), *fields]
        return [(name.encode('latin-1'), value.encode('latin-1')) for name, value in pairs]

    def start(self, method: str, path: str, *fields: tuple[str, str], end: bool = False) -> int:
        """Send the head of a request; return the identifier of its stream."""
        return self.start_fields(self.head(method, path, *fields), end=end)

    def start_fields(self, fields: Fields, end: bool = True) -> int:
        """Send a head of any fields; return the identifier of its stream."""
        number = self.h2.get_next_available_stream_id()
        self.responses[number] = Response()
        self.h2.send_headers(number, fields, end_stream=end)
        self.flush()
        return number

    def get(self, path: str = '/', *fields: tuple[str, str], method: str = 'GET') -> int:
        """Send a request without a body; return the identifier of its stream."""
        return self.start(method, path, *fields, end=True)

    def post(self, body: bytes, path: str = '/', *fields: tuple[str, str]) -> int:
        """Send a request with a body, as fast as the windows allow; return the identifier of its stream."""
        number = self.start('POST', path, *fields)
        self.send_data(number, body, end=True)
        return number

    def send_data(self, number: int, data: bytes, end: bool = False) -> None:
        """Send a piece of a body. Blocks until the windows allow it, or the stream is reset."""
        view = memoryview(data)
        while True:
            response = self.responses[number]
            if response.reset is not None:
                return
            size = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(view))
            if view and not size:
                self.receive()
                continue
            self.h2.send_data(number, bytes(view[:size]), end_stream=end and size == len(view))
            self.flush()
            view = view[size:]
            if not view:
                return

    # -- receiving ------------------------------------------------------------------------------------------------

    def receive(self) -> bool:
        """Receive once, and return whether the server has not closed. Blocks until something arrives."""
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b''
        if not data:
            self.closed = True
            return False
        for event in self.h2.receive_data(data):
            self.events.append(event)
            self._take(event)
        self.flush_acks()
        return True

    def flush_acks(self) -> None:
        """Send acknowledgements, unless the server has closed."""
        try:
            self.flush()
        except OSError:
            self.closed = True

    def _take(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goaways.append((int(event.error_code or 0), event.last_stream_id or 0))
            return
        response = self.responses.get(getattr(event, 'stream_id', None) or 0)
        if response is None:
            return
        if isinstance(event, ResponseReceived):
            pairs = [(_text(name), _text(value)) for name, value in event.headers or ()]
            response.status = int(dict(pairs)[':status'])
            response.raw_headers = pairs
            response.headers = dict(pairs)
        elif isinstance(event, InformationalResponseReceived):
            found = {_text(name): _text(value) for name, value in event.headers or ()}
            response.informational.append((int(found.pop(':status')), found))
        elif isinstance(event, DataReceived):
            response.body += event.data or b''
            if self.credit and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
        elif isinstance(event, TrailersReceived):
            response.trailers = {_text(name): _text(value) for name, value in event.headers or ()}
        elif isinstance(event, StreamEnded):
            response.ended = True
        elif isinstance(event, StreamReset):
            response.reset = int(event.error_code or 0)

    def response(self, number: int) -> Response:
        """Return a response when it has ended in any way. Blocks until then."""
        response = self.responses[number]
        self.until(lambda: response.over)
        return response

    def until(self, condition: Callable[[], object]) -> None:
        """Receive until ``condition`` is true, or the server closes. Blocks until then."""
        while not condition() and self.receive():
            pass

    def goaway(self) -> int:
        """Return the code of a GOAWAY of the server. Blocks until there is one."""
        self.until(lambda: self.goaways)
        return self.goaways[-1][0]

    def wait_closed(self) -> None:
        """Block until the server has closed."""
        while self.receive():
            pass

    def reset(self, number: int, code: int = 8) -> None:
        """Reset a stream, with CANCEL unless another code is given."""
        self.h2.reset_stream(number, code)
        self.flush()

    def end_output(self) -> None:
        """End this direction of the connection."""
        self._socket.shutdown(stdlib.SHUT_WR)

    def abort(self) -> None:
        """Reset the connection."""
        self._socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack('ii', 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _text(value: Any) -> str:
    return value.decode('latin-1') if isinstance(value, bytes) else str(value)


Connect = Callable[..., Client]


@pytest.fixture
def connect_h2(serve: Serve) -> Iterator[Connect]:
    """Start a server with HTTP/2 and connect: ``connect_h2(listener, **options)`` returns a :class:`Client`.

    The client has the site as its attribute ``site``. A site instead of a listener gets another connection.
    """
    clients: list[Client] = []

    def start(listener: Any = None, client: dict[str, Any] | None = None, **options: Any) -> Client:
        site = listener if isinstance(listener, Site) else serve(listener, http2=True, **options)
        made = Client(site.where, **(client or {}))
        made.site = site
        clients.append(made)
        return made

    yield start
    for client in clients:
        client.close()
