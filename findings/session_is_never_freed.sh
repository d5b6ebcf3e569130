#!/bin/sh
# Each read of ssl's session attribute leaks its copy of the session, about 6,500 bytes.
#
# A client that keeps sessions in order to resume them reads the attribute once for each server, or once for each
# connection. Memory grows with the number of reads, not of kept sessions: the objects do not exist any more, and gc finds nothing.
# The same with CPython 3.10.13, 3.11.7, 3.12.1 and 3.13.0, all with this OpenSSL; Linux only, for /proc. Expected: the
# copy is freed with its object.
#
# Output, with Python 3.11.7 and OpenSSL 3.0.19:
#   TLSv1.2 connected 1200 times, memory stays
#   TLSv1.2 connected and read 1200 times, memory grows
#   TLSv1.3 connected 1200 times, memory stays
#   TLSv1.3 connected and read 1200 times, memory grows
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q trustme==1.2.1
cat > "$folder/program.py" <<'PROGRAM'
import gc
import os
import ssl
import sys

import trustme

authority = trustme.CA()
server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
authority.issue_cert('localhost').configure_cert(server)
authority.configure_trust(client)


def resident():
    gc.collect()
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def connect(read):
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(inward, outward, server_hostname='localhost')
    far = server.wrap_bio(outward, inward, server_side=True)
    for _ in range(3):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    far.write(b'x')
    near.read(1)
    if read:
        near.session
    return near.version()


for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    client.maximum_version = version
    for read in False, True:
        for _ in range(300):
            connect(read)
        before = resident()
        for _ in range(1200):
            name = connect(read)
        growth = resident() - before
        print(name, 'connected and read' if read else 'connected', '1200 times, memory',
              'grows' if growth > 3_000_000 else 'stays')
        print(f'{growth / 1200:.0f} bytes each', file=sys.stderr)
print('Python', sys.version.split()[0], ssl.OPENSSL_VERSION, file=sys.stderr)
PROGRAM
"$folder/venv/bin/python" "$folder/program.py" > "$folder/seen"
cat "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
