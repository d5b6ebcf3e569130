"""The five-minute start, as a new user would follow it: in an empty directory with a fresh virtual environment.

Commands and files are taken from the page itself, in their order, with three exceptions. The wheel of this tree is
installed instead of the published one. The kernel chooses the port, because 8000 can be in use on this machine. pip is
that of the tests, because a copy of it takes longer than all else; ``.ci/run`` runs the README's commands as they are.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.code_blocks import Block, blocks_of
from tests.system.running import PATIENCE, ROOT, run, tool

PAGE = ROOT / 'docs' / 'start.rst'


class Newcomer:
    """Follows the page as a user does, and compares the output.

    :param programs: a directory on the path.
    :param wheel: of this tree.
    """

    def __init__(self, directory: Path, programs: Path, wheel: Path) -> None:
        self._directory = directory
        self._wheel = wheel
        self._serving: subprocess.Popen[str] | None = None
        self._address = ''
        #: The programs that were run.
        self.done: list[str] = []
        # the package is found only where it was installed
        self._environment = {
            name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'VIRTUAL_ENV')
        }
        # modules are compiled when they are imported: few of them are
        self._environment['PIP_COMPILE'] = '0'
        # python3 of the page is the interpreter that runs the tests
        self._environment['PATH'] = f'{programs}:{self._environment["PATH"]}'
        (programs / 'python3').symlink_to(sys.executable)

    def save(self, name: str, source: str) -> None:
        """Write an example to a file."""
        (self._directory / name).write_text(source.replace('http://127.0.0.1:8000', self._address), 'utf-8')

    def type(self, command: str, expected: str) -> None:
        """Run a command until it ends or, if it serves, until it prints its address."""
        self.done.append(command.split()[0])
        if ' serve ' in command:
            self.stop()
            self._serve(command)
            return
        command = command.replace('-m venv', '-m venv --without-pip')
        command = command.replace('pip install geventnode', f'pip install --quiet {self._wheel}')
        command = command.replace('http://127.0.0.1:8000', self._address)
        ran = subprocess.run(
            command,
            shell=True,
            text=True,
            check=False,
            cwd=self._directory,
            env=self._environment,
            timeout=PATIENCE,
            capture_output=True,
        )
        assert ran.returncode == 0, f'{command}\n{ran.stdout}{ran.stderr}'
        if expected:
            assert ran.stdout == expected
        if ' -m venv ' in command:
            self._add_pip()

    def _add_pip(self) -> None:
        pip = importlib.util.find_spec('pip')
        if pip is None:
            pytest.skip('pip is not installed in the environment of the tests')
        environment = self._directory / '.venv'
        (packages,) = environment.glob('lib/python*/site-packages')
        (packages / 'pip').symlink_to(Path(pip.origin).parent)
        script = environment / 'bin' / 'pip'
        script.write_text('#!/bin/sh\nexec "${0%/*}/python" -m pip "$@"\n')
        script.chmod(0o700)

    def _serve(self, command: str) -> None:
        self._serving = subprocess.Popen(
            [*command.split(), '--bind', '127.0.0.1:0'],
            cwd=self._directory,
            env=self._environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._serving.stdout is not None
        line = self._serving.stdout.readline()
        found = re.search(r'http://127\.0\.0\.1:\d+', line)
        assert found, line
        self._address = found[0]

    def stop(self) -> None:
        """Stop the server, as Ctrl+C does."""
        if self._serving is not None:
            self._serving.send_signal(signal.SIGINT)
            self._serving.communicate(timeout=PATIENCE)
            assert self._serving.returncode == 0
            self._serving = None


def files_of(page: str) -> dict[int, str]:
    """Return the names of the examples' files, by the number of the block."""
    found = {}
    pieces = re.split(r'^\.\. code-block:: .*$', page, flags=re.MULTILINE)
    for number, text in enumerate(pieces[:-1]):
        # the sentence before the example
        named = re.findall(r'``(\w+\.py)``[^`]*\Z', re.sub(r'\n\.\. scene: .*\n', '', text))
        if named:
            found[number] = named[0]
    return found


def commands_of(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with its output on the page."""
    return [(match[1], match[2]) for match in re.finditer(r'^\$ (.*)\n((?:(?!\$ ).*\n)*)', block.source, re.MULTILINE)]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Build the wheel in a copy of the tree; a build leaves files."""
    tree = tmp_path / 'tree'
    tree.mkdir()
    for name in ('LICENSE', 'README.md', 'pyproject.toml', 'setup.py'):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / 'geventnode', tree / 'geventnode', ignore=shutil.ignore_patterns('__pycache__'))
    run(sys.executable, '-c', 'from setuptools import build_meta; build_meta.build_wheel(".")', cwd=tree)
    (built,) = tree.glob('*.whl')
    return built


@pytest.mark.hangs_after(1800)
def test_page_can_be_followed(tmp_path: Path, wheel: Path) -> None:
    tool('curl')
    blocks = blocks_of(PAGE)
    files = files_of(PAGE.read_text('utf-8'))
    assert sorted(files.values()) == ['app.py', 'app.py', 'ask.py']
    programs, empty = tmp_path / 'programs', tmp_path / 'empty'
    programs.mkdir()
    empty.mkdir()
    newcomer = Newcomer(empty, programs, wheel)
    try:
        for number, block in enumerate(blocks):
            if number in files:
                newcomer.save(files[number], block.source)
            elif block.language == 'console':
                for command, expected in commands_of(block):
                    newcomer.type(command, expected)
    finally:
        newcomer.stop()
    assert newcomer.done == [
        'python3',
        '.venv/bin/pip',
        '.venv/bin/geventnode',
        '.venv/bin/geventnode',
        'curl',
        '.venv/bin/geventnode',
        'head',
        'curl',
        '.venv/bin/python',
    ]
