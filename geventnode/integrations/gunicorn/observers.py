"""Call gunicorn's hooks and access log for each exchange.

An observer of the server reports the exchanges. Hooks are user code, and can block: ``pre_request`` runs as the first
listener, ``post_request`` in its own greenlet. This module does not import gunicorn.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import gevent
from gevent import get_hub, getcurrent

from geventnode.http.server.observers import ExchangeObserver
from geventnode.http.status import STATUS_CODES

__all__ = ['GunicornObserver', 'RequestView', 'ResponseView']

#: The events of requests, before which ``pre_request`` is called.
REQUEST_EVENTS = ('request', 'checkContinue', 'checkExpectation')


class RequestView:
    """A request with gunicorn's attributes; hooks can add their own."""

    def __init__(self, request: Any) -> None:
        #: The server's own object.
        self.request = request
        self.method = request.method
        self.uri = request.url
        path, _, self.query = request.url.partition('?')
        #: As the client sent it, encoded; ``PATH_INFO`` is decoded.
        self.path = path
        self.fragment = ''
        self.version = request.http_version_major, request.http_version_minor
        self.headers = [(name.upper(), value) for name, value in request.raw_headers]
        socket = request.socket
        self.peer_addr = '' if socket.remote_address is None else (socket.remote_address, socket.remote_port)
        self.remote_addr = self.peer_addr
        self.scheme = request.scheme


class ResponseView:
    """A finished response with gunicorn's attributes."""

    def __init__(self, response: Any, status_code: int) -> None:
        #: The server's own object.
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


class GunicornObserver(ExchangeObserver):
    """Count exchanges, and pass them to hooks and the access log.

    :param on_begin: called with the response when an exchange begins. Must not block.
    :param pre_request: gunicorn's hook, called with the request.
    :param post_request: gunicorn's hook, called with the request, the environ and the response.
    :param access: the method of gunicorn's logger that writes a line to the access log.
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
        #: Greenlets that still run a hook or write a line.
        self.pending: set[Any] = set()

    def add_pre_request(self, server: Any) -> None:
        """Call ``pre_request`` before the listeners of ``server``."""
        if self._pre_request is not None:
            for event in REQUEST_EVENTS:
                if server.listener_count(event):
                    server.prepend_listener(event, self._run_pre_request)

    def record_environs(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``application`` with its environs recorded for hooks and the log."""
        if self._post_request is None and self._access is None:
            return application

        def recorded(environ: dict[str, Any], start_response: Any) -> Any:
            response = environ['geventnode.response']
            if not response.destroyed and not response.finished:
                # otherwise, the exchange has ended while a pre_request hook was waiting
                self._environs[response] = environ
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
        if response.passed_on or (self._post_request is None and self._access is None):
            # a listener that has the connection responds itself, with a status that is not known here
            return
        seconds = monotonic() - response.began
        # the hub must not block, and loggers have locks
        if self._post_request is not None or getcurrent() is get_hub():
            greenlet = gevent.spawn(self._report, response, status_code, seconds, view, environ)
            self.pending.add(greenlet)
            greenlet.rawlink(self.pending.discard)
        else:
            self._report(response, status_code, seconds, view, environ)

    def _report(
        self, response: Any, status_code: int, seconds: float, view: RequestView | None, environ: dict[str, Any] | None
    ) -> None:
        from geventnode.integrations.wsgi.environ import request_environ

        view = view or RequestView(response.request)
        environ = request_environ(response.request) if environ is None else {'RAW_URI': response.request.url, **environ}
        finished = ResponseView(response, status_code)
        if self._access is not None:
            self._access(finished, view, environ, timedelta(seconds=seconds))
        if self._post_request is not None:
            self._post_request(view, environ, finished)
