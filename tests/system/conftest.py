"""Start the servers of the system tests as forks, and one browser, which takes a fraction of the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.running import fork_servers
from tests.system.webdriver import Browser, browser


@pytest.fixture(scope='session', autouse=True)
def forking(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let tests start servers as forks of interpreters that have loaded their modules."""
    directory = tmp_path_factory.getbasetemp()
    # those of the processes of xdist are below that of the run
    with fork_servers(directory.parent if hasattr(pytestconfig, 'workerinput') else directory):
        yield


@pytest.fixture(scope='session')
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Yield the browser of all tests, which borrow it with ``lent()``; it accepts their certificates."""
    with browser(tmp_path_factory.mktemp('chromium'), arguments=['--ignore-certificate-errors']) as opened:
        yield opened
