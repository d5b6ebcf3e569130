"""The command line of programs that measure in parts: the parts, the file of the report, and the exit status."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from bench.machine import raise_descriptor_limit
from bench.progress import say
from bench.report import ReportFailed, check_markers, compose, compose_part, insert
from bench.results import Section

__all__ = ['add_options', 'chosen', 'measure', 'today']

Scale = TypeVar('Scale')
Parts = Mapping[str, Callable[[Scale], Section]]


def add_options(parser: argparse.ArgumentParser, parts: Parts[Scale]) -> None:
    """Add the options that the programs share."""
    parser.add_argument('--only', metavar='PARTS', help=f"some of {','.join(parts)}")
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='put the report between the markers of FILE')


def chosen(
    parser: argparse.ArgumentParser, options: argparse.Namespace, parts: Parts[Scale], alone: Collection[str] = ()
) -> list[str]:
    """Return the names of the parts to measure; invalid options end the process with status 2.

    :param alone: parts that a whole run omits, and that have a place of their own in the file of the report.
    """
    names = options.only.split(',') if options.only else [name for name in parts if name not in alone]
    if unknown := [name for name in names if name not in parts]:
        parser.error(f"no such part: {', '.join(unknown)}; choose from {', '.join(parts)}")
    if options.markdown is not None:
        if options.only and options.only not in alone:
            either = ''.join(f', or choose {name} alone' for name in alone)
            parser.error(f'--markdown needs the report of a whole run; remove --only{either}')
        try:
            check_markers(options.markdown, options.only or '')
        except ReportFailed as error:
            parser.error(str(error))
    return names


def measure(
    names: list[str],
    parts: Parts[Scale],
    scale: Scale,
    settings: str,
    markdown: Path | None,
    alone: Collection[str] = (),
) -> int:
    """Measure, print the report and write it to its file; return 0 if every target was reached."""
    raise_descriptor_limit()
    sections = []
    for name in names:
        sections.append(parts[name](scale))
        # printed at once, so that an interruption loses no results
        say(sections[-1].markdown())
    part = names[0] if len(names) == 1 and names[0] in alone else ''
    report = compose_part(sections[0], settings) if part else compose(sections, settings)
    print(report)
    if markdown is not None:
        insert(markdown, report, part)
    return 0 if all(figure.reached for section in sections for figure in section.figures) else 1


def today() -> datetime.date:
    """Return the date at Greenwich."""
    return datetime.datetime.now(datetime.timezone.utc).date()
