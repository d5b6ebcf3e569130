"""The registry in which a progress stream finds its upload.

The browser chooses the identifier of an upload. The number of uploads is bounded, and an idle upload, neither in
progress nor watched, expires after a while: it is removed when a new one is added. Watchers are woken for each step of
progress, not for each chunk.
"""

from __future__ import annotations

import re
from time import monotonic

from gevent.event import Event

__all__ = ['IDLE_TIMEOUT', 'MAX_UPLOADS', 'TooManyUploads', 'Upload', 'Uploads']

#: The most uploads in the registry.
MAX_UPLOADS = 64

#: Seconds after which an idle upload expires.
IDLE_TIMEOUT = 60.0

#: The limits of a step, in bytes, which is a two-hundredth of the upload.
MIN_STEP, MAX_STEP = 16384, 1048576

_identifier = re.compile(r'[0-9a-f]{32}', re.ASCII)


class TooManyUploads(Exception):
    """The registry is full."""


class Upload:
    """The progress of an upload."""

    def __init__(self) -> None:
        #: Bytes that have arrived.
        self.received = 0
        #: Bytes that the request announced; None for a chunked body.
        self.total: int | None = None
        #: ``'waiting'``, ``'receiving'``, ``'complete'`` or ``'failed'``.
        self.state = 'waiting'
        #: The time of the last change (monotonic).
        self.last_active = monotonic()
        self._step = MAX_STEP
        self._next_step = 0
        self._watchers: set[Event] = set()

    def begin(self, total: int | None) -> None:
        """Record that the request has arrived and announces ``total`` bytes."""
        self.total = total
        if total is not None:
            self._step = min(max(total // 200, MIN_STEP), MAX_STEP)
        self._change('receiving')

    def add(self, size: int) -> None:
        """Record that ``size`` more bytes have arrived."""
        self.received += size
        if self.received >= self._next_step:
            self._next_step = self.received + self._step
            self._change('receiving')

    def end(self, complete: bool) -> None:
        """Record the end of the request."""
        self._change('complete' if complete else 'failed')

    def _change(self, state: str) -> None:
        self.state = state
        self.last_active = monotonic()
        for watcher in self._watchers:
            watcher.set()

    def watch(self, watcher: Event) -> None:
        """Set ``watcher`` after each step, until :meth:`unwatch`."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: Event) -> None:
        """Undo :meth:`watch`."""
        self._watchers.discard(watcher)
        self.last_active = monotonic()

    @property
    def ended(self) -> bool:
        """Whether the upload is complete or has failed."""
        return self.state in ('complete', 'failed')

    @property
    def idle(self) -> bool:
        """Whether it is neither in progress nor watched."""
        return self.state != 'receiving' and not self._watchers


class Uploads:
    """The registry."""

    def __init__(self) -> None:
        self._known: dict[str, Upload] = {}

    def get(self, identifier: str) -> Upload:
        """Return the upload called ``identifier``, a new one if there is none.

        :param identifier: 32 hexadecimal digits, which the browser has chosen at random.

        Raises ``ValueError`` for an invalid identifier, and :class:`TooManyUploads` if the registry is full.
        """
        if _identifier.fullmatch(identifier) is None:
            raise ValueError('the id of an upload must be 32 hexadecimal digits')
        upload = self._known.get(identifier)
        if upload is None:
            self._remove_expired()
            if len(self._known) >= MAX_UPLOADS:
                raise TooManyUploads(f'there are already {MAX_UPLOADS} uploads; try again later')
            upload = self._known[identifier] = Upload()
        return upload

    def _remove_expired(self) -> None:
        oldest = monotonic() - IDLE_TIMEOUT
        for identifier, upload in tuple(self._known.items()):
            if upload.idle and upload.last_active < oldest:
                del self._known[identifier]
