"""A browser repeats a request if its connection is closed without a response: a listener must not run twice."""

from __future__ import annotations

from tests.system.running import Served, run
from tests.system.webdriver import Browser


def test_post_reaches_a_hanging_listener_once(chromium: Browser) -> None:
    """The POST is sent on a reused connection, where Chromium would repeat it."""
    with (
        Served('hanging.py:server', errors=r'.*POST /order: the listener has not responded.*\n') as served,
        chromium.lent() as page,
    ):
        page.open(f'{served.url}/')
        page.wait_for("document.title.includes('Service Unavailable') || document.title === 'failed'")
        title = page.evaluate('document.title')
        count = run('curl', '--silent', f'{served.url}/count')
    assert (title.strip(), count) == ('503 Service Unavailable', '1')
