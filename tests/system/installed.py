"""Packages of fixed versions in separate directories, because they can conflict with those of the tests.

pytest's cache keeps the directories between runs. One process of a run fills each of them; the others wait for it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ['filled', 'install', 'installed']


def install(directory: Path, *arguments: str) -> None:
    """Run ``pip`` in ``directory``; skip the test if it fails, for example without network."""
    if importlib.util.find_spec('pip') is None:
        pytest.skip('pip is not installed')
    ran = subprocess.run(
        [sys.executable, '-m', 'pip', '--disable-pip-version-check', *arguments],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
    )
    if ran.returncode:
        pytest.skip(f'pip {" ".join(arguments)} failed: {ran.stdout.strip()[-1000:]}')


def filled(config: pytest.Config, name: str, content: object, fill: Callable[[Path], None]) -> Path:
    """Return a directory that ``fill`` has filled, in this run or an earlier one.

    Blocks the process while another one fills the directory.

    :param name: the directory's name.
    :param content: a value that describes the content; the directory is filled again when it changes.
    :param fill: is called with an empty directory; it skips the test if it cannot fill it.
    """
    parent = config.cache.mkdir(name)
    # Packages can be compiled for one version.
    wanted = repr((sys.version, content))
    directory, ready = parent / 'content', parent / 'ready'
    with open(parent / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists() or ready.read_text() != wanted:
            ready.unlink(missing_ok=True)
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            fill(directory)
            ready.write_text(wanted)
    return directory


def installed(config: pytest.Config, name: str, *requirements: str) -> Path:
    """Return a directory with ``requirements``, without their dependencies.

    :param name: the directory's name, one for each set of requirements.
    """

    def fill(directory: Path) -> None:
        # Only the modules that are imported are compiled: that takes a fraction of the time.
        options = ['--quiet', '--no-deps', '--no-compile', '--target', str(directory)]
        install(directory, 'install', *options, *requirements)

    return filled(config, name, requirements, fill)
