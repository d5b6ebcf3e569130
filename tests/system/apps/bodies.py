"""One view in five frameworks, each under its own first segment of the path. The query selects how it reads a body.

``/django/whole`` is Django's view, which reads everything with methods of the framework: the file of a form, or the
body. ``length`` reads ``wsgi.input`` to CONTENT_LENGTH and no further, as PEP 3333 requires; ``part``
reads a hundred bytes, and ``none`` not one. The response has the number of read bytes, and their digest.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import bottle
import django
import falcon
import flask
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import re_path

# Pyramid imports a deprecated module of setuptools.
warnings.filterwarnings('ignore', 'pkg_resources', UserWarning)

from pyramid.config import Configurator  # noqa: E402
from pyramid.response import Response  # noqa: E402

__all__ = ['application', 'urlpatterns']

PART = 100
MOST = 1 << 30


def summary(pieces: Iterable[bytes]) -> str:
    """Return the result that the test compares."""
    size, known = 0, hashlib.sha256()
    for piece in pieces:
        size += len(piece)
        known.update(piece)
    return json.dumps({'size': size, 'sha256': known.hexdigest()})


def by_input(environ: dict[str, Any], leave: str) -> str:
    """Read ``wsgi.input``."""
    source = environ['wsgi.input']
    if leave == 'length':
        size = environ.get('CONTENT_LENGTH')
        return summary([source.read(int(size)) if size else source.read()])
    return summary([source.read(PART)] if leave == 'part' else [])


def pieces_of(file: Any) -> Iterable[bytes]:
    """Yield the content of a file."""
    return iter(lambda: file.read(65536), b'')


# -- Flask ------------------------------------------------------------------------------------------------------------

flask_site = flask.Flask(__name__)
flask_site.config['MAX_FORM_MEMORY_SIZE'] = None


@flask_site.post('/<leave>')
def flask_view(leave: str) -> str:
    if leave != 'whole':
        return by_input(flask.request.environ, leave)
    file = flask.request.files.get('file')
    return summary(pieces_of(file) if file else [flask.request.get_data()])


# -- Django -----------------------------------------------------------------------------------------------------------

settings.configure(
    SECRET_KEY='not a secret', ALLOWED_HOSTS=['*'], ROOT_URLCONF=__name__, DATA_UPLOAD_MAX_MEMORY_SIZE=None
)


def django_view(request: Any, leave: str) -> HttpResponse:
    if leave != 'whole':
        return HttpResponse(by_input(request.environ, leave))
    file = request.FILES.get('file')
    return HttpResponse(summary(file.chunks() if file else [request.body]))


urlpatterns = [re_path('^(?P<leave>.+)$', django_view)]

# -- Falcon -----------------------------------------------------------------------------------------------------------


class FalconView:
    def on_post(self, request: falcon.Request, response: falcon.Response, leave: str) -> None:
        if leave != 'whole':
            response.text = by_input(request.env, leave)
        elif (request.content_type or '').startswith('multipart/'):
            for part in request.get_media():
                if part.name == 'file':
                    response.text = summary(pieces_of(part.stream))
        else:
            response.text = summary(pieces_of(request.bounded_stream))


falcon_site = falcon.App()
falcon_site.add_route('/{leave}', FalconView())

# -- Bottle -----------------------------------------------------------------------------------------------------------

bottle_site = bottle.Bottle()
bottle.BaseRequest.MEMFILE_MAX = MOST


@bottle_site.post('/<leave>')
def bottle_view(leave: str) -> str:
    if leave != 'whole':
        return by_input(bottle.request.environ, leave)
    if (bottle.request.content_type or '').startswith('multipart/'):
        return summary(pieces_of(bottle.request.files['file'].file))
    return summary(pieces_of(bottle.request.body))


# -- Pyramid ----------------------------------------------------------------------------------------------------------


def pyramid_view(request: Any) -> Response:
    leave = request.matchdict['leave']
    if leave != 'whole':
        return Response(by_input(request.environ, leave))
    if (request.content_type or '').startswith('multipart/'):
        return Response(summary(pieces_of(request.POST['file'].file)))
    return Response(summary([request.body]))


def pyramid_site() -> Any:
    with Configurator() as config:
        config.add_route('leave', '/{leave}')
        config.add_view(pyramid_view, route_name='leave', request_method='POST')
        return config.make_wsgi_app()


django.setup()

SITES: dict[str, Any] = {
    'flask': flask_site,
    'django': get_wsgi_application(),
    'falcon': falcon_site,
    'bottle': bottle_site,
    'pyramid': pyramid_site(),
}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """Call the framework that the path names; other paths are following requests or health checks."""
    _, name, *rest = environ['PATH_INFO'].split('/', 2)
    if name not in SITES:
        start_response('200 OK', [('Content-Length', '5')])
        return [b'next\n']
    environ['SCRIPT_NAME'] = f'/{name}'
    environ['PATH_INFO'] = f'/{"".join(rest)}'
    return SITES[name](environ, start_response)
