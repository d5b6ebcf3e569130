"""A Flask application that speaks WebSocket through Flask-Sock. It does not depend on a server."""

from __future__ import annotations

import os

import flask
from flask_sock import Sock
from simple_websocket import ConnectionClosed
from telling import tell

__all__ = ['app']

app = flask.Flask(__name__)
if 'PING_INTERVAL' in os.environ:
    # then simple-websocket waits with a selector
    app.config['SOCK_SERVER_OPTIONS'] = {'ping_interval': float(os.environ['PING_INTERVAL'])}
sock = Sock(app)


@app.route('/')
def hello():
    """Say hello."""
    return 'hello\n'


@sock.route('/echo')
def echo(ws):
    """Send each message back until the client closes."""
    while True:
        ws.send(ws.receive())


@sock.route('/bye')
def bye(ws):
    """Say one thing and return, which closes."""
    ws.send('bye')


@sock.route('/many')
def many(ws):
    """Send 500 messages of 10,000 bytes, each with a byte of its own."""
    for number in range(500):
        ws.send(bytes([number % 251]) * 10_000)


@sock.route('/until-closed')
def until_closed(ws):
    """Report the end of the WebSocket."""
    try:
        ws.receive()
    except ConnectionClosed:
        tell('closed')
        raise
