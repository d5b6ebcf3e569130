"""Requests parsed per second, without any I/O, against h11 and httptools (``workers/parse.py`` does the work).

The request has 12 header fields. It is the same each time, or its Cookie differs each time so that a cache of whole
heads cannot hit. Either only the head is parsed, or a map of the fields is built and used as well. A request of the
third kind has a path, a query, a cookie and an id of its own, as on real sites; the environment variable
``GEVENTNODE_BASE``, the directory of another checkout, adds its parser there.
"""

from __future__ import annotations

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import base_checkout, in_turn

__all__ = ['measure_parsers']

PARSERS = ('geventnode', 'h11', 'httptools')
BOUNDS = (('h11', 4.0), ('httptools', 0.8))
UNSEEN_BOUNDS = (('base', 2.0), ('h11', 6.0), ('httptools', 0.6))
CASES = {
    ('same', 'head'): 'same bytes, head',
    ('same', 'map'): 'same bytes, map of headers',
    ('other', 'head'): 'other cookie each time, head',
    ('other', 'map'): 'other cookie each time, map of headers',
}
UNSEEN = 'unseen head of 12 fields, parsed and looked up'


def measure_parsers(repeat: int, requests: int) -> Section:
    """Parse ``requests`` requests with every parser in every case, ``repeat`` times; return the report."""
    rate = Samples()
    for parser in PARSERS:
        try:
            # a parser that is not installed must not prevent the others from being measured
            workers.run('parse.py', 'same', 1, 1, parser, core=machine.SERVER_CORE)
        except workers.WorkerFailed as error:
            for title in (*CASES.values(), UNSEEN):
                rate.fail(title, parser, str(error))
    able = [parser for parser in PARSERS if (UNSEEN, parser) not in rate.faults]
    for kind in ('same', 'other'):
        found = workers.run('parse.py', kind, repeat, requests, *able, core=machine.SERVER_CORE)
        for parser in able:
            for part in ('head', 'map'):
                for value in found[parser][part]:
                    rate.add(CASES[kind, part], parser, value)
    say('parsers')
    # another build of the package needs a process of its own, so that all of them take turns
    for repetition in range(repeat):
        for parser in in_turn([*able, *(['base'] if base_checkout() else [])], repetition):
            measure_unseen(rate, parser, requests)
        say(f'parsers, unseen heads {repetition + 1}/{repeat}')
    return report(rate)


def measure_unseen(rate: Samples, parser: str, requests: int) -> None:
    """Parse requests of which no two are alike with one parser, and add the rate."""
    root, name = (base_checkout()[0], PARSERS[0]) if parser == 'base' else ('', parser)
    try:
        found = workers.run('parse.py', 'unseen', 1, requests, name, core=machine.SERVER_CORE, root=root)
    except workers.WorkerFailed as error:
        rate.fail(UNSEEN, parser, str(error))
        return
    rate.add(UNSEEN, parser, found[name]['map'][0])


def report(rate: Samples) -> Section:
    """Return tables, notes and figures."""
    keys = [*PARSERS, *(['base'] if base_checkout() else [])]
    titles = [UNSEEN, *CASES.values()]
    rates = [[title, *(rate.cell(title, key, lambda value: f'{value:,.0f}') for key in keys)] for title in titles]
    ratios = [[title, *(rate.ratio_cell(title, 'geventnode', other) for other in keys[1:])] for title in titles]
    tables = [Table(['requests per second', *keys], rates), Table(['geventnode to', *keys[1:]], ratios)]
    figures = [
        Figure(f'parser to {other}, {UNSEEN}', bound, rate.ratio(UNSEEN, 'geventnode', other))
        for other, bound in UNSEEN_BOUNDS
        if other in keys
    ]
    figures += [
        Figure(f'parser to {other}, {title}', bound, rate.ratio(title, 'geventnode', other))
        for other, bound in BOUNDS
        for title in CASES.values()
    ]
    return Section('Parser', tables, rate.notes(), figures)
