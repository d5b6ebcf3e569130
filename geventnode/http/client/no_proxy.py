"""Find the origins that are reached without a proxy (``NO_PROXY``).

No standard describes the variable. These rules are curl's, with the ports, the ranges and the ``*.`` of Node. Names are
never resolved: a rule with an address applies to URLs with an address only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeVar

from geventnode.errors import InvalidInput, without_credentials
from geventnode.net.hostnames import ascii_name

__all__ = ['NoProxy']

Address = IPv4Address | IPv6Address
_Parsed = TypeVar('_Parsed')

#: Returns whether a rule has a host, which is a name and, for an address, its parsed form.
_HostRule = Callable[[str, Address | None], bool]

_separators = re.compile(r'[,\s]+')

_name_characters = re.compile(r'[a-z0-9_.-]+')

#: A host and its port; an IPv6 address is in brackets then, because every part of it can look like a port.
_with_port = re.compile(r'(?P<host>\[[^\]]*\]|[^:\[\]]*):(?P<port>\d+)')


class NoProxy:
    """The rules of one list.

    :param rules: the text of the variable, with commas or blanks between its entries, or the entries.
    :param name: the name of the setting, for errors.
    :raises InvalidInput: an entry has no meaning; it would otherwise never apply.
    """

    def __init__(self, rules: str | Iterable[str], name: str = 'no_proxy') -> None:
        entries = _separators.split(rules) if isinstance(rules, str) else list(rules)
        for entry in entries:
            if not isinstance(entry, str):
                raise TypeError(f'{name} must be str or an iterable of str, not of {type(entry).__name__}')
        self._entries = tuple(entry.strip() for entry in entries if entry.strip())
        self._rules = tuple(_parse(entry, name) for entry in self._entries)

    def has(self, host: str, port: int) -> bool:
        """Return whether ``host`` and ``port`` are reached without a proxy.

        :param host: a name in ASCII, or an address without brackets.
        """
        name = host.lower().rstrip('.')
        address = _address(name)
        return any(wanted in (None, port) and matches(name, address) for matches, wanted in self._rules)

    def __str__(self) -> str:
        return ','.join(self._entries)


def _parse(entry: str, name: str) -> tuple[_HostRule, int | None]:
    """Return the rule for hosts, and the port; None for every port."""
    host, port = entry.lower(), None
    if found := _with_port.fullmatch(host):
        host, port = found['host'], int(found['port'])
        if not 0 < port < 65536:
            raise _invalid(name, 'a port that is not from 1 to 65535', entry)
    bare = host[1:-1] if host.startswith('[') and host.endswith(']') else host
    rule = _any_host if bare == '*' else _address_rule(bare) or _name_rule(bare.rstrip('.'))
    if rule is None:
        raise _invalid(name, 'an entry that is no host, suffix, address or network', entry)
    return rule, port


def _invalid(name: str, problem: str, entry: str) -> InvalidInput:
    """Return the error for an entry. It does not have credentials."""
    return InvalidInput(f'{name} has {problem}: {without_credentials(entry)!r}', 'ERR_PROXY_INVALID_CONFIG')


def _any_host(name: str, address: Address | None) -> bool:
    return True


def _address_rule(text: str) -> _HostRule | None:
    """Return the rule of an address, a network, or a range.

    It is None for another text.
    """
    single = _address(text)
    if single is not None:
        return lambda name, address: address == single
    network = _attempt(partial(ip_network, strict=False), text)
    if network is not None:
        return lambda name, address: address is not None and address in network
    first, _, last = (_address(part) for part in text.partition('-'))
    if first is not None and last is not None and first.version == last.version:
        # the versions are equal, which a type checker cannot see
        low, high, version = int(first), int(last), first.version
        return lambda name, address: address is not None and address.version == version and low <= int(address) <= high
    return None


def _name_rule(text: str) -> _HostRule | None:
    """Return the rule of a name and its subdomains.

    With ``*.`` it is for the subdomains only. It is None for another text.
    """
    only_below = text.startswith('*.')
    stripped = text[2:] if only_below else text.lstrip('.')
    name = _attempt(ascii_name, stripped)
    if not name or not _is_name(name):
        return None
    suffix = f'.{name}'
    if only_below:
        return lambda host, address: host.endswith(suffix)
    return lambda host, address: host == name or host.endswith(suffix)


def _is_name(text: str) -> bool:
    # digits alone are a part of an address, which would never apply
    return _name_characters.fullmatch(text) is not None and not text.replace('.', '').isdigit()


def _address(text: str) -> Address | None:
    """Return the address in ``text``, without its zone; None for a name."""
    found = _attempt(ip_address, text.partition('%')[0])
    # the same host, for a socket of the other family (RFC 4291, section 2.5.5.2)
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _attempt(parse: Callable[[str], _Parsed], text: str) -> _Parsed | None:
    try:
        return parse(text)
    except ValueError:
        return None
