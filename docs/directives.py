"""Generate parts of the documentation from the code, so that they agree with it.

- ``.. layers::`` draws the layers of ``tests/test_layers.py``.
- ``.. states:: module:Class`` draws an enumeration of states with its ``TRANSITIONS``, and lists the comments of its
  members.
- ``.. measured:: file: heading`` shows the first table below a heading of a Markdown file. The programs that measure
  write these tables.

Diagrams are SVG in the colours of the surrounding text, or plain text if the output is not HTML.
"""

from __future__ import annotations

import ast
import importlib
import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

__all__ = ['setup']

ROOT = Path(__file__).parent.parent

#: Sizes of diagrams, in pixels.
WIDTH, ROW, GAP, BOX = 720, 34, 14, 150


# -- drawing ----------------------------------------------------------------------------------------------------------


def svg(height: int, parts: list[str], description: str) -> str:
    """Return a drawing of ``parts``; screen readers read the description."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}" width="100%" '
        f'style="max-width:{WIDTH}px;margin:1em 0" fill="none" stroke="currentColor" font-size="13" '
        'font-family="sans-serif"><defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="currentColor" stroke="none"/>'
        f'</marker></defs>{"".join(parts)}</svg>'
    )


def box(x: int, y: int, width: int, text: str) -> str:
    """Return a box that contains ``text``."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{ROW}" rx="5"/>'
        f'<text x="{x + width // 2}" y="{y + 22}" text-anchor="middle" stroke="none" fill="currentColor">'
        f'{escape(text)}</text>'
    )


def label(x: int, y: int, text: str) -> str:
    """Return ``text`` that begins at a position."""
    return f'<text x="{x}" y="{y}" stroke="none" fill="currentColor">{escape(text)}</text>'


def drawing(picture: str, text: str) -> list[nodes.Node]:
    """Return a diagram, and a text for outputs that cannot show it."""
    plain = nodes.literal_block(text, text)
    plain['language'] = 'text'
    shown = nodes.container('', nodes.raw('', picture, format='html'))
    other = nodes.container('', plain, classes=['instead-of-a-diagram'])
    return [shown, other]


# -- diagrams ---------------------------------------------------------------------------------------------------------


def layers() -> list[list[str]]:
    """Return the packages and modules of each layer, from the table of the tests."""
    source = (ROOT / 'tests' / 'test_layers.py').read_text('utf-8')
    table = next(
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'LAYERS'
    )
    # the first row is the package itself, which is empty
    return [list(dict.fromkeys(name.partition('.')[0] for name in row)) for row in ast.literal_eval(table)[1:]]


class Layers(Directive):
    """Draw the layers of the package, the lowest at the bottom."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes; docutils calls this."""
        rows = list(enumerate(layers()))[::-1]
        parts, lines = [], []
        for place, (number, names) in enumerate(rows):
            y = place * (ROW + GAP) + 2
            parts.append(label(2, y + 22, str(number)))
            width = (WIDTH - 30 - (len(names) - 1) * 8) // len(names)
            parts += [box(26 + index * (width + 8), y, width, name) for index, name in enumerate(names)]
            if place + 1 < len(rows):
                parts.append(f'<path d="M6 {y + 28} V{y + ROW + GAP + 9}" marker-end="url(#arrow)"/>')
            lines.append(f'{number}  {"  ".join(names)}')
        return drawing(
            svg(len(rows) * (ROW + GAP), parts, 'Layers, from the highest: ' + '; '.join(lines)), '\n'.join(lines)
        )


def described(kind: type) -> dict[str, str]:
    """Return the comments of the members of an enumeration."""
    path = Path(importlib.import_module(kind.__module__).__file__ or '')
    found, description = {}, ''
    for line in path.read_text('utf-8').splitlines():
        comment = re.fullmatch(r' {4}#: ?(.*)', line)
        member = re.fullmatch(r' {4}([A-Z_]+) = .*', line)
        if comment:
            description = f'{description} {comment[1]}'.strip()
        elif member:
            found[member[1]], description = description, ''
    return found


