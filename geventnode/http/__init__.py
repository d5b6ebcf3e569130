"""HTTP/1.1: the server, the client, their requests and responses.

The names are Node's, in the spelling of PEP 8. ``http.global_agent`` is the agent of requests that specify none; there
is one for each hub.
"""

from __future__ import annotations

from typing import Any

from geventnode.http.client import agent as _agent
from geventnode.http.client.agent import Agent, set_global_proxy_from_env
from geventnode.http.client.api import create_client, get, request
from geventnode.http.client.observers import RequestObserver, observe_requests
from geventnode.http.client.request import ClientRequest
from geventnode.http.header_fields import check_field_value
from geventnode.http.incoming import IncomingMessage
from geventnode.http.outgoing import OutgoingMessage
from geventnode.http.server.access_log import log_access
from geventnode.http.server.event_broadcast import EventBroadcast
from geventnode.http.server.observers import ExchangeObserver, observe_exchanges
from geventnode.http.server.readiness import readiness
from geventnode.http.server.response import ServerResponse
from geventnode.http.server.server import Server, create_server
from geventnode.http.status import METHODS, STATUS_CODES
from geventnode.protocol import check_name

__all__ = [
    'METHODS',
    'STATUS_CODES',
    'Agent',
    'ClientRequest',
    'EventBroadcast',
    'ExchangeObserver',
    'IncomingMessage',
    'OutgoingMessage',
    'RequestObserver',
    'Server',
    'ServerResponse',
    'create_client',
    'create_server',
    'get',
    'log_access',
    'observe_exchanges',
    'observe_requests',
    'readiness',
    'request',
    'set_global_proxy_from_env',
    'validate_header_name',
    'validate_header_value',
]


def validate_header_name(name: str) -> None:
    """Raise ``InvalidHeader`` unless ``name`` is a token (RFC 9110, section 5.1)."""
    check_name(name)


def validate_header_value(name: str, value: Any) -> None:
    """Check ``value`` as ``set_header()`` does (RFC 9110, section 5.5).

    :param name: the name that an error reports.
    :param value: a str, an int or a list of those.

    Raises ``InvalidHeader`` if it has characters that no field may hold, and ``TypeError``.
    """
    check_field_value(name, value)


def __getattr__(name: str) -> Any:
    if name == 'global_agent':
        return _agent.global_agent()
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
