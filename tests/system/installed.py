"""Packages of fixed versions in separate directories, because they can conflict with those of the tests."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ['install', 'installed']


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


def installed(config: pytest.Config, name: str, *requirements: str) -> Path:
    """Return a directory with ``requirements``, without their dependencies; it is kept between runs of pytest.

    :param name: the directory's name, one for each set of requirements.
    """
    directory = config.cache.mkdir(name)
    ready = directory / 'ready'
    if not ready.exists() or ready.read_text() != repr(requirements):
        install(
            directory,
            'install',
            '--quiet',
            '--no-deps',
            '--upgrade',
            '--target',
            str(directory / 'packages'),
            *requirements,
        )
        ready.write_text(repr(requirements))
    return directory / 'packages'
