"""Upgraded connections that the server knows: it counts them, and closes them in an orderly way when it drains.

A protocol that takes over a connection can derive from :class:`UpgradedConnection`; geventnode's WebSockets do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ['UpgradedConnection', 'WebSocketCounts']


class UpgradedConnection:
    """A protocol that has taken over a connection of a server.

    It is a :class:`geventnode.net.socket.Protocol`.
    """

    __slots__ = ()

    #: The name of the present activity in the statistics of the server.
    activity: ClassVar[str] = 'upgraded'

    def _drain(self) -> None:
        """Begin to close, because the server does. Run by the hub or a greenlet; never blocks."""


class WebSocketCounts:
    """The numbers of all WebSockets of a server since it was created."""

    __slots__ = ('accepted', 'bytes_received', 'bytes_sent', 'messages_received', 'messages_sent')

    def __init__(self) -> None:
        self.accepted = 0
        self.messages_received = 0
        self.messages_sent = 0
        #: Bytes of the messages, before compression and after decompression.
        self.bytes_received = 0
        self.bytes_sent = 0
