"""A short run of every fuzzer, the findings of earlier runs, and deliberate damage that fuzzers must find.

The seed is printed; ``GEVENTNODE_SEED`` repeats a run, and ``GEVENTNODE_FUZZ`` makes it longer (inputs for each
target). Long runs are made with ``contrib/fuzz/run.py``.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import gevent
import pytest

from contrib.fuzz import run
from contrib.fuzz.campaign import BATCH, Campaign, checked
from contrib.fuzz.finding import Finding, minimised
from contrib.fuzz.parser_target import ParserTarget
from contrib.fuzz.sample import Sample
from geventnode.errors import IncompleteBody, ParseError
from geventnode.http.client.connection import Connection
from geventnode.http.server.connection import Connection as ServerConnection
from geventnode.http.server.error_response import error_response
from geventnode.http2.engine import Engine
from geventnode.protocol.chunked import ChunkedBody
from geventnode.protocol.parser import Parser

INPUTS = int(os.environ.get('GEVENTNODE_FUZZ') or 1500)
FOUND = Path(__file__).parent / 'corpus' / 'findings.jsonl.gz'
with gzip.open(FOUND, 'rt', encoding='utf-8') as _lines:
    FINDINGS = {json.loads(line)['title']: line for line in _lines}


@pytest.mark.parametrize('name', run.TARGETS)
def test_random_inputs_break_no_rule(name: str, seed: int) -> None:
    campaign = Campaign(run.TARGETS[name](), str(seed))
    campaign.run(0, INPUTS)
    assert campaign.inputs == INPUTS
    assert campaign.findings == []


@pytest.mark.parametrize('title', FINDINGS)
def test_earlier_findings_stay_fixed(title: str) -> None:
    sample = Sample.load(FINDINGS[title])
    checked(run.TARGETS[sample.target](), [sample])


# -- damage -----------------------------------------------------------------------------------------------------------


def foreign_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that raises another exception."""

    def fail(self: Any, error: ParseError, pos: int | None = None) -> None:
        raise KeyError(error)

    monkeypatch.setattr(Parser, '_fail', fail)


def depends_on_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that loses a byte between two pieces."""
    feed = Parser.feed

    def feed_less(self: Any, data: bytes) -> None:
        feed(self, data[1:] if self._buffer else data)

    monkeypatch.setattr(Parser, 'feed', feed_less)


def holds_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that does not limit incomplete heads."""
    monkeypatch.setattr(Parser, '_wait_for_head', lambda self: None)


def short_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that lose their last byte."""
    decode = ChunkedBody.decode

    def decode_less(self: Any, *args: Any) -> tuple[bytes, int]:
        data, pos = decode(self, *args)
        return data[:-1] if len(data) > 1 else data, pos

    monkeypatch.setattr(ChunkedBody, 'decode', decode_less)


def wrong_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers errors with another status."""
    monkeypatch.setattr(
        'geventnode.http.server.connection.error_response',
        lambda status_code, **options: error_response(500, **options),
    )


def two_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends an error response twice."""
    monkeypatch.setattr(
        'geventnode.http.server.connection.error_response',
        lambda status_code, **options: 2 * error_response(status_code),
    )


def never_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not end its side."""
    monkeypatch.setattr('geventnode.http.server.connection.Connection.close', lambda self: None)


def raises_in_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with an unhandled exception in the hub."""
    monkeypatch.setattr(ServerConnection, '_reject', lambda self, error: 1 / 0)


def looks_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes a truncated body for a complete one."""
    read_body = Connection.read_body

    def read_what_is_there(self: Any, message: Any) -> bytes:
        try:
            return read_body(self, message)
        except IncompleteBody:
            message.complete = True
            return b''

    monkeypatch.setattr(Connection, 'read_body', read_what_is_there)


def pools_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that pools connections that cannot be used again."""
    exchange_over = Connection._on_exchange_complete

    def exchange_over_and_on(self: Any) -> None:
        self.keep_alive = True
        exchange_over(self)

    monkeypatch.setattr(Connection, '_on_exchange_complete', exchange_over_and_on)


def gives_no_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that forgets consumed bytes."""
    monkeypatch.setattr(Engine, '_credit_connection', lambda self, size: None)


