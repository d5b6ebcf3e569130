"""HTTP/2 for servers: ``create_server(..., http2=True)`` (RFC 9113).

The package needs the extra ``http2``, and only a server with the option imports it. :mod:`geventnode.http2.engine` is
the protocol without I/O, :mod:`geventnode.http2.connection` the side of the socket, and
:mod:`geventnode.http2.stream` that of the messages. Applications use the classes of :mod:`geventnode.http`.
"""

from __future__ import annotations

__all__: list[str] = []
