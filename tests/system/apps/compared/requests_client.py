"""Make requests at the same time by ``requests``, in threads, with a pool of a size; print the outcome."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import requests

url, count, pool_size = sys.argv[1:]
session = requests.Session()
session.mount('http://', requests.adapters.HTTPAdapter(pool_maxsize=int(pool_size)))
with ThreadPoolExecutor(int(count)) as threads:
    pending = [threads.submit(session.get, url) for _ in range(int(count))]
try:
    for each in pending:
        each.result()
except OSError:
    print('raised')  # noqa: T201
else:
    print('complete')  # noqa: T201
