"""Accepting: a watcher on the listening socket, and what to do when the kernel refuses.

When descriptors or memory run out, accepting rests, first for 10 ms, then for twice as long each time, up to half a
second; the listening socket stays open and the kernel's queue holds who is waiting. So it does while the owner says
that there is no room.
"""

from __future__ import annotations

import _socket
import errno
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from geventnode.net.rate_limited_log import log_from_hub

__all__ = ['Acceptor']

log = logging.getLogger('geventnode.error')

#: How many connections are accepted before the loop gets its turn.
BATCH = 64

#: Seconds. Whoever waits is served within a second after descriptors were freed, on a busy machine, too.
MIN_REST, MAX_REST = 0.01, 0.5

#: Seconds between two lines in the log about this, however often accepting goes on in between.
LOG_INTERVAL = 1.0

#: The peer was gone before it was accepted, or the network told of trouble that is the connection's own (accept(2)).
PASSING = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EOPNOTSUPP,
        errno.ECONNRESET,
    }
)

READ = 1


class Acceptor:
    """Accepts on one listening socket for as long as it is not closed.

    :param listener: a non-blocking, listening ``_socket.socket``, which this closes.
    :param accepted: called in the hub with each new ``_socket.socket`` and the peer's address.
    :param may_accept: asked before each one, and told whether somebody is known to wait; when it says no to that,
        nobody is accepted until :meth:`go_on`, unless this is drained.
    """

    def __init__(
        self,
        loop: Any,
        listener: Any,
        accepted: Callable[[Any, Any], object],
        *,
        ref: bool = True,
        may_accept: Callable[[bool], bool] | None = None,
    ) -> None:
        self._loop = loop
        self.listener: Any = listener
        self._accepted = accepted
        self._may_accept = may_accept
        self._full = False
        self._rest = MIN_REST
        self._logged = -LOG_INTERVAL
        self._timer: Any = None
        self._watcher = loop.io(listener.fileno(), READ, ref=ref)
        self._watcher.start(self._on_acceptable)

    def _on_acceptable(self) -> None:
        self._accept_some()

    def _accept_some(self, asking: bool = True) -> bool:
        """Accept a batch; return whether there may be more."""
        listener = self.listener
        for place in range(BATCH):
            if asking and self._may_accept is not None and not self._may_accept(place == 0):
                if place == 0:
                    self._full = True
                    self._watcher.stop()
                return False
            try:
                descriptor, peer = listener._accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in PASSING:
                    continue
                self._pause(error)
                return False
            self._rest = MIN_REST
            self._accepted(_socket.socket(listener.family, listener.type, listener.proto, descriptor), peer)
            if self.listener is None:
                return False
        return True

    def drain(self) -> None:
        """Accept what the kernel has queued already, so that closing resets nobody."""
        while self.listener is not None and self._timer is None:
            if not self._accept_some(asking=False):
                break

    def go_on(self) -> None:
        """Accept again: there may be room."""
        if self._full:
            self._full = False
            if self._timer is None:
                self._watcher.start(self._on_acceptable)

    def _pause(self, error: OSError) -> None:
        now = monotonic()
        # where descriptors are scarce, connections that come and go free one every few milliseconds
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            log_from_hub(log.error, 'accepting rests for %.2f s: %s', self._rest, error)
        self._watcher.stop()
        self._timer = self._loop.timer(self._rest)
        self._timer.start(self._resume)
        self._rest = min(self._rest * 2, MAX_REST)

    def _resume(self) -> None:
        self._stop_timer()
        self._watcher.start(self._on_acceptable)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def set_ref(self, ref: bool) -> None:
        """Say whether this keeps the loop alive."""
        self._watcher.ref = ref

    def close(self) -> None:
        """Accept no more."""
        self._stop_timer()
        self._watcher.stop()
        self._watcher.close()
        self.listener.close()
        self.listener = None
