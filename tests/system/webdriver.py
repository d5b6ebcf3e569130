"""A browser, driven through chromedriver's own protocol (W3C WebDriver): JSON over HTTP, which needs no library.

Waiting is left to the browser: a script that is told to wait for a condition looks at it whenever the page has changed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import PATIENCE, tool

__all__ = ['Browser', 'BrowserError', 'browser']

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
]

#: Calls back when the condition, a JavaScript expression, is true; looks when the document has changed.
WAIT = """
const done = arguments[0];
const condition = () => (%s);
const look = () => { if (condition()) { observer.disconnect(); done(true); return true; } };
const observer = new MutationObserver(look);
if (!look()) {
  observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
}
"""


class BrowserError(Exception):
    """The browser could not do what it was told."""


class Browser:
    """A session of chromedriver.

    :param port: where chromedriver listens.
    """

    def __init__(self, port: int, profile: Path, size: tuple[int, int]) -> None:
        self._connection = HTTPConnection('127.0.0.1', port, timeout=PATIENCE)
        options = {
            'binary': tool('chromium'),
            'browserStartupTimeout': PATIENCE * 900,
            'args': [*ARGUMENTS, f'--user-data-dir={profile}', f'--window-size={size[0]},{size[1]}'],
        }
        capabilities = {
            'browserName': 'chrome',
            'goog:chromeOptions': options,
            'goog:loggingPrefs': {'browser': 'ALL'},
            'timeouts': {'script': PATIENCE * 1000 - 5000},
        }
        self._path = ''
        session = self._ask('POST', '/session', {'capabilities': {'alwaysMatch': capabilities}})
        self._path = f'/session/{session["sessionId"]}'

    def _ask(self, method: str, path: str, value: Any = None) -> Any:
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
        self._ask('POST', '/url', {'url': url})

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self._ask('POST', '/execute/sync', {'script': f'return {expression}', 'args': []})

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        self._ask('POST', '/execute/async', {'script': WAIT % condition, 'args': []})

    def find(self, selector: str) -> str:
        """Return a handle for the element that a CSS selector finds first."""
        found: dict[str, str] = self._ask('POST', '/element', {'using': 'css selector', 'value': selector})
        return next(iter(found.values()))

    def click(self, selector: str) -> None:
        """Click on an element, as a user does: it must be in sight."""
        self._ask('POST', f'/element/{self.find(selector)}/click', {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element; a file's path into one that asks for a file."""
        self._ask('POST', f'/element/{self.find(selector)}/value', {'text': text})

    def command(self, name: str, **parameters: Any) -> Any:
        """Run a command of the DevTools protocol."""
        return self._ask('POST', '/goog/cdp/execute', {'cmd': name, 'params': parameters})

    def complaints(self) -> list[str]:
        """Return what the browser wrote to its console since the last call."""
        return [entry['message'] for entry in self._ask('POST', '/se/log', {'type': 'browser'})]

    def screenshot(self, path: Path) -> None:
        """Save a picture of the whole page."""
        taken = self.command('Page.captureScreenshot', format='png', captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken['data']))

    def close(self) -> None:
        """End the browser."""
        with contextlib.closing(self._connection):
            if self._path:
                self._ask('DELETE', '')


@contextlib.contextmanager
def browser(directory: Path, size: tuple[int, int] = (1200, 900)) -> Iterator[Browser]:
    """A fresh browser with a profile of its own below ``directory``, gone afterwards."""
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
        yield stack.enter_context(contextlib.closing(Browser(port, directory / 'profile', size)))


def port_of(driver: subprocess.Popen[str]) -> int | None:
    """Wait until ``driver`` listens; return where. None: it has chosen a port for IPv6 that somebody has for IPv4."""
    said = []
    for line in driver.stdout:
        said.append(line)
        found = re.search(r'started successfully on port (\d+)', line)
        if found is not None:
            return int(found[1])
    if 'IPv4 port not available' not in ''.join(said):
        pytest.fail(''.join(said))
    return None
