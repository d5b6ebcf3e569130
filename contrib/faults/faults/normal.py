"""Normal clients beside a fault: wrk on kept connections, alone and with the fault, in turns.

A ratio compares two turns that are seconds apart. The report has the rate, and the server's processor time per
response, which includes the time for the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from bench.load import LoadFailed, run_wrk
from bench.progress import say
from bench.requests import Case
from bench.results import Figure, Samples, Table

from faults.scale import Scale
from faults.targets import FAILURES, RunningTarget

__all__ = ['Beside']

CASE = Case(headers=1, connections=32)

#: The most attempts at a turn; the first with a response counts. On a busy machine, TLS alone can take a whole turn.
ATTEMPTS = 3

ALONE, BESIDE = 'alone', 'beside'
QUANTITIES: dict[str, Callable[[float], str]] = {
    'requests per second': lambda value: f'{value:,.0f}',
    'median latency, ms': lambda value: f'{value:.1f}',
    'p99 latency, ms': lambda value: f'{value:.1f}',
    'processor time per request, µs': lambda value: f'{value:.0f}',
}

Fault = Callable[[RunningTarget], AbstractContextManager[object]]


class Beside:
    """The rate of normal clients, alone and within ``fault``, a context manager that injects a fault."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self.samples = Samples()

    def measure(self, running: RunningTarget, scale: Scale, title: str) -> None:
        """Measure in turns with one server."""
        try:
            if scale.warm_up:
                run_wrk(running, CASE, scale.warm_up)
            for repetition in range(scale.repeat):
                self._turn(running, ALONE, scale.seconds)
                before = running.status()
                with self._fault(running):
                    self._turn(running, BESIDE, scale.seconds)
                running.settled(before)
                say(f'{title} {repetition + 1}/{scale.repeat}')
        except (LoadFailed, *FAILURES) as error:
            self.fail(str(error))

    def fail(self, reason: str) -> None:
        """Record the reason for missing figures."""
        for quantity in QUANTITIES:
            self.samples.fail(quantity, BESIDE, reason)

    def _turn(self, running: RunningTarget, which: str, seconds: int) -> None:
        for _ in range(ATTEMPTS):
            before = running.processor_seconds
            report, _ = run_wrk(running, CASE, seconds)
            used = running.processor_seconds - before
            if report['requests']:
                break
        errors = {name: report[name] for name in ('connect', 'read', 'write', 'status', 'timeout') if report[name]}
        if errors or not report['requests']:
            raise LoadFailed(f"{which}: {report['requests']} responses, errors: {errors}")
        values = (
            report['requests'] / report['microseconds'] * 1e6,
            report['p50'] / 1000,
            report['p99'] / 1000,
            used / report['requests'] * 1e6,
        )
        for quantity, value in zip(QUANTITIES, values, strict=True):
            self.samples.add(quantity, which, value)

    # -- the report -----------------------------------------------------------------------------------------------

    def table(self, title: str) -> Table:
        """Return the table of the measurements."""
        samples = self.samples
        return Table(
            [title, 'alone', 'beside', 'ratio'],
            [
                [
                    quantity,
                    samples.cell(quantity, ALONE, show),
                    samples.cell(quantity, BESIDE, show),
                    samples.ratio_cell(quantity, BESIDE, ALONE),
                ]
                for quantity, show in QUANTITIES.items()
            ],
        )

    def figure(self, fault: str) -> Figure:
        """Return the figure with its target."""
        return Figure(
            f'rate of normal clients beside {fault}', 0.8, self.samples.ratio('requests per second', BESIDE, ALONE)
        )
