"""Requests and responses as gunicorn's hooks and loggers know them.

They are told of every exchange by an observer of the server. Hooks are code of the user's and may wait: the one before
a request runs as a listener, in front of all others, the one behind it in a greenlet of its own. gunicorn itself is not
imported.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any
from urllib.parse import unquote

import gevent
from gevent import get_hub, getcurrent

from geventnode.http.server.observers import ExchangeObserver
from geventnode.http.status import STATUS_CODES

__all__ = ['GunicornObserver', 'RequestView', 'ResponseView', 'logged_environ']

#: What hooks hear of: the events of requests.
REQUEST_EVENTS = ('request', 'checkContinue', 'checkExpectation')


class RequestView:
    """A request with gunicorn's names; hooks may put attributes of their own on it."""

    def __init__(self, request: Any) -> None:
        #: The request itself.
        self.request = request
        self.method = request.method
        self.uri = request.url
        path, _, self.query = request.url.partition('?')
        #: As a client sent it; PATH_INFO is what it means.
        self.path = path
        self.fragment = ''
        self.version = request.http_version_major, request.http_version_minor
        self.headers = [(name.upper(), value) for name, value in request.raw_headers]
        socket = request.socket
        self.peer_addr = '' if socket.remote_address is None else (socket.remote_address, socket.remote_port)
        self.remote_addr = self.peer_addr
        self.scheme = request.scheme


class ResponseView:
    """A response with gunicorn's names, when it is over."""

    def __init__(self, response: Any, status_code: int) -> None:
        #: The response itself.
        self.response = response
        self.status_code = status_code
        reason = response.status_message if status_code == response.status_code else None
        self.status = f'{status_code} {reason or STATUS_CODES.get(status_code, "")}'.rstrip()
        self.headers = [
            (name, each)
            for name, value in response.get_headers().items()
            for each in (value if isinstance(value, list) else [value])
        ]
        self.headers_sent = response._head_sent
        #: Bytes of the body.
        self.sent = self.response_length = 0 if response.request.method == 'HEAD' else response.body_size


def logged_environ(request: Any) -> dict[str, Any]:
    """Return what loggers and hooks look for in a WSGI environ (PEP 3333) about ``request``."""
    path, _, query = request.url.partition('?')
    environ = {
        'REQUEST_METHOD': request.method,
        'RAW_URI': request.url,
        'PATH_INFO': unquote(path, 'latin-1'),
        'QUERY_STRING': query,
        'SERVER_PROTOCOL': f'HTTP/{request.http_version}',
        'REMOTE_ADDR': request.remote_address or '',
        'REMOTE_PORT': str(request.remote_port or ''),
        'wsgi.url_scheme': request.scheme,
        'geventnode.request': request,
    }
    for name, value in request.headers.items():
        if '_' not in name:
            key = name.upper().replace('-', '_')
            environ[key if key in ('CONTENT_TYPE', 'CONTENT_LENGTH') else f'HTTP_{key}'] = (
                ', '.join(value) if isinstance(value, list) else value
            )
    return environ


class GunicornObserver(ExchangeObserver):
    """What a worker is told of exchanges.

    :param on_begin: called when one begins, with its response. Must not wait.
    :param pre_request: gunicorn's ``pre_request`` without the worker, or None.
    :param post_request: its ``post_request`` without the worker, or None.
    :param access: ``access`` of gunicorn's logger, or None.
    """

    def __init__(
        self,
        on_begin: Callable[[Any], object],
        pre_request: Callable[..., object] | None = None,
        post_request: Callable[..., object] | None = None,
        access: Callable[..., object] | None = None,
    ) -> None:
        self._on_begin = on_begin
        self._pre_request = pre_request
        self._post_request = post_request
        self._access = access
        self._views: dict[Any, RequestView] = {}
        self._environs: dict[Any, dict[str, Any]] = {}
        #: Hooks and log lines that wait to be over.
        self.pending: set[Any] = set()

    def add_pre_request(self, server: Any) -> None:
        """Hand requests of ``server`` to the first hook."""
        if self._pre_request is not None:
            for event in REQUEST_EVENTS:
                if server.listener_count(event):
                    server.prepend_listener(event, self._run_pre_request)

    def record_environs(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """Return the WSGI ``application``, whose environs are those that the second hook and the log see."""
        if self._post_request is None and self._access is None:
            return application

        def recorded(environ: dict[str, Any], start_response: Any) -> Any:
            self._environs[environ['geventnode.response']] = environ
            return application(environ, start_response)

        return recorded

    def _run_pre_request(self, request: Any, response: Any) -> None:
        assert self._pre_request is not None
        view = self._views[response] = RequestView(request)
        self._pre_request(view)

    def exchange_began(self, response: Any) -> None:
        self._on_begin(response)

    def exchange_ended(self, response: Any, status_code: int) -> None:
        view = self._views.pop(response, None)
        environ = self._environs.pop(response, None)
        if self._post_request is None and self._access is None:
            return
        seconds = monotonic() - response.began
        # in the hub nothing may wait, and loggers have locks
        if self._post_request is not None or getcurrent() is get_hub():
            greenlet = gevent.spawn(self._report, response, status_code, seconds, view, environ)
            self.pending.add(greenlet)
            greenlet.rawlink(self.pending.discard)
        else:
            self._report(response, status_code, seconds, view, environ)

    def _report(
        self, response: Any, status_code: int, seconds: float, view: RequestView | None, environ: dict[str, Any] | None
    ) -> None:
        view = view or RequestView(response.request)
        environ = logged_environ(response.request) if environ is None else {'RAW_URI': response.request.url, **environ}
        answer = ResponseView(response, status_code)
        if self._access is not None:
            self._access(answer, view, environ, timedelta(seconds=seconds))
        if self._post_request is not None:
            self._post_request(view, environ, answer)
