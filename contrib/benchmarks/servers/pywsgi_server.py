"""gevent.pywsgi with the handlers of ``geventnode_server.py``.

TCP_NODELAY is set on the listening socket, from which accepted sockets inherit it on Linux. By default, Nagle's
algorithm delays every response on a kept connection until an acknowledgement, which would dominate the measurement.
"""

from __future__ import annotations

import socket

from gevent.pywsgi import WSGIServer
from wsgi_application import BACKLOG, application

__all__: list[str] = []

if __name__ == '__main__':
    listener = socket.create_server(('127.0.0.1', 0), backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    WSGIServer(listener, application, log=None).serve_forever()
