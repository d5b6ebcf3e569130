"""The question of a balancer: may requests be sent here?

It is answered in front of a listener, at one path, from what the server says of itself: yes until the application says
no, or the server begins to close. Whether the process is alive is another question: any answer says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ['DEFAULT_PATH', 'readiness']

#: Where Kubernetes' own programs, and with them most others, have it.
DEFAULT_PATH = '/healthz'


def readiness(
    listener: Callable[[Any, Any], object], path: str = DEFAULT_PATH, check: Callable[[], object] | None = None
) -> Callable[[Any, Any], object]:
    """Return a request listener that answers GET and HEAD of ``path`` with 200 while its server is available, and
    with 503 otherwise, and hands everything else to ``listener``.

    :param check: called for each such question of an available server; what is false, or raises an ``Exception``, is
        503, too. May switch.

    Source of what is available: :attr:`geventnode.interfaces.IHTTPServer.available`.
    """

    def answer(request: Any, response: Any) -> object:
        if request.url.partition('?')[0] != path or request.method not in ('GET', 'HEAD'):
            return listener(request, response)
        ready = response.server.available and (check is None or _passes(check))
        # an answer of yesterday would be worse than none
        response.write_head(200 if ready else 503, {'Content-Type': 'text/plain', 'Cache-Control': 'no-store'})
        response.end('ready\n' if ready else 'not ready\n')
        return None

    return answer


def _passes(check: Callable[[], object]) -> bool:
    try:
        return bool(check())
    except Exception:
        return False
