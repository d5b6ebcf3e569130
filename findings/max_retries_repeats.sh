#!/bin/sh
# requests repeats requests that have reached the server, which its documentation of max_retries excludes.
#
# HTTPAdapter says of max_retries: "applies only to failed DNS lookups, socket connections and connection timeouts,
# never to requests where data has made it to the server". The number becomes urllib3's Retry(N) without a limit for
# reads: a PUT that the server has read, and did not answer, is sent N times more, and so is one that was answered
# with 503 and Retry-After (413 and 429, too). A POST is not. Only max_retries=0 is Retry(0, read=False).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check requests==2.34.2 urllib3==2.8.0
cat > "$work/show.py" <<'PYTHON'
import importlib.metadata
import socket
import threading

import requests
from requests.adapters import HTTPAdapter


def count(method, answer):
    """Return how often the server receives a request that is made once, and its result."""
    received = []

    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile('rb') as file:
                while line := file.readline():
                    length = 0
                    while (field := file.readline()) != b'\r\n':
                        if field.lower().startswith(b'content-length:'):
                            length = int(field.partition(b':')[2])
                    received.append((line.split()[0], file.read(length)))
                    connection.sendall(answer)
                    if not answer:
                        break
    with socket.create_server(('127.0.0.1', 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with requests.Session() as session:
            session.trust_env = False
            session.mount('http://', HTTPAdapter(max_retries=3))
            try:
                outcome = session.request(method, f'http://127.0.0.1:{listener.getsockname()[1]}/', data=b'body').status_code
            except requests.RequestException as error:
                outcome = type(error).__name__
    assert all(body == b'body' for _, body in received)
    return len(received), outcome


BUSY = b'HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n'
print('requests', importlib.metadata.version('requests'), 'urllib3', importlib.metadata.version('urllib3'))
said = ' '.join(HTTPAdapter.__doc__.split())
print('documented:', said[said.index('Note, this applies'):said.index('By default')].strip())
found = {(method, name): count(method, answer) for method in ('PUT', 'POST')
         for name, answer in (('no answer', b''), ('503', BUSY))}
for case, result in found.items():
    print(*case, '->', *result)
assert 'never to requests where data has made it to the server' in said
assert found == {('PUT', 'no answer'): (4, 'ConnectionError'), ('PUT', '503'): (4, 503),
                 ('POST', 'no answer'): (1, 'ConnectionError'), ('POST', '503'): (1, 503)}
PYTHON
"$work/venv/bin/python" "$work/show.py"
# requests 2.34.2 urllib3 2.8.0
# documented: Note, this applies only to failed DNS lookups, socket connections and connection timeouts, never to requests where data has made it to the server.
# PUT no answer -> 4 ConnectionError
# PUT 503 -> 4 503
# POST no answer -> 1 ConnectionError
# POST 503 -> 1 503
