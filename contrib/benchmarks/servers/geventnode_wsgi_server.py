"""The measured server, with a WSGI application. With the argument ``http2``, it serves HTTP/2, too."""

from __future__ import annotations

import sys

from wsgi_application import BACKLOG, application

from geventnode import http
from geventnode.integrations.wsgi import wsgi

__all__: list[str] = []

if __name__ == '__main__':
    options = {'http2': True} if sys.argv[1:] == ['http2'] else {}
    server = http.create_server(wsgi(application), keep_alive_timeout=120, **options)
    server.listen(0, '127.0.0.1', BACKLOG)
    print(server.address()['port'], flush=True)
    server.serve_forever()
