"""Decide whether a page of the server's own host sent a request."""

from __future__ import annotations

from urllib.parse import urlsplit

from geventnode.http.incoming import IncomingMessage

__all__ = ['same_origin']


def same_origin(request: IncomingMessage) -> bool:
    """Return whether a page of the same host sent the request.

    That is also true for clients that are no browsers. The host and the port in ``Origin`` must be those of the request
    (RFC 6454, section 5). The scheme is not compared, because a proxy can have ended TLS. A request without ``Origin``
    is not one of a page.

    :param request: a request of a server, also the opening handshake of a WebSocket.
    """
    origin = request.headers.get('origin')
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.scheme not in ('http', 'https'):
        return False
    host = f'[{parts.hostname}]' if ':' in parts.hostname else parts.hostname
    default = 443 if parts.scheme == 'https' else 80
    asked = (getattr(request, 'host', None) or '').lower()
    return asked in ({host, f'{host}:{default}'} if port in (None, default) else {f'{host}:{port}'})
