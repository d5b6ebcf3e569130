"""A bare blocking loop that receives a download and discards it, as the reference for clients."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.driving import drive


def download(url: str) -> int:
    """Return the size of a large body."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(f'GET {parts.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'.encode())
        received = connection.recv(65536)
        size = len(received) - received.index(b'\r\n\r\n') - 4
        while data := connection.recv(65536):
            size += len(data)
        return size


if __name__ == '__main__':
    drive(download, download, lambda work, count: work())
