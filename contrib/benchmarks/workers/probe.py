"""One client that asks now and then, and notes how long each answer took.

    python probe.py PORT SECONDS

Prints one line of JSON: how many answers there were, and the median, the 99th percentile and the longest in seconds. An
answer that has not come when ten times the time is over counts with what was waited for it until then.
"""

from __future__ import annotations

import json
import socket
import sys
import time

__all__ = ['ask']

#: For how many times the time an answer is waited for.
PATIENCE = 10
#: Seconds between an answer and the next request: more than a turn of a loop that works, so that each begins anew.
PAUSE = 0.002


def ask(connection: socket.socket, request: bytes) -> float:
    """Return how many seconds an answer took. Raises ``ValueError`` for another one than expected."""
    began = time.perf_counter()
    connection.sendall(request)
    answer = b''
    # none at all: the kernel's timeout
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
    """Ask until the time is over."""
    port, seconds = int(sys.argv[1]), int(sys.argv[2])
    request = f'GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n'.encode()
    latencies: list[float] = []
    with socket.create_connection(('127.0.0.1', port)) as connection:
        limit = (seconds * PATIENCE).to_bytes(8, sys.byteorder) + bytes(8)
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
