"""The server itself: listening, its events, failing listeners, closing, and what it must not keep."""

from __future__ import annotations

import _socket
import os
from typing import Any

import gevent
import gevent.os
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import ParseError, ServerNotRunning
from tests.servers import Log, Serve, Site, get, ok


def test_create_server(serve: Serve) -> None:
    """The listener hears of 'request'; it may come later; ``http.Server`` is the same."""
    server = http.create_server(ok)
    assert isinstance(server, http.Server)
    assert server.listeners('request') == [ok]
    assert serve(http.Server(ok)).get().body == b'GET /'


def test_types(serve: Serve) -> None:
    """Of what listeners are given; both classes can be replaced by subclasses."""

    class Request(http.IncomingMessage):
        pass

    class Answer(http.ServerResponse):
        pass

    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append((type(request), type(response), response.request is request))
        response.end()

    serve(listener).get()
    serve(listener, request_class=Request, response_class=Answer).get()
    assert log == [(http.IncomingMessage, http.ServerResponse, True), (Request, Answer, True)]


def test_nobody_listens_for_requests(serve: Serve) -> None:
    """501."""
    assert serve(None).get().status == 501


def test_connection_comes_first(serve: Serve) -> None:
    """Before any request, once a connection, with its socket."""
    log = Log()
    site = serve(lambda request, response: (log.append('request'), response.end()))
    site.server.on('connection', lambda socket: log.append(socket.remote_port is not None))
    client = site.connect()
    client.get()
    client.get()
    assert log == [True, 'request', 'request']


def test_a_connection_listener_may_destroy(serve: Serve) -> None:
    """Then no request is served."""
    site = serve(ok)
    site.server.on('connection', lambda socket: socket.destroy())
    assert site.send(get()).rest() == b''


def test_client_error(serve: Serve) -> None:
    """A listener answers in the server's place; the connection ends afterwards."""
    log = Log()
    site = serve(ok)

    @site.server.on('clientError')
    def listener(error: Any, socket: Any) -> None:
        log.append((type(error), error.code))
        socket.end(b'HTTP/1.1 418 Teapot\r\n\r\n')

    assert site.send(b'NONSENSE\r\n\r\n').rest() == b'HTTP/1.1 418 Teapot\r\n\r\n'
    assert log == [(ParseError, 'HPE_INVALID_CONSTANT')]


def test_a_client_error_listener_that_does_nothing(serve: Serve) -> None:
    """The connection is closed, without an answer."""
    site = serve(ok)
    site.server.on('clientError', lambda error, socket: None)
    assert site.send(b'NONSENSE\r\n\r\n').rest() == b''


def test_a_reset_is_a_client_error(serve: Serve) -> None:
    """With Python's own exception."""
    log = Log()
    site = serve(ok)
    site.server.on('clientError', lambda error, socket: log.append(type(error)))
    client = site.connect()
    client.get()
    client.abort()
    log.wait_for(ConnectionResetError)


