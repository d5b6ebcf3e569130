"""The monitor in headless Chromium: what it draws, on a phone, in the dark, with a keyboard, without being fooled."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from tests.system.running import PATIENCE, Served, run
from tests.system.webdriver import Browser, browser

ATTACK = '/slow/<img/src=x/onerror=alert(1)>'

#: The lowest contrast between a text and what is behind it (WCAG 2.2, 1.4.3 asks for 4.5), and whose it is.
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parse = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => {
    const [r, g, b] = color.map((each) => each / 255).map(
      (each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  let worst = [99, ''];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (own && element.tagName !== 'SCRIPT' && element.checkVisibility()) {
      const [a, b] = [parse(getComputedStyle(element).color), ground(element)].map(luminance);
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 80)];
    }
  }
  return worst;
})()
"""


@contextlib.contextmanager
def begun(port: int, path: str) -> Iterator[None]:
    """A request that is not answered in the meantime."""
    with socket.create_connection(('127.0.0.1', port), PATIENCE) as client:
        client.sendall(f'GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode())
        yield


def fetch(port: int, path: str) -> bytes:
    with contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client:
        client.request('GET', path)
        return client.getresponse().read()


@pytest.fixture(scope='module')
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The monitor of a site whose pool is stuck, and which somebody tries to deceive."""
    with contextlib.ExitStack() as stack:
        # first, because without one there is nothing to start
        opened = stack.enter_context(browser(tmp_path_factory.mktemp('browser')))
        served = stack.enter_context(Served('stuck:listener', '--monitor'))
        # its requests would not end by themselves, and it warns of its pool
        stack.callback(served.finish)
        stack.callback(served.process.kill)
        for _ in range(4):
            assert fetch(served.port, '/forgotten') == b'forgotten\n'
        stack.enter_context(begun(served.port, '/page'))
        stack.enter_context(begun(served.port, f'{ATTACK}?token=secret'))
        opened.open(f'{served.url}/monitor')
        opened.wait_for("document.querySelector('#rate').textContent !== '–'")
        yield opened


def test_it_is_alive(page: Browser) -> None:
    """Figures come again and again, and neither the policy nor the script gave rise to a complaint."""
    assert page.evaluate('document.title') == 'Monitor'
    assert page.evaluate("document.querySelector('#live').textContent") == 'Live'
    points = "document.querySelector('polyline').getAttribute('points').split(' ').length"
    seen = page.evaluate(points)
    page.wait_for(f'{points} > {seen}')
    assert page.complaints() == []


def test_why_a_pool_is_stuck(page: Browser) -> None:
    page.wait_for("document.querySelector('#verdict').classList.contains('stuck')")
    reason = page.evaluate("document.querySelector('#reasons').textContent")
    assert '1 request queued' in reason
    assert '4 of 4 sockets active: 4 responses unread: read, resume() or destroy them.' in reason
    assert page.evaluate("document.querySelectorAll('#sent .unread').length") == 4
    assert page.evaluate("document.querySelector('#sent .path').firstChild.textContent") == 'GET /report/0?…'


def test_paths_are_text(page: Browser) -> None:
    """Whatever stands in them, and their queries are not shown."""
    shown = page.evaluate("[...document.querySelectorAll('#received .path')].map((each) => each.firstChild.data)")
    assert sorted(shown) == ['GET /page', f'GET {ATTACK}?…']
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert 'secret' not in page.evaluate('document.body.innerHTML')


def test_a_keyboard_is_enough(page: Browser) -> None:
    """The button and the tables can be reached, and the button works and says what it has done."""
    page.evaluate('document.activeElement.blur()')
    reached = []
    for _ in range(4):
        for kind in ('rawKeyDown', 'keyUp'):
            page.command('Input.dispatchKeyEvent', type=kind, key='Tab', code='Tab', windowsVirtualKeyCode=9)
        reached.append(
            [page.evaluate(f"document.activeElement.getAttribute('{name}')") for name in ('id', 'aria-labelledby')]
        )
        assert page.evaluate('getComputedStyle(document.activeElement).outlineStyle') == 'solid'
    assert reached == [['pause', None], *([None, f'{table}-title'] for table in ('pools', 'received', 'sent'))]
    for pressed, told in (('true', 'Paused'), ('false', 'Live')):
        page.type('#pause', ' ')
        page.wait_for(f"document.querySelector('#live').textContent === '{told}'")
        assert page.evaluate("document.querySelector('#pause').getAttribute('aria-pressed')") == pressed


def test_names_for_what_is_there(page: Browser) -> None:
    """Every section and every region has a heading as its name; columns and rows of tables have headers."""
    unnamed = (
        "[...document.querySelectorAll('section, [role=region]')].filter((each) => "
        "!document.getElementById(each.getAttribute('aria-labelledby'))?.textContent).length"
    )
    assert page.evaluate(unnamed) == 0
    bare = "document.querySelectorAll('thead th:not([scope=col]), tbody th:not([scope=row])').length"
    assert page.evaluate(bare) == 0
    assert page.evaluate("[...document.querySelectorAll('svg')].every((each) => each.ariaHidden === 'true')")


@pytest.fixture
def shown_as_before(page: Browser) -> Iterator[None]:
    """For tests that change how the page is shown."""
    yield
    page.command('Emulation.setEmulatedMedia', features=[])
    page.command('Emulation.clearDeviceMetricsOverride')


@pytest.mark.usefixtures('shown_as_before')
@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [360, 1200])
def test_it_is_readable(page: Browser, width: int, scheme: str) -> None:
    """On a phone without scrolling sideways; in the dark it is dark; texts stand out."""
    page.command('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}])
    page.command('Emulation.setDeviceMetricsOverride', width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    page.wait_for(f'innerWidth === {width}')
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    wide = "[...document.querySelectorAll('.scroll')].filter((each) => each.scrollWidth > each.clientWidth).length"
    assert page.evaluate(wide) == 0
    ground = page.evaluate('getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)')
    assert (sum(ground) < 200) == (scheme == 'dark')
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where


def test_curl_sees_the_state() -> None:
    """And gets a page where there is a monitor only; what serves it says where that is."""
    with Served('handlers:listener', '--monitor', '/look') as served:
        assert served.next_line() == 'The monitor is at /look, for clients on this machine'
        found = json.loads(run('curl', '-sS', '--fail', f'{served.url}/look?state'))
        assert found['requests']['total'] == 1
        assert run('curl', '-sS', f'{served.url}/monitor') == 'GET /monitor HTTP/1.1'
        refused = run('curl', '-sS', '-w', '%{http_code}', '-H', 'Host: example.com', f'{served.url}/look')
        assert refused.endswith("'example.com'\n403")
