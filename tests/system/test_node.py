"""``geventnode serve`` as Node's client sees it: the two should understand each other to the last trailer."""

from __future__ import annotations

from tests.system.running import APPS, Served, run


def test_node_client() -> None:
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
