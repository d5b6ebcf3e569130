"""An aggregator: one request in, fifty upstream through one agent, and each response passed on as soon as it arrives.

The code that makes the requests is the same as for ``requests`` alone; only the two lines with the adapter are new. The
agent limits the connections of all requests together. If a client disconnects, its upstream requests are cancelled.

    python contrib/examples/fan_out.py

prints the responses, and the time compared with plain ``requests``, one after the other. It needs the extra
``requests``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial

import gevent
import requests
from gevent.pool import Group
from gevent.threadpool import ThreadPoolExecutor

from geventnode import http
from geventnode.integrations.requests import AgentAdapter

__all__ = ['create_aggregator', 'create_session', 'create_upstream', 'fetch', 'main']

UPSTREAM_REQUESTS = 50
MAX_SOCKETS = 25


def create_session() -> requests.Session:
    """Return a session with a limited number of shared connections."""
    session = requests.Session()
    session.mount('http://', AgentAdapter(max_sockets=MAX_SOCKETS))
    return session


def fetch(session: requests.Session, url: str) -> dict[str, object]:
    """Make one upstream request, and return its result; this code does not depend on greenlets."""
    try:
        answer = session.get(url, timeout=10)
        return {'url': url, 'status': answer.status_code, 'body': answer.text}
    except requests.RequestException as error:
        return {'url': url, 'error': type(error).__name__}


def create_aggregator(session: requests.Session, urls: list[str]) -> http.Server:
    """Return a server, not yet listening, that responds with one line of JSON for each of ``urls``."""

    def aggregate(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        response.write_head(200, {'Content-Type': 'application/x-ndjson'})
        requesting = Group()
        try:
            for answer in requesting.imap_unordered(partial(fetch, session), urls):
                response.write(json.dumps(answer) + '\n')
            response.end()
        finally:
            requesting.kill()

    return http.create_server(aggregate)


def create_upstream(seconds: float) -> http.Server:
    """Return a server, not yet listening, that takes ``seconds`` for each response."""

    def answer(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        gevent.sleep(seconds)
        response.end(f'this is {request.url}')

    return http.create_server(answer)


def timed(get: Callable[[], object]) -> float:
    """Return the seconds that ``get`` takes."""
    began = time.perf_counter()
    get()
    return time.perf_counter() - began


def plain(urls: list[str]) -> None:
    """Make the requests one after the other, as a view with plain ``requests`` does."""
    with requests.Session() as session:
        for url in urls:
            fetch(session, url)


def lines(url: str) -> Iterator[bytes]:
    """Yield the lines of the aggregator's response as they arrive."""
    with http.get(url) as response:
        yield from response.makefile()


def main() -> None:
    """Run everything in this process, and compare."""
    with create_upstream(0.05) as upstream, create_session() as session:
        upstream.listen(0, '127.0.0.1')
        urls = [f'http://127.0.0.1:{upstream.address()["port"]}/{number}' for number in range(UPSTREAM_REQUESTS)]
        with create_aggregator(session, urls) as aggregator:
            aggregator.listen(0, '127.0.0.1')
            here = f'http://127.0.0.1:{aggregator.address()["port"]}/'
            together = timed(lambda: [print(line.decode(), end='') for line in lines(here)])
        # in a native thread: blocking sockets would stop the upstream server, which runs in this one
        with ThreadPoolExecutor(1) as thread:
            alone = timed(thread.submit(plain, urls).result)
    print(f'{UPSTREAM_REQUESTS} requests: {together:.2f} s, one after the other {alone:.2f} s')


if __name__ == '__main__':
    main()
