"""gunicorn's configuration for workers of this library: gunicorn -c gunicorn.conf.py web:listener

Nothing that makes connections may be imported here: it could not be patched any more. Other tools in front of these
workers have to agree with the times; their configurations stand beside this file.
"""

from __future__ import annotations

import os

__all__: list[str] = []

worker_class = 'geventnode.integrations.gunicorn.Worker'

# The proxy is on this machine, and looks for us here. Where systemd hands over the socket, at the same address, this is
# not looked at.
bind = os.environ.get('BIND', '127.0.0.1:8000')

# One for each core that this may use: a worker uses one, and never waits for anything but it.
workers = int(os.environ.get('WORKERS') or len(os.sched_getaffinity(0)))

# Longer than the 60 seconds that the proxies here, and most balancers, keep an idle connection to us. So it is always
# they who close it, and none of them sends a request into a connection that is being closed, which would be a 502.
keepalive = 75

# The loop must turn once in this time, which it does within milliseconds; slow views do not count. Long enough for a
# machine that swaps, short enough to notice a worker that hangs in a library that was not patched.
timeout = 30

# What a request may take that is in work when the worker is told to stop. Whoever stops us must wait longer:
# TimeoutStopSec= of the unit, terminationGracePeriodSeconds of the pod.
graceful_timeout = 30

# Connections that a worker serves at once. More wait for a free place, here or in another worker, instead of taking
# memory without end; idle ones do not count.
worker_connections = 10000

# Waiting for their turn in the kernel costs next to nothing, and being refused looks like an outage. The kernel has the
# last word: net.core.somaxconn (4096).
backlog = 2048

# Workers are replaced now and then, which hides leaks of memory until they are found, and never all at once. Nobody's
# request is lost by it.
max_requests = int(os.environ.get('MAX_REQUESTS', '1000000'))
max_requests_jitter = max_requests // 10

# X-Forwarded-Proto is believed of proxies on this machine, and of whoever can open our Unix socket. In a container the
# balancer is somewhere else: give its network.
forwarded_allow_ips = os.environ.get('FORWARDED_ALLOW_IPS', '127.0.0.1,::1')

# Both logs go where systemd and Docker collect them. The proxy writes an access log already.
errorlog = '-'
accesslog = os.environ.get('ACCESS_LOG') or None

# Heartbeats are changes of a file's time. On a disk that is busy they would be late, in memory they are not.
worker_tmp_dir = '/dev/shm' if os.path.isdir('/dev/shm') else None

# gunicorn would put it below the home directory, which a service and a container cannot write to, and complain.
control_socket_disable = True

# Off: processes that share a socket take connections from one queue, so that none is lost with a worker that goes.
reuse_port = False
