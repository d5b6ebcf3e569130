"""The site of the comparison as a WSGI application, for servers without another interface.

It records how each request ends; ``/outcome`` returns the oldest record, and waits for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gevent.event import Event
from gevent.queue import Queue

__all__ = ['app']

outcomes: Queue[str] = Queue()
released = Event()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ['PATH_INFO']
    if path == '/outcome':
        body = outcomes.get().encode()
    elif path == '/upload':
        body = upload(environ['wsgi.input'])
    elif path == '/wait':
        body = wait()
    elif path == '/halfway':
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return halfway()
    else:
        if path == '/release':
            released.set()
        body = b'hello'
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]


def upload(body: Any) -> bytes:
    """Read the request to its end."""
    outcome = 'raised'
    try:
        outcome = f'complete: {len(body.read())} bytes'
    finally:
        outcomes.put(outcome)
    return outcome.encode()


def wait() -> bytes:
    """Wait for ``/release``; nothing in the interface is notified when the client disconnects."""
    outcomes.put('waiting')
    outcome = 'notified'
    try:
        released.wait()
        outcome = 'not notified'
    finally:
        outcomes.put(outcome)
    return outcome.encode()


def halfway() -> Iterator[bytes]:
    yield b'part'
    raise RuntimeError('halfway')
