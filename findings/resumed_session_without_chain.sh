#!/bin/sh
# After a TLS session was resumed, Python knows the peer's certificate and no longer its chain.
#
# ssl copies a session by its serialized form, which has the peer's own certificate only. get_unverified_chain() then
# returns nothing where the first connection had two certificates, although getpeercert() works. A program that looks at
# the issuer, as for pinning an intermediate, fails on the second connection only. Expected: the chain of the connection
# that the session began with, as in OpenSSL's own API.
#
# Output, with Python 3.11.7 and OpenSSL 3.0.19:
#   TLSv1.2 new own certificate: True chain: 2
#   TLSv1.2 resumed own certificate: True chain: 0
#   TLSv1.3 new own certificate: True chain: 2
#   TLSv1.3 resumed own certificate: True chain: 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q trustme==1.2.1
cat > "$folder/program.py" <<'PROGRAM'
import ssl
import sys

import trustme

authority = trustme.CA()
server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
authority.create_child_ca().issue_cert('localhost').configure_cert(server)
authority.configure_trust(client)


def connect(session):
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(inward, outward, server_hostname='localhost', session=session)
    far = server.wrap_bio(outward, inward, server_side=True)
    for _ in range(3):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    far.write(b'x')
    near.read(1)
    chain = (near if hasattr(near, 'get_unverified_chain') else near._sslobj).get_unverified_chain()
    print(near.version(), 'resumed' if near.session_reused else 'new', 'own certificate:', bool(near.getpeercert()),
          'chain:', len(chain or ()))
    return near.session


for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    client.maximum_version = version
    connect(connect(None))
print('Python', sys.version.split()[0], ssl.OPENSSL_VERSION, file=sys.stderr)
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" > "$folder/seen"
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
