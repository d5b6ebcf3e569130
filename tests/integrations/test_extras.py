"""Modules that need an extra which is not installed."""

from __future__ import annotations

import subprocess
import sys

from geventnode.extras import missing_package

# One process for all of them: each import fails before it has an effect on the others.
WITHOUT = """
import importlib, sys
needed = {
    'websocket': 'wsproto',
    'integrations.requests': 'requests',
    'integrations.gunicorn': 'gunicorn',
    'integrations.prometheus': 'prometheus_client',
}
sys.modules.update(dict.fromkeys(needed.values()))
for module, package in needed.items():
    try:
        importlib.import_module(f'geventnode.{module}')
    except ModuleNotFoundError as error:
        assert error.name == package, error.name
        print(error)
"""


def test_missing_package_is_reported_with_its_extra() -> None:
    ran = subprocess.run([sys.executable, '-c', WITHOUT], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [
        "geventnode.websocket needs wsproto, which is not installed; pip install 'geventnode[websocket]'",
        "geventnode.integrations.requests needs requests, which is not installed; pip install 'geventnode[requests]'",
        "geventnode.integrations.gunicorn needs gunicorn, which is not installed; pip install 'geventnode[gunicorn]'",
        (
            'geventnode.integrations.prometheus needs prometheus_client, which is not installed; pip install '
            "'geventnode[prometheus]'"
        ),
    ]


def test_module_that_the_platform_lacks_is_no_package() -> None:
    error = missing_package(ModuleNotFoundError('fcntl', name='fcntl'), 'geventnode.integrations.gunicorn', 'gunicorn')
    assert str(error) == 'geventnode.integrations.gunicorn needs fcntl, which Python does not have on this platform'
    assert error.name == 'fcntl'
