"""The requests of the load, with one header field or with the twelve of a browser."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['BROWSER_FIELDS', 'Case', 'Exchange', 'browser_request']

#: Eleven fields after Host, which wrk itself sends.
BROWSER_FIELDS = (
    ('User-Agent', 'Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0'),
    ('Accept', 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8'),
    ('Accept-Language', 'en-US,en;q=0.9,de;q=0.8'),
    ('Accept-Encoding', 'gzip, deflate, br, zstd'),
    ('Connection', 'keep-alive'),
    ('Cookie', 'session=4f1c2b9a8d7e6f5a4b3c2d1e0f9a8b7c; theme=dark; consent=1'),
    ('Referer', 'http://127.0.0.1/some/page?with=query'),
    ('Upgrade-Insecure-Requests', '1'),
    ('Sec-Fetch-Dest', 'document'),
    ('Sec-Fetch-Mode', 'navigate'),
    ('Cache-Control', 'max-age=0'),
)


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    headers: int
    connections: int

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.headers} header{'s' if self.headers > 1 else ''}, {self.connections} connections"

    @property
    def path(self) -> str:
        """The path of the request."""
        return '/agent' if self.headers > 1 else '/'

    @property
    def fields(self) -> list[str]:
        """The header lines other than Host."""
        return [f'{name}: {value}' for name, value in BROWSER_FIELDS[: self.headers - 1]]

    @property
    def ending(self) -> bytes | tuple[bytes, ...]:
        """The end of the response."""
        return b'hello world'

    #: The body of each request.
    body = ''
    #: The number of requests that are sent at once.
    depth = 1


@dataclass(frozen=True)
class Exchange(Case):
    """An exchange other than hello world: a request body, a large response, one in pieces, many requests at once."""

    name: str = ''
    where: str = '/'
    body: str = ''
    depth: int = 1
    last: bytes | tuple[bytes, ...] = b'hello world'

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.name

    @property
    def path(self) -> str:
        """The path of the request."""
        return self.where

    @property
    def ending(self) -> bytes | tuple[bytes, ...]:
        """The end of the response."""
        return self.last


def browser_request(number: int = 0) -> bytes:
    """Return the request as bytes; each ``number`` makes another Cookie of the same length."""
    fields = [('Host', '127.0.0.1:8000'), *BROWSER_FIELDS]
    lines = ['GET /agent HTTP/1.1', *(f'{name}: {value}' for name, value in fields), '', '']
    return '\r\n'.join(lines).replace('4f1c2b9a', f'{number:08x}').encode('ascii')
