"""hypercorn with uvloop, its fastest worker class, and the handlers of ``geventnode_server.py`` as an ASGI application.

It serves HTTP/2 with prior knowledge on a port without TLS, beside HTTP/1.1. By default it ends a connection after 1000
requests, and h2load counts those that it still waits for as failed.
"""

from __future__ import annotations

import socket

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from uvicorn_app import BACKLOG, KEEP_ALIVE, application

__all__: list[str] = []


if __name__ == '__main__':
    listener = socket.create_server(('127.0.0.1', 0), backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(listener.getsockname()[1], flush=True)
    config = Config()
    config.bind = [f'fd://{listener.detach()}']
    config.backlog = BACKLOG
    config.keep_alive_timeout = KEEP_ALIVE
    config.keep_alive_max_requests = 2**31
    config.accesslog = None
    config.errorlog = None
    uvloop.run(serve(application, config))
