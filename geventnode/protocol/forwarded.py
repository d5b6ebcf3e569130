"""Where a request comes from when proxies pass it on: Forwarded (RFC 7239) and the X-Forwarded-* fields.

Each proxy adds, at the end, what it has seen of the one before it, and a client may send whatever it likes in front of
that. So lists are read from their end, one step for each proxy that is trusted, and whatever is left of what the last
of them has added is the client's own invention and never looked at. Nothing here raises: what is malformed ends the
walk, and the last hop that is known is the answer.

Lists are cut at commas before anything else. With quotes first, which RFC 7239 asks for, a client that opens one and
does not close it would swallow what the proxies add behind; this way an element with a comma in quotes is malformed,
and no proxy makes such addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from geventnode.errors import InvalidInput
from geventnode.protocol.grammar import is_host, is_token

__all__ = [
    'FORWARDED',
    'FORWARDED_FIELDS',
    'UNIX',
    'Address',
    'ClientAddress',
    'ForwardedPolicy',
    'TrustedProxies',
    'forwarded_fields',
    'ip_address',
    'scheme_fields',
]

FORWARDED = 'forwarded'

#: The fields that can be believed, in lower case.
FORWARDED_FIELDS = (FORWARDED, 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port')

#: What proxies call the schemes of HTTP; some name the protocol that is spoken after an upgrade (RFC 6455, section 3).
SCHEMES = {'http': 'http', 'https': 'https', 'ws': 'http', 'wss': 'https'}
DEFAULT_PORTS = {'http': '80', 'https': '443'}

#: Stands for every peer on a Unix socket among the trusted proxies.
UNIX = 'unix'

#: Bits before the IPv4 address in an IPv6 one (RFC 4291, section 2.5.5.2).
MAPPED_PREFIX = 96

#: Characters of the longest IP address.
LONGEST = 45

_PAIR = re.compile(r'(?:([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s=;"]+)))?[ \t]*(?:;[ \t]*|\Z)')
_ESCAPED = re.compile(r'\\(.)')
_PORT = re.compile('[0-9]{1,5}')


# -- trusted proxies --------------------------------------------------------------------------------------------------


class Address(NamedTuple):
    """An IP address: as text, and as a number of so many bits."""

    text: str
    bits: int
    number: int

    @classmethod
    def from_ip(cls, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Address:
        """Return what ``ip`` is here."""
        mapped = getattr(ip, 'ipv4_mapped', None) or ip
        return cls(str(mapped), mapped.max_prefixlen, int(mapped))

    @classmethod
    def from_bytes(cls, packed: bytes) -> Address:
        """Return the address of 4 or 16 bytes in network order."""
        return cls.from_ip(ipaddress.ip_address(packed))


@lru_cache(1024)
def _known(text: str) -> Address | None:
    try:
        return Address.from_ip(ipaddress.ip_address(text))
    except ValueError:
        return None


def ip_address(text: str) -> Address | None:
    """Return the IP address that ``text`` is, IPv6 without brackets; None for anything else, and for one that only has
    a meaning on its own link (with ``%``)."""
    return _known(text) if len(text) <= LONGEST and '%' not in text else None


class TrustedProxies:
    """Whose word is taken.

    :param items: addresses and networks (CIDR) as text or objects of :mod:`!ipaddress`, and ``'unix'``.
    :param option: the name of the setting, for errors.

    Raises ``TypeError`` and ``InvalidInput`` for what is none of these.
    """

    def __init__(self, items: Iterable[Any], option: str = 'trusted_proxies') -> None:
        #: What was named, as text.
        self.items: tuple[str, ...] = ()
        self._networks: dict[tuple[int, int], set[int]] = {}
        self._unix = False
        if isinstance(items, str):
            items = [items]
        for item in items:
            self.items += (str(item),)
            if item == UNIX:
                self._unix = True
            else:
                self._add(_network(item, option))

    def _add(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
        mapped = getattr(network.network_address, 'ipv4_mapped', None)
        if mapped is not None and network.prefixlen >= MAPPED_PREFIX:
            network = ipaddress.ip_network((mapped, network.prefixlen - MAPPED_PREFIX))
        key = network.max_prefixlen, int(network.netmask)
        self._networks.setdefault(key, set()).add(int(network.network_address))

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def trusts(self, address: str | None) -> bool:
        """Return whether the peer at ``address``, an IP address, is one of the proxies; None: one on a Unix socket."""
        if address is None:
            return self._unix
        # the link that an address belongs to is no part of it
        found = ip_address(address.partition('%')[0])
        if found is not None:
            for (bits, mask), numbers in self._networks.items():
                if bits == found.bits and found.number & mask in numbers:
                    return True
        return False


def _network(item: Any, option: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    kinds = (str, ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network)
    if not isinstance(item, kinds):
        raise TypeError(f'{option} must be IP addresses and networks, not {type(item).__name__}')
    try:
        return ipaddress.ip_network(item)
    except ValueError as error:
        raise InvalidInput(
            f'{option}: {item!r} is neither an IP address, nor a network in CIDR notation (without host '
            f'bits), nor {UNIX!r}'
        ) from error


# -- settings ----------------------------------------------------------------------------------------------------


def forwarded_fields(name: str, value: Any) -> tuple[str, ...]:
    """Return ``value``, that of the setting ``name``, as lower-cased names of fields.

    Raises ``TypeError`` and ``InvalidInput`` for what is none of :data:`FORWARDED_FIELDS`, and for both kinds at once.
    """
    names = tuple(str(each).lower() for each in ((value,) if isinstance(value, str) else value))
    for each in names:
        if each not in FORWARDED_FIELDS:
            raise InvalidInput(f'{name} must be of {", ".join(FORWARDED_FIELDS)}, not {each!r}')
    if FORWARDED in names and len(names) > 1:
        # who sets one of them hardly ever removes the other, and so lets a client's pass
        raise InvalidInput(f'{name} must be {FORWARDED!r} alone, or fields that begin with x-forwarded')
    return names


def scheme_fields(name: str, value: Any) -> dict[str, str]:
    """Return ``value``, that of the setting ``name``, with lower-cased names of fields.

    Raises ``TypeError`` and ``InvalidInput`` unless it maps names of fields to text.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f'{name} must be a mapping, not {type(value).__name__}')
    for field, said in value.items():
        if not (isinstance(field, str) and is_token(field) and isinstance(said, str)):
            raise InvalidInput(f'{name} must map names of fields to text, not {field!r} to {said!r}')
    return {field.lower(): said for field, said in value.items()}


