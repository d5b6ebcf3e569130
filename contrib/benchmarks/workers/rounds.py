"""A closed load in short rounds: one request on each of several connections, then all responses.

    python rounds.py PORT PATH HEADERS CONNECTIONS ROUNDS

Prints one line of JSON: the longest time of the fastest tenth of the rounds, in seconds. A round lasts for less than a
millisecond, in which mostly the server works. Other load on the machine cannot disturb all rounds, and cannot make one
faster, so this figure is meaningful even if rates are not.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.requests import BROWSER_FIELDS

__all__ = ['play', 'play_round']

ANSWER_TIMEOUT = 30


def play(connections: Sequence[socket.socket], request: bytes, rounds: int) -> list[float]:
    """Run ``rounds`` rounds; return their times. Raises ``ValueError`` for an unexpected response."""
    connections[0].sendall(request)
    answer = b''
    while not answer.endswith(b'hello world'):
        answer += connections[0].recv(65536)
    if not answer.startswith(b'HTTP/1.1 200 '):
        raise ValueError(f'answered {answer!r}')
    return [play_round(connections, request, len(answer)) for _ in range(rounds)]


def play_round(connections: Sequence[socket.socket], request: bytes, length: int) -> float:
    """Run one round; return its time. Raises ``ValueError`` for a response of another length."""
    started = time.perf_counter()
    for connection in connections:
        connection.send(request)
    answers = [connection.recv(65536) for connection in connections]
    elapsed = time.perf_counter() - started
    # servers send such a short response in one piece, or in two consecutive ones
    for connection, answer in zip(connections, answers, strict=True):
        while len(answer) < length and (more := connection.recv(65536)):
            answer += more
        if len(answer) != length or not answer.endswith(b'hello world'):
            raise ValueError(f'answered {answer!r}')
    return elapsed


def main() -> None:
    """Run rounds with blocking sockets, which need no event loop."""
    port, path, headers, count, rounds = int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
    fields = [('Host', f'127.0.0.1:{port}'), *BROWSER_FIELDS[: headers - 1]]
    lines = [f'GET {path} HTTP/1.1', *(f'{name}: {value}' for name, value in fields), '', '']
    connections = [socket.create_connection(('127.0.0.1', port), ANSWER_TIMEOUT) for _ in range(count)]
    limit = ANSWER_TIMEOUT.to_bytes(8, sys.byteorder) + bytes(8)
    for connection in connections:
        # a kernel timeout: Python's own makes the socket non-blocking, with two system calls for each call
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    durations = play(connections, '\r\n'.join(lines).encode('ascii'), rounds)
    print(json.dumps({'seconds': statistics.quantiles(durations, n=10)[0]}))


if __name__ == '__main__':
    main()
