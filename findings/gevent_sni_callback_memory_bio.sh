#!/bin/sh
# gevent's patched SSLContext calls an sni_callback for its own sockets only.
#
# With ssl.MemoryBIO (SSLContext.wrap_bio), which asyncio, h2 servers and test kits use, the callback is never reached:
# an AttributeError is printed as "Exception ignored", OpenSSL gets "callback failed", and every handshake ends in an
# alert, also of clients without SNI. The same code works without patch_all(). Expected: it works in both.
#
# Output:
#   gevent 26.9.0 plain done ['localhost']
#   gevent 26.9.0 patched CALLBACK_FAILED []
#   AttributeError: 'SSLObject' object has no attribute '_sslsock'
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q gevent==26.9.0 greenlet==3.5.6 trustme==1.2.1
cat > "$folder/program.py" <<'PROGRAM'
import sys

if sys.argv[1] == 'patched':
    from gevent import monkey
    monkey.patch_all()
import ssl

import gevent
import trustme

authority = trustme.CA()
server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
authority.issue_cert('localhost').configure_cert(server)
authority.configure_trust(client)
asked = []
server.sni_callback = lambda connection, name, context: asked.append(name)
inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = [client.wrap_bio(inward, outward, server_hostname='localhost'), server.wrap_bio(outward, inward, server_side=True)]
result = 'done'
for _ in range(3):
    for end in ends:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            result = error.reason
            break
    if result != 'done':
        break
print('gevent', gevent.__version__, sys.argv[1], result, asked)
PROGRAM
for how in plain patched; do
    "$folder/venv/bin/python" "$folder/program.py" "$how" 2>> "$folder/errors"
done > "$folder/seen"
grep AttributeError "$folder/errors" >> "$folder/seen"
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
