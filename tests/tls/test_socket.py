"""Test TLS sockets: the handshake, data before and after it, and the end."""

from __future__ import annotations

import contextlib
import gc
import socket as stdlib
import ssl
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from geventnode import tls
from geventnode.errors import ConnectionClosed, InvalidInput, TLSError
from geventnode.net import Socket
from geventnode.tls import TLSSocket
from tests.certificates import Certificates, TLSEnd
from tests.sockets import Taker, connected, pair, settle, shrink, until
from tests.tls_clients import client_of, shaken

BIG = bytes(range(256)) * 20000


# -- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('version', ['TLSv1_2', 'TLSv1_3'])
def test_data_is_sent_in_both_directions(certificates: Certificates, version: str) -> None:
    context = certificates.server_context()
    context.maximum_version = ssl.TLSVersion[version]
    with client_of(context, ca=certificates.ca, allow_half_open=True) as (near, far):
        with shaken(near, far):
            near.wait_connected()
        assert near.get_protocol() == version.replace('_', '.')
        writing = gevent.spawn(lambda: near.end(BIG))
        taker = Taker(far)
        assert taker.all() == BIG
        writing.get()
        feeding = gevent.spawn(lambda: (far.sendall(BIG), far.shutdown(stdlib.SHUT_WR)))
        assert near.read() == BIG
        feeding.get()
        assert not near.truncated


def test_every_single_byte_is_data(certificates: Certificates) -> None:
    """Python shares bytes of length 1, since 3.15 all: no byte may be taken for the object that means close_notify."""
    with client_of(certificates.server_context(), ca=certificates.ca) as (near, far):
        with shaken(near, far):
            near.wait_connected()
        for number in range(256):
            near.write(bytes((number,)))
            assert far.recv(10) == bytes((number,))
        near.end(b'\0')
        assert far.recv(10) == b'\0'
        assert far.recv(10) == b''


def test_data_written_before_the_handshake_waits_for_it(certificates: Certificates) -> None:
    with client_of(certificates.server_context(), ca=certificates.ca) as (near, far):
        assert near.write(b'early') is False
        assert near.get_protocol() is None
        assert near.get_cipher() is None
        near.end(b' bird')
        assert not near.writable_finished
        assert far.handshake().recv(100) == b'early bird'
        assert far.recv(100) == b''


def test_a_handshake_takes_no_greenlet(certificates: Certificates) -> None:
    left, right = connected()
    near = TLSSocket(certificates.server_context(), server_side=True, handle=left)
    before = sum(isinstance(each, gevent.Greenlet) for each in gc.get_objects())
    far = TLSEnd(right, certificates.client_context(), servername='localhost')
    with contextlib.suppress(ssl.SSLWantReadError):
        far.object.do_handshake()
    far._flush()
    settle()
    assert near.handshaking
    assert sum(isinstance(each, gevent.Greenlet) for each in gc.get_objects()) == before
    far.handshake()
    until(lambda: not near.handshaking)
    near.destroy()
    far.close()


def test_close_notify_is_sent_last(certificates: Certificates) -> None:
    with pair('tls', small=True, allow_half_open=True) as (near, far):
        shrink(far.raw)
        writing = gevent.spawn(lambda: near.end(BIG))
        settle()
        assert not near.writable_finished
        received = bytearray()
        while data := far.recv(1000):
            received += data
        assert received == BIG
        writing.get()
        until(lambda: near.writable_finished)


def test_finish_is_emitted_when_the_kernel_has_everything(certificates: Certificates) -> None:
    with pair('tls', small=True) as (near, far):
        told: list[int] = []
        near.write(bytes(10_000_000), callback=lambda: told.append(near.writable_length))
        settle()
        assert not told
        assert near.writable_length > 0
        taker = Taker(far)
        taker.start()
        until(lambda: told)
        until(lambda: len(taker.data) == 10_000_000)
        taker.stop()


def test_small_pieces_are_sent_together(certificates: Certificates) -> None:
    with pair('tls', small=True) as (near, far):
        pieces = [bytes([number % 256]) * (number % 700) for number in range(3000)]

        def write() -> None:
            for piece in pieces:
                near.write(piece)
            near.end()

        writing = gevent.spawn(write)
        settle()
        assert Taker(far).all() == b''.join(pieces)
        writing.get()


# -- ends -------------------------------------------------------------------------------------------------------------


