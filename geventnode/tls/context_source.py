"""Keep an ``ssl`` context up to date with its files.

Certificates are short-lived and renewed on disk. Each new connection compares times, size and inode of the files with
those of the previous check: one ``stat`` for each file. If they differ, and the content does too, a new context is
made; sessions of the old one cannot be resumed then. A file that is half written, or a key without its new certificate,
is logged once; the old context stays in use until the content changes again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ['ContextSource', 'is_context', 'take_sni_callback']

log = logging.getLogger('geventnode.error')

#: The base of contexts of every kind. Packages such as truststore replace ``ssl.SSLContext`` itself.
_context_base: type = next(kind for kind in ssl.SSLContext.__mro__ if kind.__module__ == '_ssl')

#: Nanoseconds that two writes can be apart with the same time: clock ticks of the kernel, and some more.
GRANULARITY = 50_000_000

#: Times of the last change of the content and of anything, size, inode and device of a file.
_Stamp = tuple[int, int, int, int, int]


def is_context(value: object) -> bool:
    """Return whether ``value`` is any kind of ``ssl.SSLContext``."""
    return isinstance(value, _context_base)


def take_sni_callback(context: ssl.SSLContext) -> Callable[[Any, str | None, ssl.SSLContext], int | None] | None:
    """Return the user's ``sni_callback``, None without one.

    OpenSSL does not call it from then on. In the middle of a handshake a change of the context has an effect on the
    certificate only, and gevent's contexts call it for sockets only.
    """
    found = context.sni_callback
    if found is not None:
        vars(_context_base)['sni_callback'].__set__(context, None)
        context._geventnode_sni_callback = found  # type: ignore[attr-defined]  # lives as long as the context
    return getattr(context, '_geventnode_sni_callback', None)


class ContextSource:
    """Provide the current context for a server or a client.

    :param make: returns a new context, or raises for files that cannot be used.
    :param files: the paths of files and directories that ``make`` reads.

    Raises as ``make`` does.
    """

    __slots__ = ('_contents', '_files', '_make', '_recently_written', '_stamps', 'context')

    def __init__(self, make: Callable[[], ssl.SSLContext], files: Iterable[str] = ()) -> None:
        self._make = make
        self._files = tuple(files)
        # before they are read: the next check finds a change from now on
        self._stamps = self._stat_files()
        self._recently_written = _recently_written(self._stamps)
        self._contents = self._read()
        #: The context that was made last.
        self.context = make()

    def current(self) -> ssl.SSLContext:
        """Return the current context, a new one after a change."""
        stamps = self._stat_files()
        if stamps != self._stamps or self._recently_written:
            self._stamps = stamps
            self._recently_written = _recently_written(stamps)
            contents = self._read()
            if contents != self._contents:
                self._contents = contents
                self._renew()
        return self.context

    def _renew(self) -> None:
        try:
            self.context = self._make()
        except Exception as error:
            log.warning('certificates have changed and cannot be used, the previous ones stay in use: %s', error)

    def _stat_files(self) -> list[_Stamp | None]:
        return [_stamp(path) for path in self._files]

    def _read(self) -> list[bytes | None]:
        return [_digest(path) for path in self._files]


def _stamp(path: str) -> _Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    # st_ctime changes with the permissions, and cannot be set back, unlike st_mtime by ``cp -p`` and ``tar``
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def _recently_written(stamps: Iterable[_Stamp | None]) -> bool:
    """Return whether a file was written just now: another write can get the same time."""
    now = time.time_ns()
    return any(stamp is not None and abs(now - stamp[0]) < GRANULARITY for stamp in stamps)


def _digest(path: str) -> bytes | None:
    """Return a hash of a file, or of a directory's files.

    It is None if the path cannot be read.
    """
    try:
        if os.path.isdir(path):
            files = [(name, _stamp(os.path.join(path, name))) for name in sorted(os.listdir(path))]
            return hashlib.sha256(repr(files).encode()).digest()
        with open(path, 'rb') as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:
        return None
