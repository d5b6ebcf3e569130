"""Check CONTRIBUTING.md and the files around it against the tree.

The tests read files only; they need none of the tools.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / 'CONTRIBUTING.md').read_text('utf-8')
EXAMPLES = sorted(
    path
    for path in (ROOT / 'contrib' / 'examples').iterdir()
    if path.name not in ('README.md', '__init__.py', '__pycache__')
)
#: The paths that CONTRIBUTING.md names.
PLACES = r'`((?:\.ci|changes|contrib|docs|geventnode|tests)/[\w./-]*)`'


def test_places_exist() -> None:
    named = set(re.findall(PLACES, CONTRIBUTING))
    assert named
    assert [place for place in sorted(named) if not (ROOT / place).exists()] == []


def test_every_folder_is_in_the_table() -> None:
    parts = [
        path
        for parent in ('geventnode', 'contrib')
        for path in (ROOT / parent).iterdir()
        if path.is_dir() and path.name != '__pycache__'
    ]
    assert [str(part.relative_to(ROOT)) for part in parts if f'`{part.relative_to(ROOT)}/' not in CONTRIBUTING] == []


def decisions() -> list[tuple[str, str]]:
    """Return the files and functions in the table of decisions."""
    section = CONTRIBUTING.partition('## Where it is decided\n')[2].partition('\n## ')[0]
    rows = re.findall(r'\| `(geventnode/[\w./]+)`: (`[\w.]+`(?:, `[\w.]+`)*) +\|$', section, re.MULTILINE)
    assert len(rows) == section.count('`geventnode/')
    return [(path, name) for path, names in rows for name in re.findall(r'`([\w.]+)`', names)]


@pytest.mark.parametrize(('path', 'name'), decisions())
def test_decision_is_made_by_that_function(path: str, name: str) -> None:
    body: list[ast.stmt] = ast.parse((ROOT / path).read_text('utf-8')).body
    for part in name.split('.'):
        (found,) = (node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part)
        body = found.body
    assert isinstance(found, ast.FunctionDef)


def test_environments_exist() -> None:
    tox = (ROOT / 'tox.ini').read_text('utf-8')
    declared = set(re.search(r'env_list = (.*)', tox)[1].split(', '))
    assert set(re.findall(r'^\[testenv:(\w+)\]', tox, re.MULTILINE)) <= declared
    assert {name for names in re.findall(r'tox -e ([\w,]+)', CONTRIBUTING) for name in names.split(',')} <= declared


def test_ci_runs_every_environment() -> None:
    """Counting instructions is an exception: it takes minutes and a certain build of the interpreter."""
    script = (ROOT / '.ci' / 'run').read_text('utf-8')
    declared = set(re.findall(r'^\[testenv:(\w+)\]', (ROOT / 'tox.ini').read_text('utf-8'), re.MULTILINE))
    ran = re.findall(r'\b(?:environments|others)=\(([\w ]+)\)', script)
    assert declared - {'instructions'} == {name for names in ran for name in names.split()}


@pytest.mark.parametrize('example', EXAMPLES, ids=lambda path: path.name)
def test_every_example_has_a_test_and_a_line_in_the_readme(example: Path) -> None:
    tests = [path.read_text('utf-8') for path in (ROOT / 'tests').rglob('test_*.py')]
    name = re.escape(example.stem)
    used = re.compile(rf"from contrib\.examples import [\w, ]*\b{name}\b|'contrib' / 'examples' / '{name}(?:\.py)?'")
    assert any(used.search(text) for text in tests)
    listed = (EXAMPLES[0].parent / 'README.md').read_text('utf-8')
    assert f'({example.name})' in listed


@pytest.mark.parametrize('fragment', sorted((ROOT / 'changes').iterdir()), ids=lambda path: path.name)
def test_changes_have_valid_names(fragment: Path) -> None:
    """towncrier ignores files with other names, or fails."""
    if fragment.name == 'README.md':
        return
    settings = (ROOT / 'pyproject.toml').read_text('utf-8')
    kinds = re.findall(r"\{ directory = '(\w+)'", settings)
    assert re.fullmatch(rf'(\+[a-z][\w-]*|\d+)\.({"|".join(kinds)})\.md', fragment.name)
    text = fragment.read_text('utf-8')
    assert text.strip()
    assert text.endswith('\n')


def test_kinds_of_changes_are_explained() -> None:
    kinds = re.findall(r"\{ directory = '(\w+)'", (ROOT / 'pyproject.toml').read_text('utf-8'))
    assert re.findall(r'^\| `(\w+)` ', (ROOT / 'changes' / 'README.md').read_text('utf-8'), re.MULTILINE) == kinds


def test_hooks_use_installed_tools() -> None:
    hooks = (ROOT / '.pre-commit-config.yaml').read_text('utf-8')
    assert re.findall(r'^ *- repo: (.*)$', hooks, re.MULTILINE) == ['local']
    identified = re.findall(r'^ *- id: (.*)$', hooks, re.MULTILINE)
    assert identified == ['ruff', 'ruff-format', 'mypy']
    assert re.findall(r'^ *language: (.*)$', hooks, re.MULTILINE) == ['system'] * len(identified)


@pytest.mark.parametrize('script', sorted((ROOT / 'findings').iterdir()), ids=lambda path: path.name)
def test_findings_have_their_form(script: Path) -> None:
    """They pin every version, leave nothing behind, and fail with another outcome; they are not run here."""
    text = script.read_text('utf-8')
    assert text.startswith('#!/bin/sh\n# ')
    assert '\nset -eu\n' in text
    assert re.search(r'mktemp -d\)\n(?:\w+=\n)?trap .*rm -rf', text)
    commands = re.sub(r'\\\n', '', text)
    packages = re.findall(r'(?:pip"? install|npm install) (.*)', commands)
    assert packages
    for arguments in packages:
        named = [each for each in re.sub(r'--(?:target|prefix) \S+', '', arguments).split() if each[0] not in '->']
        assert [each for each in named if '==' not in each and each != '"$package"'] == []
    assert not re.search(r'(?:import|from) geventnode', text)
    assert re.search(r'\bassert\b|\bdiff\b|process\.exit\(|^\[ ', text, re.MULTILINE)
