"""Requests parsed per second, without any I/O, against h11 and httptools (``workers/parse.py`` does the work).

The request has 12 header fields. It is the same each time, or its Cookie differs each time so that a cache of whole
heads cannot hit. Either only the head is parsed, or a map of the fields is built and used as well.
"""

from __future__ import annotations

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Samples, Section, Table

__all__ = ['measure_parsers']

PARSERS = ('geventnode', 'h11', 'httptools')
BOUNDS = (('h11', 4.0), ('httptools', 0.8))
CASES = {
    'same-head': 'same bytes, head',
    'same-map': 'same bytes, map of headers',
    'other-head': 'other cookie each time, head',
    'other-map': 'other cookie each time, map of headers',
}


def measure_parsers(repeat: int, requests: int) -> Section:
    """Parse ``requests`` requests with every parser in every case, ``repeat`` times; return the report."""
    rate = Samples()
    for parser in PARSERS:
        try:
            # a parser that is not installed must not prevent the others from being measured
            workers.run('parse.py', 1, 1, parser, core=machine.SERVER_CORE)
        except workers.WorkerFailed as error:
            for title in CASES.values():
                rate.fail(title, parser, str(error))
    able = [parser for parser in PARSERS if (CASES['same-head'], parser) not in rate.faults]
    found = workers.run('parse.py', repeat, requests, *able, core=machine.SERVER_CORE)
    for parser in able:
        for case, title in CASES.items():
            for value in found[parser][case]:
                rate.add(title, parser, value)
    say('parsers')
    return report(rate)


def report(rate: Samples) -> Section:
    """Return tables, notes and figures."""
    rates = [
        [title, *(rate.cell(title, parser, lambda value: f'{value:,.0f}') for parser in PARSERS)]
        for title in CASES.values()
    ]
    ratios = [
        [title, *(rate.ratio_cell(title, 'geventnode', other) for other in PARSERS[1:])] for title in CASES.values()
    ]
    tables = [Table(['requests per second', *PARSERS], rates), Table(['geventnode to', *PARSERS[1:]], ratios)]
    figures = [
        Figure(f'parser to {other}, {title}', bound, rate.ratio(title, 'geventnode', other))
        for other, bound in BOUNDS
        for title in CASES.values()
    ]
    return Section('Parser', tables, rate.notes(), figures)
