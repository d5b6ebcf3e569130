"""The site of the comparison as a request listener; see ``site_of.py``."""

from __future__ import annotations

from typing import Any

from gevent.event import Event
from gevent.queue import Queue

__all__ = ['listener']

outcomes: Queue[str] = Queue()
released = Event()


def listener(request: Any, response: Any) -> None:
    if request.url == '/outcome':
        response.end(outcomes.get())
    elif request.url == '/upload':
        outcome = 'raised'
        try:
            outcome = f'complete: {len(request.read())} bytes'
        finally:
            outcomes.put(outcome)
        response.end(outcome)
    elif request.url == '/wait':
        response.on('close', lambda: outcomes.put('notified'))
        outcomes.put('waiting')
        released.wait()
        response.end()
    elif request.url == '/halfway':
        response.write('part')
        raise RuntimeError('halfway')
    else:
        if request.url == '/release':
            released.set()
        response.end('hello')
