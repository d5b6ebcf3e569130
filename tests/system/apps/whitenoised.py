"""Static files through WhiteNoise, before a plain WSGI application and in Django's middleware."""

from __future__ import annotations

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from whitenoise import WhiteNoise

__all__ = ['app', 'application', 'urlpatterns']

DIRECTORY = os.environ['DIRECTORY']


def hello(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'hello\n']


app = WhiteNoise(hello, root=DIRECTORY, prefix='static/')

settings.configure(
    SECRET_KEY='not a secret',
    ALLOWED_HOSTS=['*'],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=['whitenoise.middleware.WhiteNoiseMiddleware'],
    STATIC_URL='static/',
    STATIC_ROOT=DIRECTORY,
)
urlpatterns = [path('', lambda request: HttpResponse('hello\n'))]
django.setup()
application = get_wsgi_application()
