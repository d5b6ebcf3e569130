"""What users of neighbouring projects ask for, row by row: each has a test that carries its number, or a reason.

The rows are threads about gevent.pywsgi, gunicorn's gevent worker, geventhttpclient, urllib3 and requests; a test says
``demand 12`` in its name, its docstring or a comment.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
ROWS = 48

#: Rows without a test, and why.
REASONS: dict[int, str] = {}

_mention = re.compile(r'demand[ _](\d+(?:(?:-|, )\d+)*)')


def _tests() -> Iterator[tuple[str, str]]:
    """Yield the name and the source of each test."""
    for path in sorted(TESTS.rglob('test_*.py')):
        source = path.read_text('utf-8')
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith('test_'):
                yield f'{path.name}::{node.name}', ast.get_source_segment(source, node) or ''


def _rows(text: str) -> set[int]:
    """Return the rows that ``text`` mentions."""
    found: set[int] = set()
    for mention in _mention.findall(text):
        for part in mention.split(', '):
            first, _, last = part.partition('-')
            found.update(range(int(first), int(last or first) + 1))
    return found


def test_every_row_has_a_test_or_a_reason() -> None:
    """And no row that does not exist is mentioned."""
    covered = {
        row: name for name, source in _tests() if name.partition('::')[0] != 'test_demand.py' for row in _rows(source)
    }
    assert set(covered) <= set(range(1, ROWS + 1)), 'these rows do not exist'
    assert not set(covered) & set(REASONS), 'these rows have both a test and a reason to have none'
    assert sorted({*covered, *REASONS}) == list(range(1, ROWS + 1))


def test_mentions_are_found() -> None:
    """Single ones, lists and ranges."""
    assert _rows('def test_demand_7_x') == {7}
    assert _rows('# demand 8, 9') == {8, 9}
    assert _rows('(demand 1-3: and so on)') == {1, 2, 3}
    assert _rows('in demand of nothing') == set()
