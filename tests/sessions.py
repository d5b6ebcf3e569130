"""Sessions of ``requests`` that use agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
import requests
from gevent import monkey

from geventnode import http
from geventnode.integrations.requests import AgentAdapter

__all__ = ['Mounted', 'agent_of', 'apart', 'session', 'session_with']

Mounted = Callable[..., requests.Session]


@pytest.fixture
def session() -> Iterator[Mounted]:
    """Create sessions that are closed at the end of the test: ``session(**options)``."""
    made = []

    def make(*args: Any, **options: Any) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        adapter = AgentAdapter(*args, **options)
        session.mount('http://', adapter)
        session.mount('https://', adapter)
        made.append(session)
        return session

    yield make
    for each in made:
        each.close()


def agent_of(session: requests.Session, secure: bool = False) -> http.Agent:
    """Return the agent that ``session`` uses in this thread."""
    found: http.Agent = session.get_adapter('http://x').poolmanager.agents.get(secure)
    return found


def apart(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return the result of ``function``, which uses plain sessions.

    It runs in a thread unless the standard library is patched, since its servers run in this one.
    """
    if monkey.is_module_patched('socket'):
        return function(*args, **options)
    return gevent.get_hub().threadpool.apply(function, args, options)


def session_with(**terms: Any) -> requests.Session:
    """Return a session with an adapter that is subclassed as documented by ``requests``."""

    class Own(AgentAdapter):
        """An adapter with its own arguments for TLS."""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options, **terms)

    client = requests.Session()
    client.trust_env = False
    client.mount('https://', Own())
    return client
