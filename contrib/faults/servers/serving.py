"""Shared code of the servers here, which print two ports: the server's own, and that of its status.

The status is a JSON object: connections, active greenlets, open descriptors and objects, after a garbage collection.
"""

from __future__ import annotations

import gc
import json
import os
import socket
from typing import Any

import gevent
import greenlet

from geventnode import http
from geventnode.http.server.workers import idle_workers

__all__ = ['serve']

BACKLOG = 2048

#: Bytes that the kernel buffers for a connection before its writer blocks. So a slow reader blocks a handler, and does
#: not take megabytes of the kernel's memory, which a virtual machine can take minutes to provide.
SEND_BUFFER = 65536


def serve(server: Any) -> None:
    """Serve. Blocks until the process is killed."""

    def report(request: Any, response: Any) -> None:
        gc.collect()
        objects = gc.get_objects()
        greenlets = sum(isinstance(each, greenlet.greenlet) and bool(each) for each in objects)
        response.end(
            json.dumps(
                {
                    'connections': server.get_connections(),
                    'greenlets': greenlets - len(idle_workers(gevent.get_hub())),
                    # without the descriptor of the listing itself
                    'descriptors': len(os.listdir('/proc/self/fd')) - 1,
                    'objects': len(objects),
                }
            )
        )

    server.listen(0, '127.0.0.1', BACKLOG)
    # accepted connections inherit the size
    server.listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    status = http.create_server(report).listen(0, '127.0.0.1')
    for each in (server, status):
        print(each.address()['port'], flush=True)
    server.serve_forever()
