"""Run the scripts of ``libraries/``, which use other libraries, and get their results.

Each runs in its own process, beside servers in the process of the test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gevent import subprocess as cooperative

from tests.system.running import PYTHONPATH

__all__ = ['PACKAGES', 'WAYS', 'environment', 'run', 'run_ways']

LIBRARIES = Path(__file__).parent / 'libraries'

#: The libraries and their dependencies, in one directory: several of them are needed by more than one file of tests.
PACKAGES = [
    'CacheControl==0.14.4',
    'ConfigArgParse==1.9.0',
    'Flask-Login==0.6.3',
    'PyYAML==6.0.4',
    'anyio==4.16.0',
    'attrs==26.1.0',
    'boto3==1.44.8',
    'botocore==1.44.8',
    'brotli==1.2.1',
    'cattrs==26.2.1',
    'docker==7.2.0',
    'elastic-transport==9.4.2',
    'elasticsearch==9.5.1',
    'flask-cors==6.0.5',
    'geventhttpclient==2.6.1',
    'jmespath==1.1.0',
    'locust==2.47.0',
    'moto==5.2.5',
    'msgpack==1.2.4',
    'opentelemetry-api==1.45.1',
    'opentelemetry-instrumentation-flask==0.66b1',
    'opentelemetry-instrumentation-requests==0.66b1',
    'opentelemetry-instrumentation-wsgi==0.66b1',
    'opentelemetry-instrumentation==0.66b1',
    'opentelemetry-sdk==1.45.1',
    'opentelemetry-semantic-conventions==0.66b1',
    'opentelemetry-util-http==0.66b1',
    'platformdirs==4.14.8',
    'psutil==7.2.2',
    'python-dateutil==4.0.0',
    'pyzmq==27.3.0',
    'requests-cache==1.3.3',
    'requests-mock==1.12.1',
    'requests-toolbelt==1.0.0',
    'responses==0.26.3',
    's3transfer==0.19.3',
    'sniffio==1.3.1',
    'sseclient-py==1.9.0',
    'typing_extensions==4.16.0',
    'url-normalize==3.1.0',
    'wrapt==2.5.2',
    'xmltodict==1.0.4',
]

#: Plain sessions, on agents, and on agents with the standard library patched.
WAYS = ['PLAIN', 'AGENTS', 'PATCHED']


def environment(packages: Path) -> dict[str, str]:
    """Return the variables for programs that import ``packages``."""
    return {'PYTHONPATH': os.pathsep.join(map(str, (packages, PYTHONPATH, LIBRARIES)))}


def run(packages: Path, script: str, *arguments: str) -> Any:
    """Run a script, and return its results."""
    ran = cooperative.run(
        [sys.executable, '-W', 'ignore', str(LIBRARIES / script), *arguments],
        env={**os.environ, **environment(packages)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f'{script} {arguments}: {ran.stderr}'
    return json.loads(ran.stdout)


def run_ways(packages: Path, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script in all of :data:`WAYS`, and return their results."""
    *unpatched, patched = WAYS
    found: dict[str, Any] = run(packages, 'forked.py', str(LIBRARIES / script), ','.join(unpatched), *arguments)
    return {**found, patched: run(packages, script, patched, *arguments)}
