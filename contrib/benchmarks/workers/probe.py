"""One client that asks now and then, and notes how long each answer took.

    python probe.py PORT SECONDS

Prints one line of JSON: how many answers there were, and the median, the 99th percentile and the longest in seconds.
"""
from __future__ import annotations

import json
import socket
import statistics
import sys
import time

__all__ = ['ask']

ANSWER_TIMEOUT = 60
#: Seconds between an answer and the next request: more than a turn of a loop that works, so that each begins anew.
PAUSE = 0.002


def ask(connection: socket.socket, request: bytes) -> float:
    """Return how many seconds an answer took. Raises ``ValueError`` for another one than expected."""
    began = time.perf_counter()
    connection.sendall(request)
    answer = connection.recv(65536)
    while answer and not answer.endswith(b'hello world'):
        answer += connection.recv(65536)
    elapsed = time.perf_counter() - began
    if not answer.startswith(b'HTTP/1.1 200 '):
        raise ValueError(f'answered {answer!r}')
    return elapsed


def main() -> None:
    """Ask until the time is over, and a hundred times at least."""
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    request = f'GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n'.encode()
    latencies = []
    with socket.create_connection(('127.0.0.1', port), ANSWER_TIMEOUT) as connection:
        over = time.perf_counter() + seconds
        while time.perf_counter() < over or len(latencies) < 100:
            latencies.append(ask(connection, request))
            time.sleep(PAUSE)
    cuts = statistics.quantiles(latencies, n=100)
    print(json.dumps({'count': len(latencies), 'p50': cuts[49], 'p99': cuts[98], 'most': max(latencies)}))


if __name__ == '__main__':
    main()
