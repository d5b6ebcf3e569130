"""simple-websocket on gevent.pywsgi, with TCP_NODELAY: each message is sent back."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import contextlib  # noqa: E402 - after patching
import socket  # noqa: E402
from typing import Any  # noqa: E402

from gevent import socket as gevent_socket  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402
from simple_websocket import ConnectionClosed, Server  # noqa: E402

__all__: list[str] = []


def application(environ: Any, start_response: Any) -> list[bytes]:
    """Echo until the client closes."""
    ws = Server.accept(environ)
    with contextlib.suppress(ConnectionClosed):
        while True:
            ws.send(ws.receive())
    return []


if __name__ == '__main__':
    listener = gevent_socket.socket()
    listener.bind(('127.0.0.1', 0))
    listener.listen(511)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(listener.getsockname()[1], flush=True)
    WSGIServer(listener, application, log=None).serve_forever()
