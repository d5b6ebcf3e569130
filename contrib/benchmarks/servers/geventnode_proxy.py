"""The reverse proxy of ``contrib/examples``, on a free port, for the origin at the given port."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / 'examples'))

from reverse_proxy import create_proxy

__all__: list[str] = []

if __name__ == '__main__':
    proxy = create_proxy('127.0.0.1', int(sys.argv[1])).listen(0, '127.0.0.1')
    print(proxy.address()['port'], flush=True)
    proxy.serve_forever()
