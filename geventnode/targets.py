"""What the command serves: a name in a module or in a file, found and loaded.

Nothing of the standard library is imported at the top that patching it would come too late for.
"""
from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from geventnode.arguments import DEFAULT_NAMES

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

__all__ = ['FILE_MODULE', 'Refused', 'check_callable', 'factory_hint', 'load_target', 'print_traceback']

#: The module name under which a file is loaded: its own might be that of another module.
FILE_MODULE = 'geventnode_target'

_file_target = re.compile(r'(?P<path>.+\.py)(?::(?P<name>\w+(?:\.\w+)*)(?P<call>\(\))?)?')
_module_target = re.compile(r'(?P<module>\w+(?:\.\w+)*):(?P<name>\w+(?:\.\w+)*)(?P<call>\(\))?')


class Refused(Exception):
    """What the user asked for cannot be done; the message says why, in one line."""


def load_target(target: str) -> Any:
    """Return the request listener or the http.Server that ``target`` names, or makes when it is called. May
    switch: runs the target's own code, whose exceptions it lets pass. Raises :class:`Refused`."""
    from geventnode.http import Server

    found = _file_target.fullmatch(target)
    if found is not None:
        module = _load_file(found['path'])
        named = _default_name(module, target) if found['name'] is None else found['name']
    else:
        found = _module_target.fullmatch(target)
        if found is None:
            hint = ', and name() for what a call without arguments returns' if '(' in target else ''
            raise Refused(f'TARGET must be module:name or file.py[:name], not {target!r}{hint}')
        module = _load_module(found['module'])
        named = found['name']
    where = target.removesuffix('()').removesuffix(f':{named}')
    value: Any = module
    for part in named.split('.'):
        if not hasattr(value, part):
            raise Refused(f'{where!r} has no {named!r}')
        value = getattr(value, part)
    what = f'{named!r} of {where!r} is'
    if found['call'] is not None:
        value = _made_by(value, target)
        what = f'{target!r} has returned what is'
    if not isinstance(value, Server) and not callable(value):
        raise Refused(f'{what} neither a request listener nor an http.Server, but of type {type(value).__name__}')
    return value


def _made_by(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise Refused(f'{target!r} cannot be called: it is of type {type(factory).__name__}')
    if not _takes(factory):
        raise Refused(f'{target!r} is called without arguments, and takes {_arguments(factory)}: name a function that '
                      'needs none')
    return factory()


def check_callable(value: Any, target: str) -> None:
    """Raise :class:`Refused` for a callable that takes something else than a listener or an application does. Never
    switches."""
    if _takes(value, None, None):
        return
    if isinstance(value, type):
        raise Refused(f'{target!r} is a class: name an instance of it, or a function that makes one, as name()')
    raise Refused(f'{target!r} takes {_arguments(value)}, and a listener takes (request, response), a WSGI application '
                  f'(environ, start_response){factory_hint(value, target)}')


def factory_hint(value: Any, target: str) -> str:
    """Return the end of a message for what may be a function that makes the target. Never switches."""
    # what takes any number of arguments is a wrapper of something
    if target.endswith(')') or not _takes(value) or _takes(value, *range(100)):
        return ''
    return f"; for what it returns, say '{target}()'"


def _takes(function: Any, *arguments: Any) -> bool:
    """Return whether ``function`` can be called with ``arguments``, as far as it says."""
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _arguments(function: Any) -> str:
    """Return how many arguments ``function`` takes at most, in words."""
    import inspect

    count = len(inspect.signature(function).parameters)
    return '1 argument' if count == 1 else f'{count or "no"} arguments'


def _default_name(module: ModuleType, target: str) -> str:
    for name in DEFAULT_NAMES:
        if hasattr(module, name):
            return name
    raise Refused(f'{target!r} has none of {", ".join(DEFAULT_NAMES)}: say which name is meant, as in {target}:name')


def _load_module(name: str) -> ModuleType:
    import importlib

    if '' not in sys.path:
        sys.path.insert(0, '')
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # what the module itself fails to find is its own affair
        if error.name is not None and f'{name}.'.startswith(f'{error.name}.'):
            raise Refused(f'no module named {error.name!r}') from error
        raise


def _load_file(path: str) -> ModuleType:
    import importlib.util
    import os

    if not os.path.isfile(path):
        raise Refused(f'no such file: {path!r}')
    # what stands beside the file can be imported, as in a program that Python runs
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location(FILE_MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[FILE_MODULE] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def print_traceback(error: BaseException, caller: str) -> None:
    """Print the traceback of ``error`` without the frames that led into the target, which are those of this file and of
    the file ``caller``. Never switches."""
    import importlib
    import traceback

    trace: TracebackType | None = error.__traceback__
    ours = {caller, __file__, importlib.__file__}
    while trace is not None and (
            trace.tb_frame.f_code.co_filename in ours
            or trace.tb_frame.f_code.co_filename.startswith('<frozen importlib')):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
