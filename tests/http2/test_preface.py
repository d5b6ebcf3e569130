"""Test how a connection finds its version of HTTP, and the server without the packages for HTTP/2."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from geventnode import http
from geventnode.errors import InvalidInput
from tests.http2.client import Connect
from tests.servers import Serve, get, ok
from tests.sockets import until

WITHOUT = """
import sys
for name in ('h2', 'hpack', 'hyperframe'):
    sys.modules[name] = None
from geventnode import http, https
http.create_server()
try:
    http.create_server(http2=True)
except ImportError as error:
    print(error)
"""


def test_without_the_extra_there_is_one_clear_error() -> None:
    ended = subprocess.run([sys.executable, '-c', WITHOUT], capture_output=True, text=True)
    assert ended.stdout == (
        "http2 needs a package that is not installed (hyperframe); run: pip install 'geventnode[http2]'\n"
    )
    assert ended.stderr == ''


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('http2', 1),
        ('http2_max_concurrent_streams', 0),
        ('http2_initial_window_size', 2**31),
        ('http2_max_frame_size', 16383),
        ('http2_max_header_list_size', -1),
        ('http2_flood_window', 'x'),
    ],
)
def test_options_are_checked(option: str, value: Any) -> None:
    with pytest.raises((InvalidInput, TypeError), match=option):
        http.create_server(**{option: value})  # type: ignore[misc]


def test_connection_of_http_1_costs_nothing_after_its_first_bytes(serve: Serve) -> None:
    site = serve(ok, http2=True)
    client = site.send(get('/a'))
    assert client.response().body == b'GET /a'
    [connection] = site.server._connections()
    assert type(connection) is site.server._connection_class


def test_connection_without_bytes_is_idle(serve: Serve) -> None:
    site = serve(ok, http2=True, headers_timeout=0.1)
    client = site.connect()
    until(lambda: site.server.statistics()['idle'] == 1)
    # as on a server without HTTP/2: closed without a response
    assert client.rest() == b''


def test_part_of_a_preface_is_a_late_request(serve: Serve) -> None:
    site = serve(ok, http2=True, headers_timeout=0.1)
    client = site.send(b'PRI * HT')
    assert client.rest().startswith(b'HTTP/1.1 408 ')


def test_client_that_disconnects_within_the_preface(serve: Serve) -> None:
    site = serve(ok, http2=True)
    client = site.send(b'PRI')
    until(lambda: site.server.statistics()['reading'] == 1)
    client.close()
    until(lambda: not site.server.statistics()['connections'])


def test_preface_in_pieces(serve: Serve, connect_h2: Connect) -> None:
    site = serve(ok, http2=True)
    client = site.connect()
    for byte in b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00':
        client.send(bytes((byte,)))
    # SETTINGS of the server, WINDOW_UPDATE, and the acknowledgement
    assert client.exactly(9)[3] == 4


def test_server_can_stop_before_any_byte(serve: Serve) -> None:
    site = serve(ok, http2=True)
    client = site.connect()
    until(lambda: site.server.statistics()['idle'] == 1)
    site.server.stop()
    assert client.rest() == b''


def test_http_2_without_the_option_is_an_error(serve: Serve) -> None:
    client = serve(ok).send(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    assert client.rest().startswith(b'HTTP/1.1 505 ')


def test_option_can_be_switched(serve: Serve) -> None:
    site = serve(ok)
    site.server.http2 = True
    client = site.connect()
    client.send(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00')
    assert client.exactly(9)[3] == 4
    site.server.http2 = False
    assert site.send(b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n').rest().startswith(b'HTTP/1.1 505 ')


def test_connection_listeners_come_first(serve: Serve, connect_h2: Connect) -> None:
    server = http.create_server(ok, http2=True)
    seen: list[str] = []
    server.on('connection', lambda socket: seen.append(socket.remote_address))
    client = connect_h2(serve(server))
    assert client.response(client.get('/x')).body == b'GET /x'
    assert seen == ['127.0.0.1']
