#!/bin/sh
# On Python 3.12 and later, gunicorn leaves dirty workers that have used its shared tables.
#
# `stash` keeps a connection from the dirty worker to the dirty arbiter. At SIGTERM, the arbiter closes its asyncio.Server,
# and only then stops its workers. Since Python 3.12.1, `async with` of a server waits at its end until all connections
# are closed (Server.wait_closed), those of `stash` included. After graceful_timeout the master kills the arbiter and
# exits with status 0. The dirty workers have got no signal, and do not look for their parent: they stay for ever.
set -eu
work=$(mktemp -d)
trap 'kill $server $called 2>/dev/null || :; rm -rf "$work"' EXIT
server= called=
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gunicorn==27.0.1
cat > "$work/heavy.py" <<'PYTHON'
import os

from gunicorn.dirty import DirtyApp, stash

class Heavy(DirtyApp):
    def identify(self):
        stash.put('table', 'key', 'value')
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
dirty_workers = 1
dirty_graceful_timeout = 1
graceful_timeout = 3
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
logged 'Dirty worker .* listening' 1
logged 'Booting worker' 1
called=$("$work/venv/bin/python" "$work/ask.py" "$work/socket")
kill -TERM "$server"
status=0
wait "$server" || status=$?
server=
sleep 2
kill -0 "$called" && alive=yes || alive=no
"$work/venv/bin/python" -c 'import gunicorn, sys; print("gunicorn", gunicorn.__version__, "on Python", sys.version.split()[0])'
echo "the master has ended with status $status; the dirty worker lives: $alive"
# gunicorn 27.0.1 on Python 3.13.0
# the master has ended with status 0; the dirty worker lives: yes
[ "$status" = 0 ] && [ "$alive" = yes ]
