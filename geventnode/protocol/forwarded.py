"""The client address behind trusted proxies: Forwarded (RFC 7239) and the X-Forwarded-* fields.

Each proxy appends the address of its own peer to the list, and a client can send any list of its own. Lists are
therefore read from their end, one element for each trusted proxy. The elements to the left of the last one that a
trusted proxy added could be forged by the client, and are ignored. A malformed element ends the walk without an error;
the result is the last known hop.

Lists are split at commas first. RFC 7239 requires quoted strings to be parsed first. A client that opens a quote
without closing it could then hide the elements that proxies append. Here, an element with a comma in quotes is
malformed. Proxies do not send such addresses.

An IPv4-mapped IPv6 address, as on a socket that accepts both families, is an IPv4 address here. A list of proxies
therefore needs each one only once. Networks are stored by their masks: a look-up takes one step for each prefix length,
regardless of the number of networks.
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

#: The supported fields, in lower case.
FORWARDED_FIELDS = (FORWARDED, 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port')

#: The schemes in these fields; some proxies name the protocol after an upgrade (RFC 6455, section 3).
SCHEMES = {'http': 'http', 'https': 'https', 'ws': 'http', 'wss': 'https'}
DEFAULT_PORTS = {'http': '80', 'https': '443'}

#: The name of every peer on a Unix socket in a list of trusted proxies.
UNIX = 'unix'

#: Bits before the IPv4 address in an IPv6 one (RFC 4291, section 2.5.5.2).
MAPPED_PREFIX = 96

#: The maximum number of characters of an IP address.
LONGEST = 45

_PAIR = re.compile(r'(?:([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s=;"]+)))?[ \t]*(?:;[ \t]*|\Z)')
_ESCAPED = re.compile(r'\\(.)')
_PORT = re.compile('[0-9]{1,5}')


# -- trusted proxies --------------------------------------------------------------------------------------------------


class Address(NamedTuple):
    """An IP address: its text, its width in bits and its number."""

    text: str
    bits: int
    number: int

    @classmethod
    def from_ip(cls, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Address:
        """Make the address from an object of :mod:`!ipaddress`."""
        mapped = getattr(ip, 'ipv4_mapped', None) or ip
        return cls(str(mapped), mapped.max_prefixlen, int(mapped))

    @classmethod
    def from_bytes(cls, packed: bytes) -> Address:
        """Make the address from 4 or 16 bytes in network order."""
        return cls.from_ip(ipaddress.ip_address(packed))


@lru_cache(1024)
def _known(text: str) -> Address | None:
    try:
        return Address.from_ip(ipaddress.ip_address(text))
    except ValueError:
        return None


def ip_address(text: str) -> Address | None:
    """Parse an IP address, with an IPv6 address without brackets.

    :returns: None for any other text, also for an address with a zone (``%``).
    """
    return _known(text) if len(text) <= LONGEST and '%' not in text else None


class TrustedProxies:
    """The proxies with trusted fields.

    :param items: addresses and networks (CIDR) as text or objects of :mod:`!ipaddress`, and ``'unix'``.
    :param option: the name of the setting, for errors.
    :raises TypeError: an item is of another type.
    :raises InvalidInput: an item is neither an address nor a network.
    """

    def __init__(self, items: Iterable[Any], option: str = 'trusted_proxies') -> None:
        #: The items as text.
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
        """Return whether the peer at an IP address is a trusted proxy.

        :param address: the IP address; None for a Unix socket.
        """
        if address is None:
            return self._unix
        # the zone is not a part of the address
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
    """Return the value of a setting as lower-case field names.

    :param name: the name of the setting, for errors.
    :param value: one name or several.
    :raises InvalidInput: a name is not in :data:`FORWARDED_FIELDS`, or ``forwarded`` is not the only one.
    """
    names = tuple(str(each).lower() for each in ((value,) if isinstance(value, str) else value))
    for each in names:
        if each not in FORWARDED_FIELDS:
            raise InvalidInput(f'{name} must be of {", ".join(FORWARDED_FIELDS)}, not {each!r}')
    if FORWARDED in names and len(names) > 1:
        # a proxy that sets one kind rarely removes the other, so a client's own fields would pass
        raise InvalidInput(f'{name} must be {FORWARDED!r} alone, or fields that begin with x-forwarded')
    return names


def scheme_fields(name: str, value: Any) -> dict[str, str]:
    """Return the value of a setting with lower-case field names.

    :param name: the name of the setting, for errors.
    :param value: a mapping of field names to text.
    :raises TypeError: it is not a mapping.
    :raises InvalidInput: it has other keys or values.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f'{name} must be a mapping, not {type(value).__name__}')
    for field, secure in value.items():
        if not (isinstance(field, str) and is_token(field) and isinstance(secure, str)):
            raise InvalidInput(f'{name} must map names of fields to text, not {field!r} to {secure!r}')
    return {field.lower(): secure for field, secure in value.items()}