def test_destroy_sends_no_close_notify(certificates: Certificates) -> None:
    with pair('tls') as (near, far):
        near.write(b'half of it')
        near.destroy()
        assert far.recv(100) == b'half of it'
        with pytest.raises(ssl.SSLEOFError):
            far.recv(100)


def test_an_end_without_close_notify_is_an_error(certificates: Certificates) -> None:
    with pair('tls') as (near, far):
        errors: list[TLSError] = []
        near.on('error', errors.append)
        far.sendall(b'half of it')
        far.raw.shutdown(stdlib.SHUT_WR)
        until(lambda: near.destroyed)
        assert near.truncated
        with pytest.raises(ConnectionClosed) as raised:
            near.read()
        assert isinstance(raised.value.__cause__, TLSError)
        assert 'without close_notify' in str(raised.value.__cause__)
        until(lambda: errors)
        assert [error.code for error in errors] == ['ECONNRESET']


def test_the_end_in_the_same_segment_as_the_data(certificates: Certificates) -> None:
    with pair('tls', allow_half_open=True) as (near, far):
        far.object.write(b'all of it')
        with contextlib.suppress(ssl.SSLError):
            far.object.unwrap()
        far._flush()
        assert near.read() == b'all of it'
        assert not near.truncated


def test_garbage_in_the_same_segment_as_the_data(certificates: Certificates) -> None:
    with pair('tls') as (near, far):
        far.object.write(b'good')
        far.raw.sendall(far._outgoing.read() + b'\x17\x03\x03\x00\x20' + bytes(32))
        until(lambda: near.destroyed)
        assert near.had_error
        with pytest.raises(ConnectionClosed) as raised:
            near.read(5)
        cause = raised.value.__cause__
        assert isinstance(cause, TLSError)
        # ssl reports the last error of OpenSSL's queue; newer versions of OpenSSL add a general one
        general = ssl.OPENSSL_VERSION_INFO >= (3, 2)
        assert cause.code == f'ERR_SSL_{"RECORD_LAYER_FAILURE" if general else "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"}'
        with pytest.raises(ssl.SSLError, match=r'(?i)bad.record.mac'):
            far.recv(100)


def test_data_before_garbage_is_delivered(certificates: Certificates) -> None:
    with pair('tls') as (near, far):
        chunks: list[bytes] = []
        near.on('data', chunks.append).on('error', lambda error: None)
        settle()
        far.object.write(b'good')
        far.raw.sendall(far._outgoing.read() + b'\x17\x03\x03\x00\x20' + bytes(32))
        until(lambda: near.destroyed)
        settle()
        assert b''.join(chunks) == b'good'


