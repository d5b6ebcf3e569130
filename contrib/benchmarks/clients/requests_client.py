"""requests on patched sockets: 32 greenlets on one session."""

# ruff: noqa: E402 - patching comes before everything else
from gevent import monkey

monkey.patch_all()

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import gevent
import requests
from bench.driving import WORKERS, drive

session = requests.Session()
session.mount('http://', requests.adapters.HTTPAdapter(pool_maxsize=WORKERS, pool_block=True))


def ask(url: str) -> int:
    """Return the size of a body."""
    return len(session.get(url).content)


def download(url: str) -> int:
    """Return the size of a large body, which is read in pieces."""
    return sum(map(len, session.get(url, stream=True).iter_content(65536)))


if __name__ == '__main__':
    drive(ask, download, lambda work, count: gevent.joinall([gevent.spawn(work) for _ in range(count)]))
