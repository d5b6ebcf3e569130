"""The extras of the distribution: an import that fails without one names the command that installs it."""

from __future__ import annotations

import sys

__all__ = ['missing_package']


def missing_package(error: ModuleNotFoundError, name: str, extra: str) -> ModuleNotFoundError:
    """Return the error of a module without its extra.

    :param error: the error of the failed import.
    :param name: the module.
    :param extra: the extra that has the package.
    """
    package = str(error.name).partition('.')[0]
    if package in sys.stdlib_module_names:
        # gunicorn needs fcntl, which Windows does not have
        problem = 'which Python does not have on this platform'
    else:
        problem = f"which is not installed; pip install 'geventnode[{extra}]'"
    return ModuleNotFoundError(f'{name} needs {package}, {problem}', name=package)
