"""A client that holds many idle connections.

    python idle.py PORT COUNT http|https

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


def main() -> None:
    """Hold the connections until a line arrives."""
    port, count = int(sys.argv[1]), int(sys.argv[2])
    context = trusting_context() if sys.argv[3] == 'https' else None
    connections = []
    answered = 0
    for _ in range(count):
        connection = socket.create_connection(('127.0.0.1', port), ANSWER_TIMEOUT)
        if context is not None:
            connection = context.wrap_socket(connection)
        connections.append(connection)
        answered += ask(connection)
    print(json.dumps({'answered': answered}), flush=True)
    sys.stdin.readline()
    print(json.dumps({'answered': sum(map(survives, connections))}), flush=True)


def survives(connection: socket.socket) -> bool:
    """Return whether another request on the connection has a response."""
    try:
        return ask(connection)
    except OSError:
        return False


if __name__ == '__main__':
    main()
