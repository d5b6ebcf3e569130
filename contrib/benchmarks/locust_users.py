"""Compare Locust's users with the one in ``contrib/examples``; ``locust.md`` has the method and the figures.

It needs ``pip install locust``, and prints a table in Markdown::

    PYTHONPATH=. python contrib/benchmarks/locust_users.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

USERS, TURNS, SECONDS = 10, 4, 2.0

SERVER = """
import gevent, os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from geventnode import http

def listener(request, response):
    if request.url == '/redirect':
        response.write_head(302, {'Location': '/', 'Content-Length': 0})
        response.end()
    elif request.url == '/login':
        response.write_head(200, {'Set-Cookie': 'session=0123456789abcdef; Path=/', 'Content-Length': 0})
        response.end()
    else:
        response.write_head(200, {'Content-Type': 'text/plain', 'Content-Length': 11})
        response.end(b'hello world')

server = http.create_server(listener).listen(0, '127.0.0.1')
print(server.address()['port'], flush=True)
gevent.wait()
"""

KINDS = ('bare', 'AgentUser', 'FastHttpUser', 'HttpUser')
TASKS = ('plain', 'cookie', 'redirect')


def sender(kind: str, port: int, task: str) -> Callable[[], object]:
    """Return the function that one user calls in a loop."""
    url, path = f'http://127.0.0.1:{port}', '/redirect' if task == 'redirect' else '/'
    if kind == 'bare':
        from geventnode import http

        agent = http.Agent(keep_alive=True)
        return lambda: http.get(f'{url}/', agent=agent).get_response().read()
    from locust import FastHttpUser, HttpUser
    from locust.env import Environment

    from contrib.examples.locust_user import AgentUser

    base: Any = {'AgentUser': AgentUser, 'FastHttpUser': FastHttpUser, 'HttpUser': HttpUser}[kind]
    environment = Environment(user_classes=[])
    environment.create_local_runner()
    user = type('Visitor', (base,), {'host': url})(environment)
    if task == 'cookie':
        user.client.get('/login')
    return lambda: user.client.get(path)


def turn(kind: str, port: int, task: str) -> float:
    """Return the requests per second of CPU time of one turn."""
    if kind != 'bare':
        # it patches the standard library
        import locust  # noqa: F401
    import gevent

    send = [sender(kind, port, task) for _ in range(USERS)]
    sent = 0
    end = perf_counter() + 0.3

    def loop(call: Callable[[], object]) -> None:
        nonlocal sent
        while perf_counter() < end:
            call()
            sent += 1

    # to fill the caches
    gevent.joinall([gevent.spawn(loop, each) for each in send], raise_error=True)
    sent, start = 0, process_time()
    end = perf_counter() + SECONDS
    gevent.joinall([gevent.spawn(loop, each) for each in send], raise_error=True)
    return sent / (process_time() - start)


def main() -> None:
    """Measure, and print the table."""
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        print(turn(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
        return
    server = subprocess.Popen([sys.executable, '-c', SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    figures: dict[tuple[str, str], list[float]] = {}
    try:
        for _ in range(TURNS):
            for task in TASKS:
                for kind in KINDS if task == 'plain' else KINDS[1:]:
                    ran = subprocess.run(
                        [sys.executable, __file__, kind, port, task], stdout=subprocess.PIPE, text=True, check=True
                    )
                    figures.setdefault((kind, task), []).append(float(ran.stdout))
    finally:
        server.terminate()
        server.wait()
    print('| user | plain | with a cookie | with a redirect |')
    print('|---|---|---|---|')
    for kind in KINDS:
        cells = [f'{max(found):,.0f}' if (found := figures.get((kind, task))) else '' for task in TASKS]
        print(f'| {"http.get, without Locust" if kind == "bare" else kind} | {" | ".join(cells)} |')


if __name__ == '__main__':
    main()
