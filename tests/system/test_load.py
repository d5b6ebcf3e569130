"""``geventnode serve`` under load: no request fails, and transfers take constant memory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from tests.system.running import PATIENCE, Served, peak_memory, run
from tests.system.zeros import zeros

TRANSFER = 300_000_000
ALLOWED_GROWTH = 64 * 2**20


@pytest.fixture(scope='module')
def served() -> Iterator[Served]:
    with Served('handlers:listener') as served:
        yield served


@pytest.mark.parametrize('options', [['-k'], []], ids=['keep-alive', 'one each'])
def test_ab_counts_no_failures(served: Served, options: list[str]) -> None:
    report = run('ab', '-q', '-n', 2000, '-c', 16, *options, f'{served.url}/ab')
    figures = dict(re.findall(r'^([A-Z][\w -]+):\s+(\d+)', report, re.MULTILINE))
    assert (figures['Complete requests'], figures['Failed requests']) == ('2000', '0'), report
    assert figures.get('Keep-Alive requests', '0') == ('2000' if options else '0'), report
    assert 'Non-2xx' not in report


def test_wrk_counts_no_errors(served: Served) -> None:
    report = run('wrk', '-t', 1, '-c', 32, '-d', '1s', f'{served.url}/wrk')
    assert int(re.search(r'(\d+) requests in', report)[1]) > 0
    assert 'Socket errors' not in report
    assert 'Non-2xx' not in report


def test_memory_stays_constant() -> None:
    """300 MB in each direction do not raise the peak memory of the process."""
    with zeros(TRANSFER) as large, Served('handlers:listener') as served:
        with contextlib.closing(HTTPConnection('127.0.0.1', served.port, timeout=PATIENCE, blocksize=2**20)) as client:
            client.request('GET', '/')
            client.getresponse().read()
            before = peak_memory(served.process.pid)
            with large.open('rb') as file:
                client.request('POST', '/count', file, {'Content-Length': str(TRANSFER)})
            assert client.getresponse().read() == b'%d' % TRANSFER
            client.request('GET', f'/download?{TRANSFER}')
            response = client.getresponse()
            buffer = bytearray(1 << 18)
            received = 0
            while size := response.readinto(buffer):
                received += size
            assert received == TRANSFER
        assert peak_memory(served.process.pid) - before < ALLOWED_GROWTH
