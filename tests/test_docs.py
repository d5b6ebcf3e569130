"""Every code block in the README and the documentation is executed, or says beside it why it cannot be.

A Python example runs in a process of its own, because it may patch the standard library, in the scene that a comment in
front of it names; without one it is a whole program (``tests/documented.py`` has the scenes). Commands are run by
``tests/system/test_docs_commands.py``, and those of the first page by ``tests/system/test_start.py``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import documented
from tests.code_blocks import BLOCKS, PAGES, ROOT, Block, blocks_of

PYTHON = [block for block in BLOCKS if block.language == 'python' and block.reason is None]


@pytest.mark.parametrize('path', PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_overlooked(path: Path) -> None:
    """Whatever is taken for a block by who reads the page, or for a marker by who writes it, is one here."""
    text = path.read_text('utf-8')
    markdown = path.suffix == '.md'
    begun = re.findall(r'^```\w*$' if markdown else r'^ *\.\. (?:code|code-block|sourcecode)::', text, re.MULTILINE)
    assert len(blocks_of(path)) == len(begun) // (2 if markdown else 1)
    marked = re.findall(r'^<!-- (?:scene|not run):' if markdown else r'^ *\.\. (?:scene|not run):', text, re.MULTILINE)
    assert len(marked) == sum(bool(block.scene or block.reason) for block in blocks_of(path))
    # a literal block would be one without a language
    assert markdown or not [line for line in text.splitlines() if line.endswith('::') and not line.startswith('..')]


@pytest.mark.parametrize('block', BLOCKS, ids=lambda block: block.where)
def test_block_is_run_or_says_why_not(block: Block) -> None:
    """Plain text cannot be run anyway, and data only be read."""
    assert block.reason is not None or block.language in ('python', 'console', 'json', 'text')
    if block.language == 'json':
        json.loads(block.source)
    if block.scene is not None:
        assert block.language == 'python'
        assert documented.scene_of(block.scene) in documented.SCENES


def test_examples_run() -> None:
    run_all([block for block in PYTHON if 'monkey.patch_all()' not in block.source])


def test_examples_that_patch_run() -> None:
    """In a process that was patched before anything else was imported."""
    run_all([block for block in PYTHON if 'monkey.patch_all()' in block.source], '--patched')


def scene_of(block: Block) -> str:
    """Return the scene of an example: the one that it names, or what it looks like."""
    return block.scene or ('tests' if re.search(r'^def test_', block.source, re.MULTILINE) else 'program')


def run_all(blocks: list[Block], *arguments: str) -> None:
    """Run examples; fail with what those have printed that went wrong."""
    ran = subprocess.run(
        [sys.executable, '-m', 'tests.documented', *arguments],
        cwd=ROOT,
        text=True,
        check=True,
        input=json.dumps([(scene_of(block), block.source) for block in blocks]),
        stdout=subprocess.PIPE,
    )
    failed = []
    for block, (status, printed, errors) in zip(blocks, json.loads(ran.stdout), strict=True):
        unanswered = 'serve_forever()' in block.source and 'HTTP/1.1 200 OK\n' not in printed
        if status or errors or unanswered or 'HTTP/1.1 5' in printed:
            failed.append(f'{block.where}: status {status}\n{printed}\n{errors}')
    assert not failed, '\n\n'.join(failed)
