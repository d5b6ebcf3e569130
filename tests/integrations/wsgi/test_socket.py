"""``environ['werkzeug.socket']``: applications that speak WebSocket or another protocol on the connection."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
import pytest
from gevent import selectors, socket
from gevent.event import Event

from geventnode import http
from geventnode.errors import ConnectionClosed, HeadersSent
from geventnode.integrations.wsgi import socket as wsgi_socket
from geventnode.integrations.wsgi import wsgi
from geventnode.testing import RawConnection, serving_in_memory
from tests.applications import PLAIN, Environ, Run, environ_of
from tests.certificates import Certificates
from tests.https_sites import Secure, connect, secure
from tests.servers import Log, get

__all__ = ['secure']

KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
WEBSOCKET = get(
    '/ws', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', f'Sec-WebSocket-Key: {KEY}'
)


def frame(opcode: int, payload: bytes, mask: bytes = b'') -> bytes:
    """Return a frame with up to 125 bytes (RFC 6455, section 5.2)."""
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload)) if mask else payload
    return bytes([0x80 | opcode, (0x80 if mask else 0) | len(payload)]) + mask + masked


def said(payload: bytes) -> bytes:
    """Return a client's frame with ``text``."""
    return frame(1, payload, b'mask')


def read_frame(receive: Callable[[int], bytes]) -> tuple[int, bytes]:
    """Return opcode and payload of a client's frame; None after it has disconnected."""

    def exactly(size: int) -> bytes:
        data = b''
        while len(data) < size:
            more = receive(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    first, second = exactly(2)
    mask = exactly(4)
    payload = exactly(second & 0x7F)
    return first & 0xF, bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def handshake(environ: Environ) -> Any:
    """Use the socket and accept, as simple-websocket does."""
    assert 'werkzeug.socket' in environ
    taken = environ['werkzeug.socket']
    accept = base64.b64encode(
        hashlib.sha1(environ['HTTP_SEC_WEBSOCKET_KEY'].encode() + b'258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest()
    ).decode()
    taken.send(
        b'HTTP/1.1 101 \r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n'
        b'Sec-WebSocket-Accept: ' + accept.encode() + b'\r\n\r\n'
    )
    return taken


def echo(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Echo messages until the client closes; then return a body that must not be sent, as Flask-Sock does."""
    taken = handshake(environ)
    with contextlib.suppress(EOFError, OSError):
        while True:
            opcode, payload = read_frame(taken.recv)
            taken.sendall(frame(opcode, payload))
            if opcode == 8:
                break
    taken.close()
    start_response('200 OK', PLAIN)
    return [b'never sent']


def accepted(client: RawConnection) -> None:
    head = client.head()
    assert (head.status, head.values('Sec-WebSocket-Accept')) == (101, ['s3pPLMBiTxaQ9kYGzzhZRbK+xOo='])


def talk(client: RawConnection) -> None:
    """Take part in an echo."""
    accepted(client)
    for payload in (b'one', b'two'):
        client.send(said(payload))
        assert client.exactly(2 + len(payload)) == frame(1, payload)


# -- the conversation -------------------------------------------------------------------------------------------------


def test_echo(run: Run) -> None:
    """The server adds no byte, and closes the connection after the application returns."""
    site = run(echo)
    client = site.send(WEBSOCKET)
    talk(client)
    assert site.server.statistics() == {**dict.fromkeys(site.server.statistics(), 0), 'upgraded': 1, 'connections': 1}
    client.send(frame(8, b'', b'mask'))
    assert client.rest() == frame(8, b'')


def test_bytes_after_the_head(run: Run) -> None:
    """The application receives them first."""
    client = run(echo).send(WEBSOCKET + said(b'early') + frame(8, b'', b'mask'))
    accepted(client)
    assert client.rest() == frame(1, b'early') + frame(8, b'')


def test_bytes_after_the_head_make_the_socket_readable(run: Run) -> None:
    """simple-websocket uses a selector before it receives, if it sends pings."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        taken = handshake(environ)
        with selectors.DefaultSelector() as selector:
            selector.register(taken, selectors.EVENT_READ)
            assert selector.select()
        taken.sendall(frame(*read_frame(taken.recv)))
        return []

    client = run(application).send(WEBSOCKET + said(b'early'))
    accepted(client)
    assert client.exactly(7) == frame(1, b'early')
    assert client.half_close().rest() == b''


def test_after_another_request(run: Run) -> None:
    """The pipelined request before it is answered first."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if 'werkzeug.socket' in environ:
            return echo(environ, start_response)
        start_response('200 OK', PLAIN)
        return [b'plain']

    client = run(application).send(get() + WEBSOCKET)
    assert client.response().body == b'plain'
    talk(client)


def test_with_tls(secure: Secure, certificates: Certificates) -> None:
    """The application reads and writes decrypted bytes."""
    client = connect(secure(wsgi(echo)), certificates)
    raw = RawConnection(client)
    raw.send(WEBSOCKET)
    talk(raw)
    raw.send(frame(8, b'', b'mask'))
    assert raw.exactly(2) == frame(8, b'')
    raw.close()


def test_in_memory() -> None:
    """A connection in memory has no descriptor."""
    with serving_in_memory(wsgi(echo)) as site:
        client = site.connect().send(WEBSOCKET)
        talk(client)
        client.send(frame(8, b'', b'mask'))
        assert client.exactly(2) == frame(8, b'')


@pytest.mark.parametrize('request_bytes', [WEBSOCKET, WEBSOCKET + said(b'early')])
def test_a_client_that_disconnects(run: Run, request_bytes: bytes) -> None:
    """The application reads the end."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        taken = handshake(environ)
        with contextlib.closing(taken):
            while taken.recv(100):
                pass
            log.append('end')
        return []

    client = run(application).send(request_bytes)
    accepted(client)
    client.half_close()
    log.wait_for('end')
    assert client.rest() == b''


# -- sending everything -----------------------------------------------------------------------------------------------

#: The size of a message in bytes: more than the kernel, the pipes and the socket pair hold.
LARGE = 12_000_000

Taken = Callable[[Any], object]
Connect = Callable[[Taken], RawConnection]


@pytest.fixture(params=['plain', 'TLS', 'early data'])
def hijacked_by(request: pytest.FixtureRequest, run: Run, secure: Secure, certificates: Certificates) -> Connect:
    """Return a function that runs another one with a hijacked socket, and returns the client."""

    def connect_to(function: Taken) -> RawConnection:
        def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
            function(handshake(environ))
            return []

        if request.param == 'TLS':
            client = RawConnection(connect(secure(wsgi(application)), certificates)).send(WEBSOCKET)
        else:
            early = said(b'early') if request.param == 'early data' else b''
            client = run(application).send(WEBSOCKET + early)
        request.addfinalizer(client.close)
        accepted(client)
        return client

    return connect_to


@pytest.mark.parametrize('make', [bytes, bytearray, lambda data: memoryview(data).cast('I')])
@pytest.mark.parametrize('send', ['send', 'sendall', 'sendmsg', 'write'])
def test_a_blocking_socket_sends_everything(hijacked_by: Connect, send: str, make: Any) -> None:
    """``send()`` returns the size of its argument: simple-websocket ignores the result."""
    log = Log()
    message = bytes(range(250)) * (LARGE // 250)

    def application(taken: Any) -> None:
        data = make(message)
        if send == 'write':
            with taken.makefile('wb', buffering=0) as file:
                log.append(file.write(data))
        else:
            log.append(getattr(taken, send)([data] if send == 'sendmsg' else data))

    client = hijacked_by(application)
    assert client.rest() == message
    assert log == [None if send == 'sendall' else LARGE]


def test_a_slow_reader_gets_every_message(hijacked_by: Connect) -> None:
    """Every message is complete, even for a slow client."""
    messages = [bytes([number % 251]) * 10_000 for number in range(500)]

    def application(taken: Any) -> None:
        for message in messages:
            taken.send(message)

    client = hijacked_by(application)
    for message in messages:
        gevent.idle()
        assert client.exactly(len(message)) == message


def test_a_slow_reader_gets_the_rest_after_the_application(
    hijacked_by: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time to read the last bytes begins anew as long as the client receives queued ones."""
    monkeypatch.setattr(wsgi_socket, 'LINGER_TIME', 0.4)
    message = bytes(range(250)) * (LARGE // 250)
    client = hijacked_by(lambda taken: taken.sendall(message))
    received = bytearray()
    while len(received) < LARGE:
        received += client.exactly(min(400_000, LARGE - len(received)))
        gevent.sleep(0.04)
    assert received == message


@pytest.mark.parametrize('send', ['send', 'sendall', 'sendmsg', 'sendfile'])
def test_messages_of_several_greenlets_do_not_mix(hijacked_by: Connect, send: str) -> None:
    """Each is sent as a whole, also while another greenlet or a duplicate of the socket sends."""
    size, count = LARGE // 4, 4

    def application(taken: Any) -> None:
        def say(number: int, to: Any) -> None:
            message = bytes([number]) * size
            argument = io.BytesIO(message) if send == 'sendfile' else [message] if send == 'sendmsg' else message
            getattr(to, send)(argument)

        with contextlib.closing(taken.dup()) as second:
            gevent.joinall(
                [gevent.spawn(say, number, second if number % 2 else taken) for number in range(count)],
                raise_error=True,
            )

    received = hijacked_by(application).rest()
    found = [received[place : place + size] for place in range(0, len(received), size)]
    assert sorted(found) == [bytes([number]) * size for number in range(count)]


@pytest.mark.parametrize('first', [0, 1])
def test_a_duplicate_outlives_its_original(hijacked_by: Connect, first: int) -> None:
    """The connection is closed with the last of its sockets, as usual."""

    def application(taken: Any) -> None:
        sockets = [taken, taken.dup()]
        sockets.pop(first).close()
        (last,) = sockets
        last.sendall(b'still here')
        received = b''
        while not received.endswith(b'reply'):
            received += last.recv(100)
        last.close()

    client = hijacked_by(application)
    assert client.exactly(10) == b'still here'
    client.send(b'reply')
    assert client.rest() == b''


def test_a_timeout_while_sending(hijacked_by: Connect) -> None:
    """The wait ends, and no message can follow a partial one."""
    log = Log()

    def application(taken: Any) -> None:
        taken.settimeout(0.05)
        with pytest.raises(TimeoutError):
            taken.send(bytes(LARGE))
        taken.settimeout(None)
        for send in taken.send, taken.sendall:
            with pytest.raises(ConnectionClosed, match='sent only in part'):
                send(b'more')
        log.append('refused')

    client = hijacked_by(application)
    log.wait_for('refused')
    received = client.rest()
    assert received == bytes(len(received))
    assert len(received) < LARGE


def test_a_timeout_within_a_file(hijacked_by: Connect) -> None:
    """The sent blocks are a partial message; a refused file is not."""
    log = Log()

    def application(taken: Any) -> None:
        with pytest.raises(ValueError, match='count must be a positive integer'):
            taken.sendfile(io.BytesIO(b'x'), 0, -1)
        taken.send(b'whole')
        taken.settimeout(0.05)
        with pytest.raises(TimeoutError):
            taken.sendfile(io.BytesIO(bytes(LARGE)))
        with pytest.raises(ConnectionClosed, match='sent only in part'):
            taken.send(b'more')
        log.append('refused')

    client = hijacked_by(application)
    log.wait_for('refused')
    received = client.rest()
    assert received.startswith(b'whole\0')
    assert len(received) < LARGE


def test_a_timeout_while_another_greenlet_sends(hijacked_by: Connect) -> None:
    """No byte of the message was sent, so later messages are allowed."""
    log = Log()

    def application(taken: Any) -> None:
        first = gevent.spawn(taken.send, bytes(LARGE))
        gevent.idle()
        second = taken.dup()
        second.settimeout(0.05)
        with contextlib.closing(second), pytest.raises(TimeoutError):
            second.send(b'never')
        second.close()
        log.append('refused')
        first.join()
        taken.send(b'last')

    client = hijacked_by(application)
    log.wait_for('refused')
    assert client.rest() == bytes(LARGE) + b'last'


def test_a_sender_that_is_killed(hijacked_by: Connect) -> None:
    """It leaves a partial message, and no message can follow."""
    log = Log()

    def application(taken: Any) -> None:
        sender = gevent.spawn(taken.send, bytes(LARGE))
        gevent.idle()
        sender.kill()
        with pytest.raises(ConnectionClosed, match='sent only in part'):
            taken.send(b'more')
        log.append('refused')

    client = hijacked_by(application)
    log.wait_for('refused')
    assert len(client.rest()) < LARGE


def test_a_non_blocking_socket(hijacked_by: Connect) -> None:
    """It sends as much as there is room for, and returns the size; no room while another greenlet sends."""
    log = Log()
    message = b'x' * LARGE

    def application(taken: Any) -> None:
        second = taken.dup()
        second.setblocking(False)
        sent = []
        for each, flags in (second, 0), (taken, socket.MSG_DONTWAIT):
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent.append(each.send(bytes(LARGE), flags))
        log.append(sum(sent))
        sender = gevent.spawn(taken.send, message)
        gevent.idle()
        with pytest.raises(BlockingIOError, match='another greenlet'):
            second.send(b'x')
        log.append('refused')
        sender.join()
        second.close()

    client = hijacked_by(application)
    log.wait_for('refused')
    assert client.rest() == bytes(log[0]) + message


@pytest.mark.parametrize('sends', [False, True])
@pytest.mark.parametrize('resets', [False, True])
def test_a_client_that_disconnects_without_close(
    hijacked_by: Connect, sends: bool, resets: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A FIN without close_notify, or a reset, is an error of the application's own call only."""
    log = Log()
    failed: list[Any] = []

    def application(taken: Any) -> None:
        log.append('begun')
        try:
            if sends:
                taken.send(bytes(LARGE))
            else:
                while taken.recv(100):
                    pass
        except OSError as error:
            log.append(type(error))
            raise
        finally:
            log.append('end')

    client = hijacked_by(application)
    log.wait_for('begun')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gevent.get_hub(), 'handle_error', lambda *args: failed.append(args))
        if resets:
            client.abort()
        else:
            client.close()
        log.wait_for('end')
        for _ in range(3):
            gevent.idle()
    assert failed == []
    assert [record for record in caplog.records if record.levelname == 'ERROR'] == []


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('result', [[], [b''], [b'two', b'items'], (), iter([b'']), [b'one']])
@pytest.mark.parametrize('request_bytes', [WEBSOCKET, WEBSOCKET + said(b'early')])
def test_an_application_that_returns(run: Run, request_bytes: bytes, result: Any) -> None:
    """The connection is closed for every returned value."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        handshake(environ).sendall(b'bye')
        start_response('200 OK', PLAIN)
        return result  # type: ignore[no-any-return]

    site = run(application)
    client = site.send(request_bytes)
    accepted(client)
    assert client.rest() == b'bye'
    client.close()
    while site.server.statistics()['connections']:
        gevent.idle()


@pytest.mark.parametrize('request_bytes', [WEBSOCKET, WEBSOCKET + said(b'early')])
def test_unread_input_causes_no_reset(run: Run, request_bytes: bytes) -> None:
    """The client can still read the last bytes of the application."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        with contextlib.closing(handshake(environ)) as taken:
            assert taken.recv(1, socket.MSG_PEEK)
            taken.sendall(bytes(100_000))
        return []

    client = run(application).send(request_bytes).send(said(b'unread'))
    accepted(client)
    client.send(said(b'unread as well'))
    assert client.rest() == bytes(100_000)


def test_a_client_that_never_closes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server closes the connection."""
    monkeypatch.setattr(wsgi_socket, 'LINGER_TIME', 0.02)
    site = run(lambda environ, start_response: [handshake(environ).sendall(b'bye') or b''])
    client = site.send(WEBSOCKET)
    while site.server.statistics()['connections'] or not client:
        gevent.idle()


def test_a_generator(run: Run) -> None:
    """It uses the socket at its first item."""

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        handshake(environ).sendall(b'bye')
        yield b''

    client = run(application).send(WEBSOCKET)
    accepted(client)
    assert client.rest() == b'bye'


def test_a_reader_that_is_left_behind(run: Run) -> None:
    """simple-websocket reads in its own thread, and the application does not wait for that."""
    log = Log()

    def read(taken: Any) -> None:
        while taken.recv(100):
            pass
        taken.close()
        log.append('end')

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        taken = handshake(environ)
        gevent.spawn(read, taken)
        taken.send(frame(8, b''))
        return []

    client = run(application).send(WEBSOCKET)
    accepted(client)
    # the server's end arrives with the close frame, and later bytes of the client do no harm
    assert client.rest() == frame(8, b'')
    client.send(frame(8, b'', b'mask'))
    client.close()
    log.wait_for('end')


def test_an_application_that_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """No 500 on a connection with another protocol."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        handshake(environ)
        raise ValueError('a fault of the application')

    client = run(application).send(WEBSOCKET)
    accepted(client)
    assert client.rest() == b''
    assert 'failed after its response had ended' in caplog.text


@pytest.mark.parametrize('request_bytes', [WEBSOCKET, WEBSOCKET + said(b'early')])
def test_a_server_that_stops(run: Run, request_bytes: bytes) -> None:
    """It waits for the given time; then the application reads the end."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        taken = handshake(environ)
        while taken.recv(100):
            log.append('received')
        log.append('end')
        return []

    site = run(application)
    client = site.send(request_bytes).send(said(b'more'))
    accepted(client)
    log.wait_for('received')
    site.server.stop(0.05)
    log.wait_for('end')
    assert client.rest() == b''


@pytest.mark.parametrize(('key', 'raised'), [('gunicorn.socket', StopIteration), ('werkzeug.socket', ConnectionError)])
def test_an_error_instead_of_a_response(run: Run, caplog: pytest.LogCaptureFixture, key: str, raised: Any) -> None:
    """python-engineio raises one of them, depending on the server that it detects; no line is logged."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ[key].sendall(b'bye')
        raise raised

    assert run(application).send(WEBSOCKET).rest() == b'bye'
    assert caplog.text == ''


@pytest.mark.parametrize('error', [ConnectionError('of a database'), ConnectionRefusedError(), OSError()])
def test_other_errors_of_connections_are_logged(run: Run, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    """They belong to other connections."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ['werkzeug.socket'].sendall(b'bye')
        raise error

    assert run(application).send(WEBSOCKET).rest() == b'bye'
    assert 'failed after its response had ended' in caplog.text


@pytest.mark.parametrize('duplicate', [False, True])
def test_a_timeout_that_is_not_handled_is_logged(run: Run, caplog: pytest.LogCaptureFixture, duplicate: bool) -> None:
    """The client is still connected: it is an error of the application."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        taken = environ['werkzeug.socket']
        with contextlib.closing(taken.dup() if duplicate else taken) as receiving:
            receiving.settimeout(0.01)
            return [receiving.recv(1)]

    client = run(application).send(WEBSOCKET)
    assert client.rest() == b''
    assert 'failed after its response had ended' in caplog.text


@pytest.mark.parametrize('error', [ConnectionError(), StopIteration()])
def test_such_errors_without_the_socket(run: Run, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    """The request is answered with 500."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        raise error

    assert run(application).send(WEBSOCKET).response().status == 500
    assert 'the request listener failed' in caplog.text


# -- availability -----------------------------------------------------------------------------------------------------


def test_only_upgrade_requests_have_the_socket(run: Run) -> None:
    """Requests with a body do not have it."""
    assert 'werkzeug.socket' not in environ_of(run)
    assert 'werkzeug.socket' not in environ_of(run, get('/', 'Upgrade: websocket'))
    with_body = get('/', 'Connection: Upgrade', 'Upgrade: websocket', 'Content-Length: 4', method='POST')
    assert 'werkzeug.socket' not in environ_of(run, with_body + b'body')


def test_inspection_does_not_hijack(run: Run) -> None:
    """The request is an ordinary one until the socket is used; a repeated head has its own socket."""
    offered = []

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        found = environ['werkzeug.socket']
        offered.append(found)
        assert not hasattr(found, 'nothing')
        assert not hasattr(found, '_sock')
        start_response('200 OK', PLAIN)
        return [repr(dict(environ)).encode()]

    client = run(application).connect()
    for _ in range(2):
        assert b'<LazySocket not used>' in client.send(WEBSOCKET).response().body
    assert len(set(offered)) == 2


def test_use_after_the_head_or_the_disconnection(run: Run) -> None:
    """Both raise an error."""
    log = Log()
    left = Event()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        response = environ['geventnode.response']
        if environ['QUERY_STRING'] == 'gone':
            log.append('begun')
            left.wait()
            response.socket.destroy()
        else:
            response.end('said')
        with pytest.raises(ConnectionClosed if environ['QUERY_STRING'] else HeadersSent):
            environ['werkzeug.socket'].send(b'x')
        log.append('refused')
        return []

    site = run(application)
    client = site.send(WEBSOCKET)
    assert client.response().body == b'said'
    log.wait_for('refused')
    with contextlib.closing(site.send(WEBSOCKET.replace(b'/ws', b'/ws?gone'))):
        log.wait_for('begun')
    left.set()
    log.wait_for_length(3)


def test_it_is_a_socket_of_gevent(run: Run) -> None:
    """It has the methods that libraries use: addresses, timeouts, duplicates, files."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        taken = environ['werkzeug.socket']
        assert taken.getpeername()[1] == int(environ['REMOTE_PORT'])
        taken.settimeout(0.01)
        with pytest.raises(socket.timeout):
            taken.recv(1)
        taken.settimeout(None)
        with contextlib.closing(taken.dup()) as second:
            second.sendall(b'second ')
        with taken.makefile('wb') as file:
            taken.close()
            file.write(b'file')
        return []

    assert run(application).send(WEBSOCKET).rest() == b'second file'


def test_observers_are_notified_of_an_upgrade(run: Run) -> None:
    """With status 101."""
    log = Log()

    class Observer(http.ExchangeObserver):
        def exchange_ended(self, response: Any, status_code: int) -> None:
            log.append((response.request.url, status_code))

    site = run(echo)
    http.observe_exchanges(site.server, Observer())
    talk(site.send(WEBSOCKET))
    assert log == [('/ws', 101)]
