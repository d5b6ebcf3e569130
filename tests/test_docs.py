"""Execute every code block in the README and the documentation that has no reason against it.

Each Python example runs in its own process, because it can patch the standard library. The comment before it names its
scene; without a comment, it is a complete program (``tests/documented.py`` has the scenes).
``tests/system/test_docs_commands.py`` runs the commands, and ``tests/system/test_start.py`` those of the first page.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from geventnode.testing import raw_request, serving_in_memory
from tests import documented
from tests.code_blocks import BLOCKS, PAGES, ROOT, Block, blocks_of
from tests.sockets import until

PYTHON = [block for block in BLOCKS if block.language == 'python' and block.reason is None]


@pytest.mark.parametrize('path', PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_and_marker_is_found(path: Path) -> None:
    text = path.read_text('utf-8')
    markdown = path.suffix == '.md'
    begun = re.findall(r'^```\w*$' if markdown else r'^ *\.\. (?:code|code-block|sourcecode)::', text, re.MULTILINE)
    assert len(blocks_of(path)) == len(begun) // (2 if markdown else 1)
    marked = re.findall(r'^<!-- (?:scene|not run):' if markdown else r'^ *\.\. (?:scene|not run):', text, re.MULTILINE)
    assert len(marked) == sum(bool(block.scene or block.reason) for block in blocks_of(path))
    # a literal block would have no language
    assert markdown or not [line for line in text.splitlines() if line.endswith('::') and not line.startswith('..')]


@pytest.mark.parametrize('block', BLOCKS, ids=lambda block: block.where)
def test_block_is_run_or_has_a_reason(block: Block) -> None:
    """Plain text is not run, and JSON is only parsed."""
    assert block.reason is not None or block.language in ('python', 'console', 'json', 'text')
    if block.language == 'json':
        json.loads(block.source)
    if block.scene is not None:
        assert block.language == 'python'
        assert documented.scene_of(block.scene) in documented.SCENES


def test_examples_run() -> None:
    run_all([block for block in PYTHON if 'monkey.patch_all()' not in block.source])


def test_patching_examples_run() -> None:
    """Patch the process before any other import."""
    run_all([block for block in PYTHON if 'monkey.patch_all()' in block.source], '--patched')


def scene_of(block: Block) -> str:
    """Return the scene that an example names, or the one that its source suggests."""
    return block.scene or ('tests' if re.search(r'^def test_', block.source, re.MULTILINE) else 'program')


def run_all(blocks: list[Block], *arguments: str) -> None:
    """Run examples; fail with the output of those that failed."""
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
        no_response = 'serve_forever()' in block.source and 'HTTP/1.1 200 OK\n' not in printed
        if status or errors or no_response or 'HTTP/1.1 5' in printed:
            failed.append(f'{block.where}: status {status}\n{printed}\n{errors}')
    assert not failed, '\n\n'.join(failed)


@pytest.mark.parametrize(
    ('chunks', 'status'), [(b'4\r\n1234\r\n', 413), (b'x\r\n', 400), (None, 400), (b'3\r\n123\r\n0\r\n\r\n', 200)]
)
def test_documented_upload_leaves_no_incomplete_file(
    chunks: bytes | None, status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [source] = [block.source for block in PYTHON if 'tempfile.NamedTemporaryFile' in block.source]
    program: dict[str, Any] = {}
    exec(source[source.index('import os') : source.index('server = ')], program)
    program['DIRECTORY'] = tmp_path
    with serving_in_memory(program['upload'], max_body_size=3) as site:
        client = site.send(raw_request('/name', 'Transfer-Encoding: chunked', method='PUT'))
        until(lambda: list(tmp_path.iterdir()) != [])
        if chunks is None:
            client.half_close()
        else:
            client.send(chunks)
        assert client.response().status == status
    assert [path.name for path in tmp_path.iterdir()] == (['name'] if status == 200 else [])
    assert [record for record in caplog.records if record.levelname == 'ERROR'] == []


DESIGN = (ROOT / 'docs' / 'design.rst').read_text('utf-8')
FILES_IN_DESIGN = sorted(set(re.findall(r'``(\w+/[\w/]+\.py)``', DESIGN)))


@pytest.mark.parametrize('path', FILES_IN_DESIGN)
def test_file_in_design_exists(path: str) -> None:
    assert (ROOT / 'geventnode' / path).exists()


@cache
def methods_in_design() -> dict[str, set[str]]:
    """Return the names of the methods of each class in the files that the page names."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in FILES_IN_DESIGN:
        for node in ast.parse((ROOT / 'geventnode' / path).read_text('utf-8')).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].update(each.name for each in node.body if hasattr(each, 'name'))
    return found


@pytest.mark.parametrize('name', sorted(set(re.findall(r'``([A-Z]\w+\.\w+)``', DESIGN))))
def test_method_in_design_exists(name: str) -> None:
    """It is defined in a class of that name in one of the files that the page names."""
    owner, _, method = name.partition('.')
    assert method in methods_in_design()[owner]


@pytest.mark.parametrize(('path', 'name'), re.findall(r'``(\w+/[\w/]+\.py)``:\s+``([\w.]+)``', DESIGN))
def test_name_in_design_is_in_its_file(path: str, name: str) -> None:
    body: list[ast.stmt] = ast.parse((ROOT / 'geventnode' / path).read_text('utf-8')).body
    for part in name.split('.'):
        (found,) = (each for each in body if getattr(each, 'name', None) == part)
        body = getattr(found, 'body', [])
