"""Encode host names in ASCII for the resolver, TLS and HTTP.

Python's own codec is IDNA 2003: it encodes ``straße`` as ``strasse``, which is another host with another owner. The
``idna`` package encodes as browsers and ``requests`` do (UTS 46, non-transitional). Without it, a name is refused if
the two encodings can differ.
"""

from __future__ import annotations

import stringprep

from geventnode.errors import AT_SIGNS, InvalidInput

__all__ = ['ascii_name', 'shown_host', 'without_root']

#: Characters that IDNA 2003 replaces or removes and IDNA 2008 keeps (UTS 46, section 4, deviation characters); the
#: capital ß is mapped to the small one.
DEVIATING = frozenset('\u00df\u1e9e\u03c2\u200c\u200d')

#: Characters of a host name with the dot of the root (RFC 1035, section 2.3.4). Python's codec takes seconds for a
#: million of them.
MAX_LENGTH = 254


def ascii_name(host: str) -> str:
    """Return ``host`` in ASCII (RFC 5890). Raises ``InvalidInput`` if it is not a host name."""
    if host.isascii():
        return host
    if len(host) > MAX_LENGTH:
        raise InvalidInput(f'host has more than {MAX_LENGTH} characters: {host[:MAX_LENGTH]!r}...')
    try:
        import idna
    except ImportError:
        return _without_idna(host)
    try:
        return idna.encode(host, uts46=True).decode('ascii')
    except UnicodeError as error:
        raise _invalid(host, error) from None


def _without_idna(host: str) -> str:
    for character in host:
        # characters assigned after Unicode 3.2 are unknown to IDNA 2003
        if character in DEVIATING or stringprep.in_table_a1(character):
            raise InvalidInput(
                f'host {shown_host(host)!r} has {character!r}, which cannot be encoded safely without the '
                "idna package: pip install 'geventnode[idna]', or write the name as xn--..."
            )
    try:
        return host.encode('idna').decode('ascii')
    except UnicodeError as error:
        raise _invalid(host, error) from None


def _invalid(host: str, error: UnicodeError) -> InvalidInput:
    shown = shown_host(host)
    # the error can quote them
    reason = f' ({error})' if shown == host else ''
    return InvalidInput(f'host is not an internationalized host name: {shown!r}{reason}')


def shown_host(host: str) -> str:
    """Return ``host`` for messages: with ``***`` instead of user and password, which a host does not have."""
    _, at, rest = host.translate(AT_SIGNS).rpartition('@')
    return f'***@{rest}' if at else host


def without_root(name: str) -> str:
    """Return ``name`` without the dot of the root zone at its end.

    The dot is for the resolver only: certificates and SNI have none (RFC 6066, section 3).
    """
    return name.removesuffix('.')
