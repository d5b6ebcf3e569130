"""The five-minute start, as a new user would follow it: in an empty directory with a fresh virtual environment.

Commands and files are taken from the page itself, in their order. Two things are different: what is installed is this
tree, since the page says the name under which the package is published, and the port is one that the kernel chooses,
for 8000 may be taken on this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.code_blocks import Block, blocks_of
from tests.system.running import PATIENCE, ROOT, tool

PAGE = ROOT / 'docs' / 'start.rst'


class Newcomer:
    """Somebody who does what the page says, and looks whether it answers what the page says."""

    def __init__(self, directory: Path, tree: Path) -> None:
        self._directory = directory
        self._tree = tree
        self._serving: subprocess.Popen[str] | None = None
        self._address = ''
        #: What was done, for the assertion that nothing was left out.
        self.done: list[str] = []
        # nothing of ours is found unless it was installed
        self._environment = {
            name: value for name, value in os.environ.items() if name not in ('PYTHONPATH', 'VIRTUAL_ENV')
        }
        # the interpreter that runs the tests is the one that the page calls python3
        self._environment['PATH'] = f'{tree}:{self._environment["PATH"]}'
        (tree / 'python3').symlink_to(sys.executable)

    def save(self, name: str, source: str) -> None:
        """Put an example into a file."""
        (self._directory / name).write_text(source.replace('http://127.0.0.1:8000', self._address), 'utf-8')

    def type(self, command: str, expected: str) -> None:
        """Run a command, to its end or, if it serves, until it says where."""
        self.done.append(command.split()[0])
        if ' serve ' in command:
            self.stop()
            self._serve(command)
            return
        command = command.replace('pip install geventnode', f'pip install --quiet {self._tree}')
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
        said = self._serving.stdout.readline()
        found = re.search(r'http://127\.0\.0\.1:\d+', said)
        assert found, said
        self._address = found[0]

    def stop(self) -> None:
        """Press Ctrl+C where the server runs."""
        if self._serving is not None:
            self._serving.send_signal(signal.SIGINT)
            self._serving.communicate(timeout=PATIENCE)
            assert self._serving.returncode == 0
            self._serving = None


def files_of(page: str) -> dict[int, str]:
    """Return the names of the files that examples go into, by the number of the block."""
    found = {}
    pieces = re.split(r'^\.\. code-block:: .*$', page, flags=re.MULTILINE)
    for number, text in enumerate(pieces[:-1]):
        # the sentence that leads to the example
        named = re.findall(r'``(\w+\.py)``[^`]*\Z', re.sub(r'\n\.\. scene: .*\n', '', text))
        if named:
            found[number] = named[0]
    return found


def commands_of(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with what the page says that it prints."""
    return [(match[1], match[2]) for match in re.finditer(r'^\$ (.*)\n((?:(?!\$ ).*\n)*)', block.source, re.MULTILINE)]


@pytest.mark.hangs_after(1800)
def test_five_minutes(tmp_path: Path) -> None:
    tool('curl')
    blocks = blocks_of(PAGE)
    files = files_of(PAGE.read_text('utf-8'))
    assert sorted(files.values()) == ['app.py', 'app.py', 'ask.py']
    # a copy, as building leaves its traces
    tree, empty = tmp_path / 'tree', tmp_path / 'empty'
    tree.mkdir()
    empty.mkdir()
    for name in ('LICENSE', 'README.md', 'pyproject.toml', 'setup.py'):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / 'geventnode', tree / 'geventnode', ignore=shutil.ignore_patterns('__pycache__'))
    newcomer = Newcomer(empty, tree)
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
