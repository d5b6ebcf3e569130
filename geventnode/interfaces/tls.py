"""The contracts of what speaks TLS (Node's ``tls``)."""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute

from geventnode.interfaces.net import IServer, ISocket

__all__ = ['ITLSServer', 'ITLSSocket']


class ITLSSocket(ISocket):
    """A socket whose bytes are encrypted on their way (RFC 8446).

    What is written before the handshake is over waits for it. ``'end'`` comes when the peer has said so
    (``close_notify``); a connection that is cut off without that ends in ``TLSError``, since anybody could have cut it.

    Events, beside those of a socket: ``'secureConnect'`` () when the handshake is over and the peer is who it shall be.
    """

    encrypted: bool = Attribute('True.')
    authorized: bool = Attribute('Whether the peer has shown a certificate that is valid, and for its name.')
    authorization_error: str | None = Attribute(
        "Why it is not authorized. On a client with reject_unauthorized=False: Node's code for the fault of the "
        "certificate, such as 'CERT_HAS_EXPIRED', computed at the first access."
    )
    servername: str | None = Attribute('The name that the client asked for (SNI, RFC 6066, section 3), if any.')
    alpn_protocol: str | None = Attribute('The protocol that was agreed on (RFC 7301), if any.')
    session_reused: bool = Attribute('Whether an earlier session was resumed.')
    session: Any = Attribute(
        'The ``ssl.SSLSession`` as it is now, to resume in a later connection with the same context; None without one.'
    )

    def verify_peer() -> bool:
        """Return whether the peer has shown a certificate that was verified."""

    def get_peer_certificate() -> dict[str, Any]:
        """Return the peer's certificate: ``subject`` and ``issuer`` (dicts of short names, such as ``'CN'``),
        ``subject_alt_name``, ``valid_from``, ``valid_to``, ``serial_number``, ``fingerprint`` (SHA-1),
        ``fingerprint256``, ``raw`` (DER).

        Empty without one. Of a certificate that was not verified only the fingerprints and ``raw`` are told: nothing
        that it says of itself is to be believed.
        """

    def get_protocol() -> str | None:
        """Return the version, such as ``'TLSv1.3'``; None before the handshake is over."""

    def get_cipher() -> dict[str, Any] | None:
        """Return ``{'name', 'version', 'bits'}`` of the cipher suite; None before the handshake is over."""


class ITLSServer(IServer):
    """A server whose connections speak TLS.

    A connection is told of when its handshake is over; one that stalls or fails in it costs nobody else anything.

    Events, beside those of a server: ``'secureConnection'`` (socket), ``'tlsClientError'`` (exception, socket) for a
    handshake that failed; ``'connection'`` comes together with the former.
    """

    handshake_timeout: float = Attribute('Seconds for the handshake, from accepting; 0: no limit. 60.')

    def add_context(hostname: str, context: Any = None, **options: Any) -> None:
        """Use another certificate for clients that ask for ``hostname``, ``'example.org'`` or ``'*.example.org'`` for
        names one level below. ``context`` is an ``ssl.SSLContext``; or give the options of one: ``certfile``,
        ``keyfile`` and the others. All of it holds for these clients, also ``request_cert`` and ``minimum_version``.

        Raises ``InvalidInput`` for what is no host name, and as the constructor does.
        """
