"""gunicorn's configuration for workers of this library: gunicorn -c gunicorn.conf.py web:listener

Do not import modules that make connections here: they could no longer be patched. The timeouts of proxies have to agree
with those below; their configurations are in this directory.
"""

from __future__ import annotations

import os

__all__: list[str] = []

worker_class = 'geventnode.integrations.gunicorn.Worker'

# The proxy on this machine sends requests here. If systemd passes the socket, with the same address, this is not used.
bind = os.environ.get('BIND', '127.0.0.1:8000')

# One worker for each usable core: a worker uses one core, and blocks on nothing else.
workers = int(os.environ.get('WORKERS') or len(os.sched_getaffinity(0)))

# Longer than the 60 seconds for which the proxies here, and most load balancers, keep an idle connection. So the proxy
# always closes it first, and never sends a request on a connection that is being closed, which would be a 502.
keepalive = 75

# The event loop must run once in this time, which usually takes milliseconds; slow views do not matter. It is long
# enough for a machine that swaps, and short enough to detect a worker that is blocked by an unpatched library.
timeout = 30

# The time that active requests have to finish when the worker stops. TimeoutStopSec= of the unit and
# terminationGracePeriodSeconds of the pod must be longer.
graceful_timeout = 30

# The most connections that a worker serves at once. Further ones wait for a worker with room, instead of taking
# unlimited memory; idle ones do not count.
worker_connections = 10000

# A connection that waits in the kernel costs little, and a refused one looks like an outage. The kernel's limit is
# net.core.somaxconn (4096).
backlog = 2048

# Workers are replaced at intervals, and not all at once, which limits leaks of memory until they are found. No request
# is lost.
max_requests = int(os.environ.get('MAX_REQUESTS', '1000000'))
max_requests_jitter = max_requests // 10

# X-Forwarded-Proto is trusted from proxies on this machine, and from clients of a Unix socket. For a container, set the
# network of the load balancer.
forwarded_allow_ips = os.environ.get('FORWARDED_ALLOW_IPS', '127.0.0.1,::1')

# systemd and Docker collect standard error. The proxy writes an access log already.
errorlog = '-'
accesslog = os.environ.get('ACCESS_LOG') or None

# A heartbeat changes the time of a file. On a busy disk it would be late; in memory it is not.
worker_tmp_dir = '/dev/shm' if os.path.isdir('/dev/shm') else None

# gunicorn would create it in the home directory, where a service or a container has no write permission.
control_socket_disable = True

# Off: processes that share one socket have one queue of connections, so that none is lost when a worker ends.
reuse_port = False
