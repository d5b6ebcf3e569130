#!/bin/sh
# h2 refuses every frame after GOAWAY, so httpx loses the response to a request that the server still serves.
#
# A server that shuts down sends GOAWAY with the identifier of the last request that it serves; the streams up to it go
# on (RFC 9113, section 6.8). h2 changes to the state CLOSED at GOAWAY and raises ProtocolError for the next frame, be
# it the response. httpx reports that as LocalProtocolError, the error for mistakes of the client itself. The server
# here sends the same valid frames, once without GOAWAY and once with it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'httpx[http2]==0.28.1' h2==4.4.1
cat > "$work/show.py" <<'PYTHON'
import importlib.metadata
import socket
import threading

import httpx

SETTINGS = b'\x00\x00\x00\x04\x00\x00\x00\x00\x00'
GOAWAY = b'\x00\x00\x08\x07\x00\x00\x00\x00\x00' + (1).to_bytes(4, 'big') + bytes(4)
RESPONSE = b'\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88' + b'\x00\x00\x05\x00\x01\x00\x00\x00\x01hello'


def serve(listener, frames):
    connection, _ = listener.accept()
    received = b''
    # the request is in the first HEADERS frame, on stream 1
    while b'\x01\x05\x00\x00\x00\x01' not in received:
        received += connection.recv(65536)
    connection.sendall(SETTINGS + frames)
    while connection.recv(65536):
        pass


def fetch(frames):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        threading.Thread(target=serve, args=(listener, frames), daemon=True).start()
        with httpx.Client(http1=False, http2=True, trust_env=False) as client:
            try:
                return client.get(f'http://127.0.0.1:{listener.getsockname()[1]}/').text
            except httpx.LocalProtocolError as error:
                return error


print('httpx', httpx.__version__, 'h2', importlib.metadata.version('h2'))
plain, draining = fetch(RESPONSE), fetch(GOAWAY + RESPONSE)
print('without GOAWAY:', repr(plain))
print('with GOAWAY:   ', repr(draining))
assert plain == 'hello'
assert isinstance(draining, httpx.LocalProtocolError)
PYTHON
"$work/venv/bin/python" "$work/show.py"
# httpx 0.28.1 h2 4.4.1
# without GOAWAY: 'hello'
# with GOAWAY:    LocalProtocolError('Invalid input ConnectionInputs.RECV_HEADERS in state ConnectionState.CLOSED')
