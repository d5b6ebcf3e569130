"""A browser repeats a request if its connection is closed without a response: a listener must not run twice."""

from __future__ import annotations

from pathlib import Path

from tests.system.running import Served, run
from tests.system.webdriver import browser


def test_post_reaches_a_hanging_listener_once(tmp_path: Path) -> None:
    """The POST is sent on a reused connection, where Chromium would repeat it."""
    with (
        Served('hanging.py:server', errors=r'.*POST /order: the listener has not responded.*\n') as served,
        browser(tmp_path) as page,
    ):
        page.open(f'{served.url}/')
        page.wait_for("document.title.includes('Service Unavailable') || document.title === 'failed'")
        title = page.evaluate('document.title')
        count = run('curl', '--silent', f'{served.url}/count')
    assert (title.strip(), count) == ('503 Service Unavailable', '1')
