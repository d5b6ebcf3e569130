"""The identity in a certificate: its names and addresses (RFC 9525), its description, and its fault.

``ssl`` checks the name that is sent to the server (SNI) itself. The check here is for clients that send no name.

``ssl`` verifies a certificate in a handshake only, and ends the connection if that fails. To name the fault of a
certificate that was accepted unverified, a second handshake is begun in memory, with a context that verifies. TLS 1.2
sends certificates unencrypted and before any signature (RFC 5246, section 7.3): a ServerHello and the certificates are
enough for OpenSSL's verdict. It takes about half a millisecond, and happens only if a program reads the fault.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from geventnode.errors import GeventnodeError
from geventnode.tls.client_hello import offered_ciphers
from geventnode.tls.failures import translate_error

__all__ = [
    'describe_certificate',
    'is_address',
    'matches_fingerprint',
    'matches_host',
    'peer_chain',
    'verification_error',
]

#: The attribute types with short names (RFC 4514, section 3); others keep their name in ``ssl``.
SHORT_NAMES = {
    'commonName': 'CN',
    'countryName': 'C',
    'domainComponent': 'DC',
    'localityName': 'L',
    'organizationName': 'O',
    'organizationalUnitName': 'OU',
    'stateOrProvinceName': 'ST',
    'streetAddress': 'STREET',
    'userId': 'UID',
}


def is_address(host: str) -> bool:
    """Return whether ``host`` is an IP address, with or without a zone."""
    try:
        ipaddress.ip_address(host.partition('%')[0])
    except ValueError:
        return False
    return True


def matches_host(certificate: Mapping[str, Any], host: str) -> bool:
    """Return whether ``certificate``, in the form of ``getpeercert()``, is valid for ``host``.

    Only subjectAltName counts, and a wildcard is a whole leftmost label (RFC 9525, sections 6.3 and 6.4).
    """
    names = certificate.get('subjectAltName', ())
    if is_address(host):
        wanted = ipaddress.ip_address(host.partition('%')[0])
        return any(
            kind == 'IP Address' and is_address(value.strip()) and ipaddress.ip_address(value.strip()) == wanted
            for kind, value in names
        )
    wanted_name = host.lower().removesuffix('.')
    _, dot, parent = wanted_name.partition('.')
    for kind, value in names:
        name = value.lower().removesuffix('.')
        # a wildcard directly below a top-level domain would match all of its domains
        if kind == 'DNS' and (
            name == wanted_name or (dot and '.' in parent and name.startswith('*.') and name[2:] == parent)
        ):
            return True
    return False


#: Hash functions of fingerprints, by the number of their hexadecimal digits.
FINGERPRINTS = {40: 'sha1', 64: 'sha256'}


def matches_fingerprint(der: bytes | None, fingerprint: str) -> bool:
    """Return whether ``fingerprint`` is the hash of a certificate.

    :param der: the certificate, None if the peer has sent none.
    :param fingerprint: SHA-256 or SHA-1 as lower-case hexadecimal digits, without colons.
    """
    if der is None:
        return False
    return hashlib.new(FINGERPRINTS[len(fingerprint)], der, usedforsecurity=False).hexdigest() == fingerprint


def describe_certificate(certificate: Mapping[str, Any] | None, der: bytes | None) -> dict[str, Any]:
    """Return the dict of :meth:`geventnode.tls.TLSSocket.get_peer_certificate`.

    :param certificate: the result of ``getpeercert()``, which is empty if the certificate was not verified.
    :param der: the certificate itself, None without one.
    """
    if der is None:
        return {}
    described: dict[str, Any] = {
        'fingerprint': _fingerprint(hashlib.sha1(der, usedforsecurity=False)),
        'fingerprint256': _fingerprint(hashlib.sha256(der)),
        'raw': der,
    }
    if certificate:
        described |= {
            'subject': _name(certificate.get('subject', ())),
            'issuer': _name(certificate.get('issuer', ())),
            'subject_alt_name': tuple(certificate.get('subjectAltName', ())),
            'valid_from': certificate['notBefore'],
            'valid_to': certificate['notAfter'],
            'serial_number': certificate['serialNumber'],
        }
    return described


def _name(parts: Iterable[Iterable[tuple[str, str]]]) -> dict[str, str]:
    return {SHORT_NAMES.get(key, key): value for part in parts for key, value in part}


def _fingerprint(digest: Any) -> str:
    return ':'.join(f'{byte:02X}' for byte in digest.digest())


# -- the fault of a certificate ---------------------------------------------------------------------------------------

_SERVER_HELLO, _CERTIFICATE = 2, 11

#: Extensions of the ServerHello: an empty renegotiation_info (RFC 5746), which OpenSSL requires.
_EXTENSIONS = bytes.fromhex('0005ff01000100')

#: The error for a server without a certificate.
NO_CERTIFICATE = 'ERR_TLS_NO_CERTIFICATE'

#: OpenSSL's errors for a verified certificate with a key for other cipher suites.
AFTER_VERIFICATION = frozenset({'WRONG_CERTIFICATE_TYPE', 'UNKNOWN_CERTIFICATE_TYPE'})

#: Bytes in a record.
_RECORD_SIZE = 16384


def peer_chain(connection: Any) -> list[bytes]:
    """Return the certificates (DER) of a peer, its own first.

    :param connection: an ``ssl.SSLObject``.
    """
    if not hasattr(connection, 'get_unverified_chain'):
        # public since Python 3.13
        connection = getattr(connection, '_sslobj', connection)
    chain = connection.get_unverified_chain() if hasattr(connection, 'get_unverified_chain') else None
    return [each if isinstance(each, bytes) else ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in chain or ()]


def verification_error(chain: Sequence[bytes], context: ssl.SSLContext, name: str | None) -> str | None:
    """Return Node's code for the fault of ``chain``.

    It is None for a valid chain.

    :param context: a context for clients that verifies certificates, of TLS 1.2 at most.
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
    incoming.write(_split_records(_message(_SERVER_HELLO, hello)))
    incoming.write(_split_records(_message(_CERTIFICATE, _vector(certificates))))
    try:
        connection.do_handshake()
    except ssl.SSLError as error:
        verified = isinstance(error, ssl.SSLWantReadError) or error.reason in AFTER_VERIFICATION
        if not verified or incoming.pending:
            return cast(GeventnodeError, translate_error(error, True)).code
    return None


def _vector(data: bytes) -> bytes:
    return len(data).to_bytes(3, 'big') + data


def _message(kind: int, data: bytes) -> bytes:
    return bytes((kind,)) + _vector(data)


def _split_records(data: bytes) -> bytes:
    pieces = [data[start : start + _RECORD_SIZE] for start in range(0, len(data), _RECORD_SIZE)]
    return b''.join(bytes((22, 3, 3)) + len(piece).to_bytes(2, 'big') + piece for piece in pieces)
