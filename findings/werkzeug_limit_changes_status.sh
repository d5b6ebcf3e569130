#!/bin/sh
# Flask 3.1.3, Werkzeug 3.1.9: if the client of an upload disconnects, the status depends on MAX_CONTENT_LENGTH.
#
# On a server that sets wsgi.input_terminated (gunicorn, gevent.pywsgi and others do), Werkzeug hands wsgi.input on as it
# is, and the OSError of a lost connection is a 500 with a traceback, and an event for error trackers. With
# MAX_CONTENT_LENGTH set, however large, the same input is wrapped, and every OSError and ValueError that the server
# raises while it reads becomes ClientDisconnected: 400, and nothing is logged. A server that reports a broken limit that
# way cannot rely on either.
#
# Output:
#   Flask 3.1.3 Werkzeug 3.1.9
#   without MAX_CONTENT_LENGTH: ConnectionResetError -> 500, 1 logged
#   without MAX_CONTENT_LENGTH: ValueError           -> 500, 1 logged
#   MAX_CONTENT_LENGTH = 1 GB:  ConnectionResetError -> 400, 0 logged
#   MAX_CONTENT_LENGTH = 1 GB:  ValueError           -> 400, 0 logged
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" Flask==3.1.3 Werkzeug==3.1.9
PYTHONPATH=$folder python3 - <<'PROGRAM' | tee "$folder/seen"
import importlib.metadata
import io
import logging

import flask
from werkzeug.test import EnvironBuilder, run_wsgi_app


class Lost(io.RawIOBase):
    """A body of which half arrives."""

    def __init__(self, error):
        self.error = error
        self.given = False

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.given:
            raise self.error
        self.given = True
        buffer[:4] = b'half'
        return 4


class Lines(logging.Handler):
    """Counts the logged messages."""

    count = 0

    def emit(self, record):
        self.count += 1


def ask(limit, error):
    app = flask.Flask('site')
    app.config['MAX_CONTENT_LENGTH'] = limit
    lines = Lines()
    app.logger.handlers[:] = [lines]
    app.logger.propagate = False

    @app.post('/')
    def upload():
        return str(len(flask.request.get_data()))

    environ = EnvironBuilder(method='POST').get_environ()
    environ.update({'wsgi.input': Lost(error), 'wsgi.input_terminated': True, 'CONTENT_LENGTH': '8'})
    status = run_wsgi_app(app, environ)[1]
    return f'{status[:3]}, {lines.count} logged'


print(*(f'{name} {importlib.metadata.version(name)}' for name in ('Flask', 'Werkzeug')))
for name, limit in ('without MAX_CONTENT_LENGTH:', None), ('MAX_CONTENT_LENGTH = 1 GB: ', 10**9):
    for error in ConnectionResetError(), ValueError():
        print(f'{name} {type(error).__name__:<20} -> {ask(limit, error)}')
PROGRAM
cat > "$folder/expected" <<'EXPECTED'
Flask 3.1.3 Werkzeug 3.1.9
without MAX_CONTENT_LENGTH: ConnectionResetError -> 500, 1 logged
without MAX_CONTENT_LENGTH: ValueError           -> 500, 1 logged
MAX_CONTENT_LENGTH = 1 GB:  ConnectionResetError -> 400, 0 logged
MAX_CONTENT_LENGTH = 1 GB:  ValueError           -> 400, 0 logged
EXPECTED
diff "$folder/expected" "$folder/seen"
