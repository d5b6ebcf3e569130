"""Run a check in a forked child, and fail the parent's test with its errors."""

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
    """Keep the logged messages as text."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextlib.contextmanager
def check_in_child(check: Callable[[], object], processes: Any = os) -> Any:
    """Call ``check`` in a fork of this process during the context.

    The end of the context blocks until the child has ended. The test fails with the child's traceback if ``check``
    raised, or if a message was logged as the child began.

    :param processes: a module with ``fork`` and ``waitpid``; those of ``os`` are gevent's only if ``os`` is patched.
    """
    noted = _Noted()
    log = logging.getLogger('geventnode')
    log.addHandler(noted)
    # not a pipe: a patched os.close() closes its end later, and a read would not end before that
    with tempfile.TemporaryFile('w+', encoding='utf-8') as output:
        try:
            with warnings.catch_warnings():
                # fork warns of the threads of gevent's resolver, which the child does not use
                warnings.simplefilter('ignore', DeprecationWarning)
                child = processes.fork()
            if not child:
                _run(check, noted, output)
        finally:
            log.removeHandler(noted)
        yield
        _, status = processes.waitpid(child, 0)
        output.seek(0)
        failure = output.read()
    if failure or os.waitstatus_to_exitcode(status):
        pytest.fail(f'the child ended with {os.waitstatus_to_exitcode(status)}:\n{failure}', pytrace=False)


def _run(check: Callable[[], object], noted: _Noted, output: IO[str]) -> None:
    status = 1
    try:
        output.write('\n'.join(noted.lines))
        try:
            check()
        except BaseException:
            output.write(traceback.format_exc())
        output.flush()
        status = 0
    finally:
        os._exit(status)
