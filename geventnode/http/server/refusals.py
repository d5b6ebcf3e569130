"""Reasons for which a server refuses input, as labels of a counter.

The set of labels is fixed, because metrics have them. The errors have the details.
"""

from __future__ import annotations

from geventnode.errors import BodyTooLarge, IncompleteBody, ParseError, RequestTimeout
from geventnode.protocol.head import TLS_RECORDS

__all__ = ['refusal_reason']

#: Reasons by the status of the error response.
_BY_STATUS = {408: 'timeout', 414: 'head_too_large', 431: 'head_too_large', 501: 'not_implemented', 505: 'http_version'}

#: Reasons by the code of the error.
_BY_CODE = {'HPE_INVALID_HOST': 'host', 'HPE_INVALID_EOF_STATE': 'incomplete'}


def refusal_reason(error: ParseError | RequestTimeout | IncompleteBody) -> str:
    """Return the label of the reason for a refusal with ``error``.

    ``tls_on_plain_port``, ``host`` (missing, twice, or malformed), ``head_too_large``, ``body_too_large``,
    ``http_version``, ``not_implemented`` (a transfer coding), ``timeout``, ``incomplete`` (the client ended the
    connection within a message), or ``malformed``.
    """
    if isinstance(error, BodyTooLarge):
        return 'body_too_large'
    if isinstance(error, IncompleteBody):
        return 'incomplete'
    if isinstance(error, ParseError) and error.data.startswith(TLS_RECORDS):
        return 'tls_on_plain_port'
    return _BY_CODE.get(error.code) or _BY_STATUS.get(error.status) or 'malformed'
