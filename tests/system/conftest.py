"""Start the servers of the system tests as forks, which takes a fraction of the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.running import fork_servers


@pytest.fixture(scope='session', autouse=True)
def forking() -> Iterator[None]:
    """Let tests start servers as forks of interpreters that have loaded their modules."""
    with fork_servers():
        yield
