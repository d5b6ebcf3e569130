"""Check ports, hosts and paths: ``listen`` and ``connect`` refuse arguments in the wrong order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from geventnode import net, tls


@pytest.mark.parametrize(
    ('args', 'meant'),
    [
        (('127.0.0.1', 8000), "listen(8000, '127.0.0.1')"),
        (('127.0.0.1', 80), "listen(80, '127.0.0.1')"),
        (('127.0.0.1',), "listen(8000, '127.0.0.1')"),
        (('localhost',), "listen(8000, 'localhost')"),
        (('LocalHost', 81), "listen(81, 'LocalHost')"),
        (('::1', 81), "listen(81, '::1')"),
        (('[::1]', 81), "listen(81, '::1')"),
        (('0.0.0.0', 81, print), "listen(81, '0.0.0.0')"),
        (('127.0.0.1:81',), "listen(81, '127.0.0.1')"),
        (('localhost:81',), "listen(81, 'localhost')"),
        (('[::1]:81',), "listen(81, '::1')"),
        ((':81',), 'listen(81)'),
        (('', 81), 'listen(81)'),
        (('',), 'listen(8000)'),
        (('example.com', 8080), "listen(8080, 'example.com')"),
    ],
)
def test_listening_on_a_host_before_the_port(
    args: tuple[Any, ...], meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        TypeError, match=re.escape(f'{args[0]!r} would be the path of a Unix socket: did you mean {meant}?')
    ):
        net.create_server().listen(*args)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'args',
    [
        ('app.sock',),
        ('app.sock', 128),
        ('./app.sock', 8000),
        ('app', 4096),
        ('1.2.3',),
        ('localhost.sock',),
        ('app:8000',),
    ],
)
def test_listening_on_a_path_without_a_slash(
    args: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with net.create_server().listen(*args) as server:
        assert server.address() == args[0]


def test_listening_on_a_path_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with net.create_server().listen(path='localhost') as server:
        assert server.address() == 'localhost'


@pytest.mark.parametrize(
    ('args', 'meant'),
    [
        (('example.com', 80), "connect(80, 'example.com')"),
        (('example.com', '80'), "connect(80, 'example.com')"),
        (('127.0.0.1', 80), "connect(80, '127.0.0.1')"),
        (('localhost',), "connect(8000, 'localhost')"),
        (('localhost:81',), "connect(81, 'localhost')"),
    ],
)
@pytest.mark.parametrize('connect', [net.connect, net.create_connection, tls.connect])
def test_connecting_to_a_host_before_the_port(connect: Any, args: tuple[Any, ...], meant: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f'would be the path of a Unix socket: did you mean {meant}?')):
        connect(*args)


@pytest.mark.parametrize('args', [('nowhere.sock',), ('./nowhere', 80), ('nowhere.sock', 'example.com')])
def test_connecting_to_a_path_without_a_slash(args: tuple[Any, ...]) -> None:
    with net.connect(*args) as socket, pytest.raises(OSError, match='nowhere'):
        socket.wait_connected()
