"""``geventnode serve`` with Node's client."""

from __future__ import annotations

from tests.system.running import APPS, Served, run


def test_node_client_passes_its_checks() -> None:
    with Served('handlers:listener') as served:
        passed = run('node', APPS / 'client.js', served.url).splitlines()
    assert passed == [
        'a thousand requests on kept connections',
        'a chunked request body',
        'trailers both ways',
        'HEAD has the headers and no body',
        'Expect: 100-continue',
        'pipelined requests are answered in order',
    ]
