"""Load the target of the command line: a name in a module or in a file.

The imports at the top leave out every module of the standard library that has to be patched before it is imported.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
from typing import TYPE_CHECKING, Any

from geventnode.cli.arguments import DEFAULT_NAMES
from geventnode.cli.lines import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType, TracebackType

__all__ = [
    'FILE_MODULE',
    'Interrupted',
    'UsageError',
    'check_callable',
    'exit_reported',
    'factory_hint',
    'load_target',
    'print_traceback',
]

#: The module name under which a file is loaded: the file's own name could be that of another module.
FILE_MODULE = 'geventnode_target'

_file_target = re.compile(r'(?P<path>.+\.py)(?::(?P<name>\w+(?:\.\w+)*)(?P<call>\(\))?)?')
_module_target = re.compile(r'(?P<module>\w+(?:\.\w+)*):(?P<name>\w+(?:\.\w+)*)(?P<call>\(\))?')

#: Usual names of functions that return an application.
FACTORY_NAMES = ('create_app', 'make_app', 'get_app', 'create_server')

#: Seconds after which an import that has not ended is reported.
SLOW_IMPORT = 10.0

#: Methods that serve until the process ends: module, class, and name.
_SERVERS = (
    ('geventnode.net.server', 'Server', 'serve_forever'),
    ('gevent.baseserver', 'BaseServer', 'serve_forever'),
    ('socketserver', 'BaseServer', 'serve_forever'),
)

#: Flask's ``run()``, module and name: its reloader runs the server in a thread of another process.
_RELOADING = ('werkzeug.serving', 'run_simple')


class UsageError(Exception):
    """A mistake of the user. The message is one line: subject, problem, remedy."""

    #: The exit status of the process.
    status: int = 2


class Interrupted(UsageError):
    """The user pressed Ctrl+C while the target was being imported."""

    status = 130


def load_target(target: str) -> Any:
    """Return the listener, WSGI application or http.Server that ``target`` names.

    Blocks as long as the target's own code does. Raises :class:`UsageError`, and the exceptions of that code.

    :param target: ``module:name`` or ``file.py[:name]``, with ``()`` after the name of a factory.
    """
    from geventnode.http import Server

    with _supervised_import(target):
        value, subject = _load(target)
    if not isinstance(value, Server) and not callable(value):
        raise UsageError(
            f'{subject} of type {type(value).__name__}; it must be a request listener, a WSGI application or an '
            'http.Server'
        )
    return value


def _load(target: str) -> tuple[Any, str]:
    """Return the object that ``target`` names, and the subject for messages."""
    found = _file_target.fullmatch(target)
    if found is not None:
        module = _load_file(found['path'])
        named = _default_name(module, target) if found['name'] is None else found['name']
    else:
        found = _module_target.fullmatch(target)
        if found is None:
            hint = '; name() is a call without arguments' if '(' in target else ''
            suggestion = _target_suggestion(target)
            raise UsageError(f'TARGET must be module:name or file.py[:name], not {target!r}{hint}{suggestion}')
        module = _load_module(found['module'])
        named = found['name']
    where = target.removesuffix('()').removesuffix(f':{named}')
    value: Any = module
    for part in named.split('.'):
        if not hasattr(value, part):
            raise UsageError(f'{where!r} has no {named!r}{_name_suggestion(value, part)}')
        value = getattr(value, part)
    subject = f'{named!r} of {where!r} is'
    if found['call'] is not None:
        value = _call_factory(value, target)
        subject = f'{target!r} returned an object'
    return value, subject


# -- imports that do not end ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _supervised_import(target: str) -> Iterator[None]:
    """Refuse servers that the import starts, and report a slow import."""
    path = _path_of(target)
    with _slow_import_reported(target, path), _servers_refused(target, path):
        try:
            yield
        except KeyboardInterrupt as error:
            place = _place(_frames(error.__traceback__))
            raise Interrupted(f'interrupted while {target!r} was being imported{place}') from error


@contextlib.contextmanager
def exit_reported(target: str | None) -> Iterator[None]:
    """Report that the target ends the process: it is not to end without a reason.

    The exit status remains that of the target.

    :param target: the target that the block loads; None without one.
    """
    try:
        yield
    except SystemExit as error:
        place = _place(_frames(error.__traceback__))
        code = '' if error.code is None else repr(error.code)
        say(f'geventnode: {target!r} called sys.exit({code}) while it was being imported{place}', sys.stderr)
        raise


def _path_of(target: str) -> str:
    """Return the file of ``target``; a module is expected in this directory."""
    found = _file_target.fullmatch(target)
    return found['path'] if found is not None else f'{target.partition(":")[0].replace(".", "/")}.py'


@contextlib.contextmanager
def _slow_import_reported(target: str, path: str) -> Iterator[None]:
    """Write to standard error if the block takes longer than :data:`SLOW_IMPORT` seconds."""
    from gevent.monkey import get_original

    # in a native thread: the import can block with gevent or without, and can count threads
    start_thread, lock_of = (get_original('_thread', name) for name in ('start_new_thread', 'allocate_lock'))
    over = lock_of()
    over.acquire()

    def watch() -> None:
        if not over.acquire(timeout=SLOW_IMPORT):
            say(
                f'geventnode: {target!r} is still being imported; if it starts a server itself, run it '
                f"with 'python {path}'",
                sys.stderr,
            )

    start_thread(watch, ())
    try:
        yield
    finally:
        over.release()


@contextlib.contextmanager
def _servers_refused(target: str, path: str) -> Iterator[None]:
    """Refuse servers that would block this greenlet until the process ends."""
    import importlib

    from gevent import getcurrent

    importing = getcurrent()
    over = False

    def refusing(serve: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*args: Any, **kwargs: Any) -> Any:
            # the target can have kept it
            if over or getcurrent() is not importing:
                return serve(*args, **kwargs)
            place = _place(_callers(sys._getframe(1)))
            raise UsageError(
                f"{target!r} starts a server itself while it is imported{place}; run it with 'python "
                f"{path}', or put that line under if __name__ == '__main__':"
            )

        return guard

    with contextlib.ExitStack() as stack:

        def refuse(owner: Any, name: str) -> None:
            serve = getattr(owner, name)
            stack.callback(setattr, owner, name, serve)
            setattr(owner, name, refusing(serve))

        for module, kind, name in _SERVERS:
            refuse(getattr(importlib.import_module(module), kind), name)
        module, name = _RELOADING
        # a finder of the target can keep the loader
        finder = _Finder(module, lambda loaded: None if over else refuse(loaded, name))
        # None forbids the import
        if (loaded := sys.modules.get(module)) is not None:
            refuse(loaded, name)
        else:
            # its import takes a tenth of a second, and most targets do without it
            sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            over = True
            sys.meta_path[:] = [each for each in sys.meta_path if each is not finder]


class _Finder:
    """Call a function with the module ``name`` when it has been imported."""

    def __init__(self, name: str, imported: Callable[[ModuleType], object]) -> None:
        self._name = name
        self._imported = imported

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the module with the other finders."""
        if name == self._name:
            for finder in sys.meta_path:
                # the import system passes over a finder without the method, too
                find = None if finder is self else getattr(finder, 'find_spec', None)
                spec: ModuleSpec | None = None if find is None else find(name, path, target)
                if spec is not None:
                    # a namespace package has none
                    if hasattr(spec.loader, 'exec_module'):
                        loader: Any = _Loader(spec.loader, self._imported)
                        spec.loader = loader
                    return spec
        return None


