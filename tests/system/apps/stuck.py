"""A site with a pool that can become stuck: each request for ``/forgotten`` leaves a response unread.

The upstream is a server in the same process.
"""

from __future__ import annotations

from typing import Any

import gevent

from geventnode import http

__all__ = ['listener']

agent = http.Agent(keep_alive=True, max_sockets=4)
unread = []


def upstream(request: Any, response: Any) -> None:
    if request.url.startswith('/report'):
        response.end(bytes(10_000_000))
    else:
        gevent.sleep(0.02)
        response.end('from upstream\n')


behind = http.create_server(upstream).listen(0, '127.0.0.1')
url = f'http://127.0.0.1:{behind.address()["port"]}'


def listener(request: Any, response: Any) -> None:
    if request.url == '/forgotten':
        unread.append(http.get(f'{url}/report/{len(unread)}?token=secret', agent=agent).get_response())
        response.end('forgotten\n')
    elif request.method == 'POST':
        response.end(f'{len(request.read())} bytes\n')
    elif request.url.startswith('/slow'):
        gevent.sleep(3600)
    elif request.url == '/quick':
        response.end('quick\n')
    else:
        response.end(http.get(f'{url}/part', agent=agent).get_response().read())
