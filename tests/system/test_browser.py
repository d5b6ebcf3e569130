"""The demo page in headless Chromium: its streams, the pool, uploads, layouts, keyboard, and names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.running import Served
from tests.system.webdriver import CONTRAST, Browser


@pytest.fixture(scope='module')
def page(chromium: Browser) -> Iterator[Browser]:
    with Served() as demo, chromium.lent() as opened:
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


def test_pool_shows_its_queue(page: Browser) -> None:
    """Requests wait in the queue, the page shows them, and in the end all have a response."""
    page.evaluate(
        "window.queues = [], new MutationObserver(() => window.queues.push([document.querySelector('#active')"
        ".textContent, Number(document.querySelector('#queued').textContent), document.querySelectorAll('#queue i')"
        ".length])).observe(document.querySelector('#queue'), {childList: true})"
    )
    page.evaluate("document.querySelector('#requests').value = 7, document.querySelector('#sockets').value = 2")
    page.click('#go')
    page.wait_for("document.querySelector('#batch-result').textContent.startsWith('7 responses in ')")
    page.wait_for("document.querySelector('#active').textContent === '0 of 2'")
    assert page.evaluate("document.querySelector('#idle').textContent") == '2'
    assert page.evaluate("document.querySelectorAll('#slots .idle').length") == 2
    queues = page.evaluate('window.queues')
    assert ['2 of 2', 5, 5] in queues
    assert queues[-1][1:] == [0, 0]
    assert page.evaluate("document.querySelector('#batch-result').textContent.endsWith('2 new connections')")


def test_server_shows_its_connections(page: Browser) -> None:
    page.wait_for("Number(document.querySelector('#total').textContent) > 0")
    counted = page.evaluate("[...document.querySelectorAll('#states dd')].map((each) => Number(each.textContent))")
    assert sum(counted) == page.evaluate("Number(document.querySelector('#total').textContent)")


def test_figures_of_a_lost_server_are_cleared(page: Browser) -> None:
    """They would be wrong, and look as if the server was busy."""
    own = page.evaluate('location.href')
    with Served() as lost:
        page.open(f'{lost.url}/')
        page.wait_for("document.querySelector('#active').textContent === '0 of 4'")
    page.wait_for("document.querySelector('#live-state').textContent.startsWith('Connection lost')")
    shown = "[...document.querySelectorAll('.figures dd, #total, #listeners')].map((each) => each.textContent)"
    assert set(page.evaluate(shown)) == {'–'}
    assert page.evaluate("document.querySelector('#clock').textContent") == '––:––:––'
    assert page.evaluate("document.querySelectorAll('#queue i, #slots .on, #slots .idle').length") == 0
    page.open(own)


def test_page_connects_again_after_a_refusal(page: Browser) -> None:
    """Browsers do not, after a response that is no event stream, such as a 502 of a proxy."""
    page.evaluate('window.setTimeout = (call) => call()')
    page.evaluate('events.close(), events.onerror()')
    page.wait_for("document.querySelector('#live-state').textContent === 'Connected'")
    page.open(page.evaluate('location.href'))


def test_request_is_repeated(page: Browser) -> None:
    page.click('#again')
    page.wait_for("document.querySelector('#asked').textContent.startsWith('Request 2, at ')")


def test_page_works_with_a_keyboard(page: Browser) -> None:
    """Tab reaches every control in the order of the page, and a started upload or batch does not lose the focus."""
    # the focus begins at the top of a fresh page
    page.open(page.evaluate('location.href'))
    page.evaluate("document.querySelector('#requests').value = 3, document.querySelector('#size').value = 8")
    reached = []
    for _ in range(7):
        page.press_tab()
        reached.append(page.evaluate('document.activeElement.id'))
        assert page.evaluate('getComputedStyle(document.activeElement).outlineStyle') == 'solid'
    assert reached == ['requests', 'sockets', 'go', 'file', 'size', 'send', 'again']
    page.type('#go', ' ')
    page.wait_for("document.querySelector('#batch-result').textContent.startsWith('3 responses')")
    assert page.evaluate('document.activeElement.id') == 'go'
    page.evaluate("window.focused = [], addEventListener('focusin', (event) => focused.push(event.target.id))")
    page.type('#send', ' ')
    page.wait_for("document.querySelector('#result').textContent.startsWith('Complete')")
    assert page.evaluate('window.focused') == ['send', 'cancel', 'send']


def test_sections_and_controls_have_names(page: Browser) -> None:
    """Sections are named by headings, controls by labels; figures that are only drawn are hidden."""
    unnamed = (
        "[...document.querySelectorAll('section')].filter((each) => "
        "!document.getElementById(each.getAttribute('aria-labelledby'))?.textContent).length"
    )
    assert page.evaluate(unnamed) == 0
    named = "[...document.querySelectorAll('input, progress')].every((each) => each.labels[0]?.textContent.trim())"
    assert page.evaluate(named)
    assert page.evaluate("[...document.querySelectorAll('button')].every((each) => each.textContent.trim())")
    drawn = "[...document.querySelectorAll('svg, #slots, #queue, #beats')].every((each) => each.ariaHidden === 'true')"
    assert page.evaluate(drawn)
    assert page.evaluate("document.querySelectorAll('tbody th:not([scope=row])').length") == 0


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [320, 360, 412, 768, 1200])
def test_page_is_readable(page: Browser, width: int, scheme: str) -> None:
    """The page fits a phone, has a dark scheme, and its texts have enough contrast."""
    with page.appearance(width, 800, scheme):
        assert page.evaluate('document.scrollingElement.scrollWidth') <= width
        labels = page.evaluate("[...document.querySelectorAll('label')].map((each) => each.offsetHeight)")
        assert max(labels) < 30, 'a label has several lines'
        # the size that fingers need (WCAG 2.2, 2.5.8 requires 24)
        heights = page.evaluate("[...document.querySelectorAll('button, input')].map((each) => each.offsetHeight)")
        assert min(heights) >= 44
        ground = page.evaluate('getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)')
        assert (sum(ground) < 200) == (scheme == 'dark')
        ratio, where = page.evaluate(CONTRAST)
        assert ratio >= 4.5, where


def test_console_is_empty(page: Browser) -> None:
    """No test before has caused a message of policy or script."""
    assert page.console() == []
