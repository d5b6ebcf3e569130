"""waitress with the handlers of ``geventnode_server.py``."""

from __future__ import annotations

import socket

import waitress
from wsgi_application import BACKLOG, application

__all__: list[str] = []

if __name__ == '__main__':
    listener = socket.create_server(('127.0.0.1', 0), backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(listener.getsockname()[1], flush=True)
    waitress.serve(application, sockets=[listener], connection_limit=2000, channel_timeout=120, _quiet=True)
