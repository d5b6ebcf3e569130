"""Name the fault of a certificate that was accepted unverified.

``ssl`` verifies in a handshake only, and ends the connection if that fails. So a second handshake is begun in memory,
with a context that verifies: TLS 1.2 sends certificates unencrypted and before anything is signed (RFC 5246, section
7.3), so a ServerHello and the certificates are enough for OpenSSL's opinion. It costs about half a millisecond, and
nothing unless someone asks.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Any, cast

from geventnode.errors import GeventnodeError
from geventnode.tls.client_hello import offered_ciphers
from geventnode.tls.failures import failure_of

__all__ = ['peer_chain', 'verification_error']

_SERVER_HELLO, _CERTIFICATE = 2, 11

#: Extensions of the ServerHello: an empty renegotiation_info (RFC 5746), which OpenSSL demands.
_EXTENSIONS = bytes.fromhex('0005ff01000100')

#: The error for a server without a certificate.
NO_CERTIFICATE = 'ERR_TLS_NO_CERTIFICATE'

#: OpenSSL's errors for a verified certificate whose key is for other cipher suites.
AFTER_VERIFICATION = frozenset({'WRONG_CERTIFICATE_TYPE', 'UNKNOWN_CERTIFICATE_TYPE'})

#: Bytes in a record.
_RECORD = 16384


def peer_chain(connection: Any) -> list[bytes]:
    """Return the certificates (DER) that the peer of an ``ssl.SSLObject`` has sent, its own first."""
    if not hasattr(connection, 'get_unverified_chain'):
        # public since Python 3.13
        connection = getattr(connection, '_sslobj', connection)
    chain = connection.get_unverified_chain() if hasattr(connection, 'get_unverified_chain') else None
    return [each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in chain or ()]


def verification_error(chain: Sequence[bytes], context: ssl.SSLContext, name: str | None) -> str | None:
    """Return Node's code for the fault of ``chain``, None for none.

    :param context: one for clients that verifies, of TLS 1.2 at most.
    :param name: the host name or address to find in the first certificate; None: any.
    """
    if not chain:
        return NO_CERTIFICATE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        cipher = offered_ciphers(outgoing.read())[0]
    hello = bytes((3, 3)) + os.urandom(32) + bytes(1) + cipher + bytes(1) + _EXTENSIONS
    certificates = b''.join(_vector(each) for each in chain)
    incoming.write(_records(_message(_SERVER_HELLO, hello)))
    incoming.write(_records(_message(_CERTIFICATE, _vector(certificates))))
    try:
        connection.do_handshake()
    except ssl.SSLError as error:
        verified = isinstance(error, ssl.SSLWantReadError) or error.reason in AFTER_VERIFICATION
        if not verified or incoming.pending:
            return cast(GeventnodeError, failure_of(error, True)).code
    return None


def _vector(data: bytes) -> bytes:
    return len(data).to_bytes(3, 'big') + data


def _message(kind: int, data: bytes) -> bytes:
    return bytes((kind,)) + _vector(data)


def _records(data: bytes) -> bytes:
    pieces = [data[start : start + _RECORD] for start in range(0, len(data), _RECORD)]
    return b''.join(bytes((22, 3, 3)) + len(piece).to_bytes(2, 'big') + piece for piece in pieces)