# -- the walk ----------------------------------------------------------------------------------------------------


class ClientAddress(NamedTuple):
    """Where a request comes from, and what it was asked of, as the client saw it."""

    address: str | None
    port: int | None
    scheme: str
    host: str | None


class ForwardedPolicy:
    """Which proxies are believed, and which fields of theirs.

    :param trusted: the proxies.
    :param fields: the names of fields that every one of these proxies sets or removes, in lower case.
    :param schemes: names of further such fields, in lower case, to the values by which they say https.
    :param schemes_of: whose word ``schemes`` are, whoever the client is; None: that of ``trusted``.
    """

    def __init__(
        self,
        trusted: TrustedProxies,
        fields: Collection[str],
        schemes: Mapping[str, str] | None = None,
        schemes_of: TrustedProxies | None = None,
    ) -> None:
        self._trusted = trusted
        self._fields = frozenset(fields)
        self._schemes = schemes or {}
        self._schemes_of = schemes_of

    def resolve_scheme(self, headers: Mapping[str, Any], direct: ClientAddress, peer: str | None) -> ClientAddress:
        """Return ``direct`` with the scheme that the proxy at ``peer`` says, which has made the connection, where that
        does not depend on who its client is. Never raises, never switches."""
        if self._schemes_of is None or not self._schemes_of.trusts(peer):
            return direct
        return self._with_scheme(headers, direct)

    def resolve(self, headers: Mapping[str, Any], direct: ClientAddress) -> ClientAddress:
        """Return where a request with ``headers`` comes from, whose connection comes from ``direct`` (without an
        address: from a Unix socket). Never raises, never switches."""
        if not self._trusted.trusts(direct.address):
            return direct
        if self._schemes_of is None:
            direct = self._with_scheme(headers, direct)
        if FORWARDED in self._fields:
            return self._walk_elements(headers.get(FORWARDED, ''), direct)
        return self._walk_fields(headers, direct)

    def _with_scheme(self, headers: Mapping[str, Any], direct: ClientAddress) -> ClientAddress:
        said = [headers[field] == secure for field, secure in self._schemes.items() if field in headers]
        # where they contradict each other, nobody can be sure that it was https
        return direct._replace(scheme='https' if all(said) else 'http') if said else direct

    # -- Forwarded ----------------------------------------------------------------------------------------------------

    def _walk_elements(self, value: str, origin: ClientAddress) -> ClientAddress:
        for element in reversed(value.split(',')):
            pairs = _pairs(element)
            if pairs is None:
                break
            node = _node(pairs.get('for', ''), bracketed=True)
            host = pairs.get('host', '')
            origin = origin._replace(
                scheme=SCHEMES.get(pairs.get('proto', '').lower(), origin.scheme),
                host=host if _is_authority(host) else origin.host,
            )
            if node is None:
                break
            origin = origin._replace(address=node[0], port=node[1])
            if not self._trusted.trusts(origin.address):
                break
        return origin

    # -- X-Forwarded-* ------------------------------------------------------------------------------------------------

    def _walk_fields(self, headers: Mapping[str, Any], origin: ClientAddress) -> ClientAddress:
        address, port = origin.address, origin.port
        for element in reversed(self._value(headers, 'x-forwarded-for').split(',')):
            node = _node(element.strip(' \t'), bracketed=False)
            if node is None:
                break
            address, port = node
            if not self._trusted.trusts(address):
                break
        scheme = SCHEMES.get(self._last(headers, 'x-forwarded-proto').lower(), origin.scheme)
        named = self._last(headers, 'x-forwarded-host')
        host = _with_port(
            named if _is_authority(named) else origin.host, scheme, self._last(headers, 'x-forwarded-port')
        )
        return ClientAddress(address, port, scheme, host)

    def _value(self, headers: Mapping[str, Any], field: str) -> str:
        return str(headers.get(field, '')) if field in self._fields else ''

    def _last(self, headers: Mapping[str, Any], field: str) -> str:
        """Return the last of several values: that of the proxy which is next to us, and surely trusted."""
        return self._value(headers, field).rpartition(',')[2].strip(' \t')


