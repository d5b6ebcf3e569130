"""A flood of TLS handshakes that stall within the ClientHello, beside normal HTTPS clients."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import machine, workers
from bench.results import Figure, Samples, Section, Table
from bench.tls import make_certificate

from faults.commanding import finish
from faults.normal import Beside
from faults.scale import Scale
from faults.targets import FAILURES, WORKERS, RunningTarget, Target, reasons

__all__ = ['measure_handshakes']

#: The server's limit, in seconds.
HANDSHAKE_TIMEOUT = 2.0
#: Seconds by which the server can be late.
LATE = 1.0


def measure_handshakes(scale: Scale) -> Section:
    """Measure normal clients alone and beside the flood; return the report."""
    lifetimes = Samples()
    beside = Beside(partial(stalling, lifetimes, scale))
    try:
        with tempfile.TemporaryDirectory() as directory:
            target = Target.of(
                'faulted.py', '--handshake-timeout', HANDSHAKE_TIMEOUT, certificate=make_certificate(Path(directory))
            )
            with RunningTarget(target) as running:
                beside.measure(running, scale, 'stalled handshakes')
    except (ImportError, *FAILURES) as error:
        beside.fail(str(error))
    return report(beside, lifetimes, scale)


@contextmanager
def stalling(lifetimes: Samples, scale: Scale, running: RunningTarget) -> Iterator[None]:
    """Stall handshakes while the block runs, and record the times until the server closes them."""
    with workers.start(str(WORKERS / 'stalling.py'), running.port, scale.stalls, core=machine.LOAD_CORE) as worker:
        try:
            workers.answer(worker)
            yield
            for name, value in finish(worker).items():
                lifetimes.add(name, 'stalled', value)
        finally:
            worker.kill()


def report(beside: Beside, lifetimes: Samples, scale: Scale) -> Section:
    """Return tables, notes and figures."""
    rows = [
        [title, lifetimes.cell(name, 'stalled', lambda value: f'{value:,.2f}'.removesuffix('.00'))]
        for name, title in (
            ('count', 'handshakes closed'),
            ('earliest', 'the earliest after, s'),
            ('median', 'the median after, s'),
            ('latest', 'the latest after, s'),
        )
    ]
    fault = f'{scale.stalls:,} stalled handshakes'
    return Section(
        'Stalled TLS handshakes',
        [
            beside.table(f'HTTPS; {fault} at any time'),
            Table([f'handshake_timeout={HANDSHAKE_TIMEOUT:g}', 'measured'], rows),
        ],
        reasons(beside.samples),
        [
            beside.figure(fault),
            Figure(
                'stalled handshakes closed: the earliest',
                HANDSHAKE_TIMEOUT,
                lifetimes.series('earliest', 'stalled'),
                unit=' s',
            ),
            Figure(
                'stalled handshakes closed: the latest',
                HANDSHAKE_TIMEOUT + LATE,
                lifetimes.series('latest', 'stalled'),
                at_most=True,
                unit=' s',
            ),
        ],
    )
