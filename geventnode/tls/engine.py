"""The TLS engine between plaintext and a raw socket: an ``ssl.SSLObject`` over two buffers, which never waits.

A socket receives and sends with :meth:`TLSEngine.recv` and :meth:`TLSEngine.send`, which raise ``BlockingIOError``
as the kernel's functions do. Every call passes its ciphertext to the kernel, a failed one too, because an alert informs
the peer of the reason. Plaintext counts as sent when the kernel has all of its ciphertext; until then the caller keeps
it and passes the same bytes again, as OpenSSL itself requires.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable
from typing import Any

from geventnode.errors import TLSError
from geventnode.tls.client_hello import ClientHello

__all__ = ['CLOSE_NOTIFY', 'ContextChooser', 'TLSEngine']

#: Bytes that are encrypted or decrypted at once: those of a record (RFC 8446, section 5.1). The buffers of OpenSSL
#: never shrink: this is the memory that an idle connection keeps after a large transfer.
SLICE = 16384

#: Slices that one system call sends.
GATHER = 4

#: First bytes of a peer that are kept, to recognize a protocol other than TLS.
FIRST_BYTES = 16

_plain_http = re.compile(rb'(?P<request>[A-Z]{3,4} |[A-Z]{5})|(?P<response>HTTP/)')


class _CloseNotify(bytes):
    """The class of an object that is no data: Python shares equal bytes, since 3.15 also results of bytes()."""


#: Passed to :meth:`TLSEngine.send` at the very end, and compared by identity: send ``close_notify``.
CLOSE_NOTIFY = _CloseNotify(1)

#: Returns the context for the name that a client requests, or the alert to send.
ContextChooser = Callable[[str | None], ssl.SSLContext | int]


class TLSEngine:
    """Encrypt and decrypt one connection.

    :param raw: a connected, non-blocking socket.
    :param context: an ``ssl.SSLContext``; or on a server a function that returns one for the name that the client
        requests, or for None. It can return the alert to send instead (RFC 8446, section 6).
    :param on_handshake: called once, when the handshake is over, before :meth:`recv` returns plaintext.
    :param session: a session to resume; one of another context has no effect.
    """

    __slots__ = (
        '_closing',
        '_context_chooser',
        '_encrypted_size',
        '_failure',
        '_hello',
        '_incoming',
        '_on_handshake',
        '_outgoing',
        '_raw',
        'ended',
        'first_bytes',
        'handshaking',
        'object',
        'truncated',
        'unsent',
    )

    def __init__(
        self,
        raw: Any,
        context: ssl.SSLContext | ContextChooser,
        on_handshake: Callable[[], object],
        *,
        server_side: bool = False,
        servername: str | None = None,
        session: Any = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        #: The ``ssl.SSLObject``; None until there is a context.
        self.object: Any = None
        self._context_chooser: ContextChooser | None = None
        if callable(context):
            self._context_chooser = context
            self._hello = ClientHello()
        else:
            self._begin(context, server_side, servername, session)
        self._raw = raw
        self._on_handshake: Callable[[], object] | None = on_handshake
        self.handshaking = True
        #: The first bytes of the peer.
        self.first_bytes = b''
        #: Whether the peer's data ended without close_notify.
        self.truncated = False
        #: Ciphertext that the kernel did not take yet.
        self.unsent: bytes | memoryview = b''
        #: How many bytes of the plaintext that is passed next have been encrypted already.
        self._encrypted_size = 0
        self._closing = False
        #: Whether the end, or an error, has followed the returned plaintext: the next :meth:`recv` reports it, and
        #: needs no input for that.
        self.ended = False
        self._failure: OSError | None = None

    def use_raw(self, raw: Any) -> None:
        """Receive and send through another object for the same connection."""
        self._raw = raw

    # -- receiving ------------------------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """Return plaintext, ``b''`` at its end. Raises ``BlockingIOError`` and ``OSError``."""
        if self.ended:
            return self._end()
        data: bytes = self._raw.recv(size)
        if len(data) > SLICE:
            return self.decrypt(data)
        incoming = self._incoming
        if data:
            incoming.write(data)
        elif self.handshaking:
            incoming.write_eof()
        else:
            return self._end_without_notice()
        if self.handshaking:
            self._continue_handshake(data)
        # the most common case: one complete record that needs no response
        plain = self._read_record()
        if plain is None or incoming.pending or self._outgoing.pending:
            return self._gather(plain)
        return plain

    def decrypt(self, received: bytes) -> bytes:
        """Return the plaintext of bytes that the caller has received.

        Otherwise as :meth:`recv`.
        """
        view = memoryview(received)
        pieces = []
        for start in range(0, len(view), SLICE):
            self._incoming.write(view[start : start + SLICE])
            try:
                if self.handshaking:
                    self._continue_handshake(received)
                piece = self._gather(self._read_record())
            except BlockingIOError:
                continue
            except OSError as error:
                # reported after the plaintext before it
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
        """Return the plaintext ``data``, and that of the following records."""
        if self._outgoing.pending:
            # a response to the peer; if the kernel does not take it, the next call that sends reports that
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
        """Return the plaintext of a record.

        It is None if there is no complete record, or at the end.
        """
        try:
            data: bytes = self.object.read(SLICE)
            if data:
                return data
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            self._failure = error
            self.ended = True
        return None

    def _end_without_notice(self) -> bytes:
        """Note that the peer's data has ended without close_notify; return ``b''``.

        OpenSSL is not informed. It would take the end for a fatal error, and the session could not be resumed, although
        only a fatal alert forbids that (RFC 5246, section 7.2.1). Since Python 3.14 such an error also affects a
        session that was read before.
        """
        self.ended = self.truncated = True
        return self._end()

    def _end(self) -> bytes:
        if self._failure is not None:
            self._try_to_flush()
            raise self._failure
        return b''

    # -- the handshake --------------------------------------------------------------------------------------------

    def _begin(self, context: ssl.SSLContext, server_side: bool, servername: str | None, session: Any) -> None:
        made = context.wrap_bio(self._incoming, self._outgoing, server_side, servername)
        if session is not None:
            # its context can have been replaced since, because a file has changed
            with contextlib.suppress(ValueError):
                made.session = session
        self.object = made

    def _choose_context(self, choose: ContextChooser) -> None:
        """Begin with the context for the name that the client requests.

        Raises ``BlockingIOError`` until the name is known, and ``TLSError`` if there is no context for it.
        """
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
        self._context_chooser = None
        if incoming.eof:
            # OpenSSL reports the end of the input
            self._incoming = ssl.MemoryBIO()
            self._incoming.write(hello.received)
            self._incoming.write_eof()
        else:
            incoming.write(hello.received)
        del self._hello
        self._begin(context, True, None, None)

    def do_handshake(self) -> None:
        """Continue the handshake. Raises ``BlockingIOError`` while it is under way, and ``OSError``."""
        if self._context_chooser is not None:
            self._choose_context(self._context_chooser)
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
        # the function refers to the owner of this engine
        on_handshake, self._on_handshake = self._on_handshake, None
        assert on_handshake is not None
        on_handshake()

    def _continue_handshake(self, received: bytes) -> None:
        if len(self.first_bytes) < FIRST_BYTES:
            self.first_bytes += received[:FIRST_BYTES]
        self.do_handshake()

    @property
    def plain_http(self) -> str:
        """The kind of HTTP message from the peer instead of TLS.

        It is ``'request'``, ``'response'``, or ``''`` for none.
        """
        found = _plain_http.match(self.first_bytes)
        return '' if found is None else found.lastgroup or ''

    def cancel_handshake(self) -> None:
        """Drop the references to the owner: the handshake will not be completed."""
        self._on_handshake = None
        self._context_chooser = None

    # -- sending --------------------------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send ``data``; return the number of sent bytes.

        These are the bytes with all of their ciphertext in the kernel.

        Raises ``BlockingIOError``, after which the caller must pass the same bytes again, and ``OSError``.
        """
        if self.handshaking:
            raise BlockingIOError
        if data is CLOSE_NOTIFY:
            return self._close()
        if self.unsent:
            self.flush()
        if not data:
            return 0
        done = self._encrypted_size
        self._encrypted_size = 0
        size = len(data)
        if size <= SLICE and not done:
            # the most common case: everything at once, without a view
            self._encrypted_size = self.object.write(data)
            record = self.unsent = self._outgoing.read()
            self.unsent = record[self._raw.send(record) :]
            if self.unsent:
                self.flush()
            self._encrypted_size = 0
            return size
        view = memoryview(data)
        while done < size:
            self._encrypted_size = self._encrypt_some(view[done:])
            try:
                self.flush()
            except BlockingIOError:
                if done:
                    return done
                raise
            done += self._encrypted_size
            self._encrypted_size = 0
        return done

    def _encrypt_some(self, view: memoryview) -> int:
        """Encrypt some slices; return their number of bytes.

        There must be no unsent ciphertext.
        """
        taken = 0
        pieces: list[bytes] = []
        while taken < len(view) and len(pieces) < GATHER:
            taken += self.object.write(view[taken : taken + SLICE])
            pieces.append(self._outgoing.read())
        self.unsent = b''.join(pieces)
        return taken

    def _close(self) -> int:
        if not self._closing:
            self._closing = True
            # the close_notify of the peer is received by a reader
            with contextlib.suppress(ssl.SSLError):
                self.object.unwrap()
        self.flush()
        return len(CLOSE_NOTIFY)

    def flush(self) -> None:
        """Pass ciphertext to the kernel. Raises ``BlockingIOError`` unless it took everything, and ``OSError``."""
        data = self.unsent
        while data or self._outgoing.pending:
            if not data:
                data = self._outgoing.read()
            self.unsent = data
            sent = self._raw.send(data)
            if sent < len(data):
                self.unsent = data = memoryview(data)[sent:]
            else:
                self.unsent = data = b''

    def _try_to_flush(self) -> None:
        with contextlib.suppress(OSError):
            self.flush()
