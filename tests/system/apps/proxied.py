"""Servers behind proxies that respond with the client's address."""

from __future__ import annotations

from geventnode import http

__all__ = ['by_connection', 'by_fields', 'tell']


def tell(request, response) -> None:
    """Respond with the addresses of the client and of the connection."""
    response.end(f'{request.remote_address} {request.scheme} {request.host} {request.socket.proxy_address}\n')


#: Behind a proxy that forwards requests.
by_fields = http.create_server(
    tell, trusted_proxies='127.0.0.1', forwarded_headers=['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host']
)

#: Behind a proxy that forwards connections.
by_connection = http.create_server(tell, trusted_proxies='127.0.0.1', proxy_protocol=True)
