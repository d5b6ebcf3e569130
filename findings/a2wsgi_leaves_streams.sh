#!/bin/sh
# a2wsgi does not notify an ASGI application when a client leaves during a response: its coroutine stays suspended.
#
# A WSGI server calls close() of the response then. ASGIMiddleware's generator ends, but neither cancels the task nor
# lets receive() and send() of the application return: they wait until the task is collected, if no other object has a
# reference to it. Its `finally` blocks and those of its dependencies, such as a session of a database, do not run.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check a2wsgi==1.10.10
cat > "$work/show.py" <<'PYTHON'
import asyncio
import importlib.metadata
import io

from a2wsgi import ASGIMiddleware

tasks, ended = [], []

async def application(scope, receive, send):
    tasks.append(asyncio.current_task())
    try:
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        while True:
            await send({'type': 'http.response.body', 'body': b'x', 'more_body': True})
    finally:
        ended.append('finally')

middleware = ASGIMiddleware(application)
environ = {
    'REQUEST_METHOD': 'GET', 'PATH_INFO': '/', 'QUERY_STRING': '', 'SERVER_PROTOCOL': 'HTTP/1.1',
    'SERVER_NAME': 'a', 'SERVER_PORT': '80', 'wsgi.url_scheme': 'http', 'wsgi.input': io.BytesIO(),
}
response = middleware(environ, lambda *arguments: None)
first = next(response)
response.close()
# the loop has done all that it had to do
asyncio.run_coroutine_threadsafe(asyncio.sleep(1), middleware.loop).result()
print('a2wsgi', importlib.metadata.version('a2wsgi'))
print('received:', first, 'task ended:', tasks[0].done(), 'blocks that have run:', ended)
assert not tasks[0].done() and not ended
PYTHON
"$work/venv/bin/python" "$work/show.py" 2> /dev/null
# a2wsgi 1.10.10
# received: b'x' task ended: False blocks that have run: []
