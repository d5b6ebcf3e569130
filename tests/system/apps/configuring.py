"""Configure logging as in Flask's documentation, or by a file, at import or in a request.

The configuration does not name the loggers of the server.
"""

from __future__ import annotations

import logging.config
import os
import tempfile

from flask import Flask

FILE = """
[loggers]
keys=root
[handlers]
keys=errors
[formatters]
keys=plain
[logger_root]
level=INFO
handlers=errors
[handler_errors]
class=StreamHandler
args=(sys.stderr,)
formatter=plain
[formatter_plain]
format=own %(levelname)s: %(message)s
"""


def configure() -> None:
    if os.environ['CONFIGURED_BY'] == 'file':
        with tempfile.NamedTemporaryFile('w', suffix='.ini') as file:
            file.write(FILE)
            file.flush()
            logging.config.fileConfig(file.name)
        return
    logging.config.dictConfig(
        {
            'version': 1,
            'formatters': {'default': {'format': 'own %(levelname)s: %(message)s'}},
            'handlers': {
                'wsgi': {
                    'class': 'logging.StreamHandler',
                    'stream': 'ext://flask.logging.wsgi_errors_stream',
                    'formatter': 'default',
                }
            },
            'root': {'level': 'INFO', 'handlers': ['wsgi']},
        }
    )


def app(environ, start_response):
    if environ['PATH_INFO'] == '/configure':
        configure()
    if environ['PATH_INFO'] == '/fail':
        raise LookupError('on purpose')
    return flask(environ, start_response)


if not os.environ.get('CONFIGURED_LATE'):
    configure()
flask = Flask(__name__)


@flask.route('/<path:path>')
def hello(path):
    flask.logger.info('path %s', path)
    return 'hello'
