"""The report of the benchmark: places in its file, and the part with several interpreters."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / 'contrib' / 'benchmarks'


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a module of the benchmark."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def file(bench: Any, tmp_path: Path) -> Path:
    """A file with the markers of the whole report and of one part."""
    markers = bench('bench.report').markers
    path = tmp_path / 'README.md'
    path.write_text('\n'.join(['first', *markers(), 'between', *markers('versions'), 'last', '']))
    return path


# -- places -----------------------------------------------------------------------------------------------------------


def test_whole_report_and_part_keep_each_other(bench: Any, file: Path) -> None:
    insert = bench('bench.report').insert
    insert(file, 'old')
    insert(file, 'the part', 'versions')
    insert(file, 'the whole')
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith('<!--')]
    assert lines == ['first', 'the whole', 'between', 'the part', 'last']


def test_readme_has_the_markers(bench: Any) -> None:
    for part in ('', *bench('run').ALONE):
        bench('bench.report').check_markers(BENCHMARKS / 'README.md', part)


def test_missing_markers_are_an_error(bench: Any, file: Path) -> None:
    report = bench('bench.report')
    with pytest.raises(report.ReportFailed, match='no <!-- measured, other: begin -->'):
        report.insert(file, 'text', 'other')


# -- the command line -------------------------------------------------------------------------------------------------


def chosen(bench: Any, *arguments: str) -> list[str]:
    """Return the parts that a command line chooses."""
    run = bench('run')
    parser = run.make_parser()
    found: list[str] = bench('bench.command').chosen(parser, parser.parse_args(arguments), run.PARTS, run.ALONE)
    return found


def test_whole_run_omits_the_versions(bench: Any) -> None:
    assert chosen(bench) == [name for name in bench('run').PARTS if name != 'versions']
    assert chosen(bench, '--only', 'versions,parser') == ['versions', 'parser']


def test_versions_alone_can_be_written(bench: Any, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen(bench, '--only', 'versions', '--markdown', str(file)) == ['versions']
    with pytest.raises(SystemExit):
        chosen(bench, '--only', 'parser', '--markdown', str(file))
    assert 'remove --only, or choose versions alone' in capsys.readouterr().err


def test_other_parts_are_kept_when_the_versions_are_written(
    bench: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, run = bench('bench.results'), bench('run')
    monkeypatch.setitem(run.PARTS, 'versions', lambda scale: results.Section('Versions', notes=['one']))
    bench('bench.report').insert(file, 'the whole')
    assert run.main(['--only', 'versions', '--markdown', str(file)]) == 0
    assert 'the whole' in file.read_text()
    assert '### Versions\n\n- one\n- ' in file.read_text()


# -- several interpreters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('value', 'reason'), [('', 'PYTHONS has no paths of interpreters'), ('/missing/python', 'No such file')]
)
def test_missing_interpreters_are_reported(
    bench: Any, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('PYTHONS', value)
    section = bench('bench.versions').measure_versions(1, 1, 1)
    assert reason in section.notes[0]
    assert [figure.reached for figure in section.figures] == [False]


def test_interpreter_is_asked_for_its_versions(bench: Any) -> None:
    found = bench('bench.versions').ask(sys.executable)
    assert (found.version, found.path) == ('.'.join(map(str, sys.version_info[:3])), sys.executable)
    assert found.gevent


def test_works_are_those_of_the_gate(bench: Any) -> None:
    counts = json.loads((BENCHMARKS / 'instructions.json').read_text())
    for works in counts.values():
        assert set(bench('bench.versions').WORKS) <= works.keys()


def test_report_has_a_column_for_each_interpreter(bench: Any) -> None:
    versions, results = bench('bench.versions'), bench('bench.results')
    rate, cost, counted = results.Samples(), results.Samples(), results.Samples()
    for work in versions.WORKS:
        for version, value in (('3.11.2', 1000.0), ('3.15.0', 1500.0)):
            rate.add(work, version, value)
            cost.add(work, version, value / 50)
            counted.add(work, version, value)
    counted.fail(versions.PARSER, '3.15.0', 'no valgrind')
    pythons = [
        versions.Interpreter(f'/{version}', version, 'from Debian', 'GCC 1', '26.9.0', '3.5.6')
        for version in ('3.11.2', '3.15.0')
    ]
    section = versions.report(pythons, rate, cost, counted)
    rates, ratios, times, instructions = section.tables
    assert rates.header == ['requests per second', '3.11.2', '3.15.0']
    assert rates.rows[0] == [versions.LISTENER, '1,000', '1,500']
    assert ratios.rows[0][1:] == ['1.00', '1.50']
    assert times.rows[0] == [versions.LISTENER, '20.0', '30.0']
    assert [row[1:] for row in instructions.rows if row[0] == versions.PARSER] == [['1.0', 'invalid']]
    assert section.notes[0] == '3.11.2 from Debian, GCC 1.'
    assert section.notes[2:] == [
        'gevent 26.9.0.',
        'greenlet 3.5.6.',
        f'Invalid: 3.15.0, {versions.PARSER}: no valgrind',
    ]
