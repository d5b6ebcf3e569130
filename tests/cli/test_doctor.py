"""``geventnode doctor``: checks of made-up facts, the report, and the facts about this process."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from geventnode import http
from geventnode.cli import doctor
from geventnode.cli.doctor import CHECKS, Facts, Level, checks, diagnose, facts, render
from geventnode.cli.main import main

ROOT = Path(__file__).parents[2]

HEALTHY = Facts(
    geventnode='1.0',
    python='3.12.1',
    implementation='CPython',
    gil=True,
    libraries={'gevent': '24.2.1', 'greenlet': '3.0.3', 'zope.interface': '6.1'},
    openssl='OpenSSL 3.0.13 30 Jan 2024',
    http2={'h2': '4.1.0', 'hpack': '4.0.0', 'hyperframe': '6.0.1'},
    loop='gevent.libev.corecext',
    backend='epoll',
    resolver='thread',
    descriptors=(65536, 524288),
    somaxconn=4096,
)
PATCHED = HEALTHY._replace(target='app:app', patched=facts.PATCHABLE)
OLD = {'gevent': '22.10.2', 'greenlet': '1.1.3', 'zope.interface': '5.4.0'}

#: A change of the healthy facts, the check that reports it, its level, and parts of the message and of the advice.
CASES: list[tuple[dict[str, Any], str, Level, str, str]] = [
    ({'python': '3.9.18'}, 'python', Level.PROBLEM, 'Python 3.9.18 is older than 3.10', 'use Python'),
    ({'python': '3.16.0'}, 'python', Level.ADVICE, 'newer than every tested version', 'run the tests'),
    ({'implementation': 'PyPy'}, 'python', Level.ADVICE, 'PyPy is not tested', 'CPython'),
    ({'gil': False}, 'python', Level.PROBLEM, 'without the global interpreter lock', 'PYTHON_GIL=1'),
    *(
        (
            {'libraries': {**HEALTHY.libraries, name: version}},
            'libraries',
            Level.PROBLEM,
            f'{name} {version} is older',
            f"'{name}>=",
        )
        for name, version in OLD.items()
    ),
    (
        {'libraries': {**HEALTHY.libraries, 'gevent': None}},
        'libraries',
        Level.ADVICE,
        'gevent is not installed',
        'pip install gevent',
    ),
    (
        {'http2': {'h2': '4.1.0', 'hpack': '3.0.0', 'hyperframe': '6.0.1'}},
        'http2',
        Level.PROBLEM,
        'hpack 3.0.0 is older than 4.0',
        'geventnode[http2]',
    ),
    ({'openssl': None}, 'openssl', Level.ADVICE, 'there is no HTTPS', 'with OpenSSL'),
    ({'openssl': 'OpenSSL 1.1.1w  11 Sep 2023'}, 'openssl', Level.ADVICE, 'no more security updates', 'OpenSSL 3'),
    ({'loop': 'gevent.libuv.loop'}, 'loop', Level.ADVICE, 'libuv', 'GEVENT_LOOP'),
    ({'loop': 'gevent.libev.corecffi'}, 'loop', Level.ADVICE, 'slower', 'wheel'),
    ({'backend': 'select'}, 'loop', Level.PROBLEM, '1024', 'LIBEV_FLAGS'),
    ({'backend': 'poll'}, 'loop', Level.ADVICE, 'slower with each connection', 'LIBEV_FLAGS'),
    ({'resolver': 'blocking'}, 'resolver', Level.PROBLEM, 'blocks the event loop', 'GEVENT_RESOLVER'),
    ({'resolver': 'dnspython'}, 'resolver', Level.PROBLEM, 'EAI_AGAIN', 'GEVENT_RESOLVER'),
    (
        {'resolver': '', 'resolver_error': 'no dns'},
        'resolver',
        Level.PROBLEM,
        'its resolver: no dns',
        'GEVENT_RESOLVER',
    ),
    ({'loop': '', 'loop_error': 'no loop'}, 'loop', Level.PROBLEM, 'an event loop: no loop', 'GEVENT_LOOP'),
    ({'resolver': 'ares'}, 'resolver', Level.ADVICE, 'nsswitch', 'GEVENT_RESOLVER'),
    ({'descriptors': (1024, 524288)}, 'descriptors', Level.ADVICE, 'at most 1024 descriptors', 'ulimit -n 65536'),
    ({'descriptors': (1024, 4096)}, 'descriptors', Level.ADVICE, 'at most 1024 descriptors', 'ulimit -n 4096'),
    ({'descriptors': (1024, None)}, 'descriptors', Level.ADVICE, 'at most 1024 descriptors', 'ulimit -n 65536'),
    ({'descriptors': (64, 64)}, 'descriptors', Level.PROBLEM, 'at most 64 descriptors', 'raise the hard limit'),
    ({'somaxconn': 128}, 'somaxconn', Level.ADVICE, 'at most 128 connections', 'sysctl -w net.core.somaxconn'),
    (
        {'target': 'app:app', 'failed': 'OSError: no'},
        'program',
        Level.PROBLEM,
        'cannot be imported: OSError: no',
        'traceback',
    ),
    ({'target': 'app:app'}, 'patching', Level.ADVICE, 'app:app does not patch', 'monkey.patch_all()'),
    (
        {'target': 'app:app', 'patched': ('socket', 'select')},
        'patching',
        Level.PROBLEM,
        'in part: ssl, _thread, threading, selectors, time',
        'without arguments',
    ),
    (
        {'target': 'app:app', 'patched': facts.PATCHABLE, 'early': ('ssl', 'requests')},
        'order',
        Level.PROBLEM,
        'patches too late: ssl, requests had',
        'before every other import',
    ),
    (
        {'target': 'app:app', 'patched': facts.PATCHABLE, 'threads': 2},
        'order',
        Level.PROBLEM,
        '2 other thread(s)',
        'before anything starts a thread',
    ),
    (
        {'target': 'app:app', 'patched': facts.PATCHABLE, 'other_thread': True},
        'order',
        Level.PROBLEM,
        'main thread',
        'begin the program',
    ),
    (
        {'target': 'app:app', 'patched': facts.PATCHABLE, 'warnings': ('Too late.',)},
        'order',
        Level.PROBLEM,
        'gevent warns: Too late.',
        'begin the program',
    ),
    (
        {'proxies': ('http://proxy:3128 for http:',)},
        'proxies',
        Level.ADVICE,
        'the environment names proxies (http://proxy:3128 for http:)',
        'http.set_global_proxy_from_env()',
    ),
    (
        {'proxies': ('http_proxy',), 'proxy_error': 'http_proxy is not the URL of a proxy'},
        'proxies',
        Level.PROBLEM,
        'unusable proxy: http_proxy is not',
        'correct',
    ),
    (
        {'target': 'app:app', 'patched': facts.PATCHABLE, 'eventlet': ('select', 'socket')},
        'eventlet',
        Level.PROBLEM,
        'eventlet.monkey_patch() has patched select, socket',
        'remove the call',
    ),
    (
        {'target': 'app:app', 'patched': facts.PATCHABLE, 'eventlet': ()},
        'eventlet',
        Level.ADVICE,
        'app:app imports eventlet',
        'use gevent instead',
    ),
    *(({'blocking': (name,)}, 'blocking', Level.PROBLEM, f'{name} blocks in C', '') for name in facts.BLOCKERS),
]


@pytest.mark.parametrize(
    'healthy',
    [
        HEALTHY,
        PATCHED,
        HEALTHY._replace(descriptors=None, somaxconn=None),
        HEALTHY._replace(descriptors=(None, None)),
        HEALTHY._replace(proxies=('http://proxy:3128 for http:',), proxies_used=True),
    ],
)
def test_healthy_facts_have_no_problem(healthy: Facts) -> None:
    assert {each.level for each in diagnose(healthy)} == {Level.OK}


@pytest.mark.parametrize(('change', 'check', 'level', 'message', 'advice'), CASES)
def test_check_reports_its_problem(change: dict[str, Any], check: str, level: Level, message: str, advice: str) -> None:
    """Only that check reports it, and it gives advice."""
    wrong = [each for each in diagnose(HEALTHY._replace(**change)) if each.level is not Level.OK]
    assert [(each.check, each.level) for each in wrong] == [(check, level)]
    assert message in wrong[0].message
    assert advice in wrong[0].advice
    assert wrong[0].advice


def test_proxies_of_the_environment_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (('http_proxy', 'http://user:secret@proxy:3128'), ('no_proxy', 'localhost')):
        monkeypatch.setenv(name, value)
    found = doctor.gather()
    assert found.proxies == ('http://proxy:3128 for http:', 'none for localhost')
    assert 'proxies      http://proxy:3128 for http:, none for localhost\n' in render(found, diagnose(found))
    restore = http.set_global_proxy_from_env()
    try:
        assert doctor.gather().proxies_used
    finally:
        restore()
    monkeypatch.setenv('http_proxy', 'socks5://user:secret@proxy')
    broken = doctor.gather()
    assert broken.proxy_error is not None
    assert 'socks5: is not supported' in broken.proxy_error
    assert 'secret' not in f'{found} {broken}'


def test_every_check_has_a_case() -> None:
    assert {each.__name__ for each in CHECKS} == {f'check_{name}' for _, name, *_ in CASES}
    assert {name for name in checks.__all__ if name.startswith('check_')} == {each.__name__ for each in CHECKS}


def test_tested_interpreters_are_those_of_the_distribution() -> None:
    declared = re.findall(r"'Programming Language :: Python :: 3\.(\d+)'", (ROOT / 'setup.py').read_text('utf-8'))
    assert [(3, int(min(declared, key=int))), (3, int(max(declared, key=int)))] == [
        checks.OLDEST_PYTHON,
        checks.NEWEST_PYTHON,
    ]


def test_oldest_versions_are_those_of_the_distribution() -> None:
    promised = dict(re.findall(r"^        '([a-z.]+)>=([0-9.]+)',$", (ROOT / 'setup.py').read_text('utf-8'), re.M))
    assert promised == checks.OLDEST
    assert set(facts.LIBRARIES) == set(checks.OLDEST)
    [extra] = re.findall(r"'http2': \[(.*)\]", (ROOT / 'setup.py').read_text('utf-8'))
    assert dict(re.findall(r"'([a-z0-9]+)>=([0-9.]+)'", extra)) == checks.OLDEST_HTTP2
    assert set(facts.HTTP2_LIBRARIES) == set(checks.OLDEST_HTTP2)


@pytest.mark.parametrize(
    ('http2', 'message'),
    [
        (HEALTHY.http2, 'servers can speak HTTP/2 (http2=True)'),
        (
            {'h2': None, 'hpack': None, 'hyperframe': None},
            'servers speak HTTP/1.1 only: the extra http2 is not installed',
        ),
        # another library has installed it
        (
            {'h2': None, 'hpack': '4.0.0', 'hyperframe': None},
            'servers speak HTTP/1.1 only: the extra http2 is not installed',
        ),
    ],
)
def test_extra_for_http2(http2: dict[str, str | None], message: str) -> None:
    [finding] = [each for each in diagnose(HEALTHY._replace(http2=http2)) if each.check == 'http2']
    assert (finding.level, finding.message) == (Level.OK, message)


# -- the report -------------------------------------------------------------------------------------------------------


def test_report_begins_with_the_most_severe_findings() -> None:
    made = HEALTHY._replace(descriptors=(64, None), target='app:app')
    text = render(made, diagnose(made))
    head, findings = text.split('\n\n')
    assert 'Python       3.12.1 (CPython)\n' in head
    assert 'libraries    gevent 24.2.1, greenlet 3.0.3, zope.interface 6.1\n' in head
    assert 'event loop   libev, epoll\n' in head
    assert 'descriptors  64 (at most unlimited)\n' in head
    assert 'blocking' not in head
    levels = [line.split()[0] for line in findings.splitlines()]
    assert levels[:4] == ['problem', '->', 'advice', '->']
    assert set(levels[4:]) == {'ok'}


def test_command_exits_with_1_for_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, 'gather', lambda target: HEALTHY)
    assert main(['doctor']) == 0
    assert 'problem' not in capsys.readouterr().out
    monkeypatch.setattr(doctor, 'gather', lambda target: HEALTHY._replace(backend='select'))
    assert main(['doctor']) == 1
    assert 'problem  the loop waits with select(2)' in capsys.readouterr().out


def test_json_has_facts_and_findings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, 'gather', lambda target: HEALTHY._replace(somaxconn=128))
    assert main(['doctor', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['healthy'] is True
    assert report['facts']['somaxconn'] == 128
    found = {each['check']: each for each in report['findings']}
    assert found['somaxconn']['level'] == 'advice'
    assert 'sysctl' in found['somaxconn']['advice']
    monkeypatch.setattr(doctor, 'gather', lambda target: HEALTHY._replace(backend='select'))
    assert main(['doctor', '--json']) == 1
    assert json.loads(capsys.readouterr().out)['healthy'] is False


# -- the facts --------------------------------------------------------------------------------------------------------


def test_facts_of_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts.gather()
    assert found.python == '.'.join(map(str, sys.version_info[:3]))
    assert all(found.libraries.values())
    assert found.loop.startswith('gevent.')
    assert found.target is None
    assert not [each for each in diagnose(found) if each.check in ('patching', 'order')]


def test_missing_features_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts._somaxconn(str(tmp_path / 'nothing')) is None
    (tmp_path / 'odd').write_text('odd')
    assert facts._somaxconn(str(tmp_path / 'odd')) is None
    assert facts._version('no-such-distribution') is None
    monkeypatch.setitem(sys.modules, 'resource', None)
    monkeypatch.setitem(sys.modules, 'ssl', None)
    assert facts._descriptors() is None
    assert facts._openssl() is None


def test_cooperative_libraries_are_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    class Extensions:
        callback: Any = None

        @classmethod
        def get_wait_callback(cls) -> Any:
            return cls.callback

    assert not facts._is_cooperative('psycopg2')
    monkeypatch.setitem(sys.modules, 'psycopg2.extensions', Extensions)
    assert not facts._is_cooperative('psycopg2')
    Extensions.callback = print
    assert facts._is_cooperative('psycopg2')
    assert not facts._is_cooperative('grpc')
    monkeypatch.setitem(sys.modules, 'grpc.experimental.gevent', Extensions)
    assert facts._is_cooperative('grpc')
    assert not facts._is_cooperative('MySQLdb')


def test_modules_that_eventlet_has_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    class Patcher:
        patched: tuple[str, ...] = ()

        @classmethod
        def is_monkey_patched(cls, name: str) -> bool:
            return name in cls.patched

    assert facts.gather().eventlet is None
    monkeypatch.setitem(sys.modules, 'eventlet.patcher', Patcher)
    assert facts.gather().eventlet == ()
    Patcher.patched = ('time', 'socket')
    found = facts.gather()
    assert found.eventlet == ('socket', 'time')
    assert 'by eventlet  socket, time\n' in render(found, diagnose(found))


def test_bad_target_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    assert main(['doctor', 'no_such_module:app']) == 2
    assert capsys.readouterr().err.startswith("geventnode: no module is named 'no_such_module', neither in ")
    (tmp_path / 'broken.py').write_text('1 / 0\n')
    assert main(['doctor', 'broken.py:app']) == 1
    error = capsys.readouterr().err
    assert error.startswith('Traceback')
    assert 'facts.py' not in error
    assert 'ZeroDivisionError' in error
