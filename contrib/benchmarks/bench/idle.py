"""Memory for one idle keep-alive connection: the growth of a server with thousands of them, divided by their number.

Every measurement has a fresh server process, warmed up by a few hundred connections that are closed again. Each
connection makes one request before it idles and one afterwards, which shows that the server has kept it. The kernel's
memory for a connection is not part of the process, and not counted for any server.
"""

from __future__ import annotations

import time

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE, RunningServer, Server, ServerFailed, in_turn

__all__ = ['REPETITIONS', 'SPARE_DESCRIPTORS', 'WARM_UP', 'hold', 'hold_and_release', 'measure_idle', 'settled']

WARM_UP = 300

#: Repetitions are few, because memory hardly depends on other load of the machine.
REPETITIONS = 2

#: For standard streams, the listener, the loop's own descriptors, and a reserve.
SPARE_DESCRIPTORS = 100

#: Seconds without a change after which resident memory is considered stable.
SETTLE_INTERVAL = 0.5
SETTLE_ATTEMPTS = 10


def measure_idle(repeat: int, wanted: int) -> Section:
    """Hold ``wanted`` connections, or as many as descriptors allow, ``repeat`` times; return the report."""
    count = min(wanted, machine.raise_descriptor_limit() - SPARE_DESCRIPTORS)
    memory = Samples()
    for repetition in range(min(repeat, REPETITIONS)):
        for server in in_turn(CATALOGUE, repetition):
            hold(memory, server, count)
        say(f'idle connections {repetition + 1}/{min(repeat, REPETITIONS)}')
    return report(memory, count, wanted)


def hold(memory: Samples, server: Server, count: int) -> None:
    """Hold ``count`` connections to a fresh process, and record the memory for each, in KiB."""
    if ('idle', server.key) in memory.faults:
        return
    try:
        with RunningServer(server) as running:
            # one after the other: the counted connections would reuse memory that many at once had left
            for _ in range(WARM_UP):
                running.request('GET', '/')
            before = settled(running)
            grown = hold_and_release(running, count, server.scheme) - before
    except (ServerFailed, workers.WorkerFailed, OSError) as error:
        memory.fail('idle', server.key, str(error))
        return
    memory.add('idle', server.key, grown / count / 1024)


def hold_and_release(running: RunningServer, count: int, protocol: str) -> int:
    """Open connections, return the memory while they idle, and close them. Raises ``WorkerFailed``."""
    with workers.start('idle.py', running.port, count, protocol, core=machine.LOAD_CORE) as worker:
        try:
            opened = workers.answer(worker)['answered']
            resident = settled(running)
            assert worker.stdin is not None
            worker.stdin.write('\n')
            worker.stdin.flush()
            kept = workers.answer(worker)['answered']
        except BaseException:
            worker.kill()
            raise
    if (opened, kept) != (count, count):
        raise workers.WorkerFailed(f'{count} connections: {opened} answered at first, {kept} after idling')
    return resident


def settled(running: RunningServer) -> int:
    """Return the resident memory, in bytes, once it is stable, or after several attempts."""
    resident = running.memory.now
    for _ in range(SETTLE_ATTEMPTS):
        time.sleep(SETTLE_INTERVAL)
        latest = running.memory.now
        if latest == resident:
            break
        resident = latest
    return resident


# -- the report ---------------------------------------------------------------------------------------------------


def report(memory: Samples, count: int, wanted: int) -> Section:
    """Return table, notes and figures."""
    row = [
        'KiB per connection',
        *(memory.cell('idle', server.key, lambda value: f'{value:.2f}') for server in CATALOGUE),
    ]
    notes = memory.notes()
    if count < wanted:
        notes.append(f'The limit of open files allowed {count} connections, not {wanted}.')
    table = Table([f'{count:,} idle connections', *(server.title for server in CATALOGUE)], [row])
    figure = Figure('memory per idle connection', 1.3, memory.series('idle', 'geventnode'), at_most=True, unit=' KiB')
    return Section('Idle keep-alive connections', [table], notes, [figure])
