"""Run the cases of Autobahn's test suite against the WebSockets of both sides.

It prints the cases that fail, and the number of those that pass in each group.

    python contrib/autobahn/run.py --wstest PATH [--cases CASE ...]

The suite (``autobahntestsuite`` on PyPI) needs Python 2.7:

    python2.7 -m virtualenv autobahn && autobahn/bin/pip install autobahntestsuite
    python contrib/autobahn/run.py --wstest autobahn/bin/wstest --cases '1.*' '9.*'

The exit status is 0 if every case is OK or informational, on both sides.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import gevent

from geventnode import http, websocket

__all__ = ['main']

#: Large messages and many fragments are cases, and so are short compressed messages.
OPTIONS: Any = {
    'compression': {'server_max_window_bits': 15, 'client_max_window_bits': 15, 'minimum_size': 0},
    'max_message_size': 64 * 2**20,
    'max_fragments': 0,
}
PASSED = 'OK', 'INFORMATIONAL'


def main() -> int:
    """Run both sides; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--wstest', required=True, help='the program of the suite')
    parser.add_argument('--cases', nargs='+', default=['*'], help='patterns of cases (all)')
    parser.add_argument('--side', choices=['server', 'client', 'both'], default='both')
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for side, run in (('server', run_server), ('client', run_client)):
            if options.side in (side, 'both'):
                failed += report(side, run(options.wstest, options.cases, Path(folder)))
    return bool(failed)


def echo(ws: websocket.WebSocket) -> None:
    """Send every message back."""
    for message in ws:
        ws.send(message)


def start(wstest: str, mode: str, folder: Path, specification: dict[str, Any]) -> Any:
    """Start the suite. Its reports are in ``folder``."""
    file = folder / f'{mode}.json'
    file.write_text(json.dumps({'outdir': str(folder / mode), 'exclude-cases': [], **specification}))
    return subprocess.Popen([wstest, '-m', mode, '-s', str(file), '-u', '0'], cwd=folder, stdout=subprocess.DEVNULL)


def run_server(wstest: str, cases: list[str], folder: Path) -> dict[str, Any]:
    """Serve the fuzzing client; return its report. Blocks until it has ended."""
    server = http.create_server()
    server.on('upgrade', websocket.listener(echo, **OPTIONS))
    server.listen(0, '127.0.0.1')
    url = f'ws://127.0.0.1:{server.address()["port"]}'
    wanted = {'servers': [{'agent': 'geventnode', 'url': url}], 'cases': cases, 'exclude-agent-cases': {}}
    suite = start(wstest, 'fuzzingclient', folder, wanted)
    gevent.get_hub().threadpool.apply(suite.wait)
    server.stop(1)
    return read_report(folder / 'fuzzingclient')


def run_client(wstest: str, cases: list[str], folder: Path) -> dict[str, Any]:
    """Connect to the fuzzing server for each case; return its report. Blocks until it has ended."""
    with socket.create_server(('127.0.0.1', 0)) as unused:
        url = f'ws://127.0.0.1:{unused.getsockname()[1]}'
    wanted = {'url': url, 'cases': cases, 'exclude-agent-cases': {}}
    suite = start(wstest, 'fuzzingserver', folder, wanted)
    try:
        while True:
            try:
                with websocket.connect(f'{url}/getCaseCount') as ws:
                    count = int(ws.receive())
                break
            except ConnectionRefusedError:
                if suite.poll() is not None:
                    raise SystemExit(f'{wstest} has ended with status {suite.returncode}; see above') from None
                gevent.sleep(0.2)
        for case in range(1, count + 1):
            try:
                with websocket.connect(f'{url}/runCase?case={case}&agent=geventnode', **OPTIONS) as ws:
                    echo(ws)
            except websocket.WebSocketClosed:
                # many cases end so
                pass
        with websocket.connect(f'{url}/updateReports?agent=geventnode') as ws:
            list(ws)
    finally:
        suite.kill()
        suite.wait()
    return read_report(folder / 'fuzzingserver')


def read_report(folder: Path) -> dict[str, Any]:
    """Return the verdict of each case."""
    found: dict[str, Any] = json.loads((folder / 'index.json').read_text())['geventnode']
    return found


def report(side: str, cases: dict[str, Any]) -> int:
    """Print the verdicts; return the number of failed cases."""
    groups: dict[str, Counter[bool]] = {}
    for name, verdict in cases.items():
        passed = verdict['behavior'] in PASSED and verdict['behaviorClose'] in PASSED
        groups.setdefault(name.rpartition('.')[0], Counter())[passed] += 1
        if not passed:
            print(f'{side}: case {name}: {verdict["behavior"]}, closing: {verdict["behaviorClose"]}')
    for name, verdicts in sorted(groups.items(), key=lambda group: [int(part) for part in group[0].split('.')]):
        print(f'{side}: group {name}: {verdicts[True]} of {verdicts.total()} passed')
    failed = sum(verdicts[False] for verdicts in groups.values())
    print(f'{side}: {len(cases)} cases, {failed} failed')
    # a pattern that matches no case is a mistake
    return failed if cases else 1


if __name__ == '__main__':
    sys.exit(main())
