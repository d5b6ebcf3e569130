"""A request of an agent that has a proxy.

The way of the request is chosen when its head is rendered, because only then it is known whether it asks for another
protocol. See :mod:`geventnode.http.client.proxy` for the two ways.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from geventnode.errors import InvalidInput, without_credentials
from geventnode.http.client.request import ClientRequest
from geventnode.http.client.tunnel import ConnectSteps, connect_through

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.origin import Origin
    from geventnode.http.client.proxy import Proxies
    from geventnode.http.header_fields import Fields

__all__ = ['ProxiedRequest']


class ProxiedRequest(ClientRequest):
    """A request of an agent that has a proxy; see :class:`ClientRequest`."""

    def __init__(
        self, proxies: Proxies, agent: Agent, origin: Origin, method: str, path: str, fields: Fields, keep_alive: bool
    ) -> None:
        super().__init__(agent, origin, method, path, fields, keep_alive)
        self._proxies = proxies
        #: The origin of the URL; ``_origin`` becomes the way to it.
        self._requested = origin
        #: The caller's function that connects, which connects to the proxy then.
        self._create: Any = None
        self._steps = ConnectSteps()

    @property
    def _connect_step(self) -> str:
        return self._steps.current

    @property
    def _requested_origin(self) -> Origin:
        return self._requested

    def _build_head(self, length: int | None) -> str:
        fields = self._fields
        given = fields.get('proxy-authorization')
        if given is not None:
            # it is for the proxy: an origin must not learn it
            self._fields = {name: field for name, field in fields.items() if name != 'proxy-authorization'}
        try:
            head = super()._build_head(length)
        finally:
            self._fields = fields
        requested = self._requested
        if not self._proxies.applies_to(requested):
            return head
        authorization = self._proxies.proxy.authorization
        if given is not None:
            authorization = ', '.join(given[1]) if isinstance(given[1], list) else given[1]
        if self._wants_upgrade or self.method == 'CONNECT' or requested.tls_settings is not None:
            # RFC 6455, section 4.1, asks for a tunnel also without TLS
            self._origin = way = self._proxies.tunnel(requested, authorization)
        else:
            self._origin = way = self._proxies.forward(requested, authorization)
            head = self._forwarded(head, authorization)
        if self._create is None:
            self._create = self._create_connection or self.agent.create_connection
        self._create_connection = partial(connect_through, self.agent, way, self._limits, self._create, self._steps)
        return head

    def _forwarded(self, head: str, authorization: str | None) -> str:
        """Return ``head`` with the target in absolute form (RFC 9112, section 3.2.2)."""
        path = self.path
        if path[:1] != '/' and path != '*':
            raise InvalidInput(
                f'path must begin with / for a request through a proxy, not {without_credentials(path)!r}: the agent '
                'adds the origin'
            )
        line = f'{self.method} http://{self._requested.host_field}{"" if path == "*" else path} HTTP/1.1\r\n'
        if authorization is not None:
            line += f'Proxy-Authorization: {authorization}\r\n'
        return line + head[head.index('\n') + 1 :]
