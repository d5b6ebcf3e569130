"""The server with faults: the handlers of the benchmarks, over TLS if there is a certificate.

python faulted.py [CERTIFICATE --handshake-timeout SECONDS] [--descriptors LIMIT]
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks' / 'servers'))

from geventnode_server import handle
from serving import serve

from geventnode import http, https

__all__: list[str] = []


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('certificate', nargs='?')
    parser.add_argument('--handshake-timeout', type=float)
    parser.add_argument('--descriptors', type=int)
    options = parser.parse_args()
    if options.descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.descriptors, options.descriptors))
    if options.certificate:
        serve(https.create_server(handle, certfile=options.certificate, handshake_timeout=options.handshake_timeout))
    else:
        serve(http.create_server(handle))
