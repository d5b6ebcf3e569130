"""A file that starts a server while it is imported; ``SERVES`` selects the server."""

import os
import signal
import sys

from geventnode import http

how = os.environ['SERVES']


def listener(request, response):
    response.end('hello')


class Interrupted:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'interrupted':
            signal.raise_signal(signal.SIGINT)


def run():
    if how == 'geventnode':
        http.create_server(listener).listen(0, '127.0.0.1').serve_forever()
    elif how == 'pywsgi':
        from gevent.pywsgi import WSGIServer

        WSGIServer(('127.0.0.1', 0), listener, log=None).serve_forever()
    elif how == 'flask':
        from flask import Flask

        Flask(__name__).run(port=0)
    elif how == 'flask-debug':
        from flask import Flask

        # the reloader starts this program again, and serves in a thread of that process
        Flask(__name__).run(port=0, debug=True)
    elif how == 'wsgiref':
        from wsgiref.simple_server import make_server

        make_server('127.0.0.1', 0, listener).serve_forever()
    elif how == 'waiting':
        import gevent

        # starts the event loop: an interrupt within its start ends the hub, and a traceback follows at the exit
        gevent.sleep(0)
        sys.stdout.write('waiting\n')
        sys.stdout.flush()
        gevent.sleep(300)
    elif how == 'finding':
        # Ctrl+C within the import system, while the file imports a module
        sys.meta_path.insert(0, Interrupted)
        __import__('interrupted')
    elif how == 'thread':
        import threading
        from wsgiref.simple_server import make_server

        threading.Thread(target=make_server('127.0.0.1', 0, listener).serve_forever, daemon=True).start()


run()
