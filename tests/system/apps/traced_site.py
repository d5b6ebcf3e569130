"""Flask and plain WSGI applications with OpenTelemetry's instrumentation, which respond with their spans."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import flask
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))


def described(span: Any) -> dict[str, Any]:
    """Return the identity of a span."""
    context = span.get_span_context()
    return {'trace': f'{context.trace_id:032x}', 'span': f'{context.span_id:016x}'}


app = flask.Flask(__name__)
FlaskInstrumentor().instrument_app(app, tracer_provider=provider)


@app.get('/current')
def current() -> dict[str, Any]:
    return described(trace.get_current_span())


@app.get('/stream')
def stream() -> flask.Response:
    def generate() -> Iterable[str]:
        for _ in range(3):
            yield json.dumps(described(trace.get_current_span())) + '\n'

    return flask.Response(flask.stream_with_context(generate()))


@app.get('/fail')
def fail() -> str:
    raise ValueError('on purpose')


@app.get('/spans')
def spans() -> list[dict[str, Any]]:
    """Return the finished spans, without those of this view."""
    return [
        {
            **described(span),
            'name': span.name,
            'parent': None if span.parent is None else f'{span.parent.span_id:016x}',
            'status': span.status.status_code.name,
        }
        for span in exporter.get_finished_spans()
        if span.name != 'GET /spans'
    ]


def plain(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = json.dumps(described(trace.get_current_span())).encode()
    start_response('200 OK', [('Content-Type', 'application/json')])
    # the application has returned when the server reads the second piece
    yield body
    yield b''


wsgi = OpenTelemetryMiddleware(plain, tracer_provider=provider)
