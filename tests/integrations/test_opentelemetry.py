"""Spans of servers and agents, and their context in header fields and greenlets."""

from __future__ import annotations

import contextvars
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import ConnectError
from tests.http2.client import Connect
from tests.http_proxies import Proxy
from tests.origins import HELLO, MakeOrigin, once, read
from tests.servers import Serve, get
from tests.sockets import until

pytest.importorskip('opentelemetry.sdk', reason='opentelemetry-sdk is not installed; it is in the extra "test"')

from opentelemetry import baggage, context, trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from geventnode.integrations.opentelemetry import Tracing

TRACE, PARENT = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
TRACEPARENT = f'traceparent: 00-{TRACE}-{PARENT}-01'


class Spans:
    """The finished spans of a test."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer('tests')
        self.tracing = Tracing(provider)

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def wait_for(self, count: int) -> list[ReadableSpan]:
        until(lambda: len(self.all) >= count)
        return self.all

    def server(self, listener: Any, **options: Any) -> http.Server:
        made = http.create_server(listener, **options)
        self.tracing.watch_server(made)
        return made


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def traced(spans: Spans, agent: Callable[..., http.Agent]) -> Callable[..., http.Agent]:
    """Make agents with spans: ``traced(**options)``."""

    def make(**options: Any) -> http.Agent:
        made = agent(**options)
        spans.tracing.watch_agent(made)
        return made

    return make


def current() -> str:
    """Return the identifier of the current span."""
    return trace.format_span_id(trace.get_current_span().get_span_context().span_id)


def identifier(span: ReadableSpan) -> str:
    found = span.get_span_context()
    assert found is not None
    return trace.format_span_id(found.span_id)


def parent_of(span: ReadableSpan) -> str | None:
    return None if span.parent is None else trace.format_span_id(span.parent.span_id)


def to(host: str, target: str = '/', *fields: str) -> bytes:
    """Return a request with another Host."""
    return get(target, *fields).replace(b'Host: x', b'Host: ' + host.encode())


def telling(request: Any, response: Any) -> None:
    response.end(current())


# -- servers ----------------------------------------------------------------------------------------------------------


def test_span_of_an_exchange(serve: Serve, spans: Spans) -> None:
    site = serve(spans.server(telling))
    with site.connect() as client:
        port = site.where[1]
        client.send(to(f'localhost:{port}', '/a/b?c=d', TRACEPARENT, 'User-Agent: tests'))
        body = client.response().body
        (span,) = spans.wait_for(1)
        assert body.decode() == identifier(span)
        assert (span.name, span.kind, parent_of(span)) == ('GET', trace.SpanKind.SERVER, PARENT)
        assert trace.format_trace_id(span.get_span_context().trace_id) == TRACE  # type: ignore[union-attr]
        assert dict(span.attributes or {}) == {
            'http.request.method': 'GET',
            'http.response.status_code': 200,
            'url.scheme': 'http',
            'url.path': '/a/b',
            'url.query': 'c=d',
            'server.address': 'localhost',
            'server.port': port,
            'client.address': '127.0.0.1',
            'network.peer.address': '127.0.0.1',
            'network.peer.port': client.socket.getsockname()[1],
            'network.protocol.version': '1.1',
            'user_agent.original': 'tests',
        }
        assert span.status.status_code is trace.StatusCode.UNSET


@pytest.mark.parametrize(
    ('sent', 'name', 'wanted'),
    [
        (get('/', method='FIND'), 'HTTP', {'http.request.method': '_OTHER', 'http.request.method_original': 'FIND'}),
        (to('[::1]:81'), 'GET', {'server.address': '::1', 'server.port': 81}),
        (to('[::1]'), 'GET', {'server.address': '::1', 'server.port': None}),
        (to('a:'), 'GET', {'server.address': 'a', 'server.port': None}),
        (to(''), 'GET', {'server.address': None, 'server.port': None}),
        (get('http://x/a?b'), 'GET', {'url.path': '/a', 'url.query': 'b'}),
        (get('/?a=1&sig=secret&Signature=secret'), 'GET', {'url.query': 'a=1&sig=REDACTED&Signature=REDACTED'}),
        (b'GET / HTTP/1.0\r\n\r\n', 'GET', {'network.protocol.version': '1.0', 'server.address': None}),
        (get('/fail'), 'GET', {'http.response.status_code': 500, 'error.type': '500'}),
        (get('/none'), 'GET', {'http.response.status_code': 404, 'error.type': None}),
    ],
)
def test_attributes(serve: Serve, spans: Spans, sent: bytes, name: str, wanted: dict[str, Any]) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/fail':
            raise ValueError('on purpose')
        response.status_code = 404 if request.url == '/none' else 200
        response.end()

    client = serve(spans.server(listener)).connect()
    client.send(sent)
    client.response()
    (span,) = spans.wait_for(1)
    attributes = span.attributes or {}
    assert {key: attributes.get(key) for key in wanted} == wanted
    assert span.name == name
    assert (span.status.status_code is trace.StatusCode.ERROR) is ('error.type' in attributes)


def test_disconnect_ends_the_span(serve: Serve, spans: Spans) -> None:
    arrived = Event()
    client = serve(spans.server(lambda request, response: arrived.set())).connect()
    client.send(get('/'))
    arrived.wait()
    client.abort()
    (span,) = spans.wait_for(1)
    assert (span.attributes or {})['http.response.status_code'] == 499


@pytest.mark.parametrize('target', ['/raise', '/short', '/leave', '/whole', '/upgrade'])
def test_response_that_is_cut_short_is_an_error(serve: Serve, spans: Spans, target: str) -> None:
    arrived = Event()

    def listener(request: Any, response: Any) -> None:
        if target == '/upgrade':
            response.upgrade()[0].destroy()
            return
        response.write_head(200, {'Content-Length': '2'})
        response.write('a')
        if target == '/raise':
            raise ValueError('on purpose')
        if target == '/short':
            response.end()
        if target == '/whole':
            response.end('b')
        arrived.set()

    client = serve(spans.server(listener)).connect()
    client.send(get(target, 'Connection: upgrade', 'Upgrade: x'))
    if target == '/leave':
        arrived.wait()
        client.abort()
    (span,) = spans.wait_for(1)
    cut = target not in ('/whole', '/upgrade')
    assert (span.attributes or {}).get('error.type') == ('incomplete_response' if cut else None)
    assert (span.attributes or {})['http.response.status_code'] == (101 if target == '/upgrade' else 200)


@pytest.mark.parametrize('field', ['traceparent: 00-0-0-00', f'{TRACEPARENT}\r\n{TRACEPARENT}', 'tracestate: a=b'])
def test_invalid_parents_are_ignored(serve: Serve, spans: Spans, field: str) -> None:
    client = serve(spans.server(telling)).connect()
    client.send(get('/', field))
    client.response()
    assert parent_of(spans.wait_for(1)[0]) is None


def test_baggage_arrives(serve: Serve, spans: Spans) -> None:
    def listener(request: Any, response: Any) -> None:
        response.end(str(baggage.get_baggage('key')))

    client = serve(spans.server(listener)).connect()
    client.send(get('/', 'baggage: key=some%20value'))
    assert client.response().body == b'some value'


@pytest.mark.parametrize('pipelined', [True, False])
def test_spans_do_not_leak_between_requests(serve: Serve, spans: Spans, pipelined: bool) -> None:
    """One worker serves them all, also those of a server without spans."""
    server = spans.server(telling)
    plain = http.create_server(lambda request, response: response.end(current()))
    traced, other = serve(server).connect(), serve(plain).connect()
    for number in range(3):
        sent = [get('/', TRACEPARENT), get('/'), get('/', 'traceparent: no')]
        if pipelined:
            traced.send(b''.join(sent))
        bodies = []
        for each in sent:
            if not pipelined:
                traced.send(each)
            bodies.append(traced.response().body.decode())
        found = spans.wait_for(3 * number + 3)[-3:]
        assert [identifier(each) for each in found] == bodies
        assert [parent_of(each) for each in found] == [PARENT, None, None]
        # the same worker, for a server without spans
        other.send(get('/'))
        assert other.response().body == b'0' * 16
    assert current() == '0' * 16


def test_concurrent_requests_have_their_own_spans(serve: Serve, spans: Spans) -> None:
    arrived: list[str] = []
    complete = Event()

    def listener(request: Any, response: Any) -> None:
        before = current()
        arrived.append(before)
        if len(arrived) == 10:
            complete.set()
        complete.wait()
        assert current() == before
        # a new greenlet has an empty context, unless it gets one
        assert gevent.spawn(current).get() == '0' * 16
        assert gevent.spawn(contextvars.copy_context().run, current).get() == before
        response.end(before)

    site = serve(spans.server(listener))
    clients = [site.connect() for _ in range(10)]
    for client in clients:
        client.send(get('/'))
    bodies = [client.response().body.decode() for client in clients]
    assert len(set(bodies)) == 10
    assert {identifier(each) for each in spans.wait_for(10)} == set(bodies)


def test_http2(connect_h2: Connect, serve: Serve, spans: Spans) -> None:
    client = connect_h2(serve(spans.server(telling, http2=True)))
    body = client.response(client.get('/')).body
    (span,) = spans.wait_for(1)
    assert body.decode() == identifier(span)
    assert (span.attributes or {})['network.protocol.version'] == '2'


def test_spans_do_not_leak_between_streams(connect_h2: Connect, serve: Serve, spans: Spans) -> None:
    """One after another and at the same time; the same workers then serve requests without spans."""
    client = connect_h2(serve(spans.server(telling, http2=True)))
    other = serve(http.create_server(telling)).connect()
    parent = 'traceparent', TRACEPARENT.partition(': ')[2]
    for number in range(3):
        streams = [client.get('/', parent), client.get('/'), client.get('/', parent), client.get('/')]
        bodies = [client.response(stream).body.decode() for stream in streams]
        found = {identifier(span): parent_of(span) for span in spans.wait_for(4 * number + 4)[-4:]}
        assert [found[body] for body in bodies] == [PARENT, None, PARENT, None]
        other.send(get('/'))
        assert other.response().body == b'0' * 16


# -- agents -----------------------------------------------------------------------------------------------------------


def repeating(request: Any, response: Any) -> None:
    response.status_code = 404 if request.url == '/none' else 200
    response.end(request.headers.get('traceparent', 'none'))


def test_span_of_a_request(serve: Serve, spans: Spans, traced: Any) -> None:
    port = serve(repeating).where[1]
    with spans.tracer.start_as_current_span('outer'):
        outer = current()
        body = read(f'http://user:secret@127.0.0.1:{port}/a?b=c&sig=secret', agent=traced()).decode()
        assert current() == outer
    span = spans.all[0]
    assert (span.name, span.kind, parent_of(span)) == ('GET', trace.SpanKind.CLIENT, outer)
    assert body[:-2] == f'00-{trace.format_trace_id(span.get_span_context().trace_id)}-{identifier(span)}-'  # type: ignore[union-attr]
    assert dict(span.attributes or {}) == {
        'http.request.method': 'GET',
        'http.response.status_code': 200,
        'url.full': f'http://127.0.0.1:{port}/a?b=c&sig=REDACTED',
        'server.address': '127.0.0.1',
        'server.port': port,
        'network.peer.address': '127.0.0.1',
        'network.peer.port': port,
        'network.protocol.version': '1.1',
    }


def test_target_with_credentials(serve: Serve, spans: Spans, traced: Any) -> None:
    port = serve(repeating).where[1]
    options = {'hostname': '127.0.0.1', 'port': port, 'path': 'http://user:secret@other/a?sig=secret'}
    http.get(options, agent=traced()).get_response().read()
    assert (spans.all[0].attributes or {})['url.full'] == 'http://***@other/a?sig=REDACTED'


def test_pooled_requests_have_their_own_parents(serve: Serve, spans: Spans, traced: Any) -> None:
    """One connection serves them in turn, those that waited in the queue as well."""
    url, agent = f'http://127.0.0.1:{serve(repeating).where[1]}/', traced(max_sockets=1, keep_alive=True)

    def fetch(number: int) -> tuple[str, str, str]:
        with spans.tracer.start_as_current_span(str(number)):
            found = read(url, agent=agent).decode().split('-')
            return current(), found[1], found[2]

    fetched = gevent.pool.Group().map(fetch, range(10))
    assert agent.statistics()['opened'] == 1
    requests = {identifier(span): span for span in spans.all if span.kind is trace.SpanKind.CLIENT}
    assert len(requests) == 10
    for outer, _, inner in fetched:
        assert parent_of(requests[inner]) == outer
    assert len({trace_id for _, trace_id, _ in fetched}) == 10


def test_client_in_a_listener_continues_the_trace(serve: Serve, spans: Spans, traced: Any) -> None:
    url, agent = f'http://127.0.0.1:{serve(repeating).where[1]}/', traced()
    client = serve(spans.server(lambda request, response: response.end(read(url, agent=agent)))).connect()
    client.send(get('/', TRACEPARENT))
    assert client.response().body.decode().split('-')[1] == TRACE
    inner, outer = spans.wait_for(2)
    assert parent_of(inner) == identifier(outer)


def test_failed_requests(origin: MakeOrigin, serve: Serve, spans: Spans, traced: Any) -> None:
    agent = traced()
    with pytest.raises(ConnectError):
        read('http://127.0.0.1:1/', agent=agent)
    read(f'http://127.0.0.1:{serve(repeating).where[1]}/none', agent=agent)
    failed, missing = spans.all
    assert (failed.attributes or {})['error.type'] == 'geventnode.errors.ConnectionRefused'
    assert (missing.attributes or {})['error.type'] == '404'
    assert {failed.status.status_code, missing.status.status_code} == {trace.StatusCode.ERROR}


def test_request_that_is_sent_again_has_one_span(origin: MakeOrigin, spans: Spans, traced: Any) -> None:
    server, agent = origin(once(HELLO)), traced(keep_alive=True)
    for _ in range(2):
        read(server.url, agent=agent)
    assert len(spans.all) == 2


def test_through_a_proxy(origin: MakeOrigin, spans: Spans, traced: Any) -> None:
    proxy = Proxy()
    read('http://a.example/x', agent=traced(proxy=origin(proxy).url))
    attributes = spans.all[0].attributes or {}
    assert attributes['url.full'] == 'http://a.example/x'
    assert (attributes['server.address'], attributes['server.port']) == ('a.example', 80)
    assert proxy.requests[0].value('traceparent')


def test_suppressed_context_has_no_spans(serve: Serve, spans: Spans, traced: Any) -> None:
    url, agent = f'http://127.0.0.1:{serve(repeating).where[1]}/', traced()
    token = context.attach(context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        assert read(url, agent=agent) == b'none'
    finally:
        context.detach(token)
    assert spans.all == []


# -- without the library ----------------------------------------------------------------------------------------------


def test_missing_library_is_named() -> None:
    code = (
        'import sys\n'
        'sys.modules["opentelemetry"] = None\n'
        'import geventnode.http, geventnode.integrations\n'
        'import geventnode.integrations.opentelemetry\n'
    )
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert "opentelemetry-api, which is not installed; pip install 'geventnode[opentelemetry]'" in ran.stderr


def test_nothing_is_imported_unless_it_is_used() -> None:
    code = 'import sys, geventnode.http, geventnode.https; print([name for name in sys.modules if "telemetry" in name])'
    ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert ran.stdout == '[]\n'
