"""Test the server: listening, its events, listeners that raise, closing, and memory."""

from __future__ import annotations

import _socket
import os
import re
from typing import Any

import gevent
import gevent.os
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import ParseError, ServerNotRunning
from geventnode.http.server.server import ServerOptions
from geventnode.options import Option
from tests.servers import Log, Serve, Site, get, ok


def test_create_server_adds_a_request_listener(serve: Serve) -> None:
    """A listener can be added later. ``http.Server`` is the same."""
    server = http.create_server(ok)
    assert isinstance(server, http.Server)
    assert server.listeners('request') == [ok]
    assert serve(http.Server(ok)).get().body == b'GET /'


def test_create_server_names_every_option() -> None:
    named = set(ServerOptions.__annotations__)
    options = {name for kind in http.Server.__mro__ for name, value in vars(kind).items() if isinstance(value, Option)}
    assert named == options | {'max_connections', 'request_class', 'response_class'}
    explained = set(re.findall(r':param (\w+):', http.create_server.__doc__ or ''))
    assert explained == named - {'wait_when_full', 'trusted_proxies', 'proxy_protocol'} | {'listener'}


def test_the_types_of_the_arguments_of_listeners(serve: Serve) -> None:
    """Subclasses can replace both classes."""

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


def test_a_request_without_a_listener_gets_501(serve: Serve) -> None:
    assert serve(None).get().status == 501


def test_connection_is_emitted_before_any_request(serve: Serve) -> None:
    """It is emitted once for a connection, with its socket."""
    log = Log()
    site = serve(lambda request, response: (log.append('request'), response.end()))
    site.server.on('connection', lambda socket: log.append(socket.remote_port is not None))
    client = site.connect()
    client.get()
    client.get()
    assert log == [True, 'request', 'request']


def test_a_connection_listener_can_destroy_the_socket(serve: Serve) -> None:
    """No request is served then."""
    site = serve(ok)
    site.server.on('connection', lambda socket: socket.destroy())
    assert site.send(get()).rest() == b''


def test_a_client_error_listener_sends_the_response(serve: Serve) -> None:
    """The connection closes afterwards."""
    log = Log()
    site = serve(ok)

    @site.server.on('clientError')
    def listener(error: Any, socket: Any) -> None:
        log.append((type(error), error.code))
        socket.end(b'HTTP/1.1 418 Teapot\r\n\r\n')

    assert site.send(b'NONSENSE\r\n\r\n').rest() == b'HTTP/1.1 418 Teapot\r\n\r\n'
    assert log == [(ParseError, 'HPE_INVALID_CONSTANT')]


def test_a_client_error_listener_that_does_nothing(serve: Serve) -> None:
    """The connection is closed without a response."""
    site = serve(ok)
    site.server.on('clientError', lambda error, socket: None)
    assert site.send(b'NONSENSE\r\n\r\n').rest() == b''


def test_a_reset_is_a_client_error(serve: Serve) -> None:
    """The error is Python's own exception."""
    log = Log()
    site = serve(ok)
    site.server.on('clientError', lambda error, socket: log.append(type(error)))
    client = site.connect()
    client.get()
    client.abort()
    log.wait_for(ConnectionResetError)


def test_an_exception_before_the_head_gives_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The response has no traceback, and the connection closes. The log line has the request line."""

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


def test_an_exception_after_the_head_ends_the_connection(serve: Serve) -> None:
    """The client sees an incomplete response, never a complete one."""

    def listener(request: Any, response: Any) -> None:
        response.write('begin')
        raise ZeroDivisionError

    assert serve(listener).send(get(), get()).rest().endswith(b'\r\n\r\n5\r\nbegin\r\n')


def test_an_exception_after_the_end_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The connection stays open."""

    def listener(request: Any, response: Any) -> None:
        response.end('fine')
        raise ZeroDivisionError

    client = serve(listener).connect()
    assert client.get().body == client.get().body == b'fine'
    assert caplog.text.count('after its response had ended') == 2


