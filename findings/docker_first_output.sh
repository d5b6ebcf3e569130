#!/bin/sh
# docker-py loses the output of a command that arrives together with the head of "101 UPGRADED".
#
# exec_run() asks the daemon for an upgrade and then reads frames from response.raw._fp.fp.raw, the socket beneath the
# buffered file of http.client. That file has read ahead: up to 8 KiB that the kernel had at that moment, which is more
# than the head when the daemon is quick or the network joins both. The result is shorter, the exit status is 0, and
# nothing reports it. The daemon here sends valid bytes, once in one piece and once in two.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check docker==7.2.0 requests==2.34.2 urllib3==2.8.0
cat > "$work/show.py" <<'PYTHON'
import importlib.metadata
import json
import socket
import struct
import threading
import time

import docker

HEAD = (b'HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n'
        b'Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n')


def frame(data):
    return struct.pack('>BxxxL', 1, len(data)) + data


def sized(status, value):
    body = json.dumps(value).encode()
    return b'HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' % (status, len(body), body)


def serve(connection, joined):
    file = connection.makefile('rb')
    while line := file.readline():
        length = 0
        while (field := file.readline()) != b'\r\n':
            if field.lower().startswith(b'content-length:'):
                length = int(field.partition(b':')[2])
        file.read(length)
        path = line.split()[1]
        if path.endswith(b'/start'):
            if joined:
                connection.sendall(HEAD + frame(b'first '))
            else:
                connection.sendall(HEAD)
                time.sleep(0.5)
                connection.sendall(frame(b'first '))
            time.sleep(0.5)
            connection.sendall(frame(b'second'))
            file.close()
            connection.close()
            return
        if path.endswith(b'/exec'):
            connection.sendall(sized(b'201 Created', {'Id': 'one'}))
        elif b'/exec/' in path:
            connection.sendall(sized(b'200 OK', {'ExitCode': 0, 'Running': False}))
        else:
            connection.sendall(sized(b'200 OK', {'Id': 'abc', 'Config': {'Tty': False}}))


def run(joined):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection, joined), daemon=True).start()
        threading.Thread(target=accept, daemon=True).start()
        client = docker.DockerClient(base_url=f'tcp://127.0.0.1:{listener.getsockname()[1]}', version='1.45')
        return client.containers.get('abc').exec_run('command')


print('docker', importlib.metadata.version('docker'), 'urllib3', importlib.metadata.version('urllib3'))
apart, joined = run(False), run(True)
print('apart ', apart)
print('joined', joined)
assert tuple(apart) == (0, b'first second')
assert tuple(joined) == (0, b'second')
PYTHON
"$work/venv/bin/python" "$work/show.py"
# docker 7.2.0 urllib3 2.8.0
# apart  ExecResult(exit_code=0, output=b'first second')
# joined ExecResult(exit_code=0, output=b'second')
