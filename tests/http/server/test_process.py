"""The server in its process: other threads, forks, and leaks."""

from __future__ import annotations

import gc
import logging
import os
import weakref
from typing import Any

import gevent
import gevent.os
import pytest

from geventnode.errors import ParseError, WrongThread
from tests.children import check_in_child
from tests.servers import Log, Serve, Site, get, ok, post


def test_use_from_another_thread_raises(serve: Serve) -> None:
    """In the call itself."""
    log = Log()
    site = serve(None)
    raised: list[Any] = []

    def abuse(*calls: Any) -> None:
        for call in calls:
            try:
                call()
            except Exception as error:
                raised.append(type(error))
        # get_hub() has made a hub for the thread
        gevent.get_hub().destroy(destroy_loop=True)

    @site.server.on('request')
    def listener(request: Any, response: Any) -> None:
        gevent.get_hub().threadpool.apply(abuse, (request.read, lambda: response.write('x'), site.server.close))
        log.append('over')
        request.socket.destroy()

    site.send(post(b'', length=3)).rest()
    log.wait_for('over')
    assert raised == [WrongThread] * 3


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork on this platform')
def test_forked_child_closes_its_copies(serve: Serve) -> None:
    """The parent's connection continues to work, and the child can listen again."""
    site = serve(ok)
    client = site.connect()
    assert client.get().status == 200

    def check() -> None:
        server = site.server
        assert not server.listening
        assert server.get_connections() == 0
        server.listen(0, '127.0.0.1')
        assert Site(server).get().status == 200

    with check_in_child(check, gevent.os):
        assert client.get().status == 200
    assert client.get().status == 200
    assert site.get().status == 200


@pytest.mark.parametrize('going', ['good', 'abort', 'error'])
def test_no_reference_cycles_are_left(serve: Serve, going: str, caplog: Any) -> None:
    """Request, response and socket are freed when the connection is closed, without the cyclic collector."""
    # a stored record refers to the frames of its traceback
    caplog.set_level(logging.CRITICAL, 'geventnode.error')
    references: list[weakref.ref[Any]] = []

    def listener(request: Any, response: Any) -> None:
        references.extend(map(weakref.ref, (request, response, request.socket)))
        request.headers.get('host')
        request.read()
        if going == 'error':
            raise ParseError('made up')
        response.end('x')

    site = serve(listener)
    gc.collect()
    gc.disable()
    try:
        client = site.send(post(b'abc'))
        client.response()
        if going == 'abort':
            client.abort()
        client.close()
        while site.server.get_connections():
            gevent.idle()
        for _ in range(5):
            gevent.idle()
        assert [reference() for reference in references] == [None] * 3
    finally:
        gc.enable()


def test_memory_does_not_grow_with_requests(serve: Serve) -> None:
    """Neither complete nor aborted requests leave objects behind."""
    site = serve(ok)

    def rounds(count: int) -> None:
        client = site.connect()
        feeder = gevent.spawn(client.send, get() * count)
        for _ in range(count):
            client.response()
        feeder.join()
        client.close()
        for _ in range(count // 10):
            site.send(get('/a')[:-2]).abort()
        while site.server.get_connections():
            gevent.idle()
        site._connections.clear()
        gc.collect()

    rounds(200)
    before = len(gc.get_objects())
    rounds(2000)
    assert len(gc.get_objects()) - before < 200