class States(Directive):
    """Draw the states of an enumeration in a column, with their transitions, and list their meanings."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes; docutils calls this."""
        module, _, name = self.arguments[0].partition(':')
        imported = importlib.import_module(module)
        kind, table = getattr(imported, name), imported.TRANSITIONS
        members = list(kind)
        parts, lines = [], []
        for number, member in enumerate(members):
            parts.append(box(260, number * (ROW + GAP) + 2, BOX, member.value))
            lines.append(f'{member.value} -> {", ".join(sorted(each.value for each in table[member])) or "nothing"}')
            for follower in sorted(table[member], key=members.index):
                parts.append(self._arrow(number, members.index(follower)))
        parts.append(box(20, 2, 90, 'begins'))
        parts.append(f'<path d="M110 {2 + ROW // 2} H258" marker-end="url(#arrow)"/>')
        description = '; '.join(lines).replace('->', 'is followed by')
        return [*drawing(svg(len(members) * (ROW + GAP), parts, description), '\n'.join(lines)), self._list(kind)]

    @staticmethod
    def _arrow(start: int, end: int) -> str:
        """Return an arrow from one box to another: forward on the right side, back on the left."""
        distance = abs(end - start)
        shift = 5 if end > start else -5
        first, last = (number * (ROW + GAP) + 2 + ROW // 2 for number in (start, end))
        if distance == 1 and end > start:
            x = 260 + BOX // 2
            return f'<path d="M{x} {first + ROW // 2} V{last - ROW // 2 - 1}" marker-end="url(#arrow)"/>'
        side, bend = (260 + BOX, 34 * distance) if end > start else (260, -34 * distance)
        return (
            f'<path d="M{side} {first + shift} C{side + bend} {first + shift} {side + bend} {last - shift} '
            f'{side} {last - shift}" marker-end="url(#arrow)"/>'
        )

    @staticmethod
    def _list(kind: Any) -> nodes.Node:
        descriptions = described(kind)
        items = nodes.definition_list()
        for member in kind:
            meaning = nodes.definition('', nodes.paragraph('', descriptions[member.name] or f'{member.value}.'))
            items += nodes.definition_list_item('', nodes.term('', member.value), meaning)
        return items


# -- measurements -----------------------------------------------------------------------------------------------------


class Measured(Directive):
    """Show a table of figures from a Markdown file."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes; docutils calls this."""
        file, _, heading = self.arguments[0].partition(': ')
        path = ROOT / file
        self.state.document.settings.env.note_dependency(str(path))
        found = re.search(
            rf'^#+ {re.escape(heading)}\n(?:(?!#).*\n)*?((?:\|.*\n)+)', path.read_text('utf-8'), re.MULTILINE
        )
        if found is None:
            raise self.error(f'{file} has no table below {heading!r}')
        head, _, *rows = ([cell.strip() for cell in line.strip('|').split('|')] for line in found[1].splitlines())
        lines = ['.. list-table::', '   :header-rows: 1', '']
        for row in [head, *rows]:
            lines += [f'   {" " if number else "*"} - {cell.replace("**", "")}' for number, cell in enumerate(row)]
        made = nodes.container()
        self.state.nested_parse(StringList(lines, str(path)), self.content_offset, made)
        return list(made.children)


def hide_text(app: Any, tree: Any, name: str) -> None:
    """Remove the texts of diagrams from HTML, which shows the diagrams."""
    for node in list(tree.findall(nodes.container)):
        if 'instead-of-a-diagram' in node['classes'] and app.builder.format == 'html':
            node.parent.remove(node)


def setup(app: Any) -> dict[str, bool]:
    """Add the directives; Sphinx calls this."""
    app.add_directive('layers', Layers)
    app.add_directive('states', States)
    app.add_directive('measured', Measured)
    app.connect('doctree-resolved', hide_text)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
