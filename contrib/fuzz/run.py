"""Fuzz parsers, server, client, WebSockets and HTTP/2, and check every input against the rules in README.md.

    python contrib/fuzz/run.py [--target TARGET] --inputs N [--seed S] [--jobs J]
    python contrib/fuzz/run.py --replay FILE...

The targets are parser-request, parser-response, server, client, websocket-server, websocket-client,
http2-engine, http2-server and all.

The exit status is 0 without a finding, 1 with one, 2 for invalid options.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from contrib.fuzz.campaign import PORTION, Campaign, checked
from contrib.fuzz.finding import Finding, keep, minimised
from contrib.fuzz.sample import Sample
from contrib.fuzz.target import Target

__all__ = ['TARGETS', 'main']

FINDINGS = Path('fuzz-findings')

#: Seconds between two lines of progress.
PROGRESS_INTERVAL = 60

#: The number of findings after which a process ends.
MAX_FINDINGS = 20


def _parser_request() -> Target:
    from contrib.fuzz.parser_target import ParserTarget

    return ParserTarget('request')


def _parser_response() -> Target:
    from contrib.fuzz.parser_target import ParserTarget

    return ParserTarget('response')


def _server() -> Target:
    from contrib.fuzz.server_target import ServerTarget

    return ServerTarget()


def _client() -> Target:
    from contrib.fuzz.client_target import ClientTarget

    return ClientTarget()


def _websocket_server() -> Target:
    from contrib.fuzz.websocket_target import WebSocketTarget

    return WebSocketTarget('server')


def _websocket_client() -> Target:
    from contrib.fuzz.websocket_target import WebSocketTarget

    return WebSocketTarget('client')


def _http2_engine() -> Target:
    from contrib.fuzz.http2_target import HTTP2EngineTarget

    return HTTP2EngineTarget()


def _http2_server() -> Target:
    from contrib.fuzz.http2_target import HTTP2ServerTarget

    return HTTP2ServerTarget()


TARGETS: dict[str, Callable[[], Target]] = {
    'parser-request': _parser_request,
    'parser-response': _parser_response,
    'server': _server,
    'client': _client,
    'websocket-server': _websocket_server,
    'websocket-client': _websocket_client,
    'http2-engine': _http2_engine,
    'http2-server': _http2_server,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    options = make_parser().parse_args(arguments)
    if options.replay:
        return max([replay(path) for path in options.replay])
    seed = options.seed or str(random.SystemRandom().getrandbits(32))
    names = list(TARGETS) if options.target == 'all' else [options.target]
    print(f'{platform.python_implementation()} {platform.python_version()}, seed {seed}', flush=True)
    return max([fuzz(name, options.inputs, seed, options.jobs, options.findings) for name in names])


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description='Fuzz the parser, the server, the client, WebSockets and HTTP/2.')
    parser.add_argument('--target', choices=[*TARGETS, 'all'], default='all')
    parser.add_argument('--inputs', type=int, default=100_000, metavar='N', help='inputs for each target (100000)')
    parser.add_argument('--seed', metavar='S', help='the seed (a random one, which is printed)')
    parser.add_argument('--jobs', type=int, default=1, metavar='J', help='processes that share the inputs (1)')
    parser.add_argument(
        '--findings', type=Path, default=FINDINGS, metavar='DIR', help=f'the directory of findings ({FINDINGS})'
    )
    parser.add_argument('--replay', type=Path, nargs='+', metavar='FILE', help='check findings again')
    return parser


# -- a run ------------------------------------------------------------------------------------------------------------


def fuzz(name: str, inputs: int, seed: str, jobs: int, folder: Path) -> int:
    """Fuzz one target, print the result, and return the exit status."""
    started = time.monotonic()
    shares = [(name, seed, inputs, index, jobs, folder) for index in range(jobs)]
    if jobs == 1:
        results = [share(*shares[0])]
    else:
        with multiprocessing.get_context('spawn').Pool(jobs) as pool:
            results = pool.starmap(share, shares)
    done, found, before, most = (list(each) for each in zip(*results, strict=True))
    seconds = time.monotonic() - started
    print(
        f'{name}: {sum(done)} inputs in {seconds:.0f} s, {sum(done) / seconds:.0f} a second, {sum(found)} findings; '
        f'objects alive after the first portions {before}, at most {most}',
        flush=True,
    )
    return 1 if sum(found) else 0


def portions(inputs: int, index: int, jobs: int) -> Iterator[tuple[int, int]]:
    """Yield the number and the size of each portion of process ``index`` of ``jobs``."""
    for number in range(index, -(-inputs // PORTION), jobs):
        yield number, min(PORTION, inputs - number * PORTION)


def share(name: str, seed: str, inputs: int, index: int, jobs: int, folder: Path) -> tuple[int, int, int, int]:
    """Run one process's share; return the numbers of inputs, findings, and objects."""
    target = TARGETS[name]()
    campaign = Campaign(target, seed)
    gc.collect()
    gc.freeze()
    reported = time.monotonic()
    found = 0
    for number, size in portions(inputs, index, jobs):
        try:
            campaign.run(number, size)
        except Finding as finding:
            # a finding about the whole process: a hang, or growing memory
            print(f'{name}: portion {number}: {finding}', flush=True)
            found += 1
            break
        for sample, finding in campaign.findings:
            found += 1
            report(target, sample, finding, folder)
        campaign.findings.clear()
        if found >= MAX_FINDINGS:
            break
        if time.monotonic() - reported > PROGRESS_INTERVAL:
            reported = time.monotonic()
            print(
                f'{name}: {campaign.inputs} inputs, {campaign.inputs / campaign.seconds:.0f} a second, '
                f'{found} findings',
                flush=True,
            )
    return campaign.inputs, found, campaign.objects_before, campaign.objects_since


def report(target: Target, sample: Sample, finding: Finding, folder: Path) -> None:
    """Print a finding, and write its minimised sample to a file."""

    def check(other: Sample) -> None:
        checked(target, [other])

    small = minimised(sample, finding.rule, check)
    path = keep(small, finding, folder)
    print(
        f'{target.name}: {shortened(finding)}\n    input: {sample.data[:2000]!r}\n    small: {small.data[:2000]!r} '
        f'{small.scenario} {small.cuts}\n    kept in {path}',
        flush=True,
    )


def shortened(value: Any) -> str:
    """Return ``value`` as text of limited length."""
    text = str(value)
    return text if len(text) < 3000 else f'{text[:3000]}... ({len(text)} characters)'


def replay(path: Path) -> int:
    """Check the sample in a file again; return the exit status."""
    sample = Sample.load(path.read_text('utf-8'))
    try:
        checked(TARGETS[sample.target](), [sample])
    except Finding as finding:
        print(f'{path}: {shortened(finding)}\n    input: {sample.data[:2000]!r}')
        return 1
    print(f'{path}: no finding')
    return 0


if __name__ == '__main__':
    sys.exit(main())
