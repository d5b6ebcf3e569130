"""IP addresses, and which of them belong to proxies whose word is taken.

An IPv4 address that comes as an IPv6 one, as on a socket that accepts both, is the IPv4 address here: a list of proxies
names each once. Networks are kept by their masks, so that a question costs one step for each length of prefix, however
many networks there are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from geventnode.errors import InvalidInput

__all__ = ['UNIX', 'Address', 'TrustedProxies', 'ip_address']

#: Stands for every peer on a Unix socket among the trusted proxies.
UNIX = 'unix'

#: Bits before the IPv4 address in an IPv6 one (RFC 4291, section 2.5.5.2).
MAPPED_PREFIX = 96

#: Characters of the longest IP address.
LONGEST = 45


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
