"""A load at a fixed rate, where the latency includes the delay of late requests.

    python pace.py PORT CONNECTIONS SECONDS [RATE]

Requests are due at even intervals. One for which no connection is free waits, and its latency is counted from the due
time. Without a rate, each connection sends the next request as soon as it has its response. Prints one line of JSON:
the rate, and of the latencies in seconds the median, the 99th percentile, and the median of the 99th percentiles of
each thousand consecutive requests. A pause of the machine affects few of the thousands; a delay by the server itself
counts if it is in every second one.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import sys
import time

__all__ = ['Pace']

#: Seconds at the beginning in which requests are not counted.
WARM_UP = 0.2
#: The number of consecutive requests with a common 99th percentile.
IN_A_ROW = 1000
#: Seconds before the due time in which the process does not sleep, because waking up takes time.
NEAR = 0.0005


class Pace:
    """The connections, and the latencies.

    :param rate: requests per second; None for the peak rate.
    """

    def __init__(self, port: int, connections: int, rate: float | None) -> None:
        self._request = f'GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n'.encode()
        self._interval = 1 / rate if rate else 0.0
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._due: dict[int, float] = {}
        self._free: list[socket.socket] = []
        self.latencies: list[float] = []
        for _ in range(connections):
            connection = socket.create_connection(('127.0.0.1', port))
            connection.setblocking(False)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)
            self._free.append(connection)

    def run(self, seconds: float) -> float:
        """Load the server for ``seconds``; return the actual time. Raises ``ValueError`` unless all are 200."""
        clock = time.perf_counter
        began = due = clock()
        over = began + seconds
        while True:
            now = clock()
            if now >= over:
                return now - began
            while self._free and due <= now:
                connection = self._free.pop()
                self._due[connection.fileno()] = due if self._interval else now
                connection.send(self._request)
                due += self._interval
            wait = due - now - NEAR if self._interval and self._free else 1.0
            self._receive(max(wait, 0.0), began + WARM_UP)

    def _receive(self, wait: float, counted: float) -> None:
        for descriptor, _ in self._poll.poll(wait):
            connection = self._sockets[descriptor]
            answer = connection.recv(65536)
            if not answer.startswith(b'HTTP/1.1 200') or not answer.endswith(b'hello world'):
                raise ValueError(f'answered {answer!r}')
            due = self._due[descriptor]
            if due >= counted:
                self.latencies.append(time.perf_counter() - due)
            self._free.append(connection)


def main() -> None:
    """Run the command line."""
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    pace = Pace(port, connections, float(sys.argv[4]) if sys.argv[4:] else None)
    elapsed = pace.run(seconds)
    if len(pace.latencies) < 100:
        raise ValueError(f'only {len(pace.latencies)} responses')
    rows = [pace.latencies[start : start + IN_A_ROW] for start in range(0, len(pace.latencies), IN_A_ROW)]
    # the last group is shorter
    usual = statistics.median(percentiles(row)[98] for row in rows[:-1] or rows)
    cuts = percentiles(pace.latencies)
    print(
        json.dumps(
            {'rate': len(pace.latencies) / (elapsed - WARM_UP), 'p50': cuts[49], 'p99': cuts[98], 'usual p99': usual}
        )
    )


def percentiles(latencies: list[float]) -> list[float]:
    """Return the 99 percentiles."""
    return statistics.quantiles(latencies, n=100)


if __name__ == '__main__':
    main()
