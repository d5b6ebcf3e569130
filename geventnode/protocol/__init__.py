"""HTTP/1.1 without I/O (RFC 9110, RFC 9112): grammar, header map, framing, the streaming parser, the serializer.

:class:`Parser` reads received bytes, and the functions of the serializer render messages; both use one grammar. This
package uses neither gevent nor sockets, and none of its functions blocks.
"""

from __future__ import annotations

from geventnode.protocol.chunked import ChunkedBody
from geventnode.protocol.forwarded import (
    FORWARDED,
    FORWARDED_FIELDS,
    ClientAddress,
    ForwardedPolicy,
    TrustedProxies,
    forwarded_fields,
    scheme_fields,
)
from geventnode.protocol.framing import (
    Framing,
    connection_options,
    has_no_content,
    keep_alive,
    request_framing,
    response_framing,
)
from geventnode.protocol.grammar import (
    KNOWN_NAMES,
    check_method,
    check_name,
    check_reason,
    check_status,
    check_target,
    check_value,
    is_host,
    is_token,
    list_elements,
)
from geventnode.protocol.head import EndOfMessage, RequestHead, ResponseHead
from geventnode.protocol.headers import Headers, distinct
from geventnode.protocol.limits import Limits
from geventnode.protocol.parser import Event, Parser, ResponseParser, Role
from geventnode.protocol.proxy import ProxyHeader, parse_proxy_header
from geventnode.protocol.serializer import last_chunk, render_fields, status_line

__all__ = [
    'FORWARDED',
    'FORWARDED_FIELDS',
    'KNOWN_NAMES',
    'ChunkedBody',
    'ClientAddress',
    'EndOfMessage',
    'Event',
    'ForwardedPolicy',
    'Framing',
    'Headers',
    'Limits',
    'Parser',
    'ProxyHeader',
    'RequestHead',
    'ResponseHead',
    'ResponseParser',
    'Role',
    'TrustedProxies',
    'check_method',
    'check_name',
    'check_reason',
    'check_status',
    'check_target',
    'check_value',
    'connection_options',
    'distinct',
    'forwarded_fields',
    'has_no_content',
    'is_host',
    'is_token',
    'keep_alive',
    'last_chunk',
    'list_elements',
    'parse_proxy_header',
    'render_fields',
    'request_framing',
    'response_framing',
    'scheme_fields',
    'status_line',
]
