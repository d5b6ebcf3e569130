#!/bin/sh
# With proxy_protocol and a certificate, gunicorn expects the PROXY header inside TLS, where no proxy sends it.
#
# HAProxy (send-proxy), nginx and load balancers put the header before the first byte of the connection, that is before
# the handshake of the client, which they pass on. gunicorn begins with the handshake, takes the header for garbage and
# closes. The setting works without a certificate, and a client that sends the header after the handshake gets a
# response, so a test of either setting by itself, or one with such a client, does not show it.
set -eu
work=$(mktemp -d)
worker=
trap '[ -z "$worker" ] || kill "$worker" 2>/dev/null || :; wait; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gunicorn==27.0.1 trustme==1.2.1
cat > views.py <<'PYTHON'
def app(environ, start_response):
    body = environ['REMOTE_ADDR'].encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
PYTHON
cat > show.py <<'PYTHON'
import gunicorn
import socket
import ssl
import sys

HEADER = b'PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n'
REQUEST = b'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
context = ssl.create_default_context(cafile='client.pem')


def ask(before, inside):
    """Return the body of the response to a request after a header before the handshake or inside TLS."""
    with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as plain:
        plain.settimeout(30)
        plain.sendall(before)
        try:
            with context.wrap_socket(plain, server_hostname='localhost') as client:
                client.sendall(inside + REQUEST)
                return b''.join(iter(lambda: client.recv(1000), b'')).rpartition(b'\r\n\r\n')[2].decode()
        except OSError:
            return 'no response'


print('gunicorn', gunicorn.__version__)
print('the header before the handshake:', first := ask(HEADER, b''))
print('the header inside TLS:          ', second := ask(b'', HEADER))
assert (first, second) == ('no response', '192.0.2.1')
PYTHON
venv/bin/python -m trustme --quiet --identities localhost
venv/bin/python -m gunicorn --no-control-socket -b 127.0.0.1:0 --proxy-protocol --certfile server.pem \
    --keyfile server.key views:app > log 2>&1 &
worker=$!
timeout 60 sh -c 'until grep -q "Booting worker" log; do sleep 0.1; done' || { cat log; exit 1; }
venv/bin/python show.py "$(sed -n 's/.*https:..127.0.0.1:\([0-9]*\).*/\1/p' log | head -n 1)"
# gunicorn 27.0.1
# the header before the handshake: no response
# the header inside TLS:           192.0.2.1