def test_an_exception_before_the_head(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """500 that closes, without a traceback in it; logged with the request line."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('X-Secret', 'x')
        response.write_head(200, {'Content-Length': 1000})
        raise ZeroDivisionError('secret')

    client = serve(listener).send(get('/path'), get())
    reply = client.response()
    assert (reply.status, reply.body) == (500, b'500 Internal Server Error\n')
    assert reply.closes
    assert reply.values('X-Secret') == []
    assert client.rest() == b''
    assert 'GET /path' in caplog.text
    assert 'ZeroDivisionError' in caplog.text


def test_an_exception_after_the_head(serve: Serve) -> None:
    """The client sees a message cut short, never a complete-looking one."""

    def listener(request: Any, response: Any) -> None:
        response.write('begin')
        raise ZeroDivisionError

    assert serve(listener).send(get(), get()).rest().endswith(b'\r\n\r\n5\r\nbegin\r\n')


def test_an_exception_after_the_end(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Is logged, and the connection goes on."""

    def listener(request: Any, response: Any) -> None:
        response.end('fine')
        raise ZeroDivisionError

    client = serve(listener).connect()
    assert client.get().body == client.get().body == b'fine'
    assert caplog.text.count('after its response had ended') == 2


def test_an_exception_in_answer_to_head(serve: Serve) -> None:
    """The 500 has no body then."""

    def listener(request: Any, response: Any) -> None:
        raise ZeroDivisionError

    assert serve(listener).send(get(method='HEAD')).rest().endswith(b'\r\n\r\n')


# -- listening ------------------------------------------------------------------------------------------------------


def test_listen_and_address(serve: Serve) -> None:
    """Bound when it returns; 'listening' on the next turn of the loop; the server is returned."""
    log = Log()
    server = http.create_server(ok)
    server.on('listening', log.note('event'))
    assert server.listen(0, '127.0.0.1', log.note('callback')) is server
    address = server.address()
    assert address['address'] == '127.0.0.1'
    assert address['family'] == 'IPv4'
    assert log == []
    log.wait_for_length(2)
    assert Site(server).get().status == 200
    server.stop(0)
    assert server.address() is None


def test_unix_socket(serve: Serve, tmp_path: Any) -> None:
    """A path; the file goes with the server."""
    path = str(tmp_path / 'socket')
    site = serve(http.create_server(ok).listen(path))
    assert site.server.address() == path
    assert site.get().status == 200
    site.server.stop(0)
    assert not os.path.exists(path)


def test_handles(serve: Serve) -> None:
    """Another server, a descriptor: duplicated, so that each closes its own."""
    first = serve(ok)
    shared = serve(http.create_server(ok).listen(first.server))
    by_number = serve(http.create_server(ok).listen({'fd': first.server.listening_socket.fileno()}))
    assert first.where == shared.where == by_number.where
    first.server.stop(0)
    assert shared.get().status == 200
    shared.server.stop(0)
    assert by_number.get().status == 200


def test_a_port_in_use(serve: Serve) -> None:
    """Raises in sequential code, and emits where somebody listens."""
    taken = serve(ok).where[1]
    server = http.create_server(ok)
    with pytest.raises(OSError, match='in use'):
        server.listen(taken, '127.0.0.1')
    log = Log()
    server.on('error', log.append)
    server.listen(taken, '127.0.0.1')
    log.wait_for_length(1)
    assert isinstance(log[0], OSError)
    assert not server.listening


def test_serve_forever(serve: Serve) -> None:
    """Waits until the server is closed; raises before ``listen``."""
    with pytest.raises(ServerNotRunning):
        http.create_server(ok).serve_forever()
    site = serve(ok)
    forever = gevent.spawn(site.server.serve_forever)
    assert site.get().status == 200
    assert not forever.ready()
    site.server.close()
    forever.get(timeout=10)


# -- closing --------------------------------------------------------------------------------------------------------


def test_close_waits_for_what_is_in_work(serve: Serve) -> None:
    """The answer carries ``Connection: close``; then 'close' is emitted, and the callback called."""
    log = Log()
    release = Event()

    def listener(request: Any, response: Any) -> None:
        log.append('working')
        release.wait()
        response.end('done')

    site = serve(listener)
    client = site.send(get())
    log.wait_for('working')
    assert site.server.close(log.note('callback')) is site.server
    assert not site.server.listening
    with pytest.raises(ConnectionRefusedError):
        Site.connect(_At(site.server, client))
    assert log == ['working']
    release.set()
    reply = client.response()
    assert reply.body == b'done'
    assert reply.closes
    assert client.rest() == b''
    client.close()
    log.wait_for('callback')


class _At(Site):
    """Where a server was that no longer listens."""

    def __init__(self, server: http.Server, client: Any) -> None:
        super().__init__(server)
        self._peer = client.socket.getpeername()

    @property
    def where(self) -> Any:
        """The address that a client had connected to."""
        return self._peer


def test_closing_what_does_not_run(serve: Serve) -> None:
    """Raises; with a callback that is told instead."""
    server = http.create_server(ok)
    with pytest.raises(ServerNotRunning):
        server.close()
    log = Log()
    server.close(log.append)
    log.wait_for_length(1)
    assert log[0].code == 'ERR_SERVER_NOT_RUNNING'
    server.stop()


def test_draining_gives_an_idle_connection_one_last_request(serve: Serve) -> None:
    """It is answered, with ``Connection: close``."""
    site = serve(ok)
    used, fresh = site.connect(), site.connect()
    assert used.get().status == 200
    gevent.idle()
    site.server.close()
    for client in (used, fresh):
        reply = client.get()
        assert reply.status == 200
        assert reply.closes
        assert client.rest() == b''


def test_draining_closes_idle_connections(serve: Serve) -> None:
    """After half a second, without the client's doing."""
    log = Log()
    site = serve(ok)
    client = site.connect()
    client.get()
    site.server.close(log.note('closed'))
    assert client.rest() == b''
    client.close()
    log.wait_for('closed')


def test_closing_resets_nobody_who_was_already_connected(serve: Serve) -> None:
    """What the kernel has queued is accepted and answered, however many they are."""
    site = serve(ok)
    waiting = [_socket.socket() for _ in range(150)]
    for each in waiting:
        each.connect(site.where)
        each.send(get())
    site.server.close()
    answered = gevent.spawn(_answers, waiting)
    assert answered.get() == 150


def _answers(sockets: list[Any]) -> int:
    count = 0
    for each in sockets:
        each.setblocking(False)
        data = b''
        while b'GET /' not in data:
            try:
                data += each.recv(65536)
            except BlockingIOError:
                gevent.idle()
        count += data.startswith(b'HTTP/1.1 200')
        each.close()
    return count


def test_stop_destroys_what_is_left(serve: Serve) -> None:
    """After the timeout; it returns when all is over."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('close', log.note('close'))
        log.append('working')
        log.wait_for('close')

    site = serve(listener)
    client = site.send(get())
    log.wait_for('working')
    site.server.stop(0.1)
    assert site.server.get_connections() == 0
    assert client.rest() == b''
    log.wait_for('close')


def test_close_idle_connections(serve: Serve) -> None:
    """Those in work go on."""
    release = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/busy':
            release.wait()
        response.end(request.url)

    site = serve(listener)
    idle, busy = site.connect(), site.connect()
    assert idle.get().status == busy.get().status == 200
    busy.send(get('/busy'))
    gevent.idle()
    site.server.close_idle_connections()
    assert idle.rest() == b''
    release.set()
    assert busy.response().body == b'/busy'
    assert busy.get().status == 200


def test_close_all_connections(serve: Serve) -> None:
    """Those in work, too; the server goes on."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/busy':
            response.on('close', log.note('close'))
        else:
            response.end()

    site = serve(listener)
    busy = site.send(get('/busy'))
    gevent.idle()
    site.server.close_all_connections()
    assert busy.rest() == b''
    log.wait_for('close')
    assert site.get().status == 200


def test_a_server_listens_again(serve: Serve) -> None:
    """And no longer drains."""
    site = serve(ok)
    site.server.stop(0)
    site.server.listen(0, '127.0.0.1')
    client = site.connect()
    assert not client.get().closes
    assert client.get().status == 200
