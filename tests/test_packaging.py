"""Build the distributions: a pure-Python wheel with the package only, and a complete sdist.

Both are built in a copy of the tree with the installed setuptools, so that the tests need no network.
"""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import geventnode

ROOT = Path(__file__).parent.parent
PARTS = [
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'LICENSE',
    'MANIFEST.in',
    'README.md',
    'SECURITY.md',
    'pyproject.toml',
    'setup.py',
    'tox.ini',
    '.pre-commit-config.yaml',
    '.ci',
    'changes',
    'contrib',
    'docs',
    'geventnode',
    'tests',
]
BUILD = 'import sys\nfrom setuptools import build_meta\nprint(getattr(build_meta, sys.argv[1])(sys.argv[2]))'


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp('tree')
    unwanted = shutil.ignore_patterns('__pycache__', '_build', '*.egg-info')
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=unwanted)
        else:
            shutil.copy(source, copy / part)
    return copy


def _build(tree: Path, kind: str) -> Path:
    subprocess.run(
        [sys.executable, '-c', BUILD, f'build_{kind}', 'dist'], cwd=tree, check=True, stdout=subprocess.DEVNULL
    )
    (built,) = (tree / 'dist').glob('*.whl' if kind == 'wheel' else '*.tar.gz')
    return built


def _files(tree: Path, *parts: str) -> set[str]:
    return {str(path.relative_to(tree)) for part in parts for path in (tree / part).rglob('*') if path.is_file()}


def test_wheel_is_pure_and_complete(tree: Path) -> None:
    built = _build(tree, 'wheel')
    # Nothing is compiled: one wheel for every interpreter, machine and system (PEP 425).
    assert built.name == f'geventnode-{geventnode.__version__}-py3-none-any.whl'
    with zipfile.ZipFile(built) as wheel:
        files = {name: wheel.read(name).decode('utf-8', 'replace') for name in wheel.namelist()}
    assert {name for name in files if '.dist-info/' not in name} == _files(tree, 'geventnode')

    described = {name.rpartition('/')[2]: text for name, text in files.items() if '.dist-info/' in name}
    assert 'LICENSE' in described
    assert 'Root-Is-Purelib: true' in described['WHEEL']
    assert 'Tag: py3-none-any' in described['WHEEL']
    assert not [name for name in files if name.endswith(('.c', '.pyd', '.pyx', '.so'))]
    assert described['entry_points.txt'].split() == ['[console_scripts]', 'geventnode', '=', 'geventnode.cli.main:main']
    metadata = email.message_from_string(described['METADATA'])
    assert metadata['Name'] == 'geventnode'
    assert metadata['Version'] == geventnode.__version__
    assert metadata['Requires-Python'] == '>=3.10'
    # the package index cannot show files of the repository
    assert 'geventnode serve' in metadata.get_payload()
    assert not re.findall(r'<picture|<img|\]\((?!https?://)', metadata.get_payload())
    assert 'the start (`docs/start.rst`)' in metadata.get_payload()
    needed = [each for each in metadata.get_all('Requires-Dist') if 'extra ==' not in each]
    assert sorted(re.match('[a-z.]+', each)[0] for each in needed) == ['gevent', 'greenlet', 'zope.interface']
    assert set(metadata.get_all('Provides-Extra')) >= {'test', 'docs', 'bench'}


def test_sdist_is_complete(tree: Path) -> None:
    with tarfile.open(_build(tree, 'sdist')) as sdist:
        names = {name.split('/', 1)[1] for name in sdist.getnames() if '/' in name}
    assert _files(tree, 'changes', 'geventnode', 'tests', 'docs', 'contrib') - names == set()
    assert {
        'LICENSE',
        'README.md',
        'CHANGELOG.md',
        'CONTRIBUTING.md',
        'SECURITY.md',
        'pyproject.toml',
        'setup.py',
        'tox.ini',
        '.ci/newer',
        '.ci/run',
        '.pre-commit-config.yaml',
    } <= names


def test_oldest_versions_agree() -> None:
    """The tox environment ``lowest`` installs the oldest versions that setup.py allows."""
    promised = dict(re.findall(r"^        '([a-z.]+)>=([0-9.]+)',$", (ROOT / 'setup.py').read_text('utf-8'), re.M))
    lowest = (ROOT / 'tox.ini').read_text('utf-8').partition('[testenv:lowest]')[2].partition('\n[')[0]
    tested = dict(re.findall(r'^    ([a-z.]+)==([0-9.]+)$', lowest, re.M))
    assert set(promised) == {'gevent', 'greenlet', 'zope.interface'}
    assert tested == promised


def test_readme_has_the_commands_that_ci_runs() -> None:
    lines = (ROOT / 'README.md').read_text('utf-8').splitlines()
    assert 'python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/geventnode serve' in lines
    assert "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest" in lines


@pytest.mark.parametrize(
    'path', sorted(set(re.findall(r'(?:\]\(|src(?:set)?=")(?!http)([^)"]+)', (ROOT / 'README.md').read_text('utf-8'))))
)
def test_file_that_the_readme_names_exists(path: str) -> None:
    assert (ROOT / path).is_file()
