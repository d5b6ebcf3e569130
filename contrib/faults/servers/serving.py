"""What the servers of this directory share: two ports are printed, the server's own and that of its status.

The status is a JSON object: connections, greenlets at work, open descriptors, objects, after a garbage collection.
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
from geventnode.http.server.workers import pool

__all__ = ['serve']

BACKLOG = 2048

#: Bytes that the kernel takes from a connection before its writer waits: slow readers are to hold handlers, and not
#: megabytes each of the kernel's memory, which it may take minutes to provide on a virtual machine.
SEND_BUFFER = 65536


def serve(server: Any) -> None:
    """Serve until the process is killed. May switch."""

    def tell(request: Any, response: Any) -> None:
        gc.collect()
        objects = gc.get_objects()
        greenlets = sum(isinstance(each, greenlet.greenlet) and bool(each) for each in objects)
        response.end(
            json.dumps(
                {
                    'connections': server.get_connections(),
                    'greenlets': greenlets - len(pool(gevent.get_hub())),
                    # the listing has one of its own
                    'descriptors': len(os.listdir('/proc/self/fd')) - 1,
                    'objects': len(objects),
                }
            )
        )

    server.listen(0, '127.0.0.1', BACKLOG)
    # accepted connections inherit it
    server.listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    status = http.create_server(tell).listen(0, '127.0.0.1')
    for each in (server, status):
        print(each.address()['port'], flush=True)
    server.serve_forever()
