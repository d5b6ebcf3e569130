"""The gate against growing instruction counts: comparing, messages, and the file of counts."""

from __future__ import annotations

import importlib
import json
import platform
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / 'contrib' / 'benchmarks'
VERSION = platform.python_version()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The command, with a file of counts of this test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module('gate')
    monkeypatch.setattr(module, 'KEPT', tmp_path / 'kept.json')
    monkeypatch.setattr(module, 'count', lambda: {'reference': 1000.0, 'hello': 100.0, 'parser': 30.0})
    return module


# -- comparing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('now', [1.0, 1.049, 0.951])
def test_small_difference_is_accepted(gate: Any, now: float) -> None:
    assert gate.compare({'hello': now}, {'hello': 1.0}) == []


def test_growth_is_reported(gate: Any) -> None:
    assert gate.compare({'hello': 1.06, 'parser': 1.0}, {'hello': 1.0, 'parser': 1.0}) == ['hello: +6.0%']


def test_gain_has_to_be_written(gate: Any) -> None:
    assert gate.compare({'hello': 0.9}, {'hello': 1.0}) == ['hello: -10.0%; store the new count with --write']


def test_new_and_missing_works_are_reported(gate: Any) -> None:
    assert gate.compare({'new': 1.0}, {'old': 1.0}) == ['new is not in both', 'old is not in both']


# -- the command ------------------------------------------------------------------------------------------------------


def test_written_counts_are_compared(
    gate: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.main(['--write']) == 0
    assert json.loads(gate.KEPT.read_text()) == {VERSION: {'hello': 0.1, 'parser': 0.03}}
    assert gate.main([]) == 0
    monkeypatch.setattr(gate, 'count', lambda: {'reference': 1000.0, 'hello': 110.0, 'parser': 30.0})
    capsys.readouterr()
    assert gate.main([]) == 1
    assert capsys.readouterr().err == 'hello: +10.0%\n'


def test_slower_interpreter_is_accepted(gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.main(['--write'])
    monkeypatch.setattr(gate, 'count', lambda: {'reference': 1300.0, 'hello': 130.0, 'parser': 39.0})
    assert gate.main([]) == 0


def test_counts_of_other_versions_are_kept(gate: Any) -> None:
    gate.KEPT.write_text('{"2.7": {"hello": 1.0}}')
    gate.main(['--write'])
    assert json.loads(gate.KEPT.read_text())['2.7'] == {'hello': 1.0}


def test_unknown_version_is_an_error(gate: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate.main([]) == 2
    assert f'has no counts for Python {VERSION}' in capsys.readouterr().err


def test_missing_valgrind_is_an_error(
    gate: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, 'count', importlib.import_module('bench.instructions').count)
    monkeypatch.setenv('PATH', '')
    assert gate.main(['--write']) == 2
    assert 'valgrind is not installed' in capsys.readouterr().err
    assert not gate.KEPT.exists()


# -- counting ---------------------------------------------------------------------------------------------------------


def test_every_work_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each work checks the responses that it gets, and the stored counts are those of these works."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / 'workers'))
    monkeypatch.setattr(sys, 'path', sys.path[:])
    worker = importlib.import_module('instructions')
    names = []
    with ExitStack() as stack:
        for work in worker.works(stack):
            work.run()
            assert work.units > 0
            names.append(work.name)
    kept = json.loads((BENCHMARKS / 'instructions.json').read_text())
    assert any(version.startswith('3.11.') for version in kept), 'the version that is compared'
    for counts in kept.values():
        assert set(counts) | {'reference'} == set(names)


def test_total_of_a_dump_is_read(gate: Any, tmp_path: Path) -> None:
    instructions = importlib.import_module('bench.instructions')
    dump = tmp_path / 'out.1'
    dump.write_text('version: 1\nevents: Ir\ntotals: 123456\n')
    assert instructions.total(dump) == 123456
    dump.write_text('version: 1\n')
    with pytest.raises(instructions.CountFailed, match=r'out\.1 has no total'):
        instructions.total(dump)
