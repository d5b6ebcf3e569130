"""Make requests at the same time by an agent with ``max_sockets``; print the queue and the outcome."""

from __future__ import annotations

import sys

import gevent

from geventnode import http

url, count, max_sockets = sys.argv[1:]
agent = http.Agent(max_sockets=int(max_sockets))
requests = [http.get(url, agent=agent) for _ in range(int(count))]
gevent.sleep(0)
print('waiting:', agent.statistics()['queued'], flush=True)  # noqa: T201
try:
    for request in requests:
        request.get_response().read()
except OSError:
    print('raised')  # noqa: T201
else:
    print('complete')  # noqa: T201
