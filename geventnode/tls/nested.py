"""TLS within TLS: a TLS connection that carries another one, as after CONNECT to an ``https:`` proxy.

The inner socket needs a raw connection. :class:`EncryptedRaw` is one: it has the descriptor of the outer connection,
and passes data through the engine of the outer connection.
"""

from __future__ import annotations

import contextlib
from typing import Any

from geventnode.net.descriptors import take_raw
from geventnode.tls.engine import CLOSE_NOTIFY, TLSEngine

__all__ = ['EncryptedRaw']


class EncryptedRaw:
    """A raw connection within a TLS connection.

    Attributes that are not defined here are those of the raw socket, such as ``fileno`` and ``setsockopt``.

    :param raw: the raw socket, an ``_socket.socket`` or another of these objects.
    :param engine: the engine of the TLS connection, after its handshake.
    """

    __slots__ = ('_engine', '_raw')

    def __init__(self, raw: Any, engine: TLSEngine) -> None:
        self._raw = raw
        self._engine = engine
        engine.use_raw(raw)

    def take(self) -> EncryptedRaw:
        """Return another object that has the descriptor."""
        return EncryptedRaw(take_raw(self._raw), self._engine)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return plaintext, ``b''`` at its end.

        With flags (MSG_PEEK) it returns bytes of the raw socket. Raises ``BlockingIOError`` and ``OSError``. There is
        never plaintext that waits for another call. The end without a FIN of the peer is reported with the next input.
        """
        received: bytes = self._raw.recv(size, flags) if flags else self._engine.recv(size)
        return received

    def send(self, data: bytes | memoryview) -> int:
        """Send ``data``; after ``BlockingIOError`` the caller passes the same bytes again. Raises ``OSError``."""
        return self._engine.send(data)

    def shutdown(self, how: int) -> None:
        """End this side. Raises ``OSError``."""
        with contextlib.suppress(BlockingIOError):
            self._engine.send(CLOSE_NOTIFY)
        self._raw.shutdown(how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)
