"""What contributors are told is true: the places that are named exist, and nothing is left without its test.

Read from the text: no tool that is named there is needed here.
"""

from __future__ import annotations

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
#: What begins the names of things that are in the tree.
PLACES = r'`((?:\.ci|changes|contrib|docs|geventnode|tests)/[\w./-]*)`'


def test_places_exist() -> None:
    named = set(re.findall(PLACES, CONTRIBUTING))
    assert named
    assert [place for place in sorted(named) if not (ROOT / place).exists()] == []


def test_every_part_of_the_package_has_its_place() -> None:
    """In the table of where things are: each directory of it, and of what stands beside it."""
    parts = [
        path
        for parent in ('geventnode', 'contrib')
        for path in (ROOT / parent).iterdir()
        if path.is_dir() and path.name != '__pycache__'
    ]
    assert [str(part.relative_to(ROOT)) for part in parts if f'`{part.relative_to(ROOT)}/' not in CONTRIBUTING] == []


def test_environments_exist() -> None:
    tox = (ROOT / 'tox.ini').read_text('utf-8')
    declared = set(re.search(r'env_list = (.*)', tox)[1].split(', '))
    assert set(re.findall(r'^\[testenv:(\w+)\]', tox, re.MULTILINE)) <= declared
    assert {name for names in re.findall(r'tox -e ([\w,]+)', CONTRIBUTING) for name in names.split(',')} <= declared


def test_ci_runs_every_environment() -> None:
    """Those of interpreters are chosen by what is there. Counting instructions takes minutes, and builds of the
    interpreter that are known: it is left to whoever changes what a request costs."""
    script = (ROOT / '.ci' / 'run').read_text('utf-8')
    declared = set(re.findall(r'^\[testenv:(\w+)\]', (ROOT / 'tox.ini').read_text('utf-8'), re.MULTILINE))
    ran = re.findall(r'\b(?:environments|others)=\(([\w ]+)\)', script)
    assert declared - {'instructions'} == {name for names in ran for name in names.split()}


@pytest.mark.parametrize('example', EXAMPLES, ids=lambda path: path.name)
def test_every_example_has_its_test(example: Path) -> None:
    """And its line in the table beside it."""
    tests = [path.read_text('utf-8') for path in (ROOT / 'tests').rglob('test_*.py')]
    name = re.escape(example.stem)
    used = re.compile(rf"from contrib\.examples import [\w, ]*\b{name}\b|'contrib' / 'examples' / '{name}(?:\.py)?'")
    assert any(used.search(text) for text in tests)
    listed = (EXAMPLES[0].parent / 'README.md').read_text('utf-8')
    assert f'({example.name})' in listed


@pytest.mark.parametrize('fragment', sorted((ROOT / 'changes').iterdir()), ids=lambda path: path.name)
def test_changes_are_named_as_they_should(fragment: Path) -> None:
    """Anything else would be left out of the change log, or stop it from being written."""
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


def test_hooks_fetch_nothing() -> None:
    """They are the tools of whoever commits, with the settings of the project."""
    hooks = (ROOT / '.pre-commit-config.yaml').read_text('utf-8')
    assert re.findall(r'^ *- repo: (.*)$', hooks, re.MULTILINE) == ['local']
    identified = re.findall(r'^ *- id: (.*)$', hooks, re.MULTILINE)
    assert identified == ['ruff', 'ruff-format', 'mypy']
    assert re.findall(r'^ *language: (.*)$', hooks, re.MULTILINE) == ['system'] * len(identified)


def test_security_names_no_address() -> None:
    """Reports go where the repository is; an address would have to be somebody's."""
    text = (ROOT / 'SECURITY.md').read_text('utf-8')
    assert "repository's private vulnerability" in text
    assert '@' not in text
