"""A client that holds many idle connections.

    python idle.py PORT COUNT http|https|http2

Opens them one by one and makes one request on each, prints a line of JSON and waits for a line. Then makes one more
request on each, which shows that the server has kept them all, and prints the number of responses.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.servers import trusting_context

__all__ = ['ask']

REQUEST = b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'
#: The preface of HTTP/2 with empty SETTINGS, and the head of a request by the static table of HPACK.
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0'
HEAD = b'\x82\x86\x84\x41\x09127.0.0.1'
ANSWER_TIMEOUT = 30.0


def ask(connection: socket.socket) -> bool:
    """Make one request; return whether the response is right. Raises ``OSError``."""
    connection.sendall(REQUEST)
    answer = b''
    while not answer.endswith(b'hello world'):
        data = connection.recv(65536)
        if not data:
            return False
        answer += data
    return answer.startswith(b'HTTP/1.1 200 ')


def ask_http2(connection: socket.socket, stream: int) -> bool:
    """Make one request by HTTP/2, on stream 1 with the preface; return whether it gets its body.

    Raises ``OSError``.
    """
    number = stream.to_bytes(4, 'big')
    # HEADERS that end the head and the stream
    frame = len(HEAD).to_bytes(3, 'big') + b'\1\5' + number + HEAD
    connection.sendall(PREFACE + frame if stream == 1 else frame)
    # DATA that ends the stream
    last = b'\0\0\x0b\0\1' + number + b'hello world'
    answer = b''
    while not answer.endswith(last):
        data = connection.recv(65536)
        if not data:
            return False
        answer += data
    return True


def main() -> None:
    """Hold the connections until a line arrives."""
    port, count = int(sys.argv[1]), int(sys.argv[2])
    context = trusting_context() if sys.argv[3] == 'https' else None
    http2 = sys.argv[3] == 'http2'
    connections = []
    answered = 0
    for _ in range(count):
        connection = socket.create_connection(('127.0.0.1', port), ANSWER_TIMEOUT)
        if context is not None:
            connection = context.wrap_socket(connection)
        connections.append(connection)
        answered += ask_http2(connection, 1) if http2 else ask(connection)
    print(json.dumps({'answered': answered}), flush=True)
    sys.stdin.readline()
    print(json.dumps({'answered': sum(survives(each, http2) for each in connections)}), flush=True)


def survives(connection: socket.socket, http2: bool) -> bool:
    """Return whether another request on the connection has a response."""
    try:
        return ask_http2(connection, 3) if http2 else ask(connection)
    except OSError:
        return False


if __name__ == '__main__':
    main()
