#!/bin/sh
# gunicorn's gevent worker serves the HTTP/2 requests of a connection one after the other.
#
# HTTP/2 exists to send requests beside each other on one connection, and the gevent worker to run views beside each
# other. Over HTTP/1.1, where the client opens a second connection, a view that waits for another request gets it; over
# HTTP/2 the other request waits until the view gives up. So a page with one slow request is slower with HTTP/2 than
# before, and an event stream blocks all further requests of its browser. http2_max_concurrent_streams has no effect on
# this.
set -eu
work=$(mktemp -d)
worker=
trap '[ -z "$worker" ] || kill "$worker" 2>/dev/null || :; wait; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    'gunicorn[gevent]==27.0.1' gevent==26.9.0 h2==4.4.1 'httpx[http2]==0.28.1'
cat > views.py <<'PYTHON'
import threading

called = threading.Event()

def app(environ, start_response):
    if environ['PATH_INFO'] == '/wait':
        body = b'called meanwhile' if called.wait(5) else b'waited in vain'
    else:
        called.set()
        body = b'ok'
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
PYTHON
cat > show.py <<'PYTHON'
import asyncio
import importlib.metadata
import sys

import httpx

url, version = sys.argv[1:]


async def outcome():
    """Return the versions of HTTP, and the response of a view that waits for a later request."""
    http2 = version == 'HTTP/2'
    async with httpx.AsyncClient(http1=not http2, http2=http2, base_url=url, timeout=60) as client:
        waiting = asyncio.create_task(client.get('/wait'))
        await asyncio.sleep(1)
        calling = await client.get('/call')
        response = await waiting
        return response.http_version, calling.http_version, response.text


found = asyncio.run(outcome())
print('gunicorn', importlib.metadata.version('gunicorn'), found[0], found[2])
assert found == (version, version, 'waited in vain' if version == 'HTTP/2' else 'called meanwhile'), found
PYTHON

# Usage: show VERSION [option of gunicorn...]
show() {
    version=$1
    shift
    venv/bin/python -m gunicorn --no-control-socket -k gevent -b 127.0.0.1:0 "$@" views:app > log 2>&1 &
    worker=$!
    timeout 60 sh -c 'until grep -q "Booting worker" log; do sleep 0.1; done' || { cat log; exit 1; }
    venv/bin/python show.py "$(grep -o -m 1 'http://127[0-9.:]*' log)" "$version"
    kill "$worker"
    wait "$worker"
}

show HTTP/1.1
show HTTP/2 --http-protocols h2,h1 --http2-cleartext prior-knowledge
# gunicorn 27.0.1 HTTP/1.1 called meanwhile
# gunicorn 27.0.1 HTTP/2 waited in vain
