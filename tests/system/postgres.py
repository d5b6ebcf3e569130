"""A PostgreSQL for the tests: a process on a Unix socket in a temporary directory."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.running import PATIENCE

__all__ = ['postgres']

#: The directories of Debian with the programs of each version.
PROGRAMS = '/usr/lib/postgresql/*/bin'

#: The id of the unprivileged user that runs the server, which refuses to run as root.
UNPRIVILEGED = 65534

SETTINGS = {
    # no TCP, so that ports cannot conflict
    'listen_addresses': '',
    'max_connections': 100,
    'shared_buffers': '16MB',
    'fsync': 'off',
    # the tests check the errors of clients
    'log_min_messages': 'log',
    'log_checkpoints': 'off',
}


def _program(name: str) -> str:
    path = os.pathsep.join([*sorted(glob.glob(PROGRAMS), reverse=True), os.environ.get('PATH', os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f'{name} is not installed; it is in the package postgresql')
    return found


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Yield the URL of an empty database server."""
    programs = _program('initdb'), _program('postgres')
    # the path of a socket must be short, and accessible for other users
    with tempfile.TemporaryDirectory(prefix='postgres-') as name:
        directory = Path(name)
        user = None
        if os.getuid() == 0:
            user = UNPRIVILEGED
            shutil.chown(directory, user)
        options = {
            'user': user,
            'extra_groups': None if user is None else [],
            'cwd': directory,
            'text': True,
            'env': {'PATH': os.defpath, 'LC_ALL': 'C'},
        }
        subprocess.run(
            [programs[0], '--pgdata=data', '--username=tests', '--auth=trust', '--encoding=UTF8', '--no-sync'],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
            **options,
        )
        settings = [f'--{key}={value}' for key, value in {**SETTINGS, 'unix_socket_directories': name}.items()]
        with subprocess.Popen([programs[1], '-D', 'data', *settings], stderr=subprocess.PIPE, **options) as process:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if 'ready to accept connections' in line:
                    break
            else:
                pytest.fail(''.join(lines))
            try:
                yield f'postgresql://tests@/postgres?host={name}'
            finally:
                # SIGTERM would wait for clients
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=PATIENCE)
