"""NTLM with ``requests-ntlm`` on reserved connections, and an acceptor that verifies each message.

NTLM binds authentication to a connection: no other request can come between its three requests.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
import spnego
from requests_ntlm import HttpNtlmAuth

from geventnode import http
from geventnode.integrations.requests import AgentAdapter
from tests.servers import Serve

MAX_SOCKETS = 5
USERS = 40


class Acceptor:
    """A site that authenticates one user per connection with NTLM."""

    def __init__(self) -> None:
        self._contexts: dict[Any, Any] = {}

    def listener(self, request: http.IncomingMessage, response: http.ServerResponse) -> None:
        """Respond with the name of the user."""
        request.read()
        said = request.headers.get('authorization', '')
        socket = request.socket
        if said.startswith('NTLM '):
            context = self._contexts.get(socket)
            if context is None or context.complete:
                context = self._contexts[socket] = spnego.server(hostname='localhost', service='http', protocol='ntlm')
            try:
                token = context.step(base64.b64decode(said[5:]))
            except spnego.exceptions.SpnegoError:
                token = None
            if token is not None and not context.complete:
                self._refuse(response, f'NTLM {base64.b64encode(token).decode()}')
                return
        context = self._contexts.get(socket)
        if context is not None and context.complete:
            response.end(context.client_principal)
        else:
            self._refuse(response, 'NTLM')

    def _refuse(self, response: http.ServerResponse, challenge: str) -> None:
        response.write_head(401, {'WWW-Authenticate': challenge})
        response.end()


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the acceptor's users."""
    names = [f'user{number}' for number in range(USERS)]
    file = tmp_path / 'users'
    file.write_text(''.join(f'DOMAIN:{name}:secret of {name}\n' for name in names))
    monkeypatch.setenv('NTLM_USER_FILE', str(file))
    return names


def test_many_users(serve: Serve, agent: Callable[..., http.Agent], users: list[str]) -> None:
    pool = agent(max_sockets=MAX_SOCKETS)
    url = f'http://127.0.0.1:{serve(Acceptor().listener).where[1]}/'

    def ask(user: str) -> list[str]:
        with pool.reserve(url) as reserved, requests.Session() as session:
            session.mount('http://', AgentAdapter(reserved))
            session.auth = HttpNtlmAuth(f'DOMAIN\\{user}', f'secret of {user}')
            return [session.get(url).text, session.post(url, data=b'x' * 1000).text]

    asking = [gevent.spawn(ask, user) for user in users]
    gevent.joinall(asking, raise_error=True)
    assert [each.value for each in asking] == [[f'DOMAIN\\{user}'] * 2 for user in users]
    assert pool.statistics()['waited'] == USERS - MAX_SOCKETS
    assert pool.total_socket_count == 0