def _is_authority(text: str) -> bool:
    return text[:1] not in ('', ':') and is_host(text)


def _pairs(element: str) -> dict[str, str] | None:
    """Return the parameters of a forwarded-element by lower-cased name; None for what is none (RFC 7239, section 4).
    Blanks around semicolons are let pass, as many write them."""
    found: dict[str, str] = {}
    element = element.strip(' \t')
    position = 0
    while position < len(element):
        pair = _PAIR.match(element, position)
        if pair is None:
            return None
        position = pair.end()
        name, quoted, token = pair.groups()
        if name is None:
            continue
        name = name.lower()
        if name in found or not is_token(name) or not (token is None or is_token(token)):
            return None
        found[name] = _ESCAPED.sub(r'\1', quoted) if token is None else token
    return found or None


def _node(text: str, bracketed: bool) -> tuple[str, int | None] | None:
    """Return the IP address and the port that a proxy names; None for anything else, so also for ``unknown`` and names
    that hide an address (RFC 7239, section 6).

    :param bracketed: whether an IPv6 address must be in brackets, as in Forwarded; elsewhere it mostly is not.
    """
    if text[:1] == '[':
        literal, bracket, rest = text[1:].partition(']')
        if not bracket or ':' not in literal or (rest and rest[0] != ':'):
            return None
        has_port, port = bool(rest), rest[1:]
    elif text.count(':') == 1:
        literal, _, port = text.partition(':')
        has_port = True
    else:
        if bracketed and ':' in text:
            return None
        literal, has_port, port = text, False, ''
    address = ip_address(literal)
    if address is None:
        return None
    if not has_port:
        return address.text, None
    if _PORT.fullmatch(port) is not None and int(port) <= 65535:
        return address.text, int(port)
    # a port may be hidden in Forwarded
    return (address.text, None) if bracketed and port[:1] == '_' and is_token(port) else None


def _with_port(host: str | None, scheme: str, port: str) -> str | None:
    """Return ``host`` with the port that the client connected to, unless it is the one that needs no mention."""
    if host is None or _PORT.fullmatch(port) is None or not 0 < int(port) <= 65535:
        return host
    name = host if host.endswith(']') or ':' not in host else host.rpartition(':')[0]
    port = port.lstrip('0')
    return name if port == DEFAULT_PORTS[scheme] else f'{name}:{port}'
