"""Keep an ``ssl`` context up to date with the files that it was made from.

Certificates are short-lived and renewed on disk. Each new connection compares time, size and inode of the files with
those of the last load: one ``stat`` for each file. After a change the context is made anew, so sessions of the old one
cannot be resumed. A file that is half written, or a key whose certificate is still to come, is reported once; the old
context serves until the files change again.
"""
from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterable

from geventnode.errors import InvalidInput

__all__ = ['ContextSource']

log = logging.getLogger('geventnode.error')

#: What identifies the content of a file; None for one that cannot be looked at.
_Stamp = tuple[int, int, int, int]


class ContextSource:
    """The current context of a server, or of a client for one set of options.

    :param make: returns a new context, and raises ``InvalidInput`` or ``OSError`` for files that cannot be used.
    :param files: paths of what ``make`` reads, directories among them.

    Raises what ``make`` does.
    """

    __slots__ = ('_files', '_make', '_stamps', 'context')

    def __init__(self, make: Callable[[], ssl.SSLContext], files: Iterable[str] = ()) -> None:
        self._make = make
        self._files = tuple(files)
        # before they are read: what is written meanwhile is a change
        self._stamps = self._look()
        #: The context that was made last.
        self.context = make()

    def current(self) -> ssl.SSLContext:
        """Return the context for a new connection, made anew if a file has changed. Never switches."""
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self.context = self._make()
            except (InvalidInput, OSError) as error:
                log.warning('renewed certificates cannot be used, so the previous ones stay in use: %s', error)
        return self.context

    def _look(self) -> list[_Stamp | None]:
        return [_stamp(path) for path in self._files]


def _stamp(path: str) -> _Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
