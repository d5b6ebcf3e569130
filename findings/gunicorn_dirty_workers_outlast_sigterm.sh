#!/bin/sh
# On Python 3.12 and later, a dirty worker of gunicorn's that was called does not end at SIGTERM.
#
# The handler of SIGTERM closes the worker's asyncio.Server. Since Python 3.12.1, `async with` of a server waits at its
# end until all connections are closed (Server.wait_closed). The dirty arbiter keeps one connection to each worker that
# was called, and closes it only when that worker has ended. So both wait, until the arbiter kills the worker after
# dirty_graceful_timeout (30 seconds by default). A worker that was never called ends at once.
set -eu
work=$(mktemp -d)
trap 'kill $server 2>/dev/null || :; rm -rf "$work"' EXIT
server=
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gunicorn==27.0.1
cat > "$work/heavy.py" <<'PYTHON'
import os

from gunicorn.dirty import DirtyApp

class Heavy(DirtyApp):
    def identify(self):
        return os.getpid()
PYTHON
cat > "$work/identified.py" <<'PYTHON'
from gunicorn.dirty import get_dirty_client

def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [str(get_dirty_client().execute('heavy:Heavy', 'identify')).encode()]
PYTHON
cat > "$work/gunicorn.conf.py" <<'PYTHON'
dirty_apps = ['heavy:Heavy']
dirty_workers = 2
dirty_graceful_timeout = 1
control_socket_disable = True
PYTHON
cat > "$work/ask.py" <<'PYTHON'
import socket
import sys

client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
client.connect(sys.argv[1])
client.sendall(b'GET / HTTP/1.0\r\n\r\n')
print(b''.join(iter(lambda: client.recv(1000), b'')).rpartition(b'\r\n\r\n')[2].decode())
PYTHON
logged() {
    timeout 60 sh -c 'until [ "$(grep -c "$2" "$1")" = "$3" ]; do sleep 0.1; done' - "$work/log" "$1" "$2"
}
"$work/venv/bin/python" -m gunicorn --chdir "$work" -c "$work/gunicorn.conf.py" -b "unix:$work/socket" identified:app \
    > "$work/log" 2>&1 &
server=$!
logged 'Dirty worker .* listening' 2
logged 'Booting worker' 1
# the two take turns: only one of them is called
"$work/venv/bin/python" "$work/ask.py" "$work/socket" > "$work/called"
called=$(cat "$work/called")
other=$(grep -o 'Spawned dirty worker (pid: [0-9]*' "$work/log" | grep -o '[0-9]*$' | grep -v "^$called$")
kill -TERM "$called" "$other"
logged 'Dirty worker exited' 1
sleep 3
ended=$(grep -o 'Dirty worker exited (pid:[0-9]*' "$work/log" | grep -o '[0-9]*$')
kill -0 "$called" && alive=yes || alive=no
"$work/venv/bin/python" -c 'import gunicorn, sys; print("gunicorn", gunicorn.__version__, "on Python", sys.version.split()[0])'
[ "$ended" = "$other" ] && only=yes || only=no
echo "only the worker that was not called has ended: $only; the other one lives: $alive"
# gunicorn 27.0.1 on Python 3.13.0
# only the worker that was not called has ended: yes; the other one lives: yes
[ "$only" = yes ] && [ "$alive" = yes ]
