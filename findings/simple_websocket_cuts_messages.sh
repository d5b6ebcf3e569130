#!/bin/sh
# simple-websocket 1.1.0 on gevent 26.9.0 (gevent.pywsgi): a large message arrives cut, and the next frame is in its middle.
#
# A blocking socket of the operating system sends all bytes that are passed to send(). gevent's sends as many as there is
# room for and returns their number, for a blocking socket, too; simple-websocket ignores the result. The sender sees no error: the view
# returns, the client receives a frame header that declares 20,000,000 bytes, less than that, and then the bytes of the
# next frame, as a part of the message. Flask-Sock and Flask-SocketIO send in the same way. sendall() would be whole.
#
# Output:
#   gevent 26.9.0 simple-websocket 1.1.0
#   declared 20000000 bytes, the message is cut: True, the next frame follows: True
#   error in the view: None
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" gevent==26.9.0 \
    simple-websocket==1.1.0 wsproto==1.3.2
PYTHONPATH=$folder timeout 60 python3 - <<'PROGRAM' | tee "$folder/seen"
from gevent import monkey; monkey.patch_all()

import importlib.metadata
import socket
import struct

import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIServer
from simple_websocket import Server

LARGE = 20_000_000
sent, errors = Event(), []


def application(environ, start_response):
    ws = Server.accept(environ)
    error = None
    try:
        ws.send(bytes(LARGE))
        ws.send(b'end')
    except Exception as raised:
        error = raised
    errors.append(error)
    sent.set()
    ws.close()
    start_response('200 OK', [])
    return []


server = WSGIServer(('127.0.0.1', 0), application, log=None)
server.start()
client = socket.create_connection(('127.0.0.1', server.server_port))
client.sendall(b'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
               b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n')
file = client.makefile('rb')
while file.readline().strip():
    pass
# a slow reader, but one that reads
sent.wait(5)
head = file.read(10)
declared = struct.unpack('>xxQ', head)[0]
client.settimeout(2)
rest = b''
try:
    while data := file.read1(1 << 20):
        rest += data
except TimeoutError:
    pass
print(*(f'{name} {importlib.metadata.version(name)}' for name in ('gevent', 'simple-websocket')))
print(f'declared {declared} bytes, the message is cut: {len(rest) < declared}, the next frame follows: '
      f'{bytes([0x82, 3]) + b"end" in rest}')
print('error in the view:', errors[0] if errors else 'it waits')
PROGRAM
cat > "$folder/expected" <<'EXPECTED'
gevent 26.9.0 simple-websocket 1.1.0
declared 20000000 bytes, the message is cut: True, the next frame follows: True
error in the view: None
EXPECTED
diff "$folder/expected" "$folder/seen"
