#!/bin/sh
# OpenTelemetry's instrumentation of Flask ends the span before a streamed body, also with stream_with_context().
#
# The generator of a stream runs after the view. stream_with_context() keeps Flask's context for it, so that the request
# is there, and the span is expected to be there as well. The instrumentation closes it in Flask's teardown of the view:
# a query or a request of the generator has no parent, and the duration of the span excludes the body. The response is
# complete, and nothing reports it. Shown with Flask's own test client, so without a server.
#
# Output:
#   opentelemetry-instrumentation-flask 0.66b1 flask 3.1.3
#   view: True
#   generator: request True, span False
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" flask==3.1.3 \
    opentelemetry-instrumentation-flask==0.66b1 opentelemetry-sdk==1.45.1
PYTHONPATH=$folder timeout 60 python3 - <<'PROGRAM' | tee "$folder/seen"
import importlib.metadata

import flask
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider

app = flask.Flask(__name__)
FlaskInstrumentor().instrument_app(app, tracer_provider=TracerProvider())


def has_span():
    return trace.get_current_span().get_span_context().is_valid


@app.get('/')
def stream():
    print(f'view: {has_span()}')

    def generate():
        print(f'generator: request {flask.has_request_context()}, span {has_span()}')
        yield 'x'

    return flask.Response(flask.stream_with_context(generate()))


names = 'opentelemetry-instrumentation-flask', 'flask'
print(*(f'{name} {importlib.metadata.version(name)}' for name in names))
app.test_client().get('/').get_data()
PROGRAM
cat > "$folder/expected" <<'EXPECTED'
opentelemetry-instrumentation-flask 0.66b1 flask 3.1.3
view: True
generator: request True, span False
EXPECTED
diff "$folder/expected" "$folder/seen"
