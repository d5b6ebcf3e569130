"""geventhttpclient: 32 greenlets on one client's pool."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

import gevent
from bench.driving import WORKERS, drive
from geventhttpclient import HTTPClient

parts = urlsplit(sys.argv[2])
client = HTTPClient(parts.hostname, parts.port, concurrency=WORKERS)


def ask(url: str) -> int:
    """Make a request, and return the size of the body."""
    return len(client.get(parts.path).read())


def ask_item(url: str, fields: dict[str, str]) -> int:
    """Return the size of a body."""
    return len(client.get(url[url.index('/', 8) :], fields).read())


def download(url: str) -> int:
    """Read a large body in pieces, and return its size."""
    response = client.get(parts.path)
    size = 0
    while data := response.read(65536):
        size += len(data)
    return size


if __name__ == '__main__':
    drive(ask, download, lambda work, count: gevent.joinall([gevent.spawn(work) for _ in range(count)]), ask_item)
