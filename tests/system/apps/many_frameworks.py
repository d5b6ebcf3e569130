"""One application for each of several frameworks, below a path with its name; each responds with the received data.

``/NAME/raw`` reads the body, ``/NAME/form`` the field ``value`` of a form. The response is its length and its digest.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import warnings

import bottle
import cherrypy
import django
import falcon
import flask
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import path
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

# Pyramid imports a deprecated module of setuptools.
warnings.filterwarnings('ignore', 'pkg_resources', UserWarning)

from pyramid.config import Configurator  # noqa: E402
from pyramid.response import Response  # noqa: E402

__all__ = ['application', 'urlpatterns']

LIMIT = 100_000_000


def report(data):
    """Return the response for the received text or bytes."""
    data = data if isinstance(data, bytes) else data.encode()
    return f'{len(data)} {hashlib.sha256(data).hexdigest()}'


# -- Bottle -----------------------------------------------------------------------------------------------------------

bottle.BaseRequest.MEMFILE_MAX = LIMIT
in_bottle = bottle.Bottle()


@in_bottle.post('/raw')
def bottle_raw():
    return report(bottle.request.body.read())


@in_bottle.post('/form')
def bottle_form():
    return report(bottle.request.forms.get('value', ''))


# -- CherryPy ---------------------------------------------------------------------------------------------------------


class InCherryPy:
    @cherrypy.expose
    def raw(self):
        return report(cherrypy.request.body.read())

    @cherrypy.expose
    def form(self, value=''):
        return report(value)


cherrypy.config.update({'environment': 'embedded', 'log.screen': False, 'server.max_request_body_size': LIMIT})
in_cherrypy = cherrypy.Application(InCherryPy(), '/cherrypy')


# -- Django -----------------------------------------------------------------------------------------------------------


def django_raw(request):
    return HttpResponse(report(request.body))


def django_form(request):
    return HttpResponse(report(request.POST.get('value', '')))


urlpatterns = [path('raw', django_raw), path('form', django_form)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=['*'], SECRET_KEY='x', DATA_UPLOAD_MAX_MEMORY_SIZE=LIMIT)
django.setup()


# -- Falcon -----------------------------------------------------------------------------------------------------------


class FalconRaw:
    def on_post(self, req, resp):
        resp.text = report(req.bounded_stream.read())


class FalconForm:
    def on_post(self, req, resp):
        resp.text = report(req.get_media().get('value', ''))


in_falcon = falcon.App()
in_falcon.add_route('/raw', FalconRaw())
in_falcon.add_route('/form', FalconForm())


# -- Flask ------------------------------------------------------------------------------------------------------------

in_flask = flask.Flask(__name__)
in_flask.config['MAX_FORM_MEMORY_SIZE'] = LIMIT


@in_flask.post('/raw')
def flask_raw():
    return report(flask.request.get_data())


@in_flask.post('/form')
def flask_form():
    return report(flask.request.form.get('value', ''))


# -- Pyramid ----------------------------------------------------------------------------------------------------------


def pyramid_raw(request):
    return Response(report(request.body))


def pyramid_form(request):
    return Response(report(request.POST.get('value', '')))


with Configurator() as _configurator:
    for _name, _view in (('raw', pyramid_raw), ('form', pyramid_form)):
        _configurator.add_route(_name, f'/{_name}')
        _configurator.add_view(_view, route_name=_name)
    in_pyramid = _configurator.make_wsgi_app()


# -- all of them ------------------------------------------------------------------------------------------------------

APPLICATIONS = {
    'bottle': in_bottle,
    'django': WSGIHandler(),
    'falcon': in_falcon,
    'flask': in_flask,
    'pyramid': in_pyramid,
}

if 'REPOSITORY' in os.environ:
    _repository = Repo(os.environ['REPOSITORY'])
    # Its packs would be closed too late, when the interpreter can import nothing more.
    atexit.register(_repository.close)
    APPLICATIONS['dulwich'] = make_wsgi_chain(DictBackend({'/': _repository}))


def application(environ, start_response):
    """Call the application that the path names."""
    name, _, rest = environ['PATH_INFO'][1:].partition('/')
    if name == 'cherrypy':
        # it removes the name itself
        return in_cherrypy(environ, start_response)
    environ['SCRIPT_NAME'] = f'/{name}'
    environ['PATH_INFO'] = f'/{rest}'
    return APPLICATIONS[name](environ, start_response)
