#!/bin/sh
# requests 2.34.2: a PUT or QUERY that is redirected with 301 is sent again with its method, but without its body.
#
# RFC 9110, section 15.4.2, allows a client to change POST to GET at 301, and no other method. requests changes only POST,
# as expected, but removes the body, Content-Length and Content-Type at every status except 307 and 308. So a server that
# moves a path by 301, as most frameworks do to append a slash, gets PUT with an empty body, and stores it: the response is
# 200, and nothing shows that the content is lost. PATCH, DELETE and QUERY behave alike; 302 and 303 change PUT to GET.
#
# Output:
#   requests 2.34.2 urllib3 2.8.0
#   PUT 301: PUT /old b'content', then PUT /new b''
#   QUERY 301: QUERY /old b'content', then QUERY /new b''
#   POST 301: POST /old b'content', then GET /new b''
#   PUT 308: PUT /old b'content', then PUT /new b'content'
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" requests==2.34.2 urllib3==2.8.0
PYTHONPATH=$folder timeout 60 python3 - <<'PROGRAM' | tee "$folder/seen"
import importlib.metadata
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import requests

received = []


class Handler(BaseHTTPRequestHandler):
    def respond(self):
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        received.append(f'{self.command} {self.path} {body!r}')
        self.send_response(self.server.status if self.path == '/old' else 200)
        self.send_header('Location', '/new')
        self.send_header('Content-Length', '0')
        self.end_headers()

    do_GET = do_POST = do_PUT = do_QUERY = respond

    def log_message(self, *arguments):
        pass


server = HTTPServer(('127.0.0.1', 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(*(f'{name} {importlib.metadata.version(name)}' for name in ('requests', 'urllib3')))
with requests.Session() as session:
    session.trust_env = False
    for method, status in ('PUT', 301), ('QUERY', 301), ('POST', 301), ('PUT', 308):
        server.status = status
        received.clear()
        session.request(method, f'http://127.0.0.1:{server.server_port}/old', data=b'content', timeout=10)
        print(f'{method} {status}: {", then ".join(received)}')
PROGRAM
cat > "$folder/expected" <<'EXPECTED'
requests 2.34.2 urllib3 2.8.0
PUT 301: PUT /old b'content', then PUT /new b''
QUERY 301: QUERY /old b'content', then QUERY /new b''
POST 301: POST /old b'content', then GET /new b''
PUT 308: PUT /old b'content', then PUT /new b'content'
EXPECTED
diff "$folder/expected" "$folder/seen"