def answers_streams_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that sends RST_STREAM twice."""
    reset = Engine._send_reset

    def reset_twice(self: Any, *args: Any) -> None:
        reset(self, *args)
        reset(self, *args)

    monkeypatch.setattr(Engine, '_send_reset', reset_twice)


def keeps_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that does not close after its last stream."""
    monkeypatch.setattr('geventnode.http2.connection.Connection.close', lambda self: None)


def fuzz(target: Any, rng: random.Random) -> None:
    """Check some batches of inputs."""
    for _ in range(20):
        checked(target, [target.make(rng) for _ in range(BATCH)])


@pytest.mark.parametrize(
    ('name', 'damage', 'rules'),
    [
        ('parser-request', foreign_exception, {'foreign exception'}),
        ('parser-request', depends_on_cuts, {'cut'}),
        ('parser-response', depends_on_cuts, {'cut'}),
        ('parser-request', holds_too_much, {'memory', 'cut'}),
        ('parser-request', short_body, {'cut'}),
        ('server', wrong_status, {'responses'}),
        ('server', two_answers, {'responses', 'output'}),
        ('server', never_closes, {'hang'}),
        ('server', raises_in_the_hub, {'unhandled error', 'hang'}),
        ('http2-engine', gives_no_credit, {'credit'}),
        ('http2-engine', answers_streams_that_ended, {'stream'}),
        ('http2-server', keeps_streams, {'hang'}),
        ('client', looks_complete, {'outcome'}),
        ('client', pools_everything, {'pool'}),
    ],
)
def test_damage_is_found(monkeypatch: pytest.MonkeyPatch, name: str, damage: Any, rules: set[str]) -> None:
    rng = random.Random(1)
    target = run.TARGETS[name]()
    with monkeypatch.context() as patch:
        damage(patch)
        with pytest.raises(Finding) as found:
            fuzz(target, rng)
        assert found.value.rule in rules
        gevent.idle()


def test_one_sample_of_a_batch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_status(monkeypatch)
    campaign = Campaign(run.TARGETS['server'](), '1')
    campaign.run(0, BATCH)
    assert campaign.findings
    assert all(finding.rule == 'responses' for _, finding in campaign.findings)
    assert len(campaign.findings) < BATCH


def test_sample_is_minimised() -> None:
    def check(sample: Sample) -> None:
        if b'x' in sample.data and b'y' in sample.data:
            raise Finding('xy', 'both')

    sample = Sample('parser-request', b'aaaaxbbbbbbyccc', (1, 12), {})
    assert minimised(sample, 'xy', check).data == b'xy'
    assert minimised(sample, 'other', check) == sample


def test_sample_can_be_dumped_and_loaded() -> None:
    sample = ParserTarget('request').make(random.Random(3))
    assert Sample.load(sample.dump()) == sample
    assert b''.join(sample.pieces()) == sample.data
    bytewise = Sample('server', b'abc', None, {})
    assert Sample.load(bytewise.dump()).pieces() == [b'a', b'b', b'c']


# -- the command ------------------------------------------------------------------------------------------------------


def test_command_prints_the_seed_and_the_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(['--target', 'parser-request', '--inputs', '200', '--seed', '7']) == 0
    output = capsys.readouterr().out
    assert 'seed 7' in output
    assert 'parser-request: 200 inputs' in output
    assert '0 findings' in output


def test_command_keeps_findings_to_replay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        depends_on_cuts(patch)
        assert run.main(['--target', 'parser-request', '--inputs', '40', '--findings', str(tmp_path)]) == 1
        kept = sorted(map(str, tmp_path.iterdir()))
        assert kept
        assert run.main(['--replay', *kept]) == 1
    assert run.main(['--replay', *kept]) == 0
    output = capsys.readouterr().out
    assert 'cut' in output
    assert 'no finding' in output
