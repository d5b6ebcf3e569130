"""A browser, driven through chromedriver's own protocol (W3C WebDriver): JSON over HTTP, which needs no library.

The browser itself waits for conditions: a script checks them whenever the page has changed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import PATIENCE, tool

__all__ = ['CONTRAST', 'Browser', 'BrowserError', 'browser']

ARGUMENTS = [
    '--headless=new',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-dev-shm-usage',
    # the pages of earlier tests would keep their streams
    '--disable-back-forward-cache',
]

#: Call back when the condition, a JavaScript expression, is true; it is checked after each change of the document or of
#: its size.
WAIT = """
const done = arguments[0];
const condition = () => (%s);
const look = () => {
  if (!condition()) return false;
  observer.disconnect();
  removeEventListener('resize', look);
  done(true);
  return true;
};
const observer = new MutationObserver(look);
if (!look()) {
  addEventListener('resize', look);
  observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
}
"""

#: The lowest contrast between a text and its background (WCAG 2.2, 1.4.3 requires 4.5), and its element.
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


class BrowserError(Exception):
    """A command of the browser has failed."""


class Browser:
    """A session of chromedriver.

    :param port: where chromedriver listens.
    """

    def __init__(self, port: int, profile: Path, size: tuple[int, int], arguments: Sequence[str] = ()) -> None:
        self._connection = HTTPConnection('127.0.0.1', port, timeout=PATIENCE)
        options = {
            'binary': tool('chromium'),
            'browserStartupTimeout': PATIENCE * 900,
            'args': [*ARGUMENTS, *arguments, f'--user-data-dir={profile}', f'--window-size={size[0]},{size[1]}'],
        }
        capabilities = {
            'browserName': 'chrome',
            'goog:chromeOptions': options,
            'goog:loggingPrefs': {'browser': 'ALL'},
            'timeouts': {'script': PATIENCE * 1000 - 5000},
        }
        self._path = ''
        session = self._send('POST', '/session', {'capabilities': {'alwaysMatch': capabilities}})
        self._path = f'/session/{session["sessionId"]}'

    def _send(self, method: str, path: str, value: Any = None) -> Any:
        self._connection.request(
            method,
            self._path + path,
            None if value is None else json.dumps(value),
            {'Content-Type': 'application/json'},
        )
        answer = json.loads(self._connection.getresponse().read())['value']
        if isinstance(answer, dict) and 'error' in answer:
            raise BrowserError(f'{answer["error"]}: {answer["message"]}')
        return answer

    def open(self, url: str) -> None:
        """Load a page."""
        self._send('POST', '/url', {'url': url})

    @property
    def tab(self) -> str:
        """The handle of the tab that receives the commands."""
        handle: str = self._send('GET', '/window')
        return handle

    @contextlib.contextmanager
    def lent(self) -> Iterator[Browser]:
        """Yield the browser as if it was fresh: without cache, cookies and messages; leave its pages afterwards.

        Connections, and the storage of a page, belong to an origin, and so to a server: each has another port.
        """
        self.command('Network.clearBrowserCache')
        self.command('Network.clearBrowserCookies')
        self.console()
        first = self.tab
        try:
            yield self
        finally:
            for tab in self.tabs:
                if tab != first:
                    self.switch(tab)
                    self.close_tab()
            self.switch(first)
            self.open('about:blank')

    @property
    def tabs(self) -> list[str]:
        """The handles of all tabs; pages open further ones."""
        handles: list[str] = self._send('GET', '/window/handles')
        return handles

    def switch(self, tab: str) -> None:
        """Send the next commands to a tab."""
        self._send('POST', '/window', {'handle': tab})

    def close_tab(self) -> None:
        """Close the tab; the next command is :meth:`switch`."""
        self._send('DELETE', '/window')

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self._send('POST', '/execute/sync', {'script': f'return {expression}', 'args': []})

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        self._send('POST', '/execute/async', {'script': WAIT % condition, 'args': []})

    def find(self, selector: str) -> str:
        """Return a handle for the first element of a CSS selector."""
        found: dict[str, str] = self._send('POST', '/element', {'using': 'css selector', 'value': selector})
        return next(iter(found.values()))

    def click(self, selector: str) -> None:
        """Click on an element, which must be visible."""
        self._send('POST', f'/element/{self.find(selector)}/click', {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element; a path, if it is a file input."""
        self._send('POST', f'/element/{self.find(selector)}/value', {'text': text})

    def command(self, name: str, **parameters: Any) -> Any:
        """Run a command of the DevTools protocol."""
        return self._send('POST', '/goog/cdp/execute', {'cmd': name, 'params': parameters})

    def console(self) -> list[str]:
        """Return the messages of the console since the last call."""
        return [entry['message'] for entry in self._send('POST', '/se/log', {'type': 'browser'})]

    def set_appearance(self, width: int, height: int, scheme: str = 'light', scale: float = 1) -> None:
        """Set the size of the viewport, that of a phone below 500, and the colour scheme."""
        self.command('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}])
        self.command(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        self.wait_for(f'innerWidth === {width}')

    @contextlib.contextmanager
    def appearance(self, width: int, height: int, scheme: str) -> Iterator[None]:
        """Set the appearance, and reset it at the end of the block."""
        self.set_appearance(width, height, scheme)
        try:
            yield
        finally:
            self.command('Emulation.setEmulatedMedia', features=[])
            self.command('Emulation.clearDeviceMetricsOverride')

    def press_tab(self) -> None:
        """Move the focus as the key does."""
        for kind in ('rawKeyDown', 'keyUp'):
            self.command('Input.dispatchKeyEvent', type=kind, key='Tab', code='Tab', windowsVirtualKeyCode=9)

    def screenshot(self, path: Path, height: int | None = None) -> None:
        """Save a picture of the page, in the format of the file's name.

        :param height: of the picture in pixels of the page; None for the whole page.
        """
        content = self.command('Page.getLayoutMetrics')['cssContentSize']
        clip = {'x': 0, 'y': 0, 'width': content['width'], 'height': height or content['height'], 'scale': 1}
        options = {'quality': 70} if path.suffix == '.webp' else {}
        taken = self.command(
            'Page.captureScreenshot', format=path.suffix[1:], captureBeyondViewport=True, clip=clip, **options
        )
        path.write_bytes(base64.b64decode(taken['data']))

    def close(self) -> None:
        """End the browser."""
        with contextlib.closing(self._connection):
            if self._path:
                self._send('DELETE', '')


@contextlib.contextmanager
def browser(directory: Path, size: tuple[int, int] = (1200, 900), arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Yield a fresh browser with a profile below ``directory``, and with further ``arguments``."""
    with contextlib.ExitStack() as stack:
        port = None
        while port is None:
            driver = stack.enter_context(
                subprocess.Popen(
                    [tool('chromedriver'), '--port=0'], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
            )
            stack.callback(driver.communicate, timeout=PATIENCE)
            stack.callback(driver.terminate)
            port = port_of(driver)
        yield stack.enter_context(contextlib.closing(Browser(port, directory / 'profile', size, arguments)))


def port_of(driver: subprocess.Popen[str]) -> int | None:
    """Return the port of ``driver`` once it listens; None if its IPv6 port is in use for IPv4."""
    lines = []
    for line in driver.stdout:
        lines.append(line)
        found = re.search(r'started successfully on port (\d+)', line)
        if found is not None:
            return int(found[1])
    if 'IPv4 port not available' not in ''.join(lines):
        pytest.fail(''.join(lines))
    return None
