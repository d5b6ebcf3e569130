"""What the command serves: a name in a module or in a file, found and loaded.

Nothing of the standard library is imported at the top that patching it would come too late for.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
from typing import TYPE_CHECKING, Any

from geventnode.cli.arguments import DEFAULT_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, ModuleType, TracebackType

__all__ = ['FILE_MODULE', 'Interrupted', 'Refused', 'check_callable', 'factory_hint', 'load_target', 'print_traceback']

#: The module name under which a file is loaded: its own might be that of another module.
FILE_MODULE = 'geventnode_target'

_file_target = re.compile(r'(?P<path>.+\.py)(?::(?P<name>\w+(?:\.\w+)*)(?P<call>\(\))?)?')
_module_target = re.compile(r'(?P<module>\w+(?:\.\w+)*):(?P<name>\w+(?:\.\w+)*)(?P<call>\(\))?')


#: Usual names of functions that make an application.
FACTORY_NAMES = ('create_app', 'make_app', 'get_app', 'create_server')

#: Seconds after which an import that has not ended is worth a word.
LONG_IMPORT = 10.0

#: Modules, their classes (none for a function), and what of them serves until the process ends.
_SERVERS = (
    ('geventnode.net.server', 'Server', 'serve_forever'),
    ('gevent.baseserver', 'BaseServer', 'serve_forever'),
    ('socketserver', 'BaseServer', 'serve_forever'),
)

#: Flask's ``run()``: with its reloader the server is in a thread of another process.
_RELOADING = ('werkzeug.serving', None, 'run_simple')


class Refused(Exception):
    """What the user asked for cannot be done; the message says why, in one line."""

    #: Of the process.
    status: int = 2


class Interrupted(Refused):
    """Ctrl+C was pressed while the target was imported."""

    status = 130


def load_target(target: str) -> Any:
    """Return the request listener or the http.Server that ``target`` names, or makes when it is called. May
    switch: runs the target's own code, whose exceptions it lets pass. Raises :class:`Refused`."""
    from geventnode.http import Server

    with _guarded(target):
        value, what = _loaded(target)
    if not isinstance(value, Server) and not callable(value):
        raise Refused(
            f'{what} of type {type(value).__name__}: it must be a request listener, a WSGI application or an '
            'http.Server'
        )
    return value


def _loaded(target: str) -> tuple[Any, str]:
    """Return the object that ``target`` names, and the beginning of a sentence about it."""
    found = _file_target.fullmatch(target)
    if found is not None:
        module = _load_file(found['path'])
        named = _default_name(module, target) if found['name'] is None else found['name']
    else:
        found = _module_target.fullmatch(target)
        if found is None:
            hint = ', and name() for what a call without arguments returns' if '(' in target else ''
            raise Refused(f'TARGET must be module:name or file.py[:name], not {target!r}{hint}{_meant(target)}')
        module = _load_module(found['module'])
        named = found['name']
    where = target.removesuffix('()').removesuffix(f':{named}')
    value: Any = module
    for part in named.split('.'):
        if not hasattr(value, part):
            raise Refused(f'{where!r} has no {named!r}{_similar(value, part)}')
        value = getattr(value, part)
    what = f'{named!r} of {where!r} is'
    if found['call'] is not None:
        value = _made_by(value, target)
        what = f'{target!r} returned an object'
    return value, what


# -- targets that do not come to an end -------------------------------------------------------------------------------


@contextlib.contextmanager
def _guarded(target: str) -> Iterator[None]:
    """Import a target in this context: it must not serve by itself, and a word is said when it takes long."""
    path = _path_of(target)
    with _noticed(target, path), _servers_refused(target, path):
        try:
            yield
        except KeyboardInterrupt as error:
            where = _place(_frames(error.__traceback__))
            raise Interrupted(f'interrupted while {target!r} was imported{where}') from error


def _path_of(target: str) -> str:
    """Return the file that ``target`` names, or that of its module in the current directory."""
    found = _file_target.fullmatch(target)
    return found['path'] if found is not None else f'{target.partition(":")[0].replace(".", "/")}.py'


@contextlib.contextmanager
def _noticed(target: str, path: str) -> Iterator[None]:
    """Say something when the context lasts :data:`LONG_IMPORT` seconds."""
    from gevent.monkey import get_original

    # in a thread of the system: the import may wait with gevent or without, and may count threads
    start_thread, lock_of = (get_original('_thread', name) for name in ('start_new_thread', 'allocate_lock'))
    over = lock_of()
    over.acquire()

    def watch() -> None:
        if not over.acquire(timeout=LONG_IMPORT):
            sys.stderr.write(
                f'geventnode: {target!r} is still being imported: if it starts a server itself, run it '
                f"with 'python {path}'\n"
            )
            sys.stderr.flush()

    start_thread(watch, ())
    try:
        yield
    finally:
        over.release()


@contextlib.contextmanager
def _servers_refused(target: str, path: str) -> Iterator[None]:
    """Refuse servers that would run in this greenlet until the process ends; in others they block nothing."""
    import importlib
    import os

    from gevent import getcurrent

    importing = getcurrent()
    starting: list[tuple[str, str | None, str]] = [*_SERVERS]
    # it imports ssl, which must not come before patching; the other process knows what has started it
    if 'ssl' in sys.modules or 'WERKZEUG_RUN_MAIN' in os.environ:
        starting.append(_RELOADING)

    def refusing(serve: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*args: Any, **kwargs: Any) -> Any:
            if getcurrent() is not importing:
                return serve(*args, **kwargs)
            where = _place(_callers(sys._getframe(1)))
            raise Refused(
                f"{target!r} starts a server itself while it is imported{where}: run it with 'python "
                f"{path}', or put that line behind if __name__ == '__main__':"
            )

        return guard

    with contextlib.ExitStack() as stack:
        for module, kind, name in starting:
            try:
                owner: Any = importlib.import_module(module)
            except ImportError:
                continue
            if kind is not None:
                owner = getattr(owner, kind)
            serve = getattr(owner, name)
            stack.callback(setattr, owner, name, serve)
            setattr(owner, name, refusing(serve))
        yield


