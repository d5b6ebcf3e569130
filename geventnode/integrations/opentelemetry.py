"""Create spans for OpenTelemetry, and carry their context in fields.

An observer of servers makes a span for each exchange, and an observer of agents one for each request. Names and
attributes are those of the stable semantic conventions for HTTP. The context travels in the fields of the global
propagator, which are ``traceparent`` and ``tracestate`` (W3C Trace Context) and ``baggage`` by default.

The context of OpenTelemetry is a context variable, and each greenlet has its own. The span of an exchange is attached
in the worker that calls the listeners. It is never detached, because the server resets the context of a worker before
the next request.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY
    from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator
except ImportError as error:
    raise ImportError(
        "geventnode.integrations.opentelemetry needs opentelemetry-api, which is not installed; pip install "
        "'geventnode[opentelemetry]'"
    ) from error

from geventnode import __version__
from geventnode.errors import without_credentials
from geventnode.http import Agent, ClientRequest, ExchangeObserver, RequestObserver, Server
from geventnode.http import observe_exchanges as _observe_exchanges
from geventnode.http import observe_requests as _observe_requests
from geventnode.http.server.access_log import CLIENT_CLOSED_REQUEST, is_complete

__all__ = ['Tracing']

#: The methods of RFC 9110 and RFC 5789; any other token is ``_OTHER``, so that clients cannot invent values.
METHODS = frozenset(('CONNECT', 'DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT', 'TRACE'))

#: Parameters of queries with signatures of storage services, which the conventions replace.
SIGNATURES = frozenset(('AWSAccessKeyId', 'Signature', 'sig', 'X-Goog-Signature'))

#: The versions that the conventions name in another way.
_VERSIONS = {'2.0': '2'}

#: The ``error.type`` of a response that the listener or the client has cut short.
INCOMPLETE = 'incomplete_response'

#: The version of the conventions.
SCHEMA = 'https://opentelemetry.io/schemas/1.37.0'


class _Fields(Getter[Any], Setter[Any]):
    """Read fields of received requests, and set those of others."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        value = carrier.headers.get(key)
        return None if value is None else [value]

    def keys(self, carrier: Any) -> list[str]:
        return list(carrier.headers)

    def set(self, carrier: Any, key: str, value: str) -> None:
        carrier.set_header(key, value)


_fields = _Fields()


