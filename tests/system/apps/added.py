"""A Flask application with common extensions: Flask-Compress and Sentry.

Sentry sends its events to the address in SENTRY.
"""

from __future__ import annotations

import os

import flask
import sentry_sdk
from flask_compress import Compress
from sentry_sdk.integrations.flask import FlaskIntegration
from telling import tell, wait

__all__ = ['app']

sentry_sdk.init(
    dsn=os.environ['SENTRY'],
    integrations=[FlaskIntegration()],
    traces_sample_rate=1.0,
    _experiments={'transport_compression_level': 0},
)

app = flask.Flask(__name__)
app.config['COMPRESS_STREAMS'] = True
Compress(app)


@app.route('/')
def hello():
    return 'hello\n'


@app.route('/large')
def large():
    return flask.Response('x' * 100_000, mimetype='text/plain')


@app.route('/file')
def file():
    return flask.send_file(__file__, mimetype='text/plain', conditional=True)


@app.route('/stream')
def stream():
    def items():
        yield 'one\n' * 1000
        wait('stream')
        yield 'two\n' * 1000

    return flask.Response(items(), mimetype='text/plain')


@app.route('/events')
def events():
    def items():
        try:
            yield 'data: one\n\n'
            wait('events')
            yield 'data: two\n\n'
        finally:
            tell('ended')

    return flask.Response(items(), mimetype='text/event-stream')


@app.route('/fail/<name>')
def fail(name):
    sentry_sdk.set_tag('name', name)
    wait('fail')
    raise ValueError(name)
