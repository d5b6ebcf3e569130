"""Make the pictures in ``docs/images``: the demo page and the monitor, in headless Chromium.

    .venv/bin/python contrib/screenshots.py
    .venv/bin/python contrib/screenshots.py --review DIRECTORY

The second command saves both pages as PNG files in every size and colour scheme, to look at. The programs ``chromium``
and ``chromedriver`` are needed, and the requirements of the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.system.running import Served  # noqa: E402 - needs the path of the line above
from tests.system.test_monitor_page import begun, fetch  # noqa: E402
from tests.system.webdriver import Browser, browser  # noqa: E402

__all__: list[str] = []

IMAGES = ROOT / 'docs' / 'images'
SCHEMES = 'light', 'dark'
#: The sizes of windows; the second one is that of a phone.
WIDE, NARROW = (960, 800), (390, 844)
#: The pictures of a phone.
ON_PHONES = ('monitor-stuck',)
#: The most bytes of a picture.
LARGEST = 70_000

#: Seconds of traffic before a picture is taken.
TRAFFIC = 20

#: Saves pictures of the page: their name, and their height in pixels, None for the whole page.
Save = Callable[[str, int | None], None]


def saved_for_docs(page: Browser) -> Save:
    """Return a function that saves a picture for each colour scheme."""

    def save(name: str, height: int | None) -> None:
        size = NARROW if name in ON_PHONES else WIDE
        for scheme in SCHEMES:
            path = IMAGES / f'{name}-{scheme}.webp'
            page.set_appearance(*size, scheme, scale=1.5)
            page.screenshot(path, height)
            print(f'{path}: {path.stat().st_size:,} bytes')
            if path.stat().st_size > LARGEST:
                sys.exit(f'{path} has more than {LARGEST:,} bytes; lower the quality')

    return save


def saved_for_review(page: Browser, directory: Path) -> Save:
    """Return a function that saves a picture for each size and colour scheme."""

    def save(name: str, height: int | None) -> None:
        for size in (WIDE, NARROW):
            for scheme in SCHEMES:
                page.set_appearance(*size, scheme)
                page.screenshot(directory / f'{name}-{size[0]}-{scheme}.png')

    return save


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


def demo(page: Browser, save: Save) -> None:
    """Take pictures of the demo page with requests in the queue of its pool."""
    with Served() as served:
        page.set_appearance(*WIDE)
        page.open(f'{served.url}/')
        page.click('#send')
        page.wait_for("Number(document.querySelector('#ticks').textContent) > 11")
        page.wait_for("document.querySelector('#result').textContent.startsWith('Complete')")
        page.evaluate("(document.querySelector('#requests').value = 100, document.querySelector('#go').click())")
        page.wait_for("Number(document.querySelector('#queued').textContent) > 0")
        bottom = page.evaluate("document.querySelector('#pool').getBoundingClientRect().bottom + scrollY")
        save('demo', round(bottom) + 20)
        page.open('about:blank')


def monitor(page: Browser, save: Save) -> None:
    """Take pictures of the monitor, of a working site and of one with a stuck pool."""
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(Served('stuck:listener', '--monitor'))
        page.set_appearance(*WIDE)
        with traffic(served.url):
            stack.enter_context(begun(served.port, '/slow/report?year=2026'))
            page.open(f'{served.url}/monitor')
            page.wait_for(f"document.querySelector('polyline').getAttribute('points')?.split(' ').length > {TRAFFIC}")
            save('monitor', None)
            for _ in range(4):
                fetch(served.port, '/forgotten')
            for _ in range(3):
                stack.enter_context(begun(served.port, '/page'))
            page.wait_for("document.querySelector('#verdict').classList.contains('stuck')")
            save('monitor-stuck', 810)
        page.open('about:blank')
        # its requests never end
        served.process.kill()
        served.finish()


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description='Make the pictures of the documentation.')
    parser.add_argument('--review', metavar='DIRECTORY', type=Path, help='save pictures of every size there instead')
    review = parser.parse_args().review
    if review is not None:
        review.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile), WIDE) as page:
        page.command('Emulation.setScrollbarsHidden', hidden=True)
        save = saved_for_docs(page) if review is None else saved_for_review(page, review)
        demo(page, save)
        monitor(page, save)


if __name__ == '__main__':
    main()
