"""Make the pictures in ``docs/images``: the demo page and the monitor, in headless Chromium.

    .venv/bin/python contrib/screenshots.py [DIRECTORY]

It needs ``chromium``, ``chromedriver`` and the requirements of the tests.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.system.running import Served  # noqa: E402 - needs the path of the line above
from tests.system.test_monitor_page import begun, fetch  # noqa: E402
from tests.system.webdriver import Browser, browser  # noqa: E402

__all__: list[str] = []

WIDE, NARROW = (1100, 800), (390, 844)

#: Seconds of traffic before a picture is taken.
TRAFFIC = 20


def set_appearance(page: Browser, size: tuple[int, int], scheme: str) -> None:
    """Set the size and the colour scheme of the page."""
    page.command(
        'Emulation.setDeviceMetricsOverride', width=size[0], height=size[1], deviceScaleFactor=1, mobile=size is NARROW
    )
    page.command('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': scheme}])


@contextlib.contextmanager
def traffic(url: str) -> Iterator[None]:
    """Make requests on several connections while the block runs."""
    command = [sys.executable, '-c', TRAFFIC_CODE, url]
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.kill)
        yield


TRAFFIC_CODE = """
import sys
from http.client import HTTPConnection
from random import random
from time import sleep
from urllib.parse import urlsplit

connection = HTTPConnection(urlsplit(sys.argv[1]).netloc)
while True:
    connection.request('GET', '/part' if random() < 0.1 else '/quick')
    connection.getresponse().read()
    sleep(random() * 0.02)
"""


def demo(directory: Path, page: Browser) -> None:
    """Take the picture of the demo page with a complete upload."""
    with Served() as served:
        set_appearance(page, WIDE, 'light')
        page.open(f'{served.url}/')
        page.wait_for("Number(document.querySelector('#ticks').textContent) > 8")
        page.click('#send')
        page.wait_for("document.querySelector('#result').textContent.startsWith('Complete')")
        page.screenshot(directory / 'demo.png')
        page.open('about:blank')


def monitor(directory: Path, page: Browser) -> None:
    """Take the pictures of the monitor, of a working site and of one with a stuck pool."""
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(Served('stuck:listener', '--monitor'))
        set_appearance(page, WIDE, 'light')
        with traffic(served.url):
            stack.enter_context(begun(served.port, '/slow/report?year=2026'))
            page.open(f'{served.url}/monitor')
            page.wait_for(f"document.querySelector('polyline').getAttribute('points')?.split(' ').length > {TRAFFIC}")
            page.screenshot(directory / 'monitor.png')
            for _ in range(4):
                fetch(served.port, '/forgotten')
            for _ in range(3):
                stack.enter_context(begun(served.port, '/page'))
            page.wait_for("document.querySelector('#verdict').classList.contains('stuck')")
            set_appearance(page, NARROW, 'dark')
            page.wait_for('innerWidth === 390')
            page.screenshot(directory / 'monitor-stuck.png')
        page.open('about:blank')
        # its requests never end
        served.process.kill()
        served.finish()


def main(arguments: list[str]) -> None:
    """Make all pictures."""
    directory = Path(arguments[0]) if arguments else ROOT / 'docs' / 'images'
    directory.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile), WIDE) as page:
        makers: tuple[Any, ...] = (demo, monitor)
        for make in makers:
            make(directory, page)
    for picture in sorted(directory.glob('*.png')):
        print(f'{picture}: {picture.stat().st_size} bytes')


if __name__ == '__main__':
    main(sys.argv[1:])