class Tracing(ExchangeObserver, RequestObserver):
    """Create spans for servers and agents.

    :meth:`watch_server` and :meth:`watch_agent` start it. Without an SDK of OpenTelemetry, no span is recorded.

    :param tracer_provider: the provider of spans; None for the global one.
    :param propagator: reads and sets the header fields; None for the global one, by the variable
        ``OTEL_PROPAGATORS``.
    """

    def __init__(
        self, tracer_provider: trace.TracerProvider | None = None, propagator: TextMapPropagator | None = None
    ) -> None:
        self._tracer = trace.get_tracer(__name__, __version__, tracer_provider, SCHEMA)
        self._propagator = propagator
        #: The spans of exchanges and requests that have not ended.
        self._spans: weakref.WeakKeyDictionary[Any, trace.Span] = weakref.WeakKeyDictionary()

    def watch_server(self, server: Server) -> None:
        """Create a span for each exchange that ``server`` begins from now on.

        It is the current span in the listeners, and a child of the span in the fields of the request. It ends with the
        exchange: with the complete response, or when the connection is lost or upgraded. A response that was cut short
        is an error with the type ``incomplete_response``.
        """
        _observe_exchanges(server, self)

    def watch_agent(self, agent: Agent) -> None:
        """Create a span for each request of ``agent`` from now on.

        It is a child of the current span, and the fields of the request carry it. It ends when the head of the response
        has arrived, or with the error of the request: a program may leave the body unread.
        """
        _observe_requests(agent, self)

    # -- servers ------------------------------------------------------------------------------------------------------

    def exchange_began(self, response: Any) -> None:
        """Begin the span of an exchange, and make it the current one."""
        if _is_suppressed():
            return
        request = response.request
        parent = (self._propagator or propagate.get_global_textmap()).extract(request, context.Context(), _fields)
        method, attributes = _method(request.method)
        path, _, query = _origin_form(request.url).partition('?')
        host, port = _host_and_port(request.host)
        attributes |= {
            'url.scheme': request.scheme,
            'url.path': path,
            'network.protocol.version': _VERSIONS.get(request.http_version, request.http_version),
        }
        optional = {
            'url.query': _without_signatures(query) or None,
            'server.address': host,
            'server.port': port,
            'client.address': request.remote_address,
            'network.peer.address': request.socket.remote_address,
            'network.peer.port': request.socket.remote_port,
            'user_agent.original': request.headers.get('user-agent'),
        }
        attributes |= {name: value for name, value in optional.items() if value is not None}
        span = self._spans[response] = self._tracer.start_span(method, parent, trace.SpanKind.SERVER, attributes)
        context.attach(trace.set_span_in_context(span, parent))

    def exchange_ended(self, response: Any, status_code: int) -> None:
        """End the span of an exchange."""
        span = self._spans.pop(response, None)
        if span is None:
            return
        span.set_attribute('http.response.status_code', status_code)
        if status_code >= 500:
            span.set_attribute('error.type', str(status_code))
            span.set_status(trace.StatusCode.ERROR)
        elif status_code != CLIENT_CLOSED_REQUEST and not is_complete(response, status_code):
            span.set_attribute('error.type', INCOMPLETE)
            span.set_status(trace.StatusCode.ERROR)
        span.end()

    # -- agents -------------------------------------------------------------------------------------------------------

    def request_began(self, request: ClientRequest) -> None:
        """Begin the span of a request, and set its fields."""
        if _is_suppressed():
            return
        origin = request._requested_origin
        scheme = request.protocol[:-1]
        method, attributes = _method(request.method)
        path, mark, query = without_credentials(request.path).partition('?')
        target = path + mark + _without_signatures(query)
        attributes |= {
            'url.full': f'{scheme}://{origin.host_field}{target}' if target[:1] == '/' else target,
            'server.address': origin.host if origin.socket_path is None else origin.socket_path,
        }
        if origin.socket_path is None:
            attributes['server.port'] = origin.port
        span = self._spans[request] = self._tracer.start_span(method, None, trace.SpanKind.CLIENT, attributes)
        (self._propagator or propagate.get_global_textmap()).inject(request, trace.set_span_in_context(span), _fields)

    def request_ended(self, request: ClientRequest, error: BaseException | None) -> None:
        """End the span of a request."""
        span = self._spans.pop(request, None)
        if span is None:
            return
        response = request.response
        if response is not None:
            status = response.status_code or 0
            socket = response.socket
            attributes: dict[str, Any] = {
                'http.response.status_code': status,
                'network.protocol.version': response.http_version,
                'network.peer.address': socket.remote_address,
                'network.peer.port': socket.remote_port,
            }
            for name, value in attributes.items():
                if value is not None:
                    span.set_attribute(name, value)
            if status >= 400:
                span.set_attribute('error.type', str(status))
                span.set_status(trace.StatusCode.ERROR)
        elif error is not None:
            kind = type(error)
            span.set_attribute('error.type', f'{kind.__module__}.{kind.__qualname__}')
            span.set_status(trace.StatusCode.ERROR, str(error))
        span.end()


def _is_suppressed() -> bool:
    """Return whether the current context is one without spans."""
    return bool(
        context.get_value(_SUPPRESS_INSTRUMENTATION_KEY) or context.get_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY)
    )


def _method(method: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a span, and the attributes of the method."""
    if method in METHODS:
        return method, {'http.request.method': method}
    return 'HTTP', {'http.request.method': '_OTHER', 'http.request.method_original': method}


def _origin_form(target: str) -> str:
    """Return path and query of a target (RFC 9112, section 3.2)."""
    if target[:1] == '/' or '://' not in target:
        return target
    parts = urlsplit(target)
    return f'{parts.path or "/"}?{parts.query}'


def _host_and_port(host: str | None) -> tuple[str | None, int | None]:
    """Return the name and the port in a Host field."""
    if host is None:
        return None, None
    name, colon, port = host.rpartition(':')
    if not colon or host.endswith(']'):
        return host.strip('[]') or None, None
    return name.strip('[]') or None, int(port) if port.isdecimal() else None


def _without_signatures(query: str) -> str:
    """Return ``query`` without signatures, as the conventions demand."""
    if not any(f'{name}=' in query for name in SIGNATURES):
        return query
    return '&'.join(_redacted(query.split('&')))


def _redacted(parameters: Iterable[str]) -> Iterable[str]:
    for parameter in parameters:
        name, equals, _ = parameter.partition('=')
        yield f'{name}=REDACTED' if equals and name in SIGNATURES else parameter
