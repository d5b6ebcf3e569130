"""Compare the parser with h11 and Node: every disagreement must be listed in the table of README.md.

    python contrib/fuzz/differential.py [--inputs N] [--seed S] [--without node]

All case files are run, then N mutations of them. The exit status is 0 if every disagreement is listed, otherwise 1.
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
from contrib.fuzz.peers import H11, Context, Geventnode, Node, ParsedMessage, Peer, Verdict
from tests.corpus.cases import load

__all__ = ['Disagreement', 'cases', 'compare', 'differences', 'explained', 'main', 'mutations', 'peers']

README = Path(__file__).with_name('README.md')
FILES = ('requests', 'responses', 'attacks')


@dataclass(frozen=True)
class Disagreement:
    """The first difference between two verdicts.

    :ivar peer: the other implementation.
    :ivar refused_by: the implementation that refuses a message that the other one serves, ``'geventnode'`` or the peer;
        ``'neither'`` if both serve it and read it differently.
    :ivar reason: the error of that implementation, or the part of the message that is different.
    """

    peer: str
    refused_by: str
    reason: str


def compare(peer: str, own: Verdict, other: Verdict) -> Disagreement | None:
    """Return the first difference between two verdicts; None if both serve the same messages.

    The bytes after these messages can be refused, ignored or incomplete: neither implementation serves them.
    """
    for one, another in zip(own.messages, other.messages, strict=False):
        if one != another:
            return Disagreement(peer, 'neither', _difference(one, another))
    if len(own.messages) > len(other.messages):
        return Disagreement(peer, peer, other.error or _silence(other))
    if len(own.messages) < len(other.messages):
        return Disagreement(peer, 'geventnode', own.error or _silence(own))
    return None


def _difference(one: ParsedMessage, other: ParsedMessage) -> str:
    """Return the part that is different in two messages."""
    of = ' of CONNECT' if one.start[0] == 'CONNECT' else ''
    for name in ('start', 'version', 'body', 'trailers'):
        if getattr(one, name) != getattr(other, name):
            return f'other {name}{of}'
    for (name, value), pair in zip(one.headers, other.headers, strict=False):
        if (name, value) != pair:
            return f'other value of {name}'
    return 'other headers'


def _silence(verdict: Verdict) -> str:
    """Return a reason for a verdict without an error."""
    upgrade = verdict.messages and any(name == 'upgrade' for name, _ in verdict.messages[-1].headers)
    return 'nothing is read after Upgrade' if upgrade else 'nothing more is read'


def peers(names: Iterable[str]) -> list[Peer]:
    """Return the installed implementations among ``names``; close each :class:`Node`."""
    found: list[Peer] = []
    for name in names:
        if name == 'h11':
            found.append(H11())
        elif shutil.which('node'):
            found.append(Node())
    return found


def explained(text: str | None = None) -> set[Disagreement]:
    """Return the disagreements in the table of the README, or of ``text``."""
    rows = set()
    for line in (README.read_text('utf-8') if text is None else text).splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if line.startswith('| ') and cells[0] in ('h11', 'Node') and len(cells) == 5:
            rows.add(Disagreement(cells[0], cells[1], cells[2].strip('`').replace('¦', '|')))
    return rows


def cases() -> Iterator[tuple[str, bytes, Context]]:
    """Yield the name, the bytes and the context of every case."""
    for name in FILES:
        for case in load(name):
            method = 'HEAD' if case.skip_body else 'GET'
            yield case.id, case.data, Context(case.kind, method, case.asks_upgrade and case.kind == 'response')


def mutations(count: int, seed: str) -> Iterator[tuple[str, bytes, Context]]:
    """Yield ``count`` mutations."""
    rng = random.Random(seed)
    mutators = [Mutator('request'), Mutator('response')]
    for number in range(count):
        mutator = mutators[number % 2]
        method = rng.choice(('GET', 'GET', 'HEAD')) if mutator.kind == 'response' else 'GET'
        yield f'{seed}/{number}', mutator.make(rng), Context(mutator.kind, method, rng.random() < 0.3)


def differences(
    inputs: Iterable[tuple[str, bytes, Context]], others: Sequence[Peer]
) -> Iterator[tuple[Disagreement, str, bytes]]:
    """Yield every disagreement, with the name and the bytes of its input."""
    geventnode = Geventnode()
    for name, data, context in inputs:
        own = geventnode.judge(data, context)
        for other in others:
            found = compare(other.name, own, other.judge(data, context))
            if found is not None:
                yield found, name, data


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(description='Compare the parser with h11 and Node.')
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
            f'{mark} {count:6} {found.peer}: refused by {found.refused_by}: {found.reason}\n'
            f'                     {name}: {data[:300]!r}'
        )
    print(
        f'{", ".join(each.name for each in others)}: {sum(counts.values())} disagreements of {len(counts)} kinds, '
        f'{unexplained} of them unexplained'
    )
    return 1 if unexplained else 0


if __name__ == '__main__':
    sys.exit(main())
