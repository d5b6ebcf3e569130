"""The machine: the cores of servers and load, the limit of descriptors, and its description.

Two cores are needed. With one, servers and load share it, rates are lower, and a note is added.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

__all__ = [
    'CORES',
    'LOAD_CORE',
    'SERVER_CORE',
    'core_notes',
    'describe',
    'pin',
    'processor',
    'python_build',
    'raise_descriptor_limit',
    'revision',
]

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
LOAD_CORE = CORES[1] if len(CORES) > 1 else CORES[0]
PACKAGES = ('gevent', 'greenlet', 'uvicorn', 'httptools', 'uvloop', 'h11', 'h2', 'gunicorn', 'hypercorn')


def pin(core: int) -> Callable[[], None]:
    """Return a function that a new process calls to stay on ``core``."""
    return lambda: os.sched_setaffinity(0, {core})


def core_notes() -> list[str]:
    """Return the notes about the cores."""
    if LOAD_CORE == SERVER_CORE:
        return ['This machine has one core: server and load share it, so a server can reach higher rates.']
    return [f'Servers ran on core {SERVER_CORE}, the load on core {LOAD_CORE}.']


def raise_descriptor_limit() -> int:
    """Raise the limit of open files to the hard limit, for this process and its children; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def describe() -> list[tuple[str, str]]:
    """Return the description of the machine and the programs, as names and values."""
    meminfo = Path('/proc/meminfo').read_text()
    memory = int(meminfo.split('MemTotal:')[1].split()[0]) / 2**20
    return [
        ('Processor', f'{processor()}, {len(CORES)} cores usable'),
        ('Memory', f'{memory:.0f} GiB'),
        ('Kernel', f'{platform.system()} {platform.release()} {platform.machine()}'),
        ('Python', f'{platform.python_implementation()} {platform.python_version()}, {python_build()}'),
        ('Node', output('node', '--version')),
        ('wrk', wrk_version()),
        *((package, package_version(package)) for package in PACKAGES),
        ('Revision', revision()),
    ]


def processor() -> str:
    """Return the processor's name, with family and model, because names can be unspecific."""
    lines = re.findall(r'^([^\t\n]+)\t*: (.+)$', Path('/proc/cpuinfo').read_text(), re.MULTILINE)
    found: dict[str, str] = dict(lines)
    name = found.get('model name', platform.machine())
    if 'cpu family' in found:
        name += f" (family {found['cpu family']}, model {found['model']})"
    return name + (', virtual' if 'hypervisor' in found.get('flags', '') else '')


def python_build() -> str:
    """Return the origin of the interpreter: builds of the same version differ by a quarter in speed."""
    if sys.base_prefix == '/usr':
        release = platform.freedesktop_os_release()
        return f"from {release['PRETTY_NAME']}"
    optimised = '--enable-optimizations' in (sysconfig.get_config_var('CONFIG_ARGS') or '')
    return f"built {'with' if optimised else 'without'} profile-guided optimisation"


def package_version(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed'


def wrk_version() -> str:
    """Return the first line of ``wrk -v``, without the copyright. Its exit status has no meaning."""
    return output('wrk', '-v').partition(' Copyright')[0].removeprefix('wrk ')


def revision() -> str:
    """Return the measured commit, and whether the package has changed since."""
    here = str(Path(__file__).parent)
    commit = output('git', '-C', here, 'rev-parse', '--short', 'HEAD')
    changed = output('git', '-C', here, 'status', '--porcelain', '--', ':/geventnode')
    return f'{commit} with changes' if changed else commit


def output(program: str, *arguments: str) -> str:
    """Return the stripped output of a program."""
    if shutil.which(program) is None:
        return 'not installed'
    done = subprocess.run(
        [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    )
    return done.stdout.strip()
