"""Programs that let truststore replace ``ssl.SSLContext``; ``test_contexts.py`` has contexts that it makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: The program of a user, with the order of its imports as an argument.
PROGRAM = """
import os, ssl, sys
from tests.certificates import tls_certificates
certificates = tls_certificates()
os.environ['SSL_CERT_FILE'] = certificates.ca
if sys.argv[1] == 'early':
    from geventnode import https
plain = certificates.server_context()
import truststore
truststore.inject_into_ssl()
import requests
from geventnode import errors, https
from geventnode.integrations.requests import AgentAdapter
session = requests.Session()
session.mount('https://', AgentAdapter())
for options in {'certfile': certificates.server}, {'context': plain}:
    server = https.create_server(lambda request, response: response.end(b'hello'), sni_contexts={'a.example': plain},
                                 **options).listen(0, '127.0.0.1')
    url = f'https://localhost:{server.address()["port"]}/'
    assert https.get(url, agent=False).get_response().read() == b'hello'
    assert https.get(url, agent=False, minimum_version='TLSv1.3').get_response().read() == b'hello'
    assert session.get(url).text == 'hello'
    server.stop(0)
try:
    https.create_server(certfile=certificates.server, request_cert=True, ca=certificates.ca)
except errors.InvalidInput as error:
    assert 'request_cert: ssl.SSLContext has been replaced' in str(error)
else:
    sys.exit('clients with a certificate of any authority would get in')
"""


@pytest.mark.parametrize('order', ['early', 'late'])
def test_truststore_instead_of_ssl(order: str) -> None:
    ran = subprocess.run(
        [sys.executable, '-c', PROGRAM, order],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, 'NO_PROXY': '*'},
    )
    assert (ran.returncode, ran.stderr) == (0, '')
