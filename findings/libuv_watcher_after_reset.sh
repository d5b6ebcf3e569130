#!/bin/sh
# On gevent's libuv loop, a watcher that stays started is called once and never again when a reset follows data closely.
#
# The kernel reports the data and the error in one event. libuv stops the poll handle for good at an error, and calls
# back once. gevent's watcher goes on to say that it is active, so a program that receives the data and waits for the
# next call waits for ever: neither the end nor the reset is reported. libev calls again. gevent's own sockets start a
# watcher for each wait, and do not notice. gevent uses libuv by default on Windows.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gevent==26.9.0 greenlet==3.5.6 cffi==2.1.1
cat > "$work/show.py" <<'PYTHON'
import socket
import struct

import gevent

listener = socket.socket()
listener.bind(('127.0.0.1', 0))
listener.listen()
near = socket.create_connection(listener.getsockname())
far, _ = listener.accept()
near.setblocking(False)
seen = []


def receive():
    try:
        seen.append(near.recv(100))
    except ConnectionResetError:
        seen.append('reset')
        watcher.stop()


watcher = gevent.get_hub().loop.io(near.fileno(), 1)
watcher.start(receive)
far.sendall(b'data')
far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
far.close()
gevent.sleep(1)
print(f'gevent {gevent.__version__}: {seen}, the watcher is {"active" if watcher.active else "stopped"}')
PYTHON
libev=$(GEVENT_LOOP=libev-cext "$work/venv/bin/python" "$work/show.py")
libuv=$(GEVENT_LOOP=libuv "$work/venv/bin/python" "$work/show.py")
echo "libev: $libev"
echo "libuv: $libuv"
# Output, Python 3.11:
# libev: gevent 26.9.0: [b'data', 'reset'], the watcher is stopped
# libuv: gevent 26.9.0: [b'data'], the watcher is active
test "$libev" = "gevent 26.9.0: [b'data', 'reset'], the watcher is stopped"
test "$libuv" = "gevent 26.9.0: [b'data'], the watcher is active"
