#!/bin/sh
# hpack reports every change of the size of its table, where RFC 7541 has two at most.
#
# "the smallest maximum table size that occurs in that interval MUST be signaled [...]. The final maximum size is always
# signaled, resulting in at most two dynamic table size updates" (RFC 7541, section 4.2). A client of h2 that receives
# three values of SETTINGS_HEADER_TABLE_SIZE before a request begins its header block with three updates, 0, 4096 and
# 100, instead of 0 and 100. A decoder that holds encoders to the rule ends such a connection.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check h2==4.4.1 hpack==4.2.0
cat > "$work/show.py" <<'PYTHON'
import importlib.metadata

from h2.connection import H2Connection


def settings(*values):
    """Return a SETTINGS frame for each size of the table."""
    return b''.join(b'\x00\x00\x06\x04\x00\x00\x00\x00\x00' + b'\x00\x01' + size.to_bytes(4, 'big') for size in values)


client = H2Connection()
client.initiate_connection()
client.receive_data(settings(0, 4096, 100))
client.data_to_send()
client.send_headers(1, [(':method', 'GET'), (':scheme', 'http'), (':authority', 'a'), (':path', '/')], end_stream=True)
block = client.data_to_send()[9:]
print('h2', importlib.metadata.version('h2'), 'hpack', importlib.metadata.version('hpack'))
# updates of the size begin with the bits 001; 4096 and 100 take further bytes
updates = []
while block[0] >> 5 == 1:
    size, block = block[0] & 31, block[1:]
    shift = 0
    while size >= 31:
        size += (block[0] & 127) << shift
        shift += 7
        more, block = block[0] & 128, block[1:]
        if not more:
            break
    updates.append(size)
print('updates:', *updates)
assert updates == [0, 4096, 100]
PYTHON
"$work/venv/bin/python" "$work/show.py"
# h2 4.4.1 hpack 4.2.0
# updates: 0 4096 100
