"""A WSGI application that calls gunicorn's dirty workers, and stores values in their shared tables."""

from __future__ import annotations

import json
import os

import gevent
from gunicorn.dirty import close_dirty_client, get_dirty_client, stash
from gunicorn.dirty.errors import DirtyError

__all__ = ['application']


def application(environ, start_response):
    """Call the action of ``heavy:Heavy`` that the path names, with the query as its argument."""
    action, argument = environ['PATH_INFO'][1:], environ['QUERY_STRING']
    arguments = [argument] if argument else []
    if action == 'stream':
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return (item.encode() for item in get_dirty_client().stream('heavy:Heavy', action, *arguments))
    try:
        if action == 'pid':
            result = os.getpid()
        elif action == 'put':
            result = stash.put('table', 'key', argument)
        elif action == 'get':
            result = stash.get('table', 'key')
        elif action == 'interrupted':
            with gevent.Timeout(0.05, False):
                get_dirty_client().execute('heavy:Heavy', 'wait', argument)
            close_dirty_client()
            result = get_dirty_client().execute('heavy:Heavy', 'identify')
        else:
            result = get_dirty_client().execute('heavy:Heavy', action, *arguments)
    except DirtyError as error:
        result = f'{type(error).__name__}: {error}'
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps(result).encode()]