def test_a_destroyed_socket_leaves_no_reference_cycle(certificates: Certificates) -> None:
    def alive() -> int:
        return sum(isinstance(each, TLSSocket) for each in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        for give_up in (True, False):
            left, right = connected()
            near = TLSSocket(certificates.server_context(), server_side=True, handle=left)
            far = TLSEnd(right, certificates.client_context(), servername='localhost')
            if not give_up:
                far.handshake()
                until(lambda near=near: not near.handshaking)
            near.destroy()
            far.close()
            del near
            until(lambda: alive() == before)
    finally:
        gc.enable()


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_a_plain_connection_continues_in_tls(certificates: Certificates) -> None:
    left, right = connected()
    plain = Socket(left)
    plain.write(b'may we?')
    assert right.recv(100) == b'may we?'
    right.sendall(b'yes')
    assert plain.read(3) == b'yes'
    far = TLSEnd(right, certificates.server_context(), server_side=True)
    near = tls.connect(host='localhost', socket=plain, ca=certificates.ca)
    assert plain.destroyed
    with shaken(near, far):
        near.wait_connected()
    far.sendall(b'secret')
    assert near.read(6) == b'secret'
    near.destroy()
    far.close()


def test_the_server_side_can_begin_with_received_bytes(certificates: Certificates) -> None:
    left, right = connected()
    far = TLSEnd(right, certificates.client_context(), servername='localhost')
    shaking = gevent.spawn(far.handshake)
    plain = Socket(left)
    until(lambda: plain.bytes_read)
    near = TLSSocket(certificates.server_context(), server_side=True, handshake_on_connect=False)
    raw, peer, received = plain._detach()
    assert received[:1] == b'\x16'
    near._attach(raw, peer)
    near._start_handshake(received)
    near.wait_connected()
    shaking.get()
    near.write(b'x')
    assert far.recv(1) == b'x'
    near.destroy()
    far.close()


def test_detaching_needs_an_empty_queue() -> None:
    with pair(small=True) as (near, _):
        near._send(bytes(10_000_000))
        with pytest.raises(RuntimeError, match='not sent everything'):
            near._detach()
    with pytest.raises(ConnectionClosed):
        near._detach()


def test_sessions_are_resumed(certificates: Certificates) -> None:
    context = certificates.server_context()
    session = None
    for resumed in (False, True):
        with client_of(context, ca=certificates.ca, session=session) as (near, far):
            with shaken(near, far):
                near.wait_connected()
            far.sendall(b'x')
            assert near.read(1) == b'x'
            assert near.session_reused is resumed
            session = near.session
    assert session.has_ticket


def test_a_session_ticket_is_not_input(certificates: Certificates) -> None:
    with client_of(certificates.server_context(), ca=certificates.ca) as (near, far):
        # both tickets of the server are in the kernel, and have not been read
        near._pause_reading()
        with contextlib.suppress(ssl.SSLWantReadError):
            far.object.do_handshake()
        far._incoming.write(far.raw.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            far.object.do_handshake()
        far._flush()
        near._resume_reading()
        until(lambda: not near.handshaking)
        near._pause_reading()
        far.handshake()
        until(lambda: Socket._has_input(near))
        assert near._has_input() is False
        far.sendall(b'unasked for')
        until(lambda: Socket._has_input(near))
        assert near._has_input() is True


@pytest.mark.parametrize(('protocols', 'agreed'), [(['http/1.1'], 'http/1.1'), (['x', 'http/1.1'], 'x'), ([], None)])
def test_a_protocol_is_negotiated(certificates: Certificates, protocols: list[str], agreed: str | None) -> None:
    context = certificates.server_context()
    context.set_alpn_protocols(['x', 'http/1.1'])
    with client_of(context, ca=certificates.ca, alpn_protocols=protocols) as (near, far):
        with shaken(near, far):
            near.wait_connected()
        assert near.alpn_protocol == agreed


def test_a_peer_with_another_protocol_is_an_error(certificates: Certificates) -> None:
    left, right = connected()
    near = tls.connect(host='localhost', socket=Socket(left))
    right.sendall(b'HTTP/1.1 400 Bad Request\r\n\r\n')
    with pytest.raises(TLSError, match='the TLS handshake failed: wrong version number') as raised:
        near.wait_connected()
    assert raised.value.code == 'ERR_SSL_WRONG_VERSION_NUMBER'
    right.close()


def test_a_peer_that_disconnects_in_the_handshake_is_an_error(certificates: Certificates) -> None:
    left, right = connected()
    near = tls.connect(host='localhost', socket=Socket(left))
    assert right.recv(65536)
    right.shutdown(stdlib.SHUT_WR)
    with pytest.raises(TLSError, match='closed the connection during the TLS handshake'):
        near.wait_connected()
    right.close()


def test_wait_connected_limits_the_handshake(certificates: Certificates) -> None:
    left, right = connected()
    near = tls.connect(host='localhost', socket=Socket(left))
    with pytest.raises(TimeoutError, match=r'no TLS connection after 0\.01 seconds'):
        near.wait_connected(0.01)
    near.destroy()
    right.close()


def test_secure_connect_is_emitted(certificates: Certificates, must_call: Callable[..., Any]) -> None:
    left, right = connected()
    far = TLSEnd(right, certificates.server_context(), server_side=True)
    near = tls.connect(None, 'localhost', must_call(), socket=Socket(left), ca=certificates.ca)
    with shaken(near, far):
        near.wait_connected()
    settle()
    near.destroy()
    far.close()


@pytest.mark.parametrize(
    'options',
    [
        {'servername': '.x'},
        {'servername': 'ä'},
        {'minimum_version': 'TLSv1.1'},
        {'alpn_protocols': ['']},
        {'ca': []},
        {'ca': '/nowhere/ca.pem'},
        {'ca': '-----BEGIN nonsense'},
        {'ciphers': 'NONSENSE'},
        {'keyfile': __file__},
        {'certfile': __file__},
        {'certfile': '/nowhere'},
    ],
)
def test_bad_option_values_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidInput, match=name):
        tls.connect(1, **options)


@pytest.mark.parametrize(
    'options',
    [
        {'servername': 1},
        {'ciphers': 1},
        {'alpn_protocols': 'http/1.1'},
        {'alpn_protocols': [1]},
        {'reject_unauthorized': 0},
        {'context': 'x'},
    ],
)
def test_option_values_of_the_wrong_type_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(TypeError, match=name):
        tls.connect(1, **options)