# -- the walk ----------------------------------------------------------------------------------------------------


class ClientAddress(NamedTuple):
    """The client's address, and the scheme and host of its request."""

    address: str | None
    port: int | None
    scheme: str
    host: str | None


class ForwardedPolicy:
    """The trusted proxies and the fields that they set.

    :param trusted: the proxies.
    :param fields: the fields that each of these proxies sets or removes, in lower case.
    :param schemes: further such fields, in lower case, with the values that mean https.
    :param schemes_of: the proxies that set the fields of ``schemes``, for any client; None for those of ``trusted``.
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
        """Return ``direct`` with the scheme that ``schemes_of`` set.

        :param headers: the fields of the request.
        :param direct: the address of the connection, after a PROXY header.
        :param peer: the IP address of the peer of the connection; None for a Unix socket.
        """
        if self._schemes_of is None or not self._schemes_of.trusts(peer):
            return direct
        return self._with_scheme(headers, direct)

    def resolve(self, headers: Mapping[str, Any], direct: ClientAddress) -> ClientAddress:
        """Return the client address of a request.

        :param headers: the fields of the request.
        :param direct: the address of the connection, with None as the address for a Unix socket.
        """
        if not self._trusted.trusts(direct.address):
            return direct
        if self._schemes_of is None:
            direct = self._with_scheme(headers, direct)
        if FORWARDED in self._fields:
            return self._walk_elements(headers.get(FORWARDED, ''), direct)
        return self._walk_fields(headers, direct)

    def _with_scheme(self, headers: Mapping[str, Any], direct: ClientAddress) -> ClientAddress:
        secure = [headers[field] == value for field, value in self._schemes.items() if field in headers]
        # fields that contradict each other are not a proof of https
        return direct._replace(scheme='https' if all(secure) else 'http') if secure else direct

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
        """Return the last of several values, which the nearest proxy has set."""
        return self._value(headers, field).rpartition(',')[2].strip(' \t')


def _is_authority(text: str) -> bool:
    return text[:1] not in ('', ':') and is_host(text)


def _pairs(element: str) -> dict[str, str] | None:
    """Return the parameters of a forwarded-element by lower-case name.

    Source: RFC 7239, section 4. Blanks around semicolons are accepted, since many proxies send them. The result is None
    for a malformed element.
    """
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
    """Return the IP address and the port of a node.

    Source: RFC 7239, section 6. The result is None for any other text, also for ``unknown`` and for obfuscated
    identifiers.

    :param bracketed: whether an IPv6 address must be in brackets, as in Forwarded; in other fields it usually is not.
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
    # Forwarded allows an obfuscated port
    return (address.text, None) if bracketed and port[:1] == '_' and is_token(port) else None


def _with_port(host: str | None, scheme: str, port: str) -> str | None:
    """Return ``host`` with the client's port, unless that is the default."""
    if host is None or _PORT.fullmatch(port) is None or not 0 < int(port) <= 65535:
        return host
    name = host if host.endswith(']') or ':' not in host else host.rpartition(':')[0]
    port = port.lstrip('0')
    return name if port == DEFAULT_PORTS[scheme] else f'{name}:{port}'
