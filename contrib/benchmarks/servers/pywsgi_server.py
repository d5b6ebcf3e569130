"""gevent.pywsgi with the handlers of ``geventnode_server.py``.

TCP_NODELAY is set on the listening socket, from which Linux hands it on to accepted ones: as pywsgi comes, Nagle's
algorithm makes every answer on a kept connection wait for an acknowledgement, and nothing else would be measured.
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
