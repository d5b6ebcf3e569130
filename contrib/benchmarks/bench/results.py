"""Results: repeated samples by case and server, and ratios between servers.

Repetitions are interleaved, so that the samples of one repetition are seconds apart, with the same load of the machine.
A ratio is computed within each repetition, and the median of these ratios is reported. One failed sample makes its
whole cell invalid, with the reason.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ['Figure', 'Samples', 'Section', 'Series', 'Table']


@dataclass(frozen=True)
class Series:
    """One value for each repetition."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    def over(self, other: Series) -> Series:
        """Return the ratios to another series, repetition by repetition."""
        return Series(tuple(mine / others for mine, others in zip(self.values, other.values, strict=True)))

    def text(self, show: Callable[[float], str]) -> str:
        """Return the median, with the extremes if there are several values."""
        if len(self.values) == 1:
            return show(self.median)
        return f'{show(self.median)} ({show(min(self.values))}–{show(max(self.values))})'


@dataclass
class Samples:
    """The measurements of one quantity: a series for each case and server."""

    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    faults: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, case: str, server: str, value: float) -> None:
        """Add the sample of one repetition."""
        self.values.setdefault((case, server), []).append(value)

    def fail(self, case: str, server: str, reason: str) -> None:
        """Make a cell invalid; the first reason is kept."""
        self.faults.setdefault((case, server), reason)

    def series(self, case: str, server: str) -> Series | None:
        """Return the measurements; None if there are no valid ones."""
        values = self.values.get((case, server))
        return None if not values or (case, server) in self.faults else Series(tuple(values))

    def ratio(self, case: str, server: str, other: str) -> Series | None:
        """Return the ratio of two servers' series; None if one is missing."""
        mine, others = self.series(case, server), self.series(case, other)
        return None if mine is None or others is None else mine.over(others)

    def cell(self, case: str, server: str, show: Callable[[float], str]) -> str:
        """Return the text of a cell of a table."""
        found = self.series(case, server)
        if found is not None:
            return found.text(show)
        return 'invalid' if (case, server) in self.faults else '–'

    def ratio_cell(self, case: str, server: str, other: str) -> str:
        """Return the text of a cell with the ratio of two servers."""
        found = self.ratio(case, server, other)
        return '–' if found is None else found.text(lambda value: f'{value:.2f}')

    def notes(self) -> list[str]:
        """Return the reasons for invalid cells."""
        return [f'Invalid: {server}, {case}: {reason}' for (case, server), reason in self.faults.items()]


@dataclass(frozen=True)
class Figure:
    """A figure with a target.

    :ivar name: the name of the figure.
    :ivar wanted: the target.
    :ivar measured: the measurements; None if there are no valid ones.
    :ivar at_most: whether the target is an upper bound.
    :ivar unit: the text after the number.
    """

    name: str
    wanted: float
    measured: Series | None
    at_most: bool = False
    unit: str = ''

    @property
    def reached(self) -> bool:
        """Whether the median reaches the target."""
        if self.measured is None:
            return False
        return self.measured.median <= self.wanted if self.at_most else self.measured.median >= self.wanted

    def row(self) -> list[str]:
        """Return the row of the table of figures."""
        bound = f"at {'most' if self.at_most else 'least'} {self.wanted:g}{self.unit}"
        text = '–' if self.measured is None else self.measured.text(lambda value: f'{value:.2f}') + self.unit
        return [self.name, bound, text, 'yes' if self.reached else '**no**']


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Return the table with aligned columns: the first one left, the others right."""
        widths = [max(3, *(len(row[index]) for row in [self.header, *self.rows])) for index in range(len(self.header))]
        rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
        lines = [
            ' | '.join(
                [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in [self.header, rule, *self.rows]
        ]
        return '\n'.join(f'| {line} |' for line in lines)


@dataclass
class Section:
    """One part of the report."""

    title: str
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def markdown(self) -> str:
        """Return heading, tables and notes."""
        parts = [f'### {self.title}', *(table.markdown() for table in self.tables)]
        if self.notes:
            parts.append('\n'.join(f'- {note}' for note in self.notes))
        return '\n\n'.join(parts)
