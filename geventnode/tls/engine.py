"""TLS between plain bytes and a raw socket: ``ssl.SSLObject`` over two buffers, without waiting for anything.

It has the two functions that drive a socket, :meth:`TLSEngine.receive` and :meth:`TLSEngine.send`. They mean the same
as the kernel's: ``BlockingIOError`` when nothing can be done now. Ciphertext goes to the kernel after every
call, failed ones too, because an alert tells the peer why. Plaintext counts as sent when all of its ciphertext is with
the kernel; until then the caller keeps it and offers the same bytes again, as OpenSSL itself would have it.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable
from typing import Any

from geventnode.errors import TLSError
from geventnode.tls.client_hello import ClientHello

__all__ = ['CLOSE_NOTIFY', 'Choose', 'TLSEngine']

#: Plaintext that is encrypted, and ciphertext that is decrypted, at once: a record's worth (RFC 8446, section 5.1). The
#: buffers of OpenSSL never shrink, so this is what an idle connection keeps of a large transfer.
SLICE = 16384

#: Slices that leave in one call.
GATHER = 4

#: First bytes of a peer that are kept, to name its protocol if it is not TLS.
OPENING = 16

_plain_http = re.compile(rb'(?P<request>[A-Z]{3,4} |[A-Z]{5})|(?P<response>HTTP/)')

#: Offered to :meth:`TLSEngine.send` at the very end, told apart by identity: say that no more comes.
CLOSE_NOTIFY = bytes((0,))

#: Chooses the context for the name that a client asks for, or returns the alert to send.
Choose = Callable[[str | None], ssl.SSLContext | int]


class TLSEngine:
    """One TLS connection over ``raw``, a connected, non-blocking socket.

    :param context: an ``ssl.SSLContext``, or on a server a function that chooses one by the name that the client asks
        for, or None; it may return an alert to send instead (RFC 8446, section 6).
    :param established: called once, when the handshake is over, before any plaintext is handed out.
    :param session: a session to resume; one of another context has no effect.
    """

    __slots__ = (
        '_choose',
        '_claimed',
        '_closing',
        '_encrypt',
        '_established',
        '_failure',
        '_hello',
        '_incoming',
        '_outgoing',
        '_raw_receive',
        '_raw_send',
        '_read',
        'ended',
        'handshaking',
        'object',
        'opening',
        'truncated',
        'unsent',
    )

    def __init__(
        self,
        raw: Any,
        context: ssl.SSLContext | Choose,
        established: Callable[[], object],
        *,
        server_side: bool = False,
        servername: str | None = None,
        session: Any = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        #: OpenSSL's side of the connection; None until there is a context.
        self.object: Any = None
        self._choose: Choose | None = None
        if callable(context):
            self._choose = context
            self._hello = ClientHello()
        else:
            self._begin(context, server_side, servername, session)
        self._raw_receive: Callable[[int], bytes] = raw.recv
        self._raw_send: Callable[[Any], int] = raw.send
        self._established: Callable[[], object] | None = established
        self.handshaking = True
        #: The first bytes of the peer.
        self.opening = b''
        #: Whether the peer's data ended without close_notify.
        self.truncated = False
        #: Ciphertext that the kernel did not take yet.
        self.unsent: bytes | memoryview = b''
        #: How much of the plaintext that is offered next has been encrypted already.
        self._claimed = 0
        self._closing = False
        #: Whether the end, or an error, has come behind the plaintext that was handed out: the next :meth:`receive`
        #: tells it, and needs no input for that.
        self.ended = False
        self._failure: OSError | None = None

    # -- receiving ------------------------------------------------------------------------------------------------

    def receive(self, size: int) -> bytes:
        """Return plaintext, ``b''`` at its end. Raises ``BlockingIOError``, ``OSError``."""
        if self.ended:
            return self._end()
        data = self._raw_receive(size)
        if len(data) > SLICE:
            return self.decrypt(data)
        incoming = self._incoming
        if data:
            incoming.write(data)
        else:
            incoming.write_eof()
        if self.handshaking:
            self._shake_hands_with(data)
        # the commonest case: one record, whole, and nothing to say to it
        plain = self._read_record()
        if plain is None or incoming.pending or self._outgoing.pending:
            return self._gather(plain)
        return plain

    def decrypt(self, received: bytes) -> bytes:
        """As :meth:`receive`, for bytes that somebody else has received."""
        view = memoryview(received)
        pieces = []
        for start in range(0, len(view), SLICE):
            self._incoming.write(view[start : start + SLICE])
            try:
                if self.handshaking:
                    self._shake_hands_with(received)
                piece = self._gather(self._read_record())
            except BlockingIOError:
                continue
            except OSError as error:
                # told after what came before it
                self._failure = error
                self.ended = True
                break
            if not piece:
                break
            pieces.append(piece)
        if pieces:
            return b''.join(pieces)
        if self.ended:
            return self._end()
        raise BlockingIOError

    def _gather(self, data: bytes | None) -> bytes:
        """Return what stands in the first record and in those behind it."""
        if self._outgoing.pending:
            # what the peer asked for; if that cannot be sent, the next one who sends will notice
            self._try_to_flush()
        if data is None:
            if self.ended:
                return self._end()
            raise BlockingIOError
        if not self._incoming.pending:
            return data
        records = [data]
        while self._incoming.pending and (more := self._read_record()):
            records.append(more)
        return b''.join(records)

    def _read_record(self) -> bytes | None:
        """Return the plaintext of a record; None when there is none, or no more at all."""
        try:
            data: bytes = self._read(SLICE)
            if data:
                return data
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLEOFError:
            self.ended = self.truncated = True
        except ssl.SSLError as error:
            self._failure = error
            self.ended = True
        return None

    def _end(self) -> bytes:
        if self._failure is not None:
            self._try_to_flush()
            raise self._failure
        return b''

    # -- the handshake --------------------------------------------------------------------------------------------

    def _begin(self, context: ssl.SSLContext, server_side: bool, servername: str | None, session: Any) -> None:
        made = context.wrap_bio(self._incoming, self._outgoing, server_side, servername)
        if session is not None:
            # its context may have been replaced since, because a file has changed
            with contextlib.suppress(ValueError):
                made.session = session
        self.object = made
        self._encrypt = made.write
        self._read = made.read

    def _choose_context(self, choose: Choose) -> None:
        """Begin with the context for the name that the client asks for. Raises ``BlockingIOError`` until it is known,
        ``TLSError`` when there is none."""
        hello, incoming = self._hello, self._incoming
        hello.feed(incoming.read())
        if not hello.complete and not incoming.eof:
            raise BlockingIOError
        context = choose(hello.servername)
        if isinstance(context, int):
            # OpenSSL has no part in this handshake yet: a fatal alert (RFC 8446, section 6)
            self.unsent = bytes((21, 3, 3, 0, 2, 2, context))
            self._try_to_flush()
            raise TLSError(
                f'sni_callback refused the connection or failed, for {hello.servername!r}', 'ERR_TLS_SNI_CALLBACK'
            )
        self._choose = None
        if incoming.eof:
            # that is final, and OpenSSL is to report it
            self._incoming = ssl.MemoryBIO()
            self._incoming.write(hello.received)
            self._incoming.write_eof()
        else:
            incoming.write(hello.received)
        del self._hello
        self._begin(context, True, None, None)

    def shake_hands(self) -> None:
        """Go on with the handshake. Raises ``BlockingIOError`` while it is under way, ``OSError``."""
        if self._choose is not None:
            self._choose_context(self._choose)
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            raise BlockingIOError from None
        except OSError:
            if self.plain_http != 'request':
                self._try_to_flush()
            raise
        self.handshaking = False
        self._try_to_flush()
        # it belongs to who owns us
        established, self._established = self._established, None
        assert established is not None
        established()

    def _shake_hands_with(self, received: bytes) -> None:
        if len(self.opening) < OPENING:
            self.opening += received[:OPENING]
        self.shake_hands()

    @property
    def plain_http(self) -> str:
        """Whether the peer has begun with a ``'request'`` or a ``'response'`` of HTTP, as no record of TLS does."""
        found = _plain_http.match(self.opening)
        return '' if found is None else found.lastgroup or ''

    def cancel_handshake(self) -> None:
        """There will be no handshake any more: refer to the owner no longer."""
        self._established = None
        self._choose = None

    # -- sending --------------------------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send of ``data`` what the kernel takes; return how much that was. Raises
        ``BlockingIOError``, after which the same bytes are to be offered again, and ``OSError``."""
        if self.handshaking:
            raise BlockingIOError
        if data is CLOSE_NOTIFY:
            return self._close()
        if self.unsent:
            self.flush()
        if not data:
            return 0
        done = self._claimed
        self._claimed = 0
        size = len(data)
        if size <= SLICE and not done:
            # the commonest case: everything at once, and without a view
            self._claimed = self._encrypt(data)
            record = self.unsent = self._outgoing.read()
            self.unsent = record[self._raw_send(record) :]
            if self.unsent:
                self.flush()
            self._claimed = 0
            return size
        view = memoryview(data)
        while done < size:
            self._claimed = self._encrypt_some(view[done:])
            try:
                self.flush()
            except BlockingIOError:
                if done:
                    return done
                raise
            done += self._claimed
            self._claimed = 0
        return done

    def _encrypt_some(self, view: memoryview) -> int:
        """Encrypt some slices, in front of which nothing is unsent; return how much plaintext that was."""
        taken = 0
        pieces: list[bytes] = []
        while taken < len(view) and len(pieces) < GATHER:
            taken += self._encrypt(view[taken : taken + SLICE])
            pieces.append(self._outgoing.read())
        self.unsent = b''.join(pieces)
        return taken

    def _close(self) -> int:
        if not self._closing:
            self._closing = True
            # the peer's own word is waited for by whoever reads
            with contextlib.suppress(ssl.SSLError):
                self.object.unwrap()
        self.flush()
        return len(CLOSE_NOTIFY)

    def flush(self) -> None:
        """Hand ciphertext to the kernel. Raises ``BlockingIOError`` unless it took everything,
        ``OSError``."""
        data = self.unsent
        while data or self._outgoing.pending:
            if not data:
                data = self._outgoing.read()
            self.unsent = data
            sent = self._raw_send(data)
            if sent < len(data):
                self.unsent = data = memoryview(data)[sent:]
            else:
                self.unsent = data = b''

    def _try_to_flush(self) -> None:
        with contextlib.suppress(OSError):
            self.flush()
