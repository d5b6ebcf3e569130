"""An ASGI application that a2wsgi makes a WSGI application. It does not depend on a server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading

import flask
from a2wsgi import ASGIMiddleware
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from telling import tell, wait

__all__ = ['app', 'application']


#: The number of concurrent requests that wait for each other.
TOGETHER = 20

#: Responses of ``endless`` that have begun and not ended.
open_streams: set[asyncio.Task] = set()


@contextlib.asynccontextmanager
async def lifespan(app):
    app.state.greeting = 'hello'
    yield


async def hello(request):
    return JSONResponse({'message': request.app.state.greeting})


async def upload(request):
    """Digest the body as it arrives."""
    known, size, largest = hashlib.sha256(), 0, 0
    async for piece in request.stream():
        known.update(piece)
        size += len(piece)
        largest = max(largest, len(piece))
    return JSONResponse({'size': size, 'sha256': known.hexdigest(), 'largest': largest})


async def stream(request):
    """Send a second item when the test lets it pass."""

    async def items():
        yield 'one\n'
        await asyncio.to_thread(wait, 'stream')
        yield 'two\n'

    return StreamingResponse(items(), media_type='text/plain')


async def endless(request):
    """Send until the client disconnects."""

    async def items():
        # keep the task from being collected
        task = asyncio.current_task()
        open_streams.add(task)
        try:
            while True:
                yield b'x' * 10_000
        finally:
            open_streams.discard(task)

    return StreamingResponse(items(), media_type='text/plain')


async def streams(request):
    """Return the number of responses of ``endless`` that have not ended."""
    return JSONResponse(len(open_streams))


waiting = 0
all_wait = asyncio.Event()
barrier = threading.Barrier(TOGETHER)


async def together(request):
    """Wait for other requests in a coroutine."""
    global waiting
    waiting += 1
    if waiting == TOGETHER:
        all_wait.set()
    await all_wait.wait()
    return JSONResponse(threading.get_native_id() == os.getpid())


def plain(request):
    """Wait for other requests in a function, which Starlette runs in a thread."""
    barrier.wait()
    return JSONResponse(threading.get_native_id() == os.getpid())


async def fail(request):
    raise ValueError('on purpose')


async def websocket(ws):
    await ws.accept()
    await ws.send_text('never')


application = Starlette(
    routes=[
        Route('/', hello),
        Route('/upload', upload, methods=['POST']),
        *(Route(f'/{view.__name__}', view) for view in (stream, endless, streams, together, plain, fail)),
        WebSocketRoute('/ws', websocket),
    ],
    lifespan=lifespan,
)
middleware = ASGIMiddleware(application)

# a2wsgi does not run it
started = application.router.lifespan_context(application)
asyncio.run_coroutine_threadsafe(started.__aenter__(), middleware.loop).result()


flask_site = flask.Flask(__name__)


@flask_site.route('/flask')
async def view():
    """Never respond: the thread already has a loop."""
    return 'never'


def app(environ, start_response):
    """Report the end of each response."""
    if environ['PATH_INFO'] == '/flask':
        yield from flask_site(environ, start_response)
        return
    try:
        yield from middleware(environ, start_response)
    finally:
        tell('ended')
