#!/bin/sh
# After SIGHUP, gunicorn's dirty workers still run the old code, and so does each dirty worker that replaces one.
#
# SIGHUP to the master replaces all web workers, and is forwarded to the dirty arbiter. It starts as many new dirty
# workers as there are, and then stops those after the first `dirty_workers` ones in its table. The table is in the order
# of their starts, so that the new ones are stopped, and the old ones stay. The log says "Reloading dirty workers".
# A worker that is started later also has the old code: the master imports the modules of dirty_apps, to read the
# attribute `workers` of their classes, and all processes inherit them.
set -eu
work=$(mktemp -d)
trap 'kill $server 2>/dev/null || :; rm -rf "$work"' EXIT
server=
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gunicorn==27.0.1
cat > "$work/heavy.py" <<'PYTHON'
import os

from gunicorn.dirty import DirtyApp

VERSION = 1

class Heavy(DirtyApp):
    def identify(self):
        return f'{os.getpid()} {VERSION}'
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
before=$("$work/venv/bin/python" "$work/ask.py" "$work/socket")
sed -i 's/VERSION = 1/VERSION = 2/' "$work/heavy.py"
kill -HUP "$server"
logged 'Dirty worker exited' 1
logged 'Worker exiting' 1
after=$("$work/venv/bin/python" "$work/ask.py" "$work/socket")
kill "${after% *}"
logged 'Dirty worker exited' 2
logged 'Dirty worker .* listening' 3
replaced=$("$work/venv/bin/python" "$work/ask.py" "$work/socket")
"$work/venv/bin/python" -c 'import gunicorn; print("gunicorn", gunicorn.__version__)'
[ "$before" = "$after" ] && same=yes || same=no
echo "the same one responds: $same; version of the one that replaces it: ${replaced#* }"
# gunicorn 27.0.1
# the same one responds: yes; version of the one that replaces it: 1
[ "$same" = yes ] && [ "${replaced% *}" != "${before% *}" ] && [ "${replaced#* }" = 1 ]
