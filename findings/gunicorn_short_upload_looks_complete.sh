#!/bin/sh
# gunicorn's wsgi.input returns the part of an upload that arrived as if it were all of it.
#
# The request announces a Content-Length of 10, sends 3 bytes, and the client is killed. read() then returns 3 bytes
# without an error, in the sync worker and in the gevent worker: an application that stores uploads stores a part. Of a
# chunked upload, read() raises. An application that reads the input itself has to compare the number of bytes with
# CONTENT_LENGTH.
set -eu
work=$(mktemp -d)
trap 'kill $server 2>/dev/null || :; rm -rf "$work"' EXIT
server=
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gunicorn==27.0.1
mkfifo "$work/outcomes"
cat > "$work/upload.py" <<'PYTHON'
import os

outcomes = os.open(os.environ['OUTCOMES'], os.O_RDWR)

def app(environ, start_response):
    try:
        outcome = f'read {len(environ["wsgi.input"].read())} bytes'
    except Exception as error:
        outcome = type(error).__name__
    os.write(outcomes, f'{outcome}\n'.encode())
    start_response('200 OK', [('Content-Length', '0')])
    return []
PYTHON
cat > "$work/send.py" <<'PYTHON'
import socket
import sys

with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    client.sendall(b'POST / HTTP/1.1\r\nHost: a\r\n' + sys.argv[2].encode().decode('unicode_escape').encode())
PYTHON

exec 3<> "$work/outcomes"
OUTCOMES=$work/outcomes "$work/venv/bin/python" -m gunicorn --no-control-socket --chdir "$work" \
    -b "unix:$work/socket" upload:app > "$work/log" 2>&1 &
server=$!
timeout 60 sh -c 'until grep -q "Booting worker" "$1"; do sleep 0.1; done' - "$work/log"
"$work/venv/bin/python" "$work/send.py" "$work/socket" 'Content-Length: 10\r\n\r\nabc'
read -r length <&3
"$work/venv/bin/python" "$work/send.py" "$work/socket" 'Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n'
read -r chunked <&3
"$work/venv/bin/python" -c 'import gunicorn; print("gunicorn", gunicorn.__version__)'
echo "3 bytes of 10: $length; one chunk without the last one: $chunked"
# gunicorn 27.0.1
# 3 bytes of 10: read 3 bytes; one chunk without the last one: NoMoreData
[ "$length" = 'read 3 bytes' ] && [ "$chunked" != 'read 3 bytes' ]
