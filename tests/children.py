"""A check that runs in a forked child, whose failure the parent's test shows."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from typing import IO, Any

import pytest

__all__ = ['check_in_child']


class _Noted(logging.Handler):
    """Keeps what is logged, as text."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextlib.contextmanager
def check_in_child(check: Callable[[], object], processes: Any = os) -> Any:
    """Call ``check`` in a fork of this process while the context lasts: with its end the child has ended, and the test
    fails with the child's traceback if ``check`` raised, or if something was logged as the child began.

    :param processes: a module with ``fork`` and ``waitpid``; those of ``os`` are gevent's only when that is patched.
    """
    noted = _Noted()
    log = logging.getLogger('geventnode')
    log.addHandler(noted)
    # not a pipe: when it is patched, os.close() closes an end at some time later, and what is read does not end before
    with tempfile.TemporaryFile('w+', encoding='utf-8') as said:
        try:
            with warnings.catch_warnings():
                # gevent's resolver has threads, and the child does not use them
                warnings.simplefilter('ignore', DeprecationWarning)
                child = processes.fork()
            if not child:
                _run(check, noted, said)
        finally:
            log.removeHandler(noted)
        yield
        _, status = processes.waitpid(child, 0)
        said.seek(0)
        failure = said.read()
    if failure or os.waitstatus_to_exitcode(status):
        pytest.fail(f'the child ended with {os.waitstatus_to_exitcode(status)}:\n{failure}', pytrace=False)


def _run(check: Callable[[], object], noted: _Noted, said: IO[str]) -> None:
    status = 1
    try:
        said.write('\n'.join(noted.lines))
        try:
            check()
        except BaseException:
            said.write(traceback.format_exc())
        said.flush()
        status = 0
    finally:
        os._exit(status)
