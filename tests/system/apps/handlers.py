"""The targets of the system tests: a listener with a response for each path, and an invalid target."""

from __future__ import annotations

from urllib.parse import urlsplit

from geventnode import http

__all__ = ['Failing', 'listener', 'number', 'server']

PIECE = bytes(65536)


def listener(request, response) -> None:
    """Respond by path."""
    target = urlsplit(request.url)
    if target.path == '/count':
        response.end(f'{sum(map(len, request))}')
    elif target.path == '/echo':
        # announcing trailers makes the body chunked
        response.write_head(200, {'Trailer': 'X-Seen'})
        for chunk in request:
            response.write(chunk)
        response.add_trailers({'X-Seen': request.trailers.get('x-sent', 'none')})
        response.end()
    elif target.path == '/download':
        rest = int(target.query)
        response.write_head(200, {'Content-Length': str(rest)})
        while rest:
            response.write(PIECE[:rest])
            rest -= min(rest, len(PIECE))
        response.end()
    elif target.path == '/fail':
        raise Failing('on purpose')
    elif target.path == '/port':
        response.end(f'{request.socket.remote_port}\n')
    elif target.path == '/slow':
        response.write('begun\n')
        size = sum(map(len, request))
        response.end(f'{size}\n')
    else:
        response.end(f'{request.method} {request.url} HTTP/{request.http_version}')


class Failing(Exception):
    """Raised by a listener, on purpose."""


server = http.create_server(listener, keep_alive_timeout=7)

number = 42
