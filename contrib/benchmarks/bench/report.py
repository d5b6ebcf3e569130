"""The whole report as Markdown: the machine, the figures with their targets, and every section's tables.

A file with the report has two markers; the text between them is replaced. A part that is measured on its own has two
markers of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import machine
from bench.results import Section, Table

__all__ = ['ReportFailed', 'check_markers', 'compose', 'compose_part', 'insert', 'markers']


class ReportFailed(Exception):
    """The report cannot be written to a file."""


def compose(sections: Sequence[Section], settings: str) -> str:
    """Return the report; ``settings`` describes the options of the run."""
    figures = [figure for section in sections for figure in section.figures]
    parts = [
        '### Machine',
        Table(['component', 'version'], [list(row) for row in machine.describe()]).markdown(),
        '\n'.join(f'- {note}' for note in [settings, *machine.core_notes()]),
        '### Figures to reach',
        Table(['figure', 'wanted', 'measured', 'reached'], [figure.row() for figure in figures]).markdown(),
        *(section.markdown() for section in sections),
    ]
    return '\n\n'.join(parts)


def compose_part(section: Section, settings: str) -> str:
    """Return the report of a part that is measured on its own."""
    notes = [settings, f'{machine.processor()}; revision {machine.revision()}.', *machine.core_notes()]
    return f'{section.markdown()}\n' + '\n'.join(f'- {note}' for note in notes)


def markers(part: str = '') -> tuple[str, str]:
    """Return the lines before and after the whole report, or before and after that of a part."""
    name = f'measured, {part}' if part else 'measured'
    return f'<!-- {name}: begin -->', f'<!-- {name}: end -->'


def check_markers(path: Path, part: str = '') -> None:
    """Raise :class:`ReportFailed` unless the file has both markers, in order."""
    begin, end = markers(part)
    try:
        text = path.read_text()
    except OSError as error:
        raise ReportFailed(f'{path}: {error.strerror}') from error
    if not 0 <= text.find(begin) < text.find(end):
        raise ReportFailed(f'{path}: no {begin} before {end}')


def insert(path: Path, report: str, part: str = '') -> None:
    """Write the report, or that of a part, between its markers in a file. Raises :class:`ReportFailed`."""
    check_markers(path, part)
    begin, end = markers(part)
    text = path.read_text()
    before, after = text.partition(begin)[0], text.partition(end)[2]
    path.write_text(f'{before}{begin}\n\n{report}\n\n{end}{after}')
