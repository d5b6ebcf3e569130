"""The contracts of sockets and servers that speak TLS (Node's ``tls``)."""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute

from geventnode.interfaces.net import IServer, ISocket

__all__ = ['ITLSServer', 'ITLSSocket']


class ITLSSocket(ISocket):
    """A socket with encryption; see :class:`geventnode.tls.TLSSocket`."""

    encrypted: bool = Attribute('True.')
    authorized: bool = Attribute('Whether the peer has shown a certificate that is valid, and valid for its name.')
    authorization_error: str | None = Attribute('The reason why the peer is not authorized, None if it is.')
    servername: str | None = Attribute(
        'The name that the client requested (SNI, RFC 6066, section 3), None without one.'
    )
    alpn_protocol: str | None = Attribute('The negotiated protocol (ALPN, RFC 7301), None without one.')
    session_reused: bool = Attribute('Whether an earlier session was resumed.')
    session: Any = Attribute('The current ``ssl.SSLSession``, to resume in a later connection; None without one.')

    def verify_peer() -> bool:
        """Return whether the certificate was verified; see :meth:`geventnode.tls.TLSSocket.verify_peer`."""

    def get_peer_certificate() -> dict[str, Any]:
        """Return the peer's certificate; see :meth:`geventnode.tls.TLSSocket.get_peer_certificate`."""

    def get_protocol() -> str | None:
        """Return the version of TLS; see :meth:`geventnode.tls.TLSSocket.get_protocol`."""

    def get_cipher() -> dict[str, Any] | None:
        """Return the cipher suite; see :meth:`geventnode.tls.TLSSocket.get_cipher`."""


class ITLSServer(IServer):
    """A server with encrypted connections; see :class:`geventnode.tls.Server`."""

    handshake_timeout: float = Attribute('Seconds for the handshake, from accepting; 0: no limit. 60.')

    def add_context(hostname: str, context: Any = None, **options: Any) -> None:
        """Use another context for clients that request a name; see :meth:`geventnode.tls.Server.add_context`."""
