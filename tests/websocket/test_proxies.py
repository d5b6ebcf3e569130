"""WebSockets through the proxy of an agent."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode import http, https, websocket
from geventnode.errors import ProxyError
from tests.certificates import Certificates
from tests.http_proxies import Proxy
from tests.origins import MakeOrigin, once
from tests.servers import Serve


def echo(socket: Any) -> None:
    for message in socket:
        socket.send(message)


@pytest.mark.parametrize('scheme', ['ws', 'wss'])
def test_websocket_uses_a_tunnel(serve: Serve, origin: MakeOrigin, certificates: Certificates, scheme: str) -> None:
    make: Any = http.create_server if scheme == 'ws' else https.create_server
    site = serve(make(**({} if scheme == 'ws' else {'certfile': certificates.server})))
    site.server.on('upgrade', websocket.listener(echo))
    script = Proxy()
    url = origin(script).url
    with http.Agent(proxy=url) if scheme == 'ws' else https.Agent(proxy=url, ca=certificates.ca) as agent:
        connected = websocket.connect(f'{scheme}://localhost:{site.where[1]}/', agent=agent)
        connected.send('hello')
        assert connected.receive() == 'hello'
        connected.close()
    assert script.lines == [f'CONNECT localhost:{site.where[1]} HTTP/1.1']


def test_refusing_proxy_is_named(origin: MakeOrigin) -> None:
    where = origin(once(b'HTTP/1.1 403 Forbidden\r\n\r\n', 'wait'))
    with http.Agent(proxy=where.url) as agent, pytest.raises(ProxyError, match=f'proxy {where.url}: refused a tunnel'):
        websocket.connect('ws://localhost/', agent=agent)
