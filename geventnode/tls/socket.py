"""A socket that speaks TLS.

Where a plain one asks the kernel, this one asks its :class:`~geventnode.tls.engine.TLSEngine`, which stand in between.
Everything else, from back-pressure to parking, is the plain socket's own. The handshake is driven by what arrives, in
the hub: it takes no greenlet.
"""

from __future__ import annotations

import _socket
import contextlib
import ssl
from collections.abc import Callable
from itertools import islice
from typing import Any, ClassVar

import gevent
from gevent.event import Event
from zope.interface import implementer

from geventnode.errors import CertificateError, TLSError
from geventnode.interfaces import ITLSSocket
from geventnode.net.socket import MAX_VECTORS, Socket
from geventnode.stream.writable import Callback
from geventnode.tls.engine import CLOSE_NOTIFY, Choose, TLSEngine
from geventnode.tls.failures import failure_of
from geventnode.tls.identity import describe_certificate, matches_fingerprint, matches_host
from geventnode.tls.verification import peer_chain

__all__ = ['TLSSocket']

NOT_VERIFIED = 'certificates are not verified (reject_unauthorized, request_cert)'

#: A body up to this size is copied behind its head, to leave in one record.
JOINED = 16384


@implementer(ITLSSocket)
class TLSSocket(Socket):
    """See :class:`geventnode.interfaces.ITLSSocket`.

    :param context: an ``ssl.SSLContext``.
    :param server_side: whether this is the server's end.
    :param choose: on the server, a function that returns the ``ssl.SSLContext`` to use in place of ``context`` for the
        name that the client asks for, or None; or the alert to send. It runs in the hub.
    :param servername: on the client, the name to ask for and to find in the certificate.
    :param checked_host: the name to find in the certificate in place of that; the context must not check names then.
    :param fingerprint: the hash of the peer's certificate, as of ``matches_fingerprint``; ``''``: any.
    :param session: an ``ssl.SSLSession`` to resume.
    :param at_once: whether the handshake begins as soon as there is a connection; otherwise call
        ``_start_handshake()``.

    :param judge: returns the fault of the certificates that the peer has sent, None for none; called where ``context``
        does not verify them, at the first access.
    :param known_chain: the certificates that ``session`` began with, which are not sent again.

    Other options are those of :class:`~geventnode.net.Socket`.
    """

    events: ClassVar[frozenset[str]] = Socket.events | {'secureConnect'}

    encrypted: bool = True
    handshaking: bool = True
    #: The kernel cannot encrypt.
    _can_sendfile: bool = False
    _authorization_error: str | None = None
    #: Whether the fault of the certificate is still to be computed, at the first access.
    _judges: bool = False
    #: Called in the hub, once, with this socket and what went wrong in its handshake (None: nothing).
    _on_handshake: Callable[[TLSSocket, BaseException | None], object] | None = None

    #: Called in the hub when the peer has begun with HTTP instead of a handshake, before this socket is destroyed.
    _on_plain_http: Callable[[TLSSocket], object] | None = None

    _records: TLSEngine | None = None
    _secured: Event | None = None
    _said_goodbye: bool = False

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        servername: str | None = None,
        checked_host: str | None = None,
        fingerprint: str = '',
        session: Any = None,
        at_once: bool = True,
        choose: Choose | None = None,
        judge: Callable[[list[bytes]], str | None] | None = None,
        known_chain: list[bytes] | None = None,
        **options: Any,
    ) -> None:
        self._context = context
        self._judge = judge
        self._known_chain = known_chain
        self._choose = choose
        self._server_side = server_side
        self._servername = servername
        self._checked_host = checked_host
        self._fingerprint = fingerprint
        self._session = session
        self._at_once = at_once
        super().__init__(**options)

    # -- the handshake ------------------------------------------------------------------------------------------------

    def _attach(self, raw: Any, peer: Any) -> None:
        super()._attach(raw, peer)
        if self._at_once:
            self._start_handshake()

    def _start_handshake(self, received: bytes = b'') -> None:
        """Begin the handshake.

        :param received: what the peer has sent of it already.
        """
        context = self._context if self._choose is None else self._choose_context
        records = self._records = TLSEngine(
            self._raw,
            context,
            self._established,
            server_side=self._server_side,
            servername=self._servername,
            session=self._session,
        )
        self._try_send = records.send
        self._try_recv = records.receive
        try:
            if not self._server_side:
                with contextlib.suppress(BlockingIOError):
                    records.shake_hands()
            if received:
                with contextlib.suppress(BlockingIOError):
                    self._deliver(records.decrypt(received))
        except OSError as error:
            self._on_socket_error(error)
            return
        if records.unsent:
            self._watch_writable()

    def _choose_context(self, servername: str | None) -> ssl.SSLContext | int:
        assert self._choose is not None
        self._servername = servername
        chosen = self._choose(servername)
        if not isinstance(chosen, int):
            self._context = chosen
        return chosen

    def _deliver(self, data: bytes) -> None:
        self.bytes_read += len(data)
        if self._protocol is not None:
            self._protocol.data_received(data)
        else:
            self._buffer_input(data)

    def _established(self) -> None:
        """The handshake is over. Runs in the hub."""
        if self._checked_host is not None and not matches_host(self._certificate() or {}, self._checked_host):
            raise CertificateError(
                f'certificate of the peer refused: it is not valid for {self._checked_host!r}',
                'ERR_TLS_CERT_ALTNAME_INVALID',
            )
        if self._fingerprint and not matches_fingerprint(self._certificate(der=True), self._fingerprint):
            raise CertificateError(
                f'certificate of the peer refused: it has another fingerprint than {self._fingerprint!r}',
                'ERR_TLS_CERT_FINGERPRINT',
            )
        self.handshaking = False
        if self._context.verify_mode is ssl.CERT_NONE:
            self._authorization_error = NOT_VERIFIED
            self._judges = self._judge is not None
        elif self._certificate(der=True) is None:
            self._authorization_error = 'the peer has shown no certificate'
        if self._queue:
            # what was written meanwhile, and our end of the stream
            self._hub.loop.run_callback(self._on_writable)
        if self._secured is not None:
            self._secured.set()
        if self._listeners:
            gevent.spawn(self.emit, 'secureConnect')
        if self._on_handshake is not None:
            self._on_handshake(self, None)

    def wait_connected(self, timeout: float | None = None) -> Socket:
        self._check_thread()
        with gevent.Timeout(timeout, TimeoutError(f'no TLS connection after {timeout} seconds')):
            super().wait_connected()
            if self.handshaking:
                self._secured = Event()
                self._secured.wait()
        return super().wait_connected()

    def _destroy(self) -> None:
        super()._destroy()
        if self._records is not None:
            self._records.cancel_handshake()
        if self._secured is not None:
            self._secured.set()
        if self.handshaking and self._on_handshake is not None:
            self._on_handshake(
                self, self._error or TLSError('the connection was given up during the TLS handshake', 'ECONNRESET')
            )

    def _discard_after_fork(self) -> None:
        self._on_handshake = None
        super()._discard_after_fork()

    # -- run by the hub -----------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        super()._on_readable()
        records = self._records
        if records is not None and not self.destroyed:
            if records.unsent:
                self._watch_writable()
            if records.ended and not self._eof:
                # no further input would tell of it
                super()._on_readable()

    def _receive_more(self) -> bytes:
        # the end may come with the last record, and no further input would tell of it
        return b''

    def _on_eof(self) -> None:
        # before the handshake, in front of which a PROXY header comes, nothing can be cut off
        self.truncated = self._records is not None and self._records.truncated
        if self._protocol is None and self.truncated:
            self._on_socket_error(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, 'no close_notify'))
        else:
            super()._on_eof()

    def _has_input(self) -> bool:
        if self._records is not None and self._records.ended:
            # it came with the last record, and who asks was woken by that
            return True
        if not super()._has_input():
            return False
        # it may be nothing but a session ticket
        self._on_readable()
        return self.destroyed or self._eof or bool(self._received)

    def _on_socket_error(self, error: BaseException) -> None:
        plain_http = self._records.plain_http if self.handshaking and self._records is not None else ''
        failure = failure_of(error, self.handshaking, plain_http)
        if plain_http == 'request' and self._on_plain_http is not None:
            self._on_plain_http(self)
        super()._on_socket_error(failure)

    def _detach_plain(self) -> tuple[Any, Any]:
        """Return the raw socket and the peer's address of a connection whose handshake fails: this object has it no
        longer. For servers."""
        raw = self._raw
        return _socket.socket(raw.family, raw.type, raw.proto, raw.detach()), self._peer

    @property
    def _peer_silent(self) -> bool:
        """Whether the peer has not sent a byte."""
        return self._records is None or not self._records.opening

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send_vectored(self, head: bytes, body: bytes | memoryview) -> bool:
        if len(body) <= JOINED:
            return self._send(b''.join((head, body)))
        self._send(head)
        return self._send(body)

    def _watch_writable(self) -> None:
        if self.handshaking and (self._records is None or not self._records.unsent):
            # there is room in the kernel, but nothing to fill it with
            return
        super()._watch_writable()

    def _send_queued(self) -> list[Callback] | None:
        records = self._records
        if records is None:
            return []
        if records.unsent:
            try:
                records.flush()
            except BlockingIOError:
                self._watch_writable()
                return []
            except OSError as error:
                self._on_send_error(error)
                return None
        if self.writable_ended and not self._said_goodbye and not self.destroyed:
            self._said_goodbye = True
            self._enqueue(CLOSE_NOTIFY, None)
        return super()._send_queued()

    def _send_some(self, queue: Any) -> int:
        first = queue[0][0]
        if len(queue) == 1 or first is CLOSE_NOTIFY:
            return self._try_send(first)
        pieces = [data for data, _ in islice(queue, MAX_VECTORS) if data is not CLOSE_NOTIFY]
        return self._try_send(b''.join(pieces))

    # -- who is there -------------------------------------------------------------------------------------------------

    def _certificate(self, der: bool = False) -> Any:
        return None if self._records is None or self._records.handshaking else self._records.object.getpeercert(der)

    @property
    def authorized(self) -> bool:
        return not self.handshaking and self.authorization_error is None

    @property
    def authorization_error(self) -> str | None:
        if self._judges and self._judge is not None and self._records is not None:
            self._judges = False
            self._authorization_error = self._judge(self._unverified_chain or [])
        return self._authorization_error

    @property
    def _unverified_chain(self) -> list[bytes] | None:
        """The certificates (DER) that an unverified server has sent, its own first; None if they were verified."""
        if self._judge is None or self._records is None or self.handshaking:
            return None
        # the sessions of ssl keep the first one only
        return (
            (self._known_chain if self.session_reused else None)
            or peer_chain(self._records.object)
            or [self._certificate(der=True)]
        )

    def verify_peer(self) -> bool:
        return self.authorized

    def get_peer_certificate(self) -> dict[str, Any]:
        return describe_certificate(self._certificate(), self._certificate(der=True))

    def get_protocol(self) -> str | None:
        return None if self._records is None or self.handshaking else self._records.object.version()

    def get_cipher(self) -> dict[str, Any] | None:
        found = None if self._records is None or self.handshaking else self._records.object.cipher()
        return None if found is None else {'name': found[0], 'version': found[1], 'bits': found[2]}

    @property
    def servername(self) -> str | None:
        return self._servername

    @property
    def alpn_protocol(self) -> str | None:
        return None if self._records is None or self.handshaking else self._records.object.selected_alpn_protocol()

    @property
    def session_reused(self) -> bool:
        return self._records is not None and not self.handshaking and bool(self._records.object.session_reused)

    @property
    def session(self) -> Any:
        """The session as it is now, to be resumed by a later connection of the same context; None without one."""
        return None if self._records is None or self.handshaking else self._records.object.session
