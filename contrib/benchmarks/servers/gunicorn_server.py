"""gunicorn with one worker of the given class, by default its own ``gevent``.

With a second argument, ``http2``, it serves HTTP/2 with prior knowledge, too, to any client.

Idle connections are kept, as by the other servers: gunicorn's default of two seconds is shorter than a turn.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from gunicorn.app.base import BaseApplication
from wsgi_application import BACKLOG, application

__all__ = ['Program']


class Program(BaseApplication):
    """gunicorn without its command line."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Apply the given settings."""
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Return the application."""
        return application


if __name__ == '__main__':
    listener = socket.create_server(('127.0.0.1', 0), backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.set_inheritable(True)
    print(listener.getsockname()[1], flush=True)
    http2 = {'http_protocols': 'h2,h1', 'http2_cleartext': 'prior-knowledge', 'forwarded_allow_ips': '*'}
    Program(
        {
            'bind': f'fd://{listener.fileno()}',
            'workers': 1,
            'keepalive': 120,
            'loglevel': 'error',
            'worker_class': sys.argv[1] if len(sys.argv) > 1 else 'gevent',
            'backlog': BACKLOG,
            **(http2 if sys.argv[2:] == ['http2'] else {}),
        }
    ).run()
