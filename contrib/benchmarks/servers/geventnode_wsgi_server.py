"""The measured server, with a WSGI application."""

from __future__ import annotations

from wsgi_application import BACKLOG, application

from geventnode import http
from geventnode.integrations.wsgi import wsgi

__all__: list[str] = []

if __name__ == '__main__':
    server = http.create_server(wsgi(application), keep_alive_timeout=120)
    server.listen(0, '127.0.0.1', BACKLOG)
    print(server.address()['port'], flush=True)
    server.serve_forever()
