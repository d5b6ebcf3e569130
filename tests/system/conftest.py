"""The choice of the system tests by the version of Python."""

import sys

#: From Python 3.12 on, a dirty worker of gunicorn 27.0.1 that was called does not end at SIGTERM, with any class of web
#: workers: ``asyncio.Server`` waits for its connections at the end of ``async with``. Processes are left, and hold the
#: pipes that the tests read.
collect_ignore = ['test_gunicorn_helpers.py'] if sys.version_info >= (3, 12) else []
