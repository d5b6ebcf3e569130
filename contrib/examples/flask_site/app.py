"""A Flask application as there are many: it takes uploads, streams what it computes, and calls other services.

There is nothing about its server in it. It runs under Flask's own, under gunicorn's threads, and, unchanged, under
``geventnode serve``, where each of its requests is a greenlet in place of a thread.
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
    """Say hello, and count."""
    session['visits'] = session.get('visits', 0) + 1
    return f'Hello! Visits: {session["visits"]}\n'


@app.post('/digest')
def digest() -> dict[str, object]:
    """Tell the digest of a body of any size, of which no more than a piece is ever in memory."""
    known, size = hashlib.sha256(), 0
    while piece := request.stream.read(65536):
        known.update(piece)
        size += len(piece)
    return {'size': size, 'sha256': known.hexdigest()}


@app.get('/ticks')
def ticks() -> Response:
    """Server-sent events: a tick each second, until the client leaves."""

    def events() -> Iterator[str]:
        number = 0
        while True:
            yield f'data: {number}\n\n'
            number += 1
            time.sleep(1)

    return Response(events(), mimetype='text/event-stream')
