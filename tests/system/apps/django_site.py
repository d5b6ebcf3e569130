"""A Django project in one file, with a view for each feature that a server can break.

It does not depend on the server. ``DEBUG`` in the environment is Django's setting.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import django
from django.conf import settings
from django.core.signals import request_finished
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse
from django.utils import translation
from telling import tell, wait

from geventnode.errors import WebSocketClosed

__all__ = ['application', 'urlpatterns']

DIRECTORY = Path(os.environ['DIRECTORY'])

settings.configure(
    DEBUG=os.environ.get('DEBUG') == '1',
    SECRET_KEY='not a secret',
    ALLOWED_HOSTS=['*'],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        'django.contrib.sessions.middleware.SessionMiddleware',
        'django.middleware.gzip.GZipMiddleware',
        'django.middleware.common.CommonMiddleware',
        'django.middleware.locale.LocaleMiddleware',
    ],
    SESSION_ENGINE='django.contrib.sessions.backends.signed_cookies',
    USE_X_FORWARDED_HOST=False,
    USE_TZ=True,
    DATA_UPLOAD_MAX_MEMORY_SIZE=1000,
    LANGUAGES=[('en', 'English'), ('de', 'German'), ('fr', 'French')],
    DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': DIRECTORY / 'database'}},
    LOGGING={
        'version': 1,
        'disable_existing_loggers': False,
        'handlers': {'file': {'class': 'logging.FileHandler', 'filename': DIRECTORY / 'errors.txt'}},
        'loggers': {'django': {'handlers': ['file'], 'propagate': False}},
    },
)


def index(request):
    return HttpResponse('hello\n')


def upload(request):
    file = request.FILES['file']
    known = hashlib.sha256()
    for piece in file.chunks():
        known.update(piece)
    return JsonResponse(
        {'size': file.size, 'sha256': known.hexdigest(), 'name': file.name, 'note': request.POST['note']}
    )


def raw(request):
    known, size = hashlib.sha256(), 0
    while piece := request.read(65536):
        known.update(piece)
        size += len(piece)
    return JsonResponse({'size': size, 'sha256': known.hexdigest()})


def form(request):
    return JsonResponse(request.POST.dict())


def refused(request):
    return HttpResponse('no\n', status=401)


def stream(request):
    def pieces():
        yield f'one {request.GET["name"]}\n'
        wait('stream')
        yield f'two {request.GET["name"]}\n'

    return StreamingHttpResponse(pieces(), content_type='text/plain')


def events(request):
    def pieces():
        yield 'data: one\n\n'
        wait('events')
        yield 'data: two\n\n'

    return StreamingHttpResponse(pieces(), content_type='text/event-stream')


def endless(request):
    def pieces():
        try:
            while True:
                yield b'more\n'
        finally:
            tell('closed')

    return StreamingHttpResponse(pieces(), content_type='text/plain')


def finished(**options):
    tell('finished')


request_finished.connect(finished)


def login(request):
    request.session['name'] = request.POST['name']
    return HttpResponseRedirect(reverse('user'), status=303)


def user(request):
    return HttpResponse(request.session.get('name', 'no name'))


def logout(request):
    request.session.flush()
    return HttpResponse('gone')


def fail(request):
    raise ValueError('a part of the test')


def moved(request):
    return HttpResponseRedirect(request.build_absolute_uri(reverse('user')))


def file(request):
    return FileResponse((DIRECTORY / 'large').open('rb'))


def memory(request):
    return FileResponse(io.BytesIO(b'from memory'), content_type='text/plain')


def where(request):
    return JsonResponse(
        {
            'secure': request.is_secure(),
            'client': request.META['REMOTE_ADDR'],
            'url': request.build_absolute_uri(reverse('user')),
        }
    )


def together(request):
    """Wait together with other requests; return language and database connection before and after."""
    language = request.GET['language']
    translation.activate(language)
    connection.ensure_connection()
    held = connection.connection
    wait('together')
    return JsonResponse(
        {
            'language': translation.get_language(),
            'no': str(translation.gettext('No')),
            'same': connection.connection is held,
            'connection': id(held),
            'process': os.getpid(),
        }
    )


def echo(request):
    accept = request.META.get('geventnode.websocket')
    if accept is None:  # an ordinary request
        return HttpResponse(status=400)
    ws = accept(max_message_size=4096)
    try:
        for message in ws:
            ws.send(message)
    except WebSocketClosed:  # a client that disconnects is no error of the view
        pass
    return HttpResponse()


urlpatterns = [
    path('', index),
    *(
        path(view.__name__.replace('_', '-'), view, name=view.__name__)
        for view in (
            upload,
            raw,
            form,
            refused,
            stream,
            events,
            endless,
            login,
            user,
            logout,
            fail,
            moved,
            file,
            memory,
            where,
            together,
            echo,
        )
    ),
]

django.setup()
application = get_wsgi_application()