def test_a_500_in_response_to_head_has_no_body(serve: Serve) -> None:

    def listener(request: Any, response: Any) -> None:
        raise ZeroDivisionError

    assert serve(listener).send(get(method='HEAD')).rest().endswith(b'\r\n\r\n')


# -- listening ------------------------------------------------------------------------------------------------------


def test_listen_binds_before_it_returns(serve: Serve) -> None:
    """``'listening'`` is emitted in the next turn of the loop. The server is returned."""
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


def test_listen_on_a_unix_socket(serve: Serve, tmp_path: Any) -> None:
    """The file is removed with the server."""
    path = str(tmp_path / 'socket')
    site = serve(http.create_server(ok).listen(path))
    assert site.server.address() == path
    assert site.get().status == 200
    site.server.stop(0)
    assert not os.path.exists(path)


def test_listen_on_another_handle(serve: Serve) -> None:
    """It is a server or a descriptor. The descriptor is duplicated, so that each closes its own."""
    first = serve(ok)
    shared = serve(http.create_server(ok).listen(first.server))
    by_number = serve(http.create_server(ok).listen({'fd': first.server.listening_socket.fileno()}))
    assert first.where == shared.where == by_number.where
    first.server.stop(0)
    assert shared.get().status == 200
    shared.server.stop(0)
    assert by_number.get().status == 200


def test_a_port_in_use_raises(serve: Serve) -> None:
    """With a listener, ``'error'`` is emitted instead."""
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


def test_serve_forever_returns_when_the_server_is_closed(serve: Serve) -> None:
    """It raises before ``listen``."""
    with pytest.raises(ServerNotRunning):
        http.create_server(ok).serve_forever()
    site = serve(ok)
    forever = gevent.spawn(site.server.serve_forever)
    assert site.get().status == 200
    assert not forever.ready()
    site.server.close()
    forever.get(timeout=10)


# -- closing --------------------------------------------------------------------------------------------------------


def test_close_waits_for_open_exchanges(serve: Serve) -> None:
    """Their responses have ``Connection: close``. Then ``'close'`` is emitted, and the callback called."""
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
        site.connect()
    assert log == ['working']
    release.set()
    reply = client.response()
    assert reply.body == b'done'
    assert reply.closes
    assert client.rest() == b''
    client.close()
    log.wait_for('callback')


def test_closing_a_server_that_does_not_listen_raises(serve: Serve) -> None:
    """A callback gets the error instead."""
    server = http.create_server(ok)
    with pytest.raises(ServerNotRunning):
        server.close()
    log = Log()
    server.close(log.append)
    log.wait_for_length(1)
    assert log[0].code == 'ERR_SERVER_NOT_RUNNING'
    server.stop()


def test_draining_gives_an_idle_connection_one_last_request(serve: Serve) -> None:
    """Its response has ``Connection: close``."""
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
    """They close after half a second, without any action of the client."""
    log = Log()
    site = serve(ok)
    client = site.connect()
    client.get()
    site.server.close(log.note('closed'))
    assert client.rest() == b''
    client.close()
    log.wait_for('closed')


def test_closing_serves_the_clients_that_have_connected(serve: Serve) -> None:
    """All connections in the queue of the kernel are accepted, and their requests are served."""
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


def test_stop_destroys_connections_after_the_timeout(serve: Serve) -> None:
    """It returns when all have ended."""
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


def test_close_idle_connections_keeps_active_ones(serve: Serve) -> None:
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


def test_close_all_connections_closes_active_ones(serve: Serve) -> None:
    """The server continues."""
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


def test_a_closed_server_can_listen_again(serve: Serve) -> None:
    """It no longer drains."""
    site = serve(ok)
    site.server.stop(0)
    client = serve(site.server).connect()
    assert not client.get().closes
    assert client.get().status == 200
