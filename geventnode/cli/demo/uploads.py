"""Uploads that are on their way, by the name that the browser gave them: who sends one and who watches it find each
other here.

What is remembered is bounded: by a number, and by a time after which an upload that nobody sends or watches is
forgotten. Nothing runs for that: old ones go when a new one comes. Those who watch are woken when a step further has
come, not for each chunk.
"""

from __future__ import annotations

import re
from time import monotonic

from gevent.event import Event

__all__ = ['MAX_UPLOADS', 'REMEMBERED', 'TooManyUploads', 'Upload', 'Uploads']

#: How many uploads are remembered at most.
MAX_UPLOADS = 64

#: Seconds for which an upload is remembered that nobody sends or watches.
REMEMBERED = 60.0

#: A step is a two-hundredth of the whole, but not smaller or larger than these, in bytes.
MIN_STEP, MAX_STEP = 16384, 1048576

_identifier = re.compile(r'[0-9a-f]{32}', re.ASCII)


class TooManyUploads(Exception):
    """There is no room for another upload at present."""


class Upload:
    """One upload, as far as it has come."""

    def __init__(self) -> None:
        #: Bytes that have arrived.
        self.received = 0
        #: Bytes that were announced; None when they come in chunks.
        self.total: int | None = None
        #: ``'waiting'``, ``'receiving'``, ``'complete'`` or ``'failed'``.
        self.state = 'waiting'
        #: When something was last heard of it (monotonic).
        self.touched = monotonic()
        self._step = MAX_STEP
        self._next_step = 0
        self._watchers: set[Event] = set()

    def begin(self, total: int | None) -> None:
        """The request has come, with ``total`` bytes announced."""
        self.total = total
        if total is not None:
            self._step = min(max(total // 200, MIN_STEP), MAX_STEP)
        self._change('receiving')

    def add(self, size: int) -> None:
        """``size`` bytes have arrived."""
        self.received += size
        if self.received >= self._next_step:
            self._next_step = self.received + self._step
            self._change('receiving')

    def end(self, complete: bool) -> None:
        """Nothing more will come."""
        self._change('complete' if complete else 'failed')

    def _change(self, state: str) -> None:
        self.state = state
        self.touched = monotonic()
        for watcher in self._watchers:
            watcher.set()

    def watch(self, watcher: Event) -> None:
        """Set ``watcher`` whenever something has changed, until :meth:`unwatch`."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: Event) -> None:
        """Undo :meth:`watch`."""
        self._watchers.discard(watcher)
        self.touched = monotonic()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state in ('complete', 'failed')

    @property
    def idle(self) -> bool:
        """Whether nobody sends or watches it."""
        return self.state != 'receiving' and not self._watchers


class Uploads:
    """The uploads that are remembered."""

    def __init__(self) -> None:
        self._known: dict[str, Upload] = {}

    def get(self, identifier: str) -> Upload:
        """Return the upload of that name, a new one if it is not known.

        :param identifier: 32 hexadecimal digits, which nobody guesses.

        Raises ``ValueError`` for another identifier, :class:`TooManyUploads` when there is no room.
        """
        if _identifier.fullmatch(identifier) is None:
            raise ValueError('the id of an upload is 32 hexadecimal digits')
        upload = self._known.get(identifier)
        if upload is None:
            self._forget_old()
            if len(self._known) >= MAX_UPLOADS:
                raise TooManyUploads(f'there are {MAX_UPLOADS} uploads already: try again later')
            upload = self._known[identifier] = Upload()
        return upload

    def _forget_old(self) -> None:
        oldest = monotonic() - REMEMBERED
        for identifier, upload in tuple(self._known.items()):
            if upload.idle and upload.touched < oldest:
                del self._known[identifier]
