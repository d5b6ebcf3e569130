"""Serve the site by gevent.pywsgi, and print the port."""

from __future__ import annotations

from gevent.pywsgi import WSGIServer
from site_of import app

server = WSGIServer(('127.0.0.1', 0), app, log=None, error_log=None)
server.start()
print(server.server_port, flush=True)  # noqa: T201
server.serve_forever()
