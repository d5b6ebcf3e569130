"""SIGUSR1 switches ``debug_connections`` of a running ``geventnode serve``."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from geventnode.testing import raw_request
from tests.servers import Client
from tests.system.running import PATIENCE, start

#: Logging configurations of applications that drop lines of level DEBUG.
CONFIGURED = {
    'not': '',
    'basicConfig': 'logging.basicConfig(level=logging.WARNING)',
    'a handler for errors': 'handler = logging.StreamHandler()\nhandler.setLevel(logging.ERROR)\n'
    'logging.getLogger().addHandler(handler)',
    'dictConfig': 'logging.config.dictConfig({"version": 1, "handlers": {"own": {"class": "logging.StreamHandler"}}, '
    '"root": {"handlers": ["own"], "level": "INFO"}})',
    'a level of the package': 'logging.basicConfig()\nlogging.getLogger("geventnode").setLevel(logging.ERROR)',
}


@pytest.mark.parametrize('configured', CONFIGURED.values(), ids=CONFIGURED.keys())
def test_signal_switches_the_trace(tmp_path: Path, configured: str) -> None:
    """The lines are written with any logging configuration of the application."""
    (tmp_path / 'program.py').write_text(
        f'import logging.config\n{configured}\ndef app(request, response):\n    response.end("hello")\n'
    )
    reading, writing = os.pipe()
    with os.fdopen(reading) as errors:
        serving = start(
            'geventnode serve',
            ['serve', 'program:app', '--bind', '127.0.0.1:0', '--no-access-log'],
            cwd=tmp_path,
            env={},
            stderr=writing,
        )
        os.close(writing)
        port = int(re.search(r':(\d+)/', serving.stdout.readline())[1])
        serving.send_signal(signal.SIGUSR1)
        assert errors.readline() == 'geventnode: debug_connections is on\n'
        client = Client(('127.0.0.1', port))
        assert client.send(raw_request()).response().status == 200
        client.close()
        assert 'DEBUG 127.0.0.1:' in errors.readline()
        serving.send_signal(signal.SIGUSR1)
        assert list(iter(errors.readline, 'geventnode: debug_connections is off\n'))
        serving.terminate()
        serving.communicate(timeout=PATIENCE)
    assert serving.returncode == 0
