"""The monitor in headless Chromium: its figures, layouts, dark mode, keyboard, and hostile paths."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from tests.system.running import PATIENCE, Served, run
from tests.system.webdriver import CONTRAST, Browser

ATTACK = '/slow/<img/src=x/onerror=alert(1)>'


@contextlib.contextmanager
def begun(port: int, path: str) -> Iterator[None]:
    """Make a request that stays active while the block runs."""
    with socket.create_connection(('127.0.0.1', port), PATIENCE) as client:
        client.sendall(f'GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode())
        yield


def fetch(port: int, path: str) -> bytes:
    with contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client:
        client.request('GET', path)
        return client.getresponse().read()


@pytest.fixture(scope='module')
def page(chromium: Browser) -> Iterator[Browser]:
    """The monitor of a site with a stuck pool, and with a path that contains HTML."""
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(chromium.lent())
        served = stack.enter_context(Served('stuck:listener', '--monitor'))
        # its requests never end, and the server warns about its pool
        stack.callback(served.finish)
        stack.callback(served.process.kill)
        for _ in range(4):
            assert fetch(served.port, '/forgotten') == b'forgotten\n'
        stack.enter_context(begun(served.port, '/page'))
        stack.enter_context(begun(served.port, f'{ATTACK}?token=secret'))
        opened.open(f'{served.url}/monitor')
        opened.wait_for("document.querySelector('#rate').textContent !== '–'")
        yield opened


def test_figures_are_updated(page: Browser) -> None:
    """Figures keep arriving, and the console has no message of policy or script."""
    assert page.evaluate('document.title') == 'Monitor'
    assert page.evaluate("document.querySelector('#live').textContent") == 'Live'
    points = "document.querySelector('polyline').getAttribute('points').split(' ').length"
    seen = page.evaluate(points)
    page.wait_for(f'{points} > {seen}')
    assert page.console() == []


def test_figures_of_a_lost_server_have_their_time(page: Browser) -> None:
    """They stay, because they are the last state of a server that has ended, but do not look like the present one."""
    shown = page.evaluate("events.onerror(), document.querySelector('#live').textContent")
    assert re.fullmatch(r'No connection, trying again; these are the figures of \d\d:\d\d:\d\d', shown)
    page.wait_for("document.querySelector('#live').textContent === 'Live'")


def test_reason_of_a_stuck_pool_is_shown(page: Browser) -> None:
    page.wait_for("document.querySelector('#verdict').classList.contains('stuck')")
    reason = page.evaluate("document.querySelector('#reasons').textContent")
    assert '1 request queued' in reason
    assert '4 of 4 sockets active: 4 responses unread: read, resume() or destroy them.' in reason
    assert page.evaluate("document.querySelectorAll('#sent .unread').length") == 4
    assert page.evaluate("document.querySelector('#sent .path').firstChild.textContent") == 'GET /report/0?…'


def test_paths_are_shown_as_text(page: Browser) -> None:
    """HTML in a path is shown as text, and queries are not shown."""
    shown = page.evaluate("[...document.querySelectorAll('#received .path')].map((each) => each.firstChild.data)")
    assert sorted(shown) == ['GET /page', f'GET {ATTACK}?…']
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert 'secret' not in page.evaluate('document.body.innerHTML')


def test_page_works_with_a_keyboard(page: Browser) -> None:
    """Tab reaches the button and the tables, and the button shows its state."""
    page.evaluate('document.activeElement.blur()')
    reached = []
    for _ in range(4):
        page.press_tab()
        reached.append(
            [page.evaluate(f"document.activeElement.getAttribute('{name}')") for name in ('id', 'aria-labelledby')]
        )
        assert page.evaluate('getComputedStyle(document.activeElement).outlineStyle') == 'solid'
    assert reached == [['pause', None], *([None, f'{table}-title'] for table in ('pools', 'received', 'sent'))]
    for pressed, state in (('true', 'Paused'), ('false', 'Live')):
        page.type('#pause', ' ')
        page.wait_for(f"document.querySelector('#live').textContent === '{state}'")
        assert page.evaluate("document.querySelector('#pause').getAttribute('aria-pressed')") == pressed


def test_sections_and_tables_have_names(page: Browser) -> None:
    """Every section and region is named by a heading; columns and rows of tables have headers."""
    unnamed = (
        "[...document.querySelectorAll('section, [role=region]')].filter((each) => "
        "!document.getElementById(each.getAttribute('aria-labelledby'))?.textContent).length"
    )
    assert page.evaluate(unnamed) == 0
    bare = "document.querySelectorAll('thead th:not([scope=col]), tbody th:not([scope=row])').length"
    assert page.evaluate(bare) == 0
    assert page.evaluate("[...document.querySelectorAll('svg')].every((each) => each.ariaHidden === 'true')")


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [320, 360, 412, 768, 1200])
def test_page_is_readable(page: Browser, width: int, scheme: str) -> None:
    """The page fits a phone, has a dark scheme, and its texts have enough contrast."""
    wide = "[...document.querySelectorAll('.scroll')].filter((each) => each.scrollWidth > each.clientWidth).length"
    with page.appearance(width, 800, scheme):
        assert page.evaluate('document.scrollingElement.scrollWidth') <= width
        assert page.evaluate(wide) == 0
        # the next snapshot replaces the texts
        figure = page.evaluate("(setText('p99', '47.8 ms'), document.querySelector('#p99').offsetHeight)")
        assert figure < 50, 'a figure has several lines'
        lost = "(setStatus('No connection, trying again; these are the figures of 12:00:00', false), "
        assert page.evaluate(lost + "document.querySelector('header').offsetHeight)") < 120
        ground = page.evaluate('getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)')
        assert (sum(ground) < 200) == (scheme == 'dark')
        ratio, where = page.evaluate(CONTRAST)
        assert ratio >= 4.5, where


def test_state_is_available_as_json() -> None:
    """The monitor is at its path only, which the command prints."""
    with Served('handlers:listener', '--monitor', '/look') as served:
        assert served.next_line() == 'The monitor is at /look, for clients on this machine'
        found = json.loads(run('curl', '-sS', '--fail', f'{served.url}/look?state'))
        assert found['requests']['total'] == 1
        assert run('curl', '-sS', f'{served.url}/monitor') == 'GET /monitor HTTP/1.1'
        refused = run('curl', '-sS', '-w', '%{http_code}', '-H', 'Host: example.com', f'{served.url}/look')
        assert refused.endswith("'example.com'\n403")