class _Loader:
    """Load a module with another loader, and call a function with it."""

    def __init__(self, loader: Any, imported: Callable[[ModuleType], object]) -> None:
        self._loader = loader
        self._imported = imported

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the other loader: its methods for the source and the resources are optional."""
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module, None for one of the usual type."""
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """Load the module. Blocks as long as its code does."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._imported(module)


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
    """Return the line of the target that was running, for a message.

    The line is in the module that was being imported, or in the factory that was running. The other frames are those
    of libraries and of the import system.

    :param frames: the innermost first.
    """
    import os

    for frame, caller in itertools.pairwise(frames):
        name = frame.f_code.co_filename
        if name == __file__:
            # the rest are the frames that load the target
            break
        if caller.f_code is _call_factory.__code__ or (frame.f_code.co_name == '<module>' and not name.startswith('<')):
            return f' ({os.path.relpath(name)}, line {frame.f_lineno})'
    return ''


# -- the object that a target names -----------------------------------------------------------------------------------


def _call_factory(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise UsageError(f'{target!r} cannot be called, because it is of type {type(factory).__name__}')
    if not _accepts(factory):
        raise UsageError(
            f'{target!r} is called without arguments, but takes {_arity(factory)}; name a function that needs none'
        )
    return factory()


def check_callable(value: Any, target: str) -> None:
    """Raise :class:`UsageError` unless ``value`` accepts two arguments."""
    if _accepts(value, None, None):
        return
    if isinstance(value, type):
        raise UsageError(f'{target!r} is a class; use an instance of it, or a function that returns one, as name()')
    raise UsageError(
        f'{target!r} takes {_arity(value)}, but a listener takes (request, response) and a WSGI application '
        f'(environ, start_response){factory_hint(value, target)}'
    )


def factory_hint(value: Any, target: str) -> str:
    """Return a suggestion if ``value`` can be a factory; empty otherwise."""
    # a function with any number of arguments wraps another one
    if target.endswith(')') or not _accepts(value) or _accepts(value, *range(100)):
        return ''
    return f"; to use its result, write '{target}()'"


def _accepts(function: Any, *arguments: Any) -> bool:
    """Return whether ``function`` accepts ``arguments``, as far as is known."""
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


def _arity(function: Any) -> str:
    """Return the number of parameters of ``function``, in words."""
    import inspect

    count = len(inspect.signature(function).parameters)
    return '1 argument' if count == 1 else f'{count or "no"} arguments'


def _default_name(module: ModuleType, target: str) -> str:
    for name in DEFAULT_NAMES:
        if hasattr(module, name):
            return name
    factories = [name for name in FACTORY_NAMES if hasattr(module, name)]
    hint = f"; to use the result of {factories[0]}(), write '{target}:{factories[0]}()'" if factories else ''
    raise UsageError(
        f'{target!r} has none of the names {", ".join(DEFAULT_NAMES)}; name one, as in {target}:name{hint}'
    )


def _target_suggestion(target: str) -> str:
    """Return a suggestion for the bad ``target``; empty without one."""
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


def _name_suggestion(value: Any, name: str) -> str:
    """Return a suggestion for the missing attribute ``name``; empty without one."""
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
        # a module that the target itself cannot import is an error of the target
        if error.name is not None and f'{name}.'.startswith(f'{error.name}.'):
            raise UsageError(
                f'no module is named {error.name!r}, neither in the current directory, {os.getcwd()}, nor '
                f'among the packages of {sys.executable}'
            ) from error
        raise


def _load_file(path: str) -> ModuleType:
    import importlib.util
    import os

    if not os.path.isfile(path):
        raise UsageError(f'the file {path!r} does not exist in {os.getcwd()}')
    # as in a program that Python runs, the directory of the file is on the path
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location(FILE_MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[FILE_MODULE] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def print_traceback(error: BaseException, caller: str) -> None:
    """Print the traceback of ``error``, and the remedy for a failed import.

    The frames that led into the target are left out: those of this file, of ``caller`` and of the import system.

    :param caller: the path of the file that loads the target.
    """
    import importlib
    import traceback

    trace: TracebackType | None = error.__traceback__
    hidden = {caller, __file__, importlib.__file__}
    while trace is not None and (
        trace.tb_frame.f_code.co_filename in hidden or trace.tb_frame.f_code.co_filename.startswith('<frozen importlib')
    ):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
    if isinstance(error, ImportError) and 'relative import with no known parent' in str(error):
        say(
            'geventnode: a file is loaded without its package; name its module, as in '
            'package.module:name, and run the command in the directory of the package',
            sys.stderr,
        )
    elif isinstance(error, ModuleNotFoundError):
        found = _module_beside(error.name or '')
        if found is not None:
            directory, name = found
            say(
                f'geventnode: {error.name!r} is in {directory}, and the import path of a file has only the directory '
                f"of the file; name its module, as in '{name}:NAME', and run the command in {directory}",
                sys.stderr,
            )
            return
        say(
            f'geventnode: the command runs with {sys.executable}; install the missing package there, with '
            f"'{sys.executable} -m pip install ...', or run the command of the environment that has it",
            sys.stderr,
        )


def _module_beside(package: str) -> tuple[str, str] | None:
    """Return the directory above the target that has a missing package.

    The name of the target's module there follows it. None: the target is no file, no directory has the package, or
    only a module of the package is missing.
    """
    import os
    from importlib.machinery import PathFinder

    module = sys.modules.get(FILE_MODULE)
    if module is None or not package or '.' in package:
        return None
    path = os.path.abspath(str(module.__file__))
    directory = os.path.dirname(path)
    while directory != os.path.dirname(directory):
        directory = os.path.dirname(directory)
        found = PathFinder.find_spec(package, [directory])
        if found is not None and found.origin is not None:
            name = os.path.splitext(os.path.relpath(path, directory))[0]
            return directory, name.replace(os.sep, '.')
    return None
