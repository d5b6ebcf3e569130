"""granian with one worker and the handlers of ``geventnode_server.py``.

granian accepts no listening socket: it gets a port that was free a moment before, which is printed once it listens.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from granian import Granian

__all__: list[str] = []


def announce(port: int) -> None:
    """Print the port once the server listens."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port)):
            print(port, flush=True)
            return
        time.sleep(0.05)


if __name__ == '__main__':
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    threading.Thread(target=announce, args=(port,), daemon=True).start()
    Granian(
        'wsgi_application:application',
        address='127.0.0.1',
        port=port,
        interface='wsgi',
        workers=1,
        blocking_threads=1,
        log_enabled=False,
    ).serve()
