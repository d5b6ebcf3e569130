"""What is the case: versions, the loop, limits, and in which order a program imported and patched.

Nothing is judged here. A program is imported as Python itself would import it, that is without patching anything before
it, because only then can be seen what it does by itself. When gevent says that it is about to patch, what is loaded by
then is noted. Modules that must not be loaded before patching are not imported at the top of this file.
"""

from __future__ import annotations

import platform
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from geventnode import __version__
from geventnode.cli.targets import Refused, load_target, print_traceback

__all__ = ['BLOCKERS', 'EARLY', 'LIBRARIES', 'PATCHABLE', 'Facts', 'gather']

LIBRARIES = ('gevent', 'greenlet', 'zope.interface')

#: What keeps hold of what patching replaces, or looks at import whether it did, when it is loaded before.
EARLY = ('ssl', 'urllib3', 'requests', 'httpx', 'aiohttp', 'botocore', 'pymongo', 'psycopg')

#: Libraries in C that wait in the kernel by themselves, so that patching does not reach them.
BLOCKERS = ('psycopg2', 'MySQLdb', 'pymssql', 'grpc', 'confluent_kafka', 'ibm_db')

#: What ``patch_all`` patches of all that matters here.
PATCHABLE = ('socket', 'ssl', '_thread', 'threading', 'select', 'selectors', 'time', 'subprocess', 'queue', 'signal')


class Facts(NamedTuple):
    """Everything that checks look at; values that JSON can hold."""

    geventnode: str
    python: str
    implementation: str
    #: Whether there is a global interpreter lock.
    gil: bool
    #: Versions by name; None where something is not installed as a distribution.
    libraries: dict[str, str | None]
    openssl: str | None
    #: The module that the event loop comes from, and the system call that it waits with.
    loop: str
    backend: str
    resolver: str
    #: Soft and hard limit (RLIMIT_NOFILE), None for none; None in all where the system has no such thing.
    descriptors: tuple[int | None, int | None] | None
    #: Connections that the kernel lets wait to be accepted (net.core.somaxconn); None where that is not known.
    somaxconn: int | None
    target: str | None = None
    #: What it raised instead of being imported.
    failed: str | None = None
    #: Modules that are patched now.
    patched: tuple[str, ...] = ()
    #: Which of :data:`EARLY` the program had loaded when patching began.
    early: tuple[str, ...] = ()
    #: Threads that ran then beside the first one, and whether another one than the first one patched.
    threads: int = 0
    other_thread: bool = False
    #: What gevent said against patching.
    complaints: tuple[str, ...] = ()
    #: Which of :data:`BLOCKERS` are loaded, and nothing was done about it.
    blocking: tuple[str, ...] = ()

    def shown(self, name: str) -> str:
        """Return the fact called ``name`` for people; empty for nothing."""
        value = getattr(self, name)
        if name == 'python':
            return f'{self.python} ({self.implementation}{"" if self.gil else ", free-threaded"})'
        if name == 'libraries':
            return ', '.join(f'{each} {found or "(not installed)"}' for each, found in value.items())
        if name == 'loop':
            return f'{self.loop.removeprefix("gevent.").partition(".")[0]}, {self.backend}'
        if name == 'descriptors' and value is not None:
            soft, hard = ('unlimited' if each is None else each for each in value)
            return f'{soft} (at most {hard})'
        return ', '.join(value) if isinstance(value, tuple) else '' if value is None else str(value)


class _Order:
    """Notes what is loaded when patching begins."""

    def __init__(self) -> None:
        self._before = set(sys.modules)
        self.early: tuple[str, ...] = ()
        self.threads = 0
        self.other_thread = False
        self._began = False

    def __call__(self, event: object) -> None:
        """Called by gevent before and after each step of patching."""
        if not self._began:
            self._began = True
            self.early = tuple(name for name in EARLY if name in sys.modules and name not in self._before)
            import threading

            self.threads = threading.active_count() - 1
            self.other_thread = threading.current_thread() is not threading.main_thread()


def gather(target: str | None = None) -> Facts:
    """Return the facts about this process, after importing ``target`` if there is one. May switch: runs the target's
    own code, and prints the traceback of what that raises. Raises :class:`geventnode.cli.targets.Refused`."""
    import gevent.events

    order = _Order()
    failed = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        gevent.events.subscribers.append(order)
        try:
            if target is not None:
                load_target(target)
        except Refused:
            raise
        except Exception as error:
            failed = f'{type(error).__name__}: {error}'
            print_traceback(error, __file__)
        finally:
            gevent.events.subscribers.remove(order)
    complaints = tuple(str(each.message) for each in caught if each.category.__name__ == 'MonkeyPatchWarning')
    return _present()._replace(
        target=target,
        failed=failed,
        early=order.early,
        threads=order.threads,
        other_thread=order.other_thread,
        complaints=complaints,
    )


def _present() -> Facts:
    import gevent
    from gevent import monkey

    hub = gevent.get_hub()
    return Facts(
        geventnode=__version__,
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        gil=getattr(sys, '_is_gil_enabled', lambda: True)(),
        libraries={name: _version(name) for name in LIBRARIES},
        openssl=_openssl(),
        loop=type(hub.loop).__module__,
        backend=str(getattr(hub.loop, 'backend', '')),
        resolver=type(hub.resolver).__module__.rpartition('.')[2],
        descriptors=_descriptors(),
        somaxconn=_somaxconn(),
        patched=tuple(name for name in PATCHABLE if monkey.is_module_patched(name)),
        blocking=tuple(name for name in BLOCKERS if name in sys.modules and not _tamed(name)),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _openssl() -> str | None:
    try:
        import ssl
    except ImportError:
        return None
    return ssl.OPENSSL_VERSION


def _descriptors() -> tuple[int | None, int | None] | None:
    try:
        import resource
    except ImportError:
        return None
    soft, hard = (
        None if each == resource.RLIM_INFINITY else each for each in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    return soft, hard


def _somaxconn(path: str = '/proc/sys/net/core/somaxconn') -> int | None:
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _tamed(name: str) -> bool:
    """Return whether something was done for the library to wait cooperatively."""
    loaded: Any = sys.modules
    if name == 'psycopg2':
        extensions = loaded.get('psycopg2.extensions')
        return extensions is not None and extensions.get_wait_callback() is not None
    return name == 'grpc' and 'grpc.experimental.gevent' in loaded
