"""A socket that speaks TLS.

A :class:`TLSSocket` sends and receives through its :class:`~geventnode.tls.engine.TLSEngine` instead of the kernel.
Everything else, such as back-pressure and timeouts, is that of the plain socket. The handshake runs in the hub as its
messages arrive, and costs no greenlet.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from itertools import islice
from time import monotonic
from typing import Any, ClassVar

import gevent
from gevent.event import Event
from zope.interface import implementer

from geventnode.errors import CertificateError, TLSError
from geventnode.interfaces import ITLSSocket
from geventnode.net.descriptors import take_raw
from geventnode.net.socket import MAX_VECTORS, Socket
from geventnode.stream.writable import Callback
from geventnode.tls.engine import CLOSE_NOTIFY, ContextChooser, TLSEngine
from geventnode.tls.failures import translate_error
from geventnode.tls.identity import describe_certificate, matches_fingerprint, matches_host, peer_chain
from geventnode.tls.nested import EncryptedRaw

__all__ = ['TLSSocket']

NOT_VERIFIED = 'certificates are not verified (reject_unauthorized, request_cert)'

#: A body up to this size is copied behind its head, so that both leave in one record.
JOIN_UP_TO = 16384


@implementer(ITLSSocket)
class TLSSocket(Socket):
    """A socket with TLS (RFC 8446), as Node's ``tls.TLSSocket``.

    Data that is written before the handshake is over waits for it. The stream ends with the peer's ``close_notify``;
    without one the connection ends in ``TLSError``, because a third party can have cut it. Clients get a socket from
    :func:`geventnode.tls.connect`, servers from :class:`geventnode.tls.Server`.

    Events, beside those of :class:`geventnode.net.Socket`: ``'secureConnect'`` () when the handshake is over and the
    peer's certificate was accepted.

    :param context: an ``ssl.SSLContext``.
    :param server_side: whether this is the server's end.
    :param choose_context: on the server, a function that returns the ``ssl.SSLContext`` to use instead of ``context``
        for the name that the client requests, or for None; or it returns the alert to send. It runs in the hub.
    :param servername: on the client, the name to request (SNI) and to find in the certificate.
    :param checked_host: the name to find in the certificate instead; ``context`` must not check names then.
    :param fingerprint: the hash of the peer's certificate, as of ``matches_fingerprint``; ``''``: any.
    :param session: an ``ssl.SSLSession`` to resume.
    :param handshake_on_connect: whether the handshake begins when there is a connection.
    :param check_chain: a function that returns the fault of the peer's certificates, None for none. It is called at the
        first access to :attr:`authorization_error`, if ``context`` does not verify them.
    :param known_chain: the certificates of the connection that ``session`` is from, which are not sent again.

    Other options are those of :class:`geventnode.net.Socket`.
    """

    events: ClassVar[frozenset[str]] = Socket.events | {'secureConnect'}

    #: True.
    encrypted: bool = True
    #: Whether the handshake is still to come, or under way.
    handshaking: bool = True

    _can_sendfile: bool = False
    #: Why the peer is not authorized, None if it is.
    _authorization_error: str | None = None
    #: Whether ``check_chain`` is still to be called.
    _chain_unchecked: bool = False

    #: Called in the hub when the handshake is over, with None, or with the error that ended it.
    _on_handshake: Callable[[TLSSocket, BaseException | None], object] | None = None
    #: Called in the hub when the peer has begun with HTTP instead of a handshake, before this socket is destroyed.
    _on_plain_http: Callable[[TLSSocket], object] | None = None

    # Arguments. They are set for one end only: the dict of an instance with many attributes takes five times the memory
    # of one with few.
    _server_side: bool = False
    _context_chooser: ContextChooser | None = None
    _check_chain: Callable[[list[bytes]], str | None] | None = None
    _known_chain: list[bytes] | None = None
    _servername: str | None = None
    _checked_host: str | None = None
    _fingerprint: str = ''
    _session: Any = None
    _handshake_on_connect: bool = True

    _engine: TLSEngine | None = None
    #: Set when the handshake is over.
    _handshake_over: Event | None = None
    _close_notify_queued: bool = False

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        servername: str | None = None,
        checked_host: str | None = None,
        fingerprint: str = '',
        session: Any = None,
        handshake_on_connect: bool = True,
        choose_context: ContextChooser | None = None,
        check_chain: Callable[[list[bytes]], str | None] | None = None,
        known_chain: list[bytes] | None = None,
        **options: Any,
    ) -> None:
        self._context = context
        if server_side:
            self._server_side = True
            self._context_chooser = choose_context
        else:
            self._check_chain = check_chain
            self._known_chain = known_chain
            self._servername = servername
            self._checked_host = checked_host
            self._fingerprint = fingerprint
            self._session = session
        if not handshake_on_connect:
            self._handshake_on_connect = False
        super().__init__(**options)

    # -- the handshake ------------------------------------------------------------------------------------------------

    def _attach(self, raw: Any, peer: Any) -> None:
        super()._attach(raw, peer)
        if self._handshake_on_connect:
            self._start_handshake()

    def _start_handshake(self, received: bytes = b'') -> None:
        """Begin the handshake.

        :param received: the bytes of it that the peer has sent already.
        """
        engine = self._engine = TLSEngine(
            self._raw,
            self._context if self._context_chooser is None else self._choose_context,
            self._on_engine_handshake,
            server_side=self._server_side,
            servername=self._servername,
            session=self._session,
        )
        self._sender = engine
        self._receiver = engine
        try:
            if not self._server_side:
                with contextlib.suppress(BlockingIOError):
                    engine.do_handshake()
            if received:
                with contextlib.suppress(BlockingIOError):
                    self._deliver(engine.decrypt(received))
        except OSError as error:
            self._on_socket_error(error)
            return
        if engine.unsent:
            self._watch_writable()

    def _choose_context(self, servername: str | None) -> ssl.SSLContext | int:
        assert self._context_chooser is not None
        self._servername = servername
        chosen = self._context_chooser(servername)
        if not isinstance(chosen, int):
            self._context = chosen
        return chosen

    def _deliver(self, data: bytes) -> None:
        self.bytes_read += len(data)
        if self._protocol is not None:
            self._protocol.data_received(data)
        else:
            self._buffer_input(data)

    def _on_engine_handshake(self) -> None:
        """Check the peer's certificate, and send the data that waits. Runs in the hub when the handshake is over."""
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
        self._on_plain_http = None
        if self._context.verify_mode is ssl.CERT_NONE:
            self._authorization_error = NOT_VERIFIED
            self._chain_unchecked = self._check_chain is not None
        elif self._certificate(der=True) is None:
            self._authorization_error = 'the peer has shown no certificate'
        if self._queue:
            # data that was written meanwhile, and the end of this side
            self._hub.loop.run_callback(self._on_writable)
        if self._handshake_over is not None:
            self._handshake_over.set()
        if self._listeners:
            gevent.spawn(self.emit, 'secureConnect')
        if self._on_handshake is not None:
            self._on_handshake(self, None)

    def wait_connected(self, timeout: float | None = None) -> Socket:
        """Return the socket when the handshake is over.

        Blocks until then, or until the connection or the handshake has failed.

        :param timeout: seconds; None: no limit.

        Raises ``TLSError``, among them ``CertificateError``, ``TimeoutError`` after ``timeout`` seconds, and as
        :meth:`geventnode.net.Socket.wait_connected` does.
        """
        self._check_thread()
        with gevent.Timeout(timeout, TimeoutError(f'no TLS connection after {timeout} seconds')):
            super().wait_connected()
            if self.handshaking:
                self._handshake_over = Event()
                self._handshake_over.wait()
        return super().wait_connected()

    def _destroy(self) -> None:
        super()._destroy()
        if self._engine is not None:
            self._engine.cancel_handshake()
        if self._handshake_over is not None:
            self._handshake_over.set()
        if self.handshaking and self._on_handshake is not None:
            self._on_handshake(
                self, self._error or TLSError('the connection was given up during the TLS handshake', 'ECONNRESET')
            )

    def _discard_after_fork(self) -> None:
        self._on_handshake = None
        super()._discard_after_fork()

    # -- receiving: run by the hub ------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        super()._on_readable()
        engine = self._engine
        if engine is not None and not self.destroyed:
            if engine.unsent:
                self._watch_writable()
            if engine.ended and not self._eof:
                # the end came with the last record: no further input would report it
                super()._on_readable()

    def _receive_more(self) -> bytes:
        # the end can come with the last record, and only the hub reports it
        return b''

    def _on_eof(self) -> None:
        # before the handshake, while a PROXY header is read, nothing can be cut off
        self.truncated = self._engine is not None and self._engine.truncated
        if self._protocol is None and self.truncated:
            self._on_socket_error(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, 'no close_notify'))
        else:
            super()._on_eof()

    def _has_input(self) -> bool:
        if self._engine is not None and self._engine.ended:
            # it came with the last record, which has woken the caller
            return True
        if not super()._has_input():
            return False
        # it can be just a session ticket
        self._on_readable()
        return self.destroyed or self._eof or bool(self._received)

    def _on_socket_error(self, error: BaseException) -> None:
        plain_http = self._engine.plain_http if self.handshaking and self._engine is not None else ''
        translated = translate_error(error, self.handshaking, plain_http)
        if plain_http == 'request' and self._on_plain_http is not None:
            self._on_plain_http(self)
        super()._on_socket_error(translated)

    def _detach_plain(self) -> tuple[Any, Any]:
        """Give away the raw connection of a failing handshake.

        Return the raw socket and the peer's address.

        For servers that respond to plain HTTP.
        """
        return take_raw(self._raw), self._peer

    def _take_raw(self) -> EncryptedRaw:
        if self._engine is None or self.handshaking:
            raise RuntimeError('the TLS handshake of this TLSSocket is not over yet')
        return EncryptedRaw(super()._take_raw(), self._engine)

    @property
    def _peer_silent(self) -> bool:
        """Whether the peer has not sent a byte."""
        return self._engine is None or not self._engine.first_bytes

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send_vectored(self, head: bytes, body: bytes | memoryview) -> bool:
        if len(body) <= JOIN_UP_TO:
            return self._send(b''.join((head, body)))
        self._send(head)
        return self._send(body)

    def _send_pieces(self, pieces: list[bytes | memoryview], size: int) -> bool:
        # TLS encrypts into records of its own sizes
        return self._send(b''.join(pieces))

    def _watch_writable(self) -> None:
        if self.handshaking and (self._engine is None or not self._engine.unsent):
            # the kernel takes more, but there is no ciphertext yet
            return
        super()._watch_writable()

    def _send_queued(self) -> list[Callback] | None:
        engine = self._engine
        if engine is None:
            return []
        if engine.unsent:
            size = len(engine.unsent)
            try:
                engine.flush()
            except BlockingIOError:
                if len(engine.unsent) != size:
                    # progress, although no piece of plaintext counts as sent: a peer can be slow
                    self._last_activity = self._last_sent = monotonic()
                self._watch_writable()
                return []
            except OSError as error:
                self._on_send_error(error)
                return None
        if self.writable_ended and not self._close_notify_queued and not self.destroyed:
            self._close_notify_queued = True
            self._enqueue(CLOSE_NOTIFY, None)
        return super()._send_queued()

    def _send_some(self, queue: Any) -> int:
        first = queue[0][0]
        if len(queue) == 1 or first is CLOSE_NOTIFY:
            return self._sender.send(first)
        pieces = [data for data, _ in islice(queue, MAX_VECTORS) if data is not CLOSE_NOTIFY]
        return self._sender.send(b''.join(pieces))

    # -- the peer -----------------------------------------------------------------------------------------------------

    def _established(self) -> Any:
        """Return the ``ssl.SSLObject`` after the handshake, None before."""
        return None if self._engine is None or self.handshaking else self._engine.object

    def _certificate(self, der: bool = False) -> Any:
        return None if self._engine is None or self._engine.handshaking else self._engine.object.getpeercert(der)

    @property
    def authorized(self) -> bool:
        """Whether the peer's certificate is valid, also for its name."""
        return not self.handshaking and self.authorization_error is None

    @property
    def authorization_error(self) -> str | None:
        """The reason why the peer is not authorized, None if it is.

        With ``reject_unauthorized=False`` on a client, this is Node's code for the fault of the certificate, such as
        ``'CERT_HAS_EXPIRED'``, computed at the first access.
        """
        if self._chain_unchecked and self._check_chain is not None and self._engine is not None:
            self._chain_unchecked = False
            self._authorization_error = self._check_chain(self._unverified_chain or [])
        return self._authorization_error

    @property
    def _unverified_chain(self) -> list[bytes] | None:
        """The certificates (DER) of an unverified server, its own first.

        It is None if they were verified.
        """
        if self._check_chain is None or self._engine is None or self.handshaking:
            return None
        # the sessions of ssl keep the first one only
        return (
            (self._known_chain if self.session_reused else None)
            or peer_chain(self._engine.object)
            or [self._certificate(der=True)]
        )

    def verify_peer(self) -> bool:
        """Return whether the peer has shown a certificate that was verified."""
        return self.authorized

    def get_peer_certificate(self) -> dict[str, Any]:
        """Return the peer's certificate as a dict, which is empty without one.

        Its keys are ``subject`` and ``issuer`` (dicts of short names, such as ``'CN'``), ``subject_alt_name``,
        ``valid_from``, ``valid_to``, ``serial_number``, ``fingerprint`` (SHA-1), ``fingerprint256`` and ``raw`` (DER).
        A certificate that was not verified has the fingerprints and ``raw`` only, because its statements cannot be
        believed.
        """
        return describe_certificate(self._certificate(), self._certificate(der=True))

    def get_protocol(self) -> str | None:
        """Return the version of TLS, such as ``'TLSv1.3'``.

        It is None before the handshake is over.
        """
        established = self._established()
        return None if established is None else established.version()

    def get_cipher(self) -> dict[str, Any] | None:
        """Return ``{'name', 'version', 'bits'}`` of the cipher suite.

        It is None before the handshake is over.
        """
        established = self._established()
        found = None if established is None else established.cipher()
        return None if found is None else {'name': found[0], 'version': found[1], 'bits': found[2]}

    @property
    def servername(self) -> str | None:
        """The name that the client requested, None without one.

        See SNI, RFC 6066, section 3.
        """
        return self._servername

    @property
    def alpn_protocol(self) -> str | None:
        """The negotiated protocol (ALPN, RFC 7301), None without one."""
        established = self._established()
        return None if established is None else established.selected_alpn_protocol()

    @property
    def session_reused(self) -> bool:
        """Whether an earlier session was resumed."""
        established = self._established()
        return established is not None and bool(established.session_reused)

    @property
    def session(self) -> Any:
        """The current ``ssl.SSLSession``, None without one.

        A later connection can resume it with its ``session`` option.
        """
        established = self._established()
        return None if established is None else established.session
