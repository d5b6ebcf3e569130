"""The handlers of ``geventnode_server.py`` and the monitor at ``/monitor``."""

from __future__ import annotations

from geventnode_server import BACKLOG, KEEP_ALIVE, handle

from geventnode import http
from geventnode.monitor import Monitor

__all__: list[str] = []

if __name__ == '__main__':
    server = http.create_server(handle, keep_alive_timeout=KEEP_ALIVE)
    Monitor().mount(server)
    server.listen(0, '127.0.0.1', BACKLOG)
    print(server.address()['port'], flush=True)
    server.serve_forever()
