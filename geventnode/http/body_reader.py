"""Read the body of a message: the loop that the server and the client share.

A reader pulls the body out of the connection's parser in its own greenlet, and receives more when the parser has none.
The pieces of a body without a reader are passed on from the hub, to be kept or discarded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from gevent import getcurrent

from geventnode.errors import ParseError
from geventnode.protocol import EndOfMessage, Parser

if TYPE_CHECKING:
    from geventnode.http.incoming import IncomingMessage
    from geventnode.net.socket import Socket

__all__ = ['DISCARD_TIME', 'BodyReader', 'ReceivingConnection', 'pass_on']

#: Seconds for the rest of a body without a reader: until it is discarded, and for its arrival when it is.
DISCARD_TIME = 5.0


class ReceivingConnection(Protocol):
    """The connection as the reader of a body uses it."""

    hub: Any
    socket: Socket

    @property
    @abstractmethod
    def parser(self) -> Parser:
        """The parser, which holds the received bytes."""

    def more_received(self, data: bytes) -> None:
        """Parse bytes that a reader has received by itself."""

    def resume_input(self) -> None:
        """Let the socket receive again if it was paused."""


class BodyReader(ABC):
    """The body of one message while it arrives. The subclass of each side handles its end and its failures."""

    #: The greenlet that waits for more of the body.
    reader: Any = None

    def __init__(self, connection: ReceivingConnection) -> None:
        self._connection = connection

    def read(self, message: IncomingMessage) -> bytes:
        """Return the next piece of the body, ``b''`` at its end.

        Blocks until a piece has arrived. Raises the error that cut the body short.
        """
        connection = self._connection
        parser = connection.parser
        while True:
            try:
                event = parser.next_event()
            except ParseError as error:
                self._raise_parse_error(message, error)
            if event is not None:
                self._piece_taken()
                if type(event) is bytes:
                    # A reader that knows the length does not read on to the end. On the server that is the rule
                    # (PEP 3333); on the client, the next request can be waiting for this connection.
                    end = parser.take_end()
                    if end is not None:
                        self._complete(message, end.raw_trailers)
                    return event
                self._complete(message, cast(EndOfMessage, event).raw_trailers)
                return b''
            self._check_failure(message)
            data = connection.socket._receive_more()
            if data:
                connection.more_received(data)
            else:
                connection.resume_input()
                self._wait()

    def wake(self) -> None:
        """Wake the waiting reader in the next turn of the loop."""
        if self.reader is not None:
            self._connection.hub.loop.run_callback(self._switch_to_reader)

    def _switch_to_reader(self) -> None:
        # it can have left since
        if self.reader is not None:
            self.reader.switch()

    def _wait(self) -> None:
        """Block until the connection switches to this reader."""
        self.reader = getcurrent()
        try:
            self._connection.hub.switch()
        finally:
            self.reader = None

    def _piece_taken(self) -> None:  # noqa: B027  # the client has nothing to do
        """Account for the space in the parser that a piece has left."""

    @abstractmethod
    def _complete(self, message: IncomingMessage, raw_trailers: list[tuple[str, str]]) -> None:
        """Complete ``message``: its last piece was taken."""

    @abstractmethod
    def _check_failure(self, message: IncomingMessage) -> None:
        """Raise the error that cut the body short, if there is one."""

    @abstractmethod
    def _raise_parse_error(self, message: IncomingMessage, error: ParseError) -> NoReturn:
        """Raise the error that the reader of a malformed body gets."""
        raise NotImplementedError


def pass_on(parser: Parser, take: Callable[[bytes], bool]) -> EndOfMessage | None:
    """Pass received pieces to ``take`` until it returns False.

    Returns the end of the message if it was reached. Raises ``ParseError``.
    """
    while True:
        event = parser.next_event()
        if event is None:
            return None
        if type(event) is not bytes:
            return cast(EndOfMessage, event)
        if not take(event):
            return None
