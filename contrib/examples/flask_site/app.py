"""A usual Flask application: it accepts uploads, and streams events.

Nothing in it depends on its server. It runs under Flask's own, under gunicorn's threads and, unchanged, under
``geventnode serve``, where each request is a greenlet instead of a thread.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator

from flask import Flask, Response, request, session

__all__ = ['app']

app = Flask(__name__)
app.secret_key = os.environ.get('SECRET_KEY', 'for development')


@app.get('/')
def index() -> str:
    """Respond with the number of visits."""
    session['visits'] = session.get('visits', 0) + 1
    return f'Hello! Visits: {session["visits"]}\n'


@app.post('/digest')
def digest() -> dict[str, object]:
    """Return the digest of a body of any size, with one piece in memory at a time."""
    known, size = hashlib.sha256(), 0
    while piece := request.stream.read(65536):
        known.update(piece)
        size += len(piece)
    return {'size': size, 'sha256': known.hexdigest()}


@app.get('/ticks')
def ticks() -> Response:
    """Send an event each second, until the client disconnects."""

    def events() -> Iterator[str]:
        number = 0
        while True:
            yield f'data: {number}\n\n'
            number += 1
            time.sleep(1)

    return Response(events(), mimetype='text/event-stream')
