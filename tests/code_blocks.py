"""Find the code blocks of the README and the documentation, with their markers.

A comment before a block names the scene in which the example runs (``.. scene: listener``), or the reason why it is
not run (``.. not run: it needs a database``); in Markdown, the comment is between ``<!--`` and ``-->``.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

__all__ = ['BLOCKS', 'PAGES', 'ROOT', 'Block', 'blocks_of']

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.rst'))]

_REST = re.compile(
    r"""
    (?: ^\.\.\ (?P<marker> scene | not\ run ):\ (?P<text> .+ (?: \n\ {3}.+ )* ) \n\n )?
    ^\.\.\ code-block::\ (?P<language> \w+ ) \n
    (?: \ {3}:.*\n )* \n
    (?P<source> (?: \ {3}.*\n | \n )+ )
""",
    re.MULTILINE | re.VERBOSE,
)
_MARKDOWN = re.compile(
    r"""
    (?: ^<!--\ (?P<marker> scene | not\ run ):\ (?P<text> [^>]+ )\ -->\n )?
    ^```(?P<language> \w* ) \n
    (?P<source> (?: .*\n )+? )
    ^```$
""",
    re.MULTILINE | re.VERBOSE,
)


class Block(NamedTuple):
    """A code block."""

    page: str
    #: The number of its first line.
    line: int
    language: str
    source: str
    scene: str | None
    #: The reason why it is not run.
    reason: str | None

    @property
    def where(self) -> str:
        """Return the page and the line."""
        return f'{self.page}:{self.line}'


def blocks_of(path: Path) -> list[Block]:
    """Return the blocks of a file, in order."""
    text = path.read_text('utf-8')
    page = str(path.relative_to(ROOT))
    found = []
    for match in (_MARKDOWN if path.suffix == '.md' else _REST).finditer(text):
        marker = None if match['text'] is None else ' '.join(match['text'].split())
        scene, reason = (marker, None) if match['marker'] == 'scene' else (None, marker)
        line = text.count('\n', 0, match.start('source')) + 1
        source = textwrap.dedent(match['source']).rstrip() + '\n'
        found.append(Block(page, line, match['language'], source, scene, reason))
    return found


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
