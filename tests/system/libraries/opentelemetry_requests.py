"""OpenTelemetry's instrumentation of requests over an adapter."""

from __future__ import annotations

from mounted import URL, say, session

# isort: split
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
RequestsInstrumentor().instrument(tracer_provider=provider)
tracer = provider.get_tracer('tests')
with session() as client:
    with tracer.start_as_current_span('outer') as outer:
        received = client.get(f'{URL}/a').text
    missing = client.get(f'{URL}/none')
spans = [span for span in exporter.get_finished_spans() if span.name != 'outer']
say(
    {
        'carried': received[:-3] == f'00-{spans[0].context.trace_id:032x}-{spans[0].context.span_id:016x}',
        'child': spans[0].parent is not None and spans[0].parent.span_id == outer.get_span_context().span_id,
        'names': [span.name for span in spans],
        'attributes': [sorted(span.attributes or {}) for span in spans],
        'errors': [span.status.status_code.name for span in spans],
    }
)
