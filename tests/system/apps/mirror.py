"""A target that responds with the request, so that clients can be compared."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ['listener']


def listener(request, response) -> None:
    """Respond with the request, line by line; for ``/status?N`` with that status, for ``/trailers`` with trailers."""
    target = urlsplit(request.url)
    if target.path == '/status':
        response.status_code = int(target.query)
    if target.path == '/trailers':
        response.write_head(200, {'Trailer': 'X-Sum, X-Last'})
        response.write('body')
        response.add_trailers({'X-Sum': '4', 'X-Last': 'yes'})
        response.end()
        return
    body = request.read()
    lines = [
        f'{request.method} {request.url} HTTP/{request.http_version}',
        *(f'{name}: {value}' for name, value in request.raw_headers),
        '',
        '',
    ]
    response.end('\n'.join(lines).encode('latin-1') + body)
