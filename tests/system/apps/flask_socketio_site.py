"""A Flask application that speaks Socket.IO. It does not depend on a server.

The mode is named, because Flask-SocketIO prefers gevent-websocket where that is installed, which needs its own server.
"""

from __future__ import annotations

import os

import flask
from flask_socketio import SocketIO, join_room, leave_room
from telling import tell, wait

__all__ = ['app']

app = flask.Flask(__name__)
options = {'max_http_buffer_size': 10_000_000}
if 'PING_INTERVAL' in os.environ:
    options |= {'ping_interval': float(os.environ['PING_INTERVAL']), 'ping_timeout': float(os.environ['PING_INTERVAL'])}
socketio = SocketIO(app, async_mode=os.environ.get('ASYNC_MODE', 'threading'), **options)


@app.route('/')
def hello():
    """Say hello."""
    return 'hello\n'


@app.route('/pid')
def pid():
    """Return the process."""
    return str(os.getpid())


@app.route('/news', methods=['POST'])
def news():
    """Send an event to a room, from an ordinary request."""
    socketio.emit('news', flask.request.get_data(as_text=True), to='room')
    return ''


@socketio.on('echo')
def echo(message):
    """Send back an event."""
    socketio.emit('echoed', message, to=flask.request.sid)


@socketio.on('join')
def join():
    """Enter the room."""
    join_room('room')
    return 'joined'


@socketio.on('leave')
def leave():
    """Leave the room."""
    leave_room('room')
    return 'left'


@socketio.on('wait')
def wait_for_the_test():
    """Return when the test lets it pass."""
    wait('handler')
    return 'passed'


@socketio.on('disconnect')
def disconnected(reason):
    """Report why a client has disconnected."""
    if 'REPORT' in os.environ:
        tell(reason.replace(' ', '-'))
