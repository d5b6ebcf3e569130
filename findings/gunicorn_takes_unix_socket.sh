#!/bin/sh
# A gunicorn takes the Unix socket of another one that is alive, without an error on either side.
#
# On a TCP port the second one reports "Connection in use" and gives up. On a path it removes the file and binds its
# own: the first one goes on with its listening socket, which no client can reach any more, and logs nothing. When the
# second one stops, it removes the file, and then nothing is served, although the first one still runs. A supervisor
# that starts a service twice, or a deployment that forgets to stop the old one, sees two healthy processes.
set -eu
work=$(mktemp -d)
trap 'kill $first $second 2>/dev/null || :; rm -rf "$work"' EXIT
first= second=
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gunicorn==27.0.1
cat > "$work/named.py" <<'PYTHON'
import os

def app(environ, start_response):
    body = os.environ['NAME'].encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
PYTHON
cat > "$work/ask.py" <<'PYTHON'
import socket
import sys

client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
try:
    client.connect(sys.argv[1])
except OSError as error:
    print(type(error).__name__)
else:
    client.sendall(b'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
    print(b''.join(iter(lambda: client.recv(1000), b'')).rpartition(b'\r\n\r\n')[2].decode())
PYTHON

start() {
    NAME=$1 "$work/venv/bin/python" -m gunicorn --no-control-socket --chdir "$work" -b "$2" named:app \
        > "$work/$1" 2>&1 &
}

booted() {
    timeout 60 sh -c 'until grep -q "Booting worker" "$1"; do sleep 0.1; done' - "$work/$1"
}

start first "unix:$work/socket"
first=$!
booted first
start second "unix:$work/socket"
second=$!
booted second
answer=$("$work/venv/bin/python" "$work/ask.py" "$work/socket")
errors=$(cat "$work/first" "$work/second" | grep -c ERROR || :)
kill "$second"
wait "$second" || :
second=
running=no
kill -0 "$first" && running=yes
after=$("$work/venv/bin/python" "$work/ask.py" "$work/socket")
"$work/venv/bin/python" -c 'import gunicorn; print("gunicorn", gunicorn.__version__)'
echo "answered by: $answer; errors in both logs: $errors"
echo "after the second one has stopped: first one running: $running; a connection: $after"
# gunicorn 27.0.1
# answered by: second; errors in both logs: 0
# after the second one has stopped: first one running: yes; a connection: FileNotFoundError
[ "$answer" = second ] && [ "$errors" = 0 ] && [ "$running" = yes ] && [ "$after" = FileNotFoundError ]
