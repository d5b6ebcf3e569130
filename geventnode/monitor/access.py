"""Decide which clients may use the monitor: by default, only direct ones on the same machine.

The address of a client does not prove that. A proxy on the same machine has a loopback address and forwards requests of
any client. A foreign page can let its own name resolve to 127.0.0.1 (DNS rebinding), so that a local browser sends the
request. So a request with a field of a proxy is denied, and so is one for another host than the local one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from geventnode.http import IncomingMessage
from geventnode.http.same_origin import same_origin
from geventnode.protocol import TrustedProxies

__all__ = ['LOOPBACK', 'AccessPolicy', 'is_cross_site', 'is_local_host', 'is_loopback']

#: The addresses of the local machine.
LOOPBACK = '127.0.0.0/8', '::1'

#: Fields that proxies add.
_PROXY_FIELDS = 'forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-real-ip'


class AccessPolicy:
    """Allow or deny requests.

    :param clients: allowed IP addresses and networks, and ``'unix'``, without a further check. None: direct requests
        from loopback addresses for a local host.

    Raises ``TypeError`` and ``InvalidInput`` for other values.
    """

    def __init__(self, clients: Iterable[Any] | None) -> None:
        self._local_only = clients is None
        self._clients = TrustedProxies(LOOPBACK if clients is None else clients, 'clients')

    def denial(self, request: IncomingMessage) -> str | None:
        """Return why ``request`` is denied, None if it is allowed."""
        address = request.remote_address
        if not self._clients.trusts(address):
            return f'The monitor is not shown to {address or "clients on Unix sockets"}'
        if self._local_only:
            for name in _PROXY_FIELDS:
                if name in request.headers:
                    return f'The monitor is not shown through proxies ({name})'
            if not is_local_host(request.host):
                return f'The monitor is shown as localhost, not as {request.host!r}'
        return None


_loopback = TrustedProxies(LOOPBACK, 'clients')


def is_loopback(address: str) -> bool:
    """Return whether an IP address is one of the local machine."""
    return _loopback.trusts(address)


def is_local_host(host: str | None) -> bool:
    """Return whether ``host`` names the local machine for every browser.

    :param host: ``localhost`` or a loopback address, with or without a port; None, without Host, is no browser's.
    """
    if host is None:
        return True
    name = host.partition(']')[0][1:] if host.startswith('[') else host.partition(':')[0]
    return name.lower().removesuffix('.') == 'localhost' or is_loopback(name)


def is_cross_site(request: IncomingMessage) -> bool:
    """Return whether a page of another site sent the request.

    Browsers state it in ``Sec-Fetch-Site`` (W3C, Fetch Metadata Request Headers), but only to HTTPS and to the local
    machine. ``Origin`` is compared otherwise, which they send with each POST.
    """
    site = request.headers.get('sec-fetch-site')
    if site is None:
        return not same_origin(request)
    return site not in ('none', 'same-origin')
