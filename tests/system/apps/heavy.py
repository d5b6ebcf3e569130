"""A class for gunicorn's dirty workers (``dirty_apps``, gunicorn 25 and later).

It is apart from the application that calls it: gunicorn imports this file in its master.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from gunicorn.dirty import DirtyApp
from gunicorn.dirty.stash import StashClient, get_stash_socket_path
from telling import wait

__all__ = ['Heavy']


class Heavy(DirtyApp):
    """Report the process, wait for the test, and stream."""

    def init(self):
        """Read the version once, as a model is loaded."""
        self.version = Path(os.environ['DIRECTORY'], 'version').read_text()

    def identify(self):
        """Return the process and the version, and whether actions run in threads."""
        return [os.getpid(), self.version, threading.current_thread() is not threading.main_thread()]

    def wait(self, word):
        """Return ``word`` when the test lets it pass."""
        wait(word)
        return word

    def stream(self, word):
        """Return three items, the second when the test lets it pass."""
        yield f'{word}1 '
        wait(word)
        yield f'{word}2 '
        yield f'{word}3 '

    def fail(self):
        """Raise an error."""
        raise ValueError('on purpose')

    def recall(self):
        """Return a value of a shared table.

        ``stash.get()`` would keep the connection, for which the arbiter of the dirty workers waits on Python 3.12 and
        later before it stops them (gunicorn 27.0.1).
        """
        with StashClient(get_stash_socket_path()) as tables:
            return tables.get('table', 'key')
