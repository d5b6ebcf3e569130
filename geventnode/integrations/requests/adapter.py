"""A transport adapter for ``requests`` that uses connections of agents.

The adapter inherits ``requests``' own ``HTTPAdapter``, which checks timeouts and certificates, chooses the proxy, gets
a pool from a pool manager and calls its ``urlopen``. The adapter replaces only the pool manager. Its pools return
urllib3's responses and raise urllib3's exceptions, which ``requests`` translates as usual.
"""

from __future__ import annotations

from typing import Any

from requests.adapters import DEFAULT_RETRIES, HTTPAdapter
from requests.exceptions import InvalidSchema
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.exceptions import ProxySchemeUnknown
from urllib3.util import Retry, parse_url

from geventnode import http, https
from geventnode.errors import InvalidInput, without_credentials
from geventnode.integrations.requests.pool_kwargs import merge_pool_kwargs, split_proxy_kwargs
from geventnode.integrations.requests.pools import DEFAULT_PORTS, AgentPoolManager, AgentProvider, Proxy, RequestLimits
from geventnode.options import count, seconds
from geventnode.protocol import Limits

__all__ = ['AgentAdapter']

#: The limit for connections to one origin. ``requests`` itself has no limit; this one protects from runaway programs.
DEFAULT_MAX_SOCKETS = 100

#: The limit in bytes for the head of a response. ``http.client`` allows 100 lines of 65,536 bytes each. This limit
#: allows several of the longest lines, and bounds the memory that a hostile server can use.
DEFAULT_MAX_HEADER_SIZE = 262144

#: The options of agents for proxies, which ``requests`` chooses itself.
PROXY_OPTIONS = frozenset({'proxy', 'no_proxy', 'proxy_env', 'proxy_tls'})
PROXY_REMEDY = 'set the proxies of the session, or the environment'

#: The attributes that ``HTTPAdapter.cert_verify`` sets on a pool.
CERT_VERIFY_ATTRIBUTES = ('cert_reqs', 'ca_certs', 'ca_cert_dir', 'cert_file', 'key_file')


class AgentAdapter(HTTPAdapter):
    """A transport adapter for ``requests`` that uses agents.

    All greenlets of a thread share the connections. Their number is limited, and waiting requests get them in order.
    Mount one adapter for both schemes::

        adapter = AgentAdapter()
        session.mount('http://', adapter)
        session.mount('https://', adapter)

    :param agent: the agent for ``http:`` URLs. By default, the adapter creates one for each thread.
    :param https_agent: the agent for ``https:`` URLs. Its TLS settings apply to requests with ``verify=True``.
    :param max_retries: urllib3's ``Retry``, or a number of attempts, which also applies to responses with Retry-After
        and to failed idempotent requests. Default: 0. Independently, a request is sent a second time if the server had
        closed a reused connection and the request can be repeated.
    :param queue_timeout: seconds to wait for a connection while all are active; then ``ConnectTimeout``. Default: None,
        no limit.
    :param max_header_size: the limit in bytes for the head of a response. Default: 262144.
    :param options: options of :class:`geventnode.http.Agent` for the agents that the adapter creates, such as
        ``max_sockets`` (default: 100) and ``keep_alive`` (default: True).

    Raises ``InvalidInput``, ``TypeError``, ``UnknownOption``.
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
                    f'the agent is for {given.protocol!r}, expected one for {kind.protocol!r}', 'ERR_INVALID_PROTOCOL'
                )
            _check_without_proxy(given)
        if agent is not None and https_agent is not None and options:
            raise InvalidInput(
                f'{", ".join(sorted(options))} has no effect when both agents are given: set it on the agents'
            )
        for name in PROXY_OPTIONS & options.keys():
            raise InvalidInput(f'{name} has no effect on requests, which choose proxies themselves: {PROXY_REMEDY}')
        self._limits = RequestLimits(
            None if queue_timeout is None else seconds('queue_timeout', queue_timeout) or None,
            Limits(max_header_size=count('max_header_size', max_header_size)),
        )
        self._options = {'max_sockets': DEFAULT_MAX_SOCKETS, 'keep_alive': True, **options}
        self._given_agents = agent, https_agent
        super().__init__(max_retries=max_retries)
        self._install_pool_manager()
        # raises for wrong options now
        self.poolmanager.agents.get(False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._install_pool_manager()

    def _install_pool_manager(self) -> None:
        """Replace urllib3's pool manager of a base class, with its arguments."""
        pools = self.poolmanager
        if not isinstance(pools, AgentPoolManager):
            pool_kwargs = {
                name: value for name, value in pools.connection_pool_kw.items() if name not in ('maxsize', 'block')
            }
            AgentAdapter.init_poolmanager(
                self, self._pool_connections, self._pool_maxsize, self._pool_block, **pool_kwargs
            )

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        """Create the pool manager, when the adapter is created or unpickled.

        :param connections: stored, as in ``HTTPAdapter``; the agents have limits of their own.
        :param maxsize: stored, as in ``HTTPAdapter``.
        :param block: stored, as in ``HTTPAdapter``.
        :param pool_kwargs: urllib3's arguments for TLS and ``source_address``.

        Raises ``InvalidInput`` for an argument that is not supported, ``TypeError``, ``UnknownOption``.
        """
        self._pool_connections, self._pool_maxsize, self._pool_block = connections, maxsize, block
        # an unpickled adapter creates its own agents
        agent, https_agent = self.__dict__.pop('_given_agents', (None, None))
        agents = AgentProvider(self._options, agent, https_agent, DEFAULT_CA_BUNDLE_PATH)
        self.poolmanager = AgentPoolManager(agents, self._limits, pool_kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Check that the files of ``verify`` and ``cert`` exist; see ``HTTPAdapter``.

        Raises ``OSError`` for a missing file.
        """
        super().cert_verify(conn, url, verify, cert)
        # the pool already has these settings: only the attributes that a subclass sets afterwards are relevant
        for name in CERT_VERIFY_ATTRIBUTES:
            vars(conn).pop(name, None)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """Return the pool manager for the URL of a proxy; see ``HTTPAdapter``.

        :param proxy: an ``http:`` or ``https:`` URL.
        :param proxy_kwargs: arguments as for :meth:`init_poolmanager`, which override those, and ``proxy_ssl_context``,
            ``proxy_assert_hostname`` and ``proxy_assert_fingerprint`` for TLS to the proxy itself.

        Raises ``InvalidSchema`` for a SOCKS proxy, ``ProxySchemeUnknown``, and as :meth:`init_poolmanager` does.
        """
        manager = self.proxy_manager.get(proxy)
        if manager is None:
            url = parse_url(proxy)
            if url.scheme not in DEFAULT_PORTS:
                if not (url.scheme or '').startswith('socks'):
                    raise ProxySchemeUnknown(url.scheme)
                raise InvalidSchema(
                    f'{without_credentials(proxy)}: AgentAdapter supports HTTP proxies only; for SOCKS, mount '
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


def _check_without_proxy(agent: http.Agent | None) -> None:
    """Raise ``InvalidInput`` if ``agent`` has a proxy."""
    if agent is not None and (agent.proxy is not None or agent.proxy_env is not None):
        raise InvalidInput(f'the agent has a proxy, but requests chooses proxies itself: {PROXY_REMEDY}')
