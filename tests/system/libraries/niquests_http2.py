"""Make requests with niquests, and print the results: ``URL VERIFY``, where VERIFY is a CA file, or empty."""

from __future__ import annotations

import sys

import niquests

__all__: list[str] = []

url, verify = sys.argv[1], sys.argv[2] or True
with niquests.Session(multiplexed=True, disable_http1=url.startswith('http:'), disable_http3=True) as session:
    session.trust_env = False
    session.verify = verify
    responses = [session.get(f'{url}/{number}') for number in range(20)]
    session.gather()
    found = [(response.http_version, response.status_code, response.text) for response in responses]
    sys.stdout.write(f'{found}\n')
    posted = session.post(f'{url}/count', data=b'x' * 300_000)
    session.gather()
    sys.stdout.write(f'{(posted.http_version, posted.text)}\n')
