"""A PostgreSQL of the tests' own: an ordinary process on a Unix socket in a directory that goes with it."""

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

#: Where Debian keeps the programs of each version.
PROGRAMS = '/usr/lib/postgresql/*/bin'

#: It refuses to run as root.
UNPRIVILEGED = 'nobody'

SETTINGS = {
    # no TCP: nobody else can be in the way
    'listen_addresses': '',
    'max_connections': 100,
    'shared_buffers': '16MB',
    'fsync': 'off',
    # errors of clients are the tests' affair
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
    """Yield the URL of a database server that is empty."""
    programs = _program('initdb'), _program('postgres')
    # the path of a socket must be short, and others than us must get there
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
            said = []
            for line in process.stderr:
                said.append(line)
                if 'ready to accept connections' in line:
                    break
            else:
                pytest.fail(''.join(said))
            try:
                yield f'postgresql://tests@/postgres?host={name}'
            finally:
                # SIGTERM would wait for clients
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=PATIENCE)
