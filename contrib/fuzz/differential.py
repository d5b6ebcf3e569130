"""The same bytes through our parser, h11 and Node: every disagreement must stand in the table of README.md.

    python contrib/fuzz/differential.py [--inputs N] [--seed S] [--without node]

All case files are run, then N mutations of them. Exit status: 0 when all is explained, 1 when not.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from contrib.fuzz.mutation import Mutator
from contrib.fuzz.peers import H11, Asked, Node, Ours, Peer, Seen, Verdict
from tests.corpus.cases import load

__all__ = ['Disagreement', 'cases', 'compare', 'differences', 'explained', 'main', 'mutations', 'peers']

README = Path(__file__).with_name('README.md')
FILES = ('requests', 'responses', 'attacks')


@dataclass(frozen=True)
class Disagreement:
    """How the first difference looks.

    :ivar peer: with whom.
    :ivar who: who refuses what the other one serves, ``'we'`` or ``'they'``; ``'nobody'`` when it is read differently.
    :ivar reason: why, in the refuser's words, or what is different.
    """

    peer: str
    who: str
    reason: str


def compare(peer: str, ours: Verdict, theirs: Verdict) -> Disagreement | None:
    """Return the first difference between two verdicts, None if both serve the same messages.

    Whether what follows them is refused, ignored or not complete is no difference: nobody acts on it.
    """
    for one, other in zip(ours.messages, theirs.messages, strict=False):
        if one != other:
            return Disagreement(peer, 'nobody', _difference(one, other))
    if len(ours.messages) > len(theirs.messages):
        return Disagreement(peer, 'they', theirs.error or _silence(theirs))
    if len(ours.messages) < len(theirs.messages):
        return Disagreement(peer, 'we', ours.error or _silence(ours))
    return None


def _difference(one: Seen, other: Seen) -> str:
    """Return what is different between two messages."""
    of = ' of CONNECT' if one.start[0] == 'CONNECT' else ''
    for name in ('start', 'version', 'body', 'trailers'):
        if getattr(one, name) != getattr(other, name):
            return f'other {name}{of}'
    for (name, value), pair in zip(one.headers, other.headers, strict=False):
        if (name, value) != pair:
            return f'other value of {name}'
    return 'other headers'


def _silence(verdict: Verdict) -> str:
    """Return a name for an end of which nothing is said."""
    upgrade = verdict.messages and any(name == 'upgrade' for name, _ in verdict.messages[-1].headers)
    return 'nothing is read after Upgrade' if upgrade else 'nothing more is read'


def peers(names: Iterable[str]) -> list[Peer]:
    """Return those of the others that are there; call ``close`` on those that have it."""
    found: list[Peer] = []
    for name in names:
        if name == 'h11':
            found.append(H11())
        elif shutil.which('node'):
            found.append(Node())
    return found


def explained(text: str | None = None) -> set[Disagreement]:
    """Return the disagreements in the table of the README."""
    rows = set()
    for line in (README.read_text('utf-8') if text is None else text).splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('| ') and cells[0] in ('h11', 'Node') and len(cells) == 5:
            rows.add(Disagreement(cells[0], cells[1], cells[2].strip('`').replace('¦', '|')))
    return rows


def cases() -> Iterator[tuple[str, bytes, Asked]]:
    """Yield name, bytes and kind of every case."""
    for name in FILES:
        for case in load(name):
            method = 'HEAD' if case.skip_body else 'GET'
            yield case.id, case.data, Asked(case.kind, method, case.asks_upgrade and case.kind == 'response')


def mutations(count: int, seed: str) -> Iterator[tuple[str, bytes, Asked]]:
    """Yield ``count`` mutations."""
    chance = random.Random(seed)
    mutators = [Mutator('request'), Mutator('response')]
    for number in range(count):
        mutator = mutators[number % 2]
        method = chance.choice(('GET', 'GET', 'HEAD')) if mutator.kind == 'response' else 'GET'
        yield f'{seed}/{number}', mutator.make(chance), Asked(mutator.kind, method, chance.random() < 0.3)


def differences(
    inputs: Iterable[tuple[str, bytes, Asked]], others: Sequence[Peer]
) -> Iterator[tuple[Disagreement, str, bytes]]:
    """Yield every disagreement, with the name and the bytes of its input."""
    us = Ours()
    for name, data, asked in inputs:
        ours = us.judge(data, asked)
        for other in others:
            found = compare(other.name, ours, other.judge(data, asked))
            if found is not None:
                yield found, name, data


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(description='Compare our parser with h11 and Node.')
    parser.add_argument('--inputs', type=int, default=10_000, metavar='N', help='mutations (10000)')
    parser.add_argument('--seed', default='1', metavar='S', help='of the mutations (1)')
    parser.add_argument('--without', choices=['h11', 'node'], action='append', default=[], help='leave one out')
    options = parser.parse_args(arguments)
    others = peers(name for name in ('h11', 'node') if name not in options.without)
    known = explained()
    counts: Counter[Disagreement] = Counter()
    examples: dict[Disagreement, tuple[str, bytes]] = {}
    for inputs in (cases(), mutations(options.inputs, options.seed)):
        for found, name, data in differences(inputs, others):
            counts[found] += 1
            if found not in examples or len(data) < len(examples[found][1]):
                examples[found] = name, data
    for each in others:
        if isinstance(each, Node):
            each.close()
    unexplained = 0
    for found, count in counts.most_common():
        mark = 'explained  ' if found in known else 'UNEXPLAINED'
        unexplained += found not in known
        name, data = examples[found]
        print(
            f'{mark} {count:6} {found.peer}: {found.who} refuse: {found.reason}\n'
            f'                     {name}: {data[:300]!r}'
        )
    print(
        f'{", ".join(each.name for each in others)}: {sum(counts.values())} disagreements of {len(counts)} kinds, '
        f'{unexplained} of them unexplained'
    )
    return 1 if unexplained else 0


if __name__ == '__main__':
    sys.exit(main())
