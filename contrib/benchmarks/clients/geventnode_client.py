"""geventnode's client: 32 greenlets on a kept pool."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import gevent
from bench.driving import drive

from geventnode import http

agent = http.Agent(keep_alive=True, max_sockets=32)


def ask(url: str) -> int:
    """Make a request, and return the size of the body."""
    return len(http.get(url, agent=agent).get_response().read())


def ask_item(url: str, fields: dict[str, str]) -> int:
    """Return the size of a body."""
    return len(http.get(url, agent=agent, headers=fields).get_response().read())


def download(url: str) -> int:
    """Read a large body in pieces, and return its size."""
    with http.get(url, agent=agent) as response:
        return sum(len(chunk) for chunk in response)


if __name__ == '__main__':
    drive(ask, download, lambda work, count: gevent.joinall([gevent.spawn(work) for _ in range(count)]), ask_item)
