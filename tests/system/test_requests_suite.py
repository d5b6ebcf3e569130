"""``requests``' own tests, of one release, with sessions that use agents.

The source distribution is unpacked, the dependencies of its tests are installed beside it, and ``test_requests.py`` and
``test_lowlevel.py`` run in their own process, in which a plugin (``oracle/mount_agents.py``) lets every new
session use the adapter. :data:`EXCLUDED` has the excluded tests with reasons: no other one can fail, be skipped or be
missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree
from pathlib import Path

import pytest

from tests.system.installed import filled, install

ROOT = Path(__file__).parent.parent.parent
ORACLE = Path(__file__).parent / 'oracle'

RELEASE = '2.34.2'
#: The dependencies of the tests, one by one: those of httpbin require a greenlet that no current gevent runs
#: with.
NEEDED = [
    'PySocks==1.7.1',
    'blinker==1.9.0',
    'brotlicffi==1.2.1.0',
    'certifi==2026.10.18',
    'cffi==2.1.1',
    'charset-normalizer==3.5.2',
    'click==8.5.1',
    'decorator==5.3.1',
    'flask==3.1.3',
    'httpbin==0.10.4',
    'idna==3.20',
    'itsdangerous==2.2.0',
    'jinja2==3.1.6',
    'markupsafe==3.0.4',
    'pytest-httpbin==2.1.0',
    'pytest-mock==3.17.0',
    'six==1.17.0',
    'urllib3==2.8.0',
    'werkzeug==3.1.9',
]

#: Tests that do not run, with the reason.
EXCLUDED = {
    'tests/test_lowlevel.py::test_use_proxy_from_environment': (
        'uses a SOCKS proxy; the adapter supports HTTP proxies, and its error names the adapter to mount for SOCKS'
    ),
    'tests/test_lowlevel.py::test_chunked_encoding_error': (
        'the server closes the connection within the head, and http.client accepts the incomplete head; here an '
        'incomplete head is never a response (RFC 9112, section 8): ConnectionError'
    ),
}

#: Tests that the release itself skips with this urllib3, or expects to fail.
NOT_OURS = {'test_https_warnings', 'test_response_iter_lines_reentrant'}


@pytest.fixture
def release(request: pytest.FixtureRequest) -> Path:
    """The unpacked source distribution, with its dependencies in ``needed``; pytest keeps it."""
    name = f'requests-{RELEASE}'
    return filled(request.config, name, NEEDED, unpack) / name


def unpack(directory: Path) -> None:
    """Download and unpack the source distribution, and install the dependencies of its tests."""
    name = f'requests-{RELEASE}'
    # pip builds metadata even for a download, with the setuptools of the tests instead of a newly installed one
    options = ['--quiet', '--no-deps', '--no-build-isolation', '--no-binary', 'requests']
    install(directory, 'download', *options, f'requests=={RELEASE}')
    with tarfile.open(directory / f'{name}.tar.gz') as archive:
        archive.extractall(directory, filter='data')
    options = ['--quiet', '--no-deps', '--no-compile', '--target', str(directory / name / 'needed')]
    install(directory, 'install', *options, f'requests=={RELEASE}', *NEEDED)


@pytest.mark.hangs_after(1800)
def test_requests_own_tests(release: Path, tmp_path: Path) -> None:
    report = tmp_path / 'report.xml'
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, (release / 'needed', ROOT, ORACLE)))}
    deselected = [argument for name in EXCLUDED for argument in ('--deselect', name)]
    with (tmp_path / 'output').open('w+') as output:
        ran = subprocess.run(
            [
                sys.executable,
                '-m',
                'pytest',
                '-q',
                '-p',
                'mount_agents',
                '-p',
                'no:cacheprovider',
                '-W',
                'ignore',
                '-o',
                'faulthandler_timeout=300',
                '-o',
                'faulthandler_exit_on_timeout=true',
                f'--junit-xml={report}',
                *deselected,
                'tests/test_requests.py',
                'tests/test_lowlevel.py',
            ],
            cwd=release,
            env=environment,
            check=False,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.seek(0)
        assert ran.returncode == 0, output.read()[-20000:]
    cases = list(xml.etree.ElementTree.parse(report).getroot().iter('testcase'))
    assert len(cases) > 340
    assert {case.get('name') for case in cases if len(case)} == NOT_OURS
