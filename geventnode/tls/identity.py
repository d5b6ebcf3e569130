"""Who a certificate is for: names and addresses (RFC 9525), and what a certificate says of itself as a dict.

``ssl`` checks names itself, with the name that is sent to the server (SNI). The check here is for those who do not
want a name to be sent.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ['describe_certificate', 'is_address', 'matches_fingerprint', 'matches_host']

#: The attribute types with short names (RFC 4514, section 3); others keep the name that ``ssl`` has for them.
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
    """Return whether ``host`` is an IP address, maybe with a zone."""
    try:
        ipaddress.ip_address(host.partition('%')[0])
    except ValueError:
        return False
    return True


def matches_host(certificate: Mapping[str, Any], host: str) -> bool:
    """Return whether ``certificate``, as ``ssl`` describes it, is for ``host``.

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
        # a wildcard directly below a top-level domain would be for the whole world
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
    """Return what :meth:`geventnode.interfaces.ITLSSocket.get_peer_certificate` does.

    :param certificate: as ``ssl`` describes it, empty when it was not verified.
    :param der: the certificate itself.
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
