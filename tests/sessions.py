"""Sessions of ``requests`` that have their connections from agents."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from geventnode import http
from geventnode.integrations.requests import AgentAdapter

__all__ = ['Mounted', 'agent_of', 'on_terms', 'session']

Mounted = Callable[..., requests.Session]


@pytest.fixture
def session() -> Iterator[Mounted]:
    """Make sessions that are closed at the end of the test: ``session(**options)``."""
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


def on_terms(**terms: Any) -> requests.Session:
    """Return a session on an adapter that is subclassed as ``requests`` says."""
    class Own(AgentAdapter):
        """With terms of its own."""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options, **terms)
    client = requests.Session()
    client.trust_env = False
    client.mount('https://', Own())
    return client
