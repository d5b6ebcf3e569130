"""The applications of the tests with gunicorn: a WSGI application, a request listener and a server."""

from __future__ import annotations

import os

import gevent.monkey

from geventnode import http
from geventnode.integrations.wsgi import wsgi

__all__ = ['application', 'listener', 'ready', 'server']


def application(environ, start_response):
    path, query = environ['PATH_INFO'], environ['QUERY_STRING']
    if path == '/fail':
        raise ValueError('on purpose')
    if path == '/block':
        # a named pipe, opened by a call that is not patched: the loop is blocked until another process writes
        with open(query, 'rb') as pipe:
            pipe.read()
    if path == '/late':
        late = environ['wsgi.input'].read()
    body = (
        {
            '/pid': str(os.getpid()),
            '/patched': str(gevent.monkey.is_module_patched('socket')),
            '/scheme': environ['wsgi.url_scheme'],
            '/wrapper': environ['wsgi.file_wrapper'].__name__,
            '/multiprocess': str(environ['wsgi.multiprocess']),
            '/address': str(environ['REMOTE_ADDR']),
        }.get(path, 'hello').encode()
        if path != '/late'
        else late
    )
    start_response('200 OK', [('Content-Type', 'text/plain'), ('X-Mark', 'wsgi'), ('X-Pid', str(os.getpid()))])
    if path == '/slow':
        return slow(environ)
    return [body]


def slow(environ):
    yield b'begun\n'
    yield environ['wsgi.input'].read()


def listener(request, response):
    response.set_header('X-Mark', 'listener')
    if request.url == '/slow':
        response.write('begun\n')
        response.end(request.read())
    else:
        response.end(f'{os.getpid()}')


ready = http.readiness(wsgi(application))
server = http.create_server(listener, keep_alive_timeout=7)
