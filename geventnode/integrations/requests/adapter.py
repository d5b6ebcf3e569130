"""``requests`` on this package's client: a transport adapter that has its connections from agents.

``requests`` does what it always does: its own ``HTTPAdapter`` checks timeouts and certificates, chooses the proxy, asks
for a pool of urllib3's and calls ``urlopen`` on it. Here it is handed what takes the place of such a pool and answers
in urllib3's terms, which ``requests`` makes into its own.
"""

from __future__ import annotations

from typing import Any

from requests.adapters import DEFAULT_RETRIES, HTTPAdapter
from requests.exceptions import InvalidSchema
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.exceptions import ProxySchemeUnknown
from urllib3.util import Retry, parse_url

from geventnode import http, https
from geventnode.errors import InvalidInput
from geventnode.integrations.requests.pool_kwargs import merge_pool_kwargs, split_proxy_kwargs
from geventnode.integrations.requests.pools import DEFAULT_PORTS, AgentPoolManager, AgentProvider, Proxy, RequestLimits
from geventnode.options import count, seconds
from geventnode.protocol import Limits

__all__ = ['AgentAdapter']

#: Connections to one destination at once. ``requests`` itself has no limit: this one is for programs that run away.
DEFAULT_MAX_SOCKETS = 100

#: Bytes of a response's head. ``http.client`` takes 100 lines of 65,536, and nobody sends all that: this is room for
#: some of the longest, and still little to keep for a server that sends nothing else.
DEFAULT_MAX_HEADER_SIZE = 262144

#: What ``HTTPAdapter.cert_verify`` sets on a pool.
CERT_VERIFY_ATTRIBUTES = ('cert_reqs', 'ca_certs', 'ca_cert_dir', 'cert_file', 'key_file')


class AgentAdapter(HTTPAdapter):
    """A transport adapter for ``requests`` whose connections come from this package's agents: shared by all greenlets,
    bounded, handed out first come, first served. ``session.mount('https://', AgentAdapter())``, and the same for
    ``'http://'``.

    :param agent: the agent of ``http:`` URLs; one of the adapter's own, unless given.
    :param https_agent: that of ``https:`` URLs, with settings of TLS for requests that say nothing (``verify=True``).
    :param max_retries: urllib3's ``Retry``, or the number of its attempts, which also repeat responses with Retry-After
        and requests without a response, if the method is idempotent. 0. Beside it, a request that may be sent again
        is, once, when the server had closed the used connection.
    :param queue_timeout: seconds to wait for a connection while all are in use, then ``ConnectTimeout``. None.
    :param max_header_size: bytes of a response's head. 262144.
    :param options: those of :class:`geventnode.http.Agent` for the agents of the adapter's own: ``max_sockets`` (100),
        ``keep_alive`` (True) and the others.

    Agents of its own are made for each thread that uses the adapter. Raises ``InvalidInput``, ``TypeError``,
    ``UnknownOption``.
    """

    __attrs__: list[str] = [*HTTPAdapter.__attrs__, '_limits', '_options']  # noqa: RUF012 - as in HTTPAdapter

    poolmanager: Any

    def __init__(
        self,
        agent: http.Agent | None = None,
        *,
        https_agent: https.Agent | None = None,
        max_retries: int | Retry = DEFAULT_RETRIES,
        queue_timeout: float | None = None,
        max_header_size: int = DEFAULT_MAX_HEADER_SIZE,
        **options: Any,
    ) -> None:
        for given, kind in ((agent, http.Agent), (https_agent, https.Agent)):
            if given is not None and given.protocol != kind.protocol:
                raise InvalidInput(
                    f'agent is one for {given.protocol!r}, expected one for {kind.protocol!r}', 'ERR_INVALID_PROTOCOL'
                )
        if agent is not None and https_agent is not None and options:
            raise InvalidInput(f'{", ".join(sorted(options))}: both agents were given, and have options of their own')
        self._limits = RequestLimits(
            None if queue_timeout is None else seconds('queue_timeout', queue_timeout) or None,
            Limits(max_header_size=count('max_header_size', max_header_size)),
        )
        self._options = {'max_sockets': DEFAULT_MAX_SOCKETS, 'keep_alive': True, **options}
        self._given_agents = agent, https_agent
        super().__init__(max_retries=max_retries)
        self._install_pool_manager()
        # so that what is wrong with the options is raised here
        self.poolmanager.agents.get(False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._install_pool_manager()

    def _install_pool_manager(self) -> None:
        """If a class between this one and ``HTTPAdapter`` has made urllib3's pools, keep their settings."""
        pools = self.poolmanager
        if not isinstance(pools, AgentPoolManager):
            said = {name: value for name, value in pools.connection_pool_kw.items() if name not in ('maxsize', 'block')}
            AgentAdapter.init_poolmanager(self, self._pool_connections, self._pool_maxsize, self._pool_block, **said)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        """See ``HTTPAdapter``: called when the adapter is made, or unpickled. Raises ``InvalidInput``
        for what is not supported, ``TypeError``, ``UnknownOption``.

        :param pool_kwargs: on what terms TLS is spoken, in urllib3's words.
        """
        self._pool_connections, self._pool_maxsize, self._pool_block = connections, maxsize, block
        # a pickled adapter comes back with agents of its own
        agent, https_agent = self.__dict__.pop('_given_agents', (None, None))
        agents = AgentProvider(self._options, agent, https_agent, DEFAULT_CA_BUNDLE_PATH)
        self.poolmanager = AgentPoolManager(agents, self._limits, pool_kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """See ``HTTPAdapter``. Raises ``OSError`` for files that are not there."""
        super().cert_verify(conn, url, verify, cert)
        # it was all said when the pool was asked for: what a subclass sets after this is told from it
        for name in CERT_VERIFY_ATTRIBUTES:
            vars(conn).pop(name, None)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """See ``HTTPAdapter``. Raises ``InvalidSchema`` for proxies of SOCKS, ``ProxySchemeUnknown``,
        and as :meth:`init_poolmanager` does.

        :param proxy_kwargs: as of :meth:`init_poolmanager`, added to those given there; and ``proxy_ssl_context``,
            ``proxy_assert_hostname``, ``proxy_assert_fingerprint`` for a proxy that speaks TLS.
        """
        manager = self.proxy_manager.get(proxy)
        if manager is None:
            url = parse_url(proxy)
            if url.scheme not in DEFAULT_PORTS:
                if not (url.scheme or '').startswith('socks'):
                    raise ProxySchemeUnknown(url.scheme)
                raise InvalidSchema(
                    f'{proxy}: AgentAdapter goes through proxies that speak HTTP; for SOCKS, mount '
                    'requests.adapters.HTTPAdapter for these URLs, with requests[socks] installed'
                )
            pool_kwargs, tls_kwargs = split_proxy_kwargs(proxy_kwargs)
            manager = self.proxy_manager[proxy] = AgentPoolManager(
                self.poolmanager.agents,
                self._limits,
                merge_pool_kwargs(self.poolmanager.connection_pool_kw, pool_kwargs),
                Proxy(
                    url.scheme,
                    url.host or '',
                    url.port or DEFAULT_PORTS[url.scheme],
                    self.proxy_headers(proxy),
                    tls_kwargs,
                ),
            )
        return manager
