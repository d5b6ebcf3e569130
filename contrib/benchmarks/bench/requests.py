"""The requests of the load, with one header field or with the twelve of a browser."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    'BROWSER_FIELDS',
    'FIRST_ITEM',
    'ITEMS',
    'TEXT_LENGTHS',
    'Case',
    'Exchange',
    'Items',
    'browser_request',
    'item_request',
]

#: How many different requests there are, and the number of the first one: all numbers have equally many digits.
ITEMS, FIRST_ITEM = 20_000, 10_000

#: The length of an item's text is its number modulo this, and a hundred: bodies have lengths of three digits.
TEXT_LENGTHS = 97

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

    @property
    def items(self) -> str:
        """The path of the items that are requested, each once; empty: the same request again and again."""
        return ''


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


@dataclass(frozen=True)
class Items(Case):
    """No two messages alike: each request has a path, a query, a cookie and an id of its own, each response an id, a
    body and a length of its own.

    :ivar shape: the first part of the path, which names the way in which the handler responds.
    """

    name: str = ''
    shape: str = 'item'
    status: int = 200
    has_text: bool = True

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.name

    @property
    def path(self) -> str:
        """The target of the first request."""
        return item_target(self.shape, FIRST_ITEM)

    @property
    def ending(self) -> bytes | tuple[bytes, ...]:
        """How the response ends."""
        return b'"}' if self.has_text else b'\r\n\r\n'

    @property
    def items(self) -> str:
        """The path of the items."""
        return f'/{self.shape}/'

    @property
    def fields(self) -> list[str]:
        """The header lines beside Host that all requests have in common."""
        return [f'{name}: {value}' for name, value in _COMMON]

    def lines(self, number: int) -> list[str]:
        """Return the header lines of one request beside Host."""
        return [*self.fields, *(f'{name}: {value}' for name, value in _own(number))]

    def total(self, count: int, length: int) -> int:
        """Return how many bytes the responses to the first ``count`` requests have.

        :param length: bytes of the response to the first one.
        """
        if not self.has_text:
            return count * length
        shortest = length - FIRST_ITEM % TEXT_LENGTHS
        turns, rest = divmod(count, ITEMS)
        texts = [number % TEXT_LENGTHS for number in range(FIRST_ITEM, FIRST_ITEM + ITEMS)]
        return count * shortest + turns * sum(texts) + sum(texts[:rest])


#: The fields of a browser that are the same in all requests.
_COMMON = tuple(field for field in BROWSER_FIELDS if field[0] not in ('Cookie', 'Upgrade-Insecure-Requests'))


def _own(number: int) -> tuple[tuple[str, str], ...]:
    """Return the fields that only one request has; ``workers/report.lua`` has the same."""
    mixed = number * 2654435761 % 2**32
    return (
        ('Cookie', f'session={mixed:08x}{number:08x}; theme=dark; consent=1'),
        ('X-Request-Id', f'{number:08x}-{mixed:08x}'),
    )


def item_target(shape: str, number: int) -> str:
    """Return the target of one request."""
    return f'/{shape}/{number}?q={number * 2654435761 % 2**32:08x}'


def item_request(number: int) -> bytes:
    """Return a request as bytes, which differs from every other one in its target, its cookie and its id."""
    fields = [('Host', '127.0.0.1:8000'), *_COMMON, *_own(number)]
    lines = [
        f'GET {item_target("item", number)} HTTP/1.1',
        *(f'{name}: {value}' for name, value in fields),
        '',
        '',
    ]
    return '\r\n'.join(lines).encode('ascii')


def browser_request(number: int = 0) -> bytes:
    """Return the request as bytes; each ``number`` makes another Cookie of the same length."""
    fields = [('Host', '127.0.0.1:8000'), *BROWSER_FIELDS]
    lines = ['GET /agent HTTP/1.1', *(f'{name}: {value}' for name, value in fields), '', '']
    return '\r\n'.join(lines).replace('4f1c2b9a', f'{number:08x}').encode('ascii')
