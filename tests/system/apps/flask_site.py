"""A Flask application with a view for each feature that a server can break. It does not depend on the server."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from pathlib import Path

import flask
from telling import tell, wait
from werkzeug.debug import DebuggedApplication

__all__ = ['app', 'console', 'debugged']

DIRECTORY = Path(os.environ['DIRECTORY'])

app = flask.Flask(__name__)
app.secret_key = 'not a secret'
# set before Flask adds its own
logging.getLogger(app.name).addHandler(logging.FileHandler(DIRECTORY / 'errors.txt'))

_sendfile = os.sendfile


def sendfile(*arguments):
    """Let the kernel send, and report it."""
    tell('sendfile')
    return _sendfile(*arguments)


os.sendfile = sendfile

#: The same application with debugging pages.
debugged = DebuggedApplication(app)
#: With consoles, without their PIN.
console = DebuggedApplication(app, evalex=True, pin_security=False)


def digest(file):
    """Return the size and the digest of the body, read in pieces."""
    known, size = hashlib.sha256(), 0
    while piece := file.read(65536):
        known.update(piece)
        size += len(piece)
    return {'size': size, 'sha256': known.hexdigest()}


@app.get('/')
def index():
    return 'hello\n'


@app.post('/upload')
def upload():
    file = flask.request.files['file']
    return {**digest(file.stream), 'name': file.filename, 'note': flask.request.form['note']}


@app.post('/raw')
def raw():
    return digest(flask.request.stream)


@app.post('/form')
def form():
    return flask.request.form.to_dict()


@app.post('/refused')
def refused():
    flask.abort(401)


@app.post('/limited')
def limited():
    flask.request.max_content_length = 1000
    return flask.request.get_data()


@app.get('/stream')
def stream():
    @flask.stream_with_context
    def pieces():
        yield f'one {flask.request.args["name"]}\n'
        wait('stream')
        yield f'two {flask.request.args["name"]}\n'

    return pieces(), {'Content-Type': 'text/plain'}


@app.get('/endless')
def endless():
    def pieces():
        try:
            while True:
                yield b'more\n'
        finally:
            tell('closed')

    return flask.Response(pieces(), mimetype='text/plain')


@app.get('/stuck')
def stuck():
    def pieces():
        try:
            yield b'begun\n'
            wait('stuck')
            yield b'more\n' * 100_000
        finally:
            tell('stuck-closed')

    return flask.Response(pieces(), mimetype='text/plain')


@app.post('/login')
def login():
    flask.session['name'] = flask.request.form['name']
    return flask.redirect(flask.url_for('user'), 303)


@app.get('/user')
def user():
    return flask.session.get('name', 'no name')


@app.get('/logout')
def logout():
    flask.session.clear()
    return 'gone'


@app.get('/fail')
def fail():
    raise ValueError('a part of the test')


@app.get('/fail-late')
def fail_late():
    def pieces():
        yield b'begun\n'
        raise ValueError('late, and a part of the test')

    return flask.Response(pieces(), mimetype='text/plain')


@app.errorhandler(404)
def missing(error):
    return f'there is no {flask.request.path}\n', 404


@app.get('/moved')
def moved():
    return flask.redirect(flask.url_for('user', _external=True))


@app.get('/file')
def file():
    return flask.send_file(DIRECTORY / 'large')


@app.get('/memory')
def memory():
    return flask.send_file(io.BytesIO(b'from memory'), 'text/plain')


@app.get('/where')
def where():
    request = flask.request
    return {'secure': request.is_secure, 'client': request.remote_addr, 'url': flask.url_for('user', _external=True)}


@app.get('/together')
def together():
    """Wait together with other requests; return the request's name before and after."""
    flask.g.name = flask.request.args['name']
    flask.session['name'] = flask.g.name
    wait('together')
    return ' '.join((flask.g.name, flask.request.args['name'], flask.session['name'], flask.current_app.name))
