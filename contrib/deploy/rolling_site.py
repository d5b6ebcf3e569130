"""The application of rolling.py: it responds with the name of the request, and records the requests it has begun.

Each process writes its records to a file at once, so that they survive the process.
"""

from __future__ import annotations

import os

import gevent

from geventnode.http import readiness
from geventnode.integrations.wsgi import wsgi

__all__ = ['app', 'listener']

#: Seconds that a request takes, so that some are always active.
WORK = 0.002


def app(environ, start_response):
    """Read the body, wait briefly, and respond with the path."""
    global _notes, _pid
    if _pid != os.getpid():
        _pid = os.getpid()
        _notes = os.open(f'{os.environ["ROLLING_NOTES"]}/{_pid}', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    name = environ['PATH_INFO'].encode()
    os.write(_notes, name + b'\n')
    environ['wsgi.input'].read()
    gevent.sleep(WORK)
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(name)))])
    return [name]


_notes = -1
_pid = 0
listener = readiness(wsgi(app))
