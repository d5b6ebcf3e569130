"""The reverse proxy of the examples.

python proxy.py PORT_OF_THE_UPSTREAM
"""

from __future__ import annotations

import sys

from serving import serve

from contrib.examples.reverse_proxy import create_proxy

__all__: list[str] = []


if __name__ == '__main__':
    serve(create_proxy('127.0.0.1', int(sys.argv[1])))
