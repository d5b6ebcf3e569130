"""``geventnode doctor`` as a process: programs that patch early, late, in part or not, and settings of gevent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import run_program

LISTENER = 'def app(request, response):\n    response.end()\n'
PATCH = 'from gevent import monkey\nmonkey.patch_all()\n'
THREAD = 'import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n'


def _report(directory: Path, source: str) -> tuple[Any, int]:
    (directory / 'program.py').write_text(source)
    status, output, _ = run_program('geventnode doctor', ['doctor', 'program:app', '--json'], cwd=directory)
    return json.loads(output), status


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        (LISTENER, {'patching': 'advice'}),
        (PATCH + 'import ssl\n' + LISTENER, {'patching': 'ok', 'order': 'ok'}),
        ('import ssl, urllib.request\n' + PATCH + LISTENER, {'patching': 'ok', 'order': 'problem'}),
        ('from gevent import monkey\nmonkey.patch_socket()\n' + LISTENER, {'patching': 'problem', 'order': 'ok'}),
    ],
    ids=['unpatched', 'patched', 'late', 'in part'],
)
def test_patching_of_programs(tmp_path: Path, source: str, expected: dict[str, str]) -> None:
    """Each program runs in a process of its own, because it patches."""
    report, status = _report(tmp_path, source)
    found = {each['check']: each['level'] for each in report['findings'] if each['check'] in ('patching', 'order')}
    assert found == expected
    # other checks can find problems on this machine
    assert status == int(not report['healthy'])
    assert report['healthy'] or 'problem' in {each['level'] for each in report['findings']}
    if 'problem' in expected.values():
        assert status == 1


def test_thread_before_patching_is_reported(tmp_path: Path) -> None:
    """Patching can fail then, depending on gevent; the findings are reported in both cases."""
    report = _report(tmp_path, THREAD + PATCH + LISTENER)[0]
    found = [each['message'] for each in report['findings'] if each['check'] == 'order']
    assert '1 other thread(s) ran' in found[0]


@pytest.mark.parametrize(
    ('variable', 'problem'),
    [
        (
            'GEVENT_RESOLVER=unknown',
            'problem  no name can be looked up, because gevent cannot use its resolver: ImportError',
        ),
        ('GEVENT_LOOP=unknown', 'problem  gevent cannot make an event loop: ImportError'),
    ],
)
def test_unusable_settings_of_gevent_are_reported(variable: str, problem: str) -> None:
    name, _, value = variable.partition('=')
    status, output, errors = run_program('geventnode doctor', ['doctor'], env={name: value})
    assert (status, errors) == (1, '')
    assert problem in output
    assert f'unset {name}' in output