def _frames(trace: TracebackType | None) -> list[FrameType]:
    """Return the frames of a traceback, the innermost first."""
    found = []
    while trace is not None:
        found.append(trace.tb_frame)
        trace = trace.tb_next
    return found[::-1]


def _callers(frame: FrameType | None) -> list[FrameType]:
    """Return ``frame`` and its callers, the innermost first."""
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def _place(frames: list[FrameType]) -> str:
    """Return the place in the module whose import did not end, or in the factory that did not return: the first of
    ``frames``, the innermost first, that is one. What else runs then is of libraries, or of what finds modules."""
    import os

    for frame, caller in itertools.pairwise(frames):
        name = frame.f_code.co_filename
        if name == __file__:
            # beyond are those that load the target
            break
        if caller.f_code is _made_by.__code__ or (frame.f_code.co_name == '<module>' and not name.startswith('<')):
            return f' ({os.path.relpath(name)}, line {frame.f_lineno})'
    return ''


# -- the object that a target names -----------------------------------------------------------------------------------


def _made_by(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise Refused(f'{target!r} cannot be called: it is of type {type(factory).__name__}')
    if not _takes(factory):
        raise Refused(
            f'{target!r} is called without arguments, and takes {_arguments(factory)}: name a function that needs none'
        )
    return factory()


def check_callable(value: Any, target: str) -> None:
    """Raise :class:`Refused` for a callable that takes something else than a listener or an application does."""
    if _takes(value, None, None):
        return
    if isinstance(value, type):
        raise Refused(f'{target!r} is a class: name an instance of it, or a function that makes one, as name()')
    raise Refused(
        f'{target!r} takes {_arguments(value)}, and a listener takes (request, response), a WSGI application '
        f'(environ, start_response){factory_hint(value, target)}'
    )


def factory_hint(value: Any, target: str) -> str:
    """Return the end of a message for what may be a function that makes the target."""
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
    factories = [name for name in FACTORY_NAMES if hasattr(module, name)]
    hint = f"; for what {factories[0]}() returns, say '{target}:{factories[0]}()'" if factories else ''
    raise Refused(
        f'{target!r} has none of {", ".join(DEFAULT_NAMES)}: say which name is meant, as in {target}:name{hint}'
    )


def _meant(target: str) -> str:
    """Return the end of a message about ``target``, which has no name, or no module: the one that may be meant."""
    import os

    stem = target.removesuffix(':').removesuffix('.py')
    place = stem.replace('.', '/')
    for path in dict.fromkeys((f'{stem}.py', f'{place}.py')):
        if os.path.isfile(path) and not _in_package(path):
            return f'; did you mean {path!r}?'
    if os.path.isfile(f'{place}/__init__.py') or os.path.isfile(f'{place}.py'):
        return f"; did you mean '{place.strip('/').replace('/', '.')}:NAME'?"
    return ''


def _in_package(path: str) -> bool:
    import os

    return os.path.isfile(os.path.join(os.path.dirname(path) or '.', '__init__.py'))


def _similar(value: Any, name: str) -> str:
    """Return the end of a message about ``value``, which has no ``name``: the names that it has instead."""
    import difflib

    callables = [each for each, found in vars(value).items() if callable(found)] if hasattr(value, '__dict__') else []
    close = difflib.get_close_matches(name, callables, 1) or [each for each in DEFAULT_NAMES if hasattr(value, each)]
    return f'; did you mean {close[0]!r}?' if close else ''


def _load_module(name: str) -> ModuleType:
    import importlib
    import os

    if '' not in sys.path:
        sys.path.insert(0, '')
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # what the module itself fails to find is its own affair
        if error.name is not None and f'{name}.'.startswith(f'{error.name}.'):
            raise Refused(
                f'no module named {error.name!r}: neither in the current directory, {os.getcwd()}, nor '
                f'among what is installed for {sys.executable}'
            ) from error
        raise


def _load_file(path: str) -> ModuleType:
    import importlib.util
    import os

    if not os.path.isfile(path):
        raise Refused(f'no such file: {path!r}, seen from {os.getcwd()}')
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
    the file ``caller``; after it, the remedy for an import that failed."""
    import importlib
    import traceback

    trace: TracebackType | None = error.__traceback__
    ours = {caller, __file__, importlib.__file__}
    while trace is not None and (
        trace.tb_frame.f_code.co_filename in ours or trace.tb_frame.f_code.co_filename.startswith('<frozen importlib')
    ):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
    if isinstance(error, ImportError) and 'relative import with no known parent' in str(error):
        sys.stderr.write(
            'geventnode: a file is loaded without its package: name its module, as in '
            'package.module:name, in the directory of the package\n'
        )
    elif isinstance(error, ModuleNotFoundError):
        sys.stderr.write(
            f'geventnode: the command runs with {sys.executable}: install the missing package there, with '
            f"'{sys.executable} -m pip install ...', or run the command of the environment that has it\n"
        )
