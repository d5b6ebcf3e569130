"""The connections of a server, as it manages them, in every version."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geventnode.http.incoming import IncomingMessage
    from geventnode.http.server.response import ServerResponse
    from geventnode.http.server.server import Server
    from geventnode.net.socket import Socket

__all__ = ['Exchange', 'ServedConnection']

#: An exchange that is under way: its messages, when it began (monotonic), and its activity.
Exchange = tuple['IncomingMessage', 'ServerResponse | None', float, str]


class ServedConnection(ABC):
    """The protocol of an accepted socket."""

    __slots__ = ('_expires', 'began', 'served', 'socket')

    server: Server
    socket: Socket
    #: How many requests were taken.
    served: int
    #: When the present state began (monotonic).
    began: float
    #: See :class:`geventnode.net.deadlines.HasDeadline`.
    _expires: float

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether no request is served, or has begun to arrive."""

    @property
    @abstractmethod
    def activity(self) -> str:
        """The name of the present activity in the statistics of the server."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether another protocol took over, or the socket is closed."""

    @abstractmethod
    def exchanges(self) -> Iterator[Exchange]:
        """Yield each :data:`Exchange`."""

    @abstractmethod
    def begin_draining(self) -> None:
        """Prepare for the end: the server closes. Run by the greenlet that closes it."""

    @abstractmethod
    def close(self) -> None:
        """Close after the queued bytes."""

    def close_at_once(self) -> None:
        """Close, and do not wait for the client.

        Unfinished requests are lost, and so are the queued bytes.
        """
        self.socket.destroy()
