#!/bin/sh
# requests 2.34.2, urllib3 2.8.0: after an early hint, each response of the session belongs to the request before.
#
# A server may send 103 (Early Hints, RFC 8297) before the response to any HTTP/1.1 request. Python's http.client, below
# urllib3, skips 100 only: the 103 is the response, has no body, and the connection goes back to the pool. The response
# itself follows when the view is ready. If the session has made another request by then, that one gets it, with status
# 200 and no error anywhere; if both arrive together, it is dropped silently, and the next request gets its own.
#
# Output:
#   requests 2.34.2 urllib3 2.8.0
#   GET /1 -> 103 ''
#   GET /2 -> 200 '/1'
#   GET /3 -> 200 '/2'
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" requests==2.34.2 urllib3==2.8.0
PYTHONPATH=$folder timeout 60 python3 - <<'PROGRAM' | tee "$folder/seen"
import importlib.metadata
import socket
import threading

import requests

HINT = b'HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n'


def serve(listener):
    connection, _ = listener.accept()
    with connection, connection.makefile('rb') as file:
        working = b''
        while line := file.readline():
            path = line.split()[1]
            while file.readline().strip():
                pass
            if not working:
                connection.sendall(HINT)
            else:
                # the view of the request before is ready now
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b' % (len(working), working))
            working = path


listener = socket.create_server(('127.0.0.1', 0))
threading.Thread(target=serve, args=[listener], daemon=True).start()
print(*(f'{name} {importlib.metadata.version(name)}' for name in ('requests', 'urllib3')))
with requests.Session() as session:
    session.trust_env = False
    for path in '/1', '/2', '/3':
        response = session.get(f'http://127.0.0.1:{listener.getsockname()[1]}{path}', timeout=10)
        print(f'GET {path} -> {response.status_code} {response.text!r}')
PROGRAM
cat > "$folder/expected" <<'EXPECTED'
requests 2.34.2 urllib3 2.8.0
GET /1 -> 103 ''
GET /2 -> 200 '/1'
GET /3 -> 200 '/2'
EXPECTED
diff "$folder/expected" "$folder/seen"
