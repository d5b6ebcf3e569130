"""One client that makes few requests, and records their latencies.

    python probe.py PORT SECONDS

Prints one line of JSON: the number of responses, and the median, the 99th percentile and the longest in seconds. If a
response has not arrived after ten times the duration, it counts with the time waited until then.
"""

from __future__ import annotations

import json
import socket
import sys
import time

__all__ = ['ask']

#: The timeout of a response, as a multiple of the duration.
TIMEOUT_FACTOR = 10
#: Seconds between a response and the next request, more than a turn of a busy loop.
PAUSE = 0.002


def ask(connection: socket.socket, request: bytes) -> float:
    """Return the latency of a response in seconds. Raises ``ValueError`` for a wrong one."""
    began = time.perf_counter()
    connection.sendall(request)
    answer = b''
    # without data, the kernel's timeout has expired
    while not answer.endswith(b'hello world'):
        try:
            more = connection.recv(65536)
        except BlockingIOError:
            break
        if not more:
            raise ValueError(f'the connection was closed after {answer!r}')
        answer += more
    elapsed = time.perf_counter() - began
    if answer and not answer.startswith(b'HTTP/1.1 200 '):
        raise ValueError(f'answered {answer!r}')
    return elapsed


def main() -> None:
    """Make requests until the time is over."""
    port, seconds = int(sys.argv[1]), int(sys.argv[2])
    request = f'GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n'.encode()
    latencies: list[float] = []
    with socket.create_connection(('127.0.0.1', port)) as connection:
        limit = (seconds * TIMEOUT_FACTOR).to_bytes(8, sys.byteorder) + bytes(8)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        over = time.perf_counter() + seconds
        while time.perf_counter() < over:
            latencies.append(ask(connection, request))
            time.sleep(PAUSE)
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    print(json.dumps({'count': len(latencies), 'p50': p50, 'p99': p99, 'most': latencies[-1]}))


if __name__ == '__main__':
    main()
