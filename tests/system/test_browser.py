"""The demo page in headless Chromium: loading, the event stream, and the progress of uploads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.running import Served
from tests.system.webdriver import Browser, browser


@pytest.fixture(scope='module')
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Served() as demo, browser(tmp_path_factory.mktemp('browser')) as opened:
        opened.open(f'{demo.url}/')
        yield opened


def test_page_loads(page: Browser) -> None:
    """The page shows its request, and the console has no message of policy or script."""
    assert page.evaluate('document.title') == 'geventnode: streams at work'
    page.wait_for("document.querySelectorAll('#fields tr').length > 1")
    assert page.evaluate("document.querySelector('#line').textContent") == 'GET /request HTTP/1.1'
    assert page.evaluate("document.querySelector('#fields').textContent.includes('HeadlessChrome')")
    assert page.console() == []


def test_event_stream_ticks(page: Browser) -> None:
    seen = []
    for _ in range(3):
        page.wait_for(f"Number(document.querySelector('#ticks').textContent) > {seen[-1] if seen else 0}")
        seen.append(page.evaluate("Number(document.querySelector('#ticks').textContent)"))
    assert seen == sorted(set(seen))
    assert page.evaluate("document.querySelector('#live-state').textContent") == 'Connected'
    assert page.evaluate("document.querySelector('#listeners').textContent") == '1'


def test_upload_reports_progress(page: Browser) -> None:
    """The bar moves during the upload, and the server counts every byte."""
    page.evaluate(
        "window.positions = [], new MutationObserver(() => window.positions.push("
        "document.querySelector('#bar').value)).observe(document.querySelector('#count'), "
        "{childList: true, characterData: true, subtree: true})"
    )
    page.click('#send')
    page.wait_for("document.querySelector('#result').textContent.startsWith('Complete')")
    size = 64 * 2**20
    assert f'{size:,} bytes' in page.evaluate("document.querySelector('#result').textContent")
    positions = page.evaluate('window.positions')
    assert positions == sorted(positions)
    assert positions[-1] == size
    assert [position for position in positions if 0 < position < size]


def test_file_is_uploaded(page: Browser, tmp_path: Path) -> None:
    file = tmp_path / 'file'
    file.write_bytes(b'x' * 12_345)
    page.type('#file', str(file))
    page.wait_for("document.querySelector('#result').textContent.includes('12,345 bytes')")
    assert page.console() == []
