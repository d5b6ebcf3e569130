"""WebSockets that echo: rounds of one message on each of several connections, or connections that idle.

    python websockets.py PORT PATH CONNECTIONS ROUNDS

Each message has 64 bytes. With rounds, it prints the longest time of the fastest tenth of the rounds, in seconds (as
``rounds.py``). With 0 rounds, it makes one echo on each connection, prints ``{"open": N}``, and keeps the connections
until its standard input ends.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time
from collections.abc import Sequence

__all__ = ['connect', 'play_round']

ANSWER_TIMEOUT = 30
PAYLOAD = bytes(range(64))
MASK = b'\x37\xfa\x21\x3d'
MESSAGE = b'\x82\xc0' + MASK + bytes(byte ^ MASK[place % 4] for place, byte in enumerate(PAYLOAD))
ECHO = b'\x82\x40' + PAYLOAD


def connect(port: int, path: str) -> socket.socket:
    """Return a connection after its handshake. Raises ``ValueError`` if it fails."""
    connection = socket.create_connection(('127.0.0.1', port), ANSWER_TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    lines = [
        f'GET {path} HTTP/1.1',
        f'Host: 127.0.0.1:{port}',
        'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
        'Accept-Language: en-US,en;q=0.5',
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
        '',
        '',
    ]
    connection.sendall('\r\n'.join(lines).encode('ascii'))
    answer = b''
    while not answer.endswith(b'\r\n\r\n'):
        more = connection.recv(1)
        if not more:
            break
        answer += more
    if not answer.startswith(b'HTTP/1.1 101 '):
        raise ValueError(f'answered {answer!r}')
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, ANSWER_TIMEOUT.to_bytes(8, sys.byteorder) + bytes(8))
    return connection


def play_round(connections: Sequence[socket.socket]) -> float:
    """Run one round; return its time. Raises ``ValueError`` for a wrong echo."""
    started = time.perf_counter()
    for connection in connections:
        connection.send(MESSAGE)
    answers = [connection.recv(65536) for connection in connections]
    elapsed = time.perf_counter() - started
    for connection, answer in zip(connections, answers, strict=True):
        while len(answer) < len(ECHO) and (more := connection.recv(65536)):
            answer += more
        if answer != ECHO:
            raise ValueError(f'echoed {answer!r}')
    return elapsed


def main() -> None:
    """Run the rounds, or hold the connections."""
    port, path, count, rounds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    connections = []
    for _ in range(count):
        connections.append(connect(port, path))
        # at once, before the server sends a ping
        play_round(connections[-1:])
    if rounds:
        durations = [play_round(connections) for _ in range(rounds)]
        print(json.dumps({'seconds': statistics.quantiles(durations, n=10)[0]}))
        return
    print(json.dumps({'open': count}), flush=True)
    sys.stdin.read()


if __name__ == '__main__':
    main()
