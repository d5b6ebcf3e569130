"""docker-py with a daemon: lists, streams, commands and their output, copies, and a cancelled stream."""

from __future__ import annotations

import io
import socket
from typing import Any

from mounted import URL, mount, say

# isort: split
import docker
import gevent

client = docker.DockerClient(base_url=URL.replace('http:', 'tcp:'), version='1.45')
api: Any = mount(client.api)


def attached() -> list[bytes]:
    """Talk to a container."""
    file = api.attach_socket('abc', params={'stdin': 1, 'stdout': 1, 'stream': 1})
    file._sock.sendall(b'one')
    heard = [file._sock.recv(100)]
    file._sock.send(b'two')
    heard.append(file.read(100))
    file._sock.shutdown(socket.SHUT_WR)
    heard.append(file.read(100))
    file.close()
    return heard


def cancelled() -> list[Any]:
    """Cancel an endless stream from another thread."""
    stream = api.events(decode=True, filters={'type': 'endless'})
    heard = [next(stream)]
    gevent.get_hub().threadpool.spawn(stream.close)
    return [*heard, *stream]


def missing() -> str:
    """Request a missing container."""
    try:
        client.containers.get('none')
    except docker.errors.NotFound as error:
        return str(error.explanation)
    return 'found'


container = client.containers.get('abc')
say(
    {
        'containers': [each.id for each in client.containers.list()],
        'events': list(api.events()),
        'decoded': list(api.events(decode=True)),
        'logs': api.logs('abc'),
        'stream': list(api.logs('abc', stream=True)),
        'pull': list(api.pull('image', tag='1', stream=True, decode=True)),
        'build': list(api.build(fileobj=io.BytesIO(b'FROM image\n'), decode=True)),
        'archive': [len(each) for each in api.get_archive('abc', '/path')[0]],
        'run': container.exec_run('command').output,
        'apart': container.exec_run('command', demux=True).output,
        'bit by bit': list(container.exec_run('command', stream=True).output),
        'attached': attached(),
        'cancelled': cancelled(),
        'missing': missing(),
    }
)
