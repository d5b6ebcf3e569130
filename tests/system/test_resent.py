"""A browser sends a request again when its connection is closed without an answer: a listener must not run twice."""

from __future__ import annotations

from pathlib import Path

from tests.system.running import Served, run
from tests.system.webdriver import browser


def test_a_post_reaches_a_listener_that_hangs_once(tmp_path: Path) -> None:
    """It was posted on a connection that had been used, which is where Chromium tries again."""
    with (
        Served('hanging.py:server', errors=r'.*POST /order: the listener has not responded.*\n') as served,
        browser(tmp_path) as page,
    ):
        page.open(f'{served.url}/')
        page.wait_for("document.title.includes('Service Unavailable') || document.title === 'failed'")
        title = page.evaluate('document.title')
        count = run('curl', '--silent', f'{served.url}/count')
    assert (title.strip(), count) == ('503 Service Unavailable', '1')
