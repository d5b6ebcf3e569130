"""The whole report as Markdown: the machine, the figures with their targets, and every section's tables.

A file with the report has two markers; the text between them is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import machine
from bench.results import Section, Table

__all__ = ['BEGIN', 'END', 'ReportFailed', 'check_markers', 'compose', 'insert']

BEGIN = '<!-- measured: begin -->'
END = '<!-- measured: end -->'


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


def check_markers(path: Path) -> None:
    """Raise :class:`ReportFailed` unless the file has both markers, in order."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ReportFailed(f'{path}: {error.strerror}') from error
    if not 0 <= text.find(BEGIN) < text.find(END):
        raise ReportFailed(f'{path}: no {BEGIN} before {END}')


def insert(path: Path, report: str) -> None:
    """Write the report between the markers of a file. Raises :class:`ReportFailed`."""
    check_markers(path)
    text = path.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    path.write_text(f'{before}{BEGIN}\n\n{report}\n\n{END}{after}')
