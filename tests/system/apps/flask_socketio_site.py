"""A Flask application that speaks Socket.IO. It does not depend on a server.

The mode is named, because Flask-SocketIO prefers gevent-websocket where that is installed, which needs its own server.
"""

from __future__ import annotations

import os

import flask
from flask_socketio import SocketIO

__all__ = ['app']

app = flask.Flask(__name__)
socketio = SocketIO(app, async_mode=os.environ.get('ASYNC_MODE', 'threading'), max_http_buffer_size=10_000_000)


@app.route('/')
def hello():
    """Say hello."""
    return 'hello\n'


@socketio.on('echo')
def echo(message):
    """Send back an event."""
    socketio.emit('echoed', message, to=flask.request.sid)
