"""urllib3 on patched sockets: 32 greenlets on one pool."""

# ruff: noqa: E402 - patching comes before everything else
from gevent import monkey

monkey.patch_all()

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import gevent
import urllib3
from bench.driving import WORKERS, drive

pool = urllib3.PoolManager(maxsize=WORKERS, block=True)


def ask(url: str) -> int:
    """Make a request, and return the size of the body."""
    return len(pool.request('GET', url).data)


def download(url: str) -> int:
    """Read a large body in pieces, and return its size."""
    return sum(map(len, pool.request('GET', url, preload_content=False).stream(65536)))


if __name__ == '__main__':
    drive(ask, download, lambda work, count: gevent.joinall([gevent.spawn(work) for _ in range(count)]))
