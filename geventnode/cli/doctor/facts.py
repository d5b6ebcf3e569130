"""Gather facts: versions, the event loop, limits, and the order of a program's imports and its patching.

The program is imported as Python itself would import it, without patching anything first, so that its own patching can
be checked. When gevent announces that it is about to patch, the modules loaded until then are recorded. The imports at
the top therefore leave out every module that has to be patched before it is imported.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from geventnode import __version__
from geventnode.cli.targets import UsageError, exit_reported, load_target, print_traceback
from geventnode.errors import InvalidInput

__all__ = ['BLOCKERS', 'EARLY', 'EVENTLET_PATCHABLE', 'HTTP2_LIBRARIES', 'LIBRARIES', 'PATCHABLE', 'Facts', 'gather']

LIBRARIES = ('gevent', 'greenlet', 'zope.interface')
#: Those of the extra ``http2``.
HTTP2_LIBRARIES = ('h2', 'hpack', 'hyperframe')

#: Modules that keep the unpatched functions, or remember that nothing was patched, if they are imported first.
EARLY = ('ssl', 'urllib3', 'requests', 'httpx', 'aiohttp', 'botocore', 'pymongo', 'psycopg')

#: Libraries that block in C code, which patching cannot change.
BLOCKERS = ('psycopg2', 'MySQLdb', 'pymssql', 'grpc', 'confluent_kafka', 'ibm_db')

#: The names of the modules that ``eventlet.monkey_patch()`` patches by default.
EVENTLET_PATCHABLE = ('os', 'select', 'socket', 'subprocess', 'thread', 'time')

#: The modules that ``patch_all`` patches and a server needs.
PATCHABLE = ('socket', 'ssl', '_thread', 'threading', 'select', 'selectors', 'time', 'subprocess', 'queue', 'signal')


class Facts(NamedTuple):
    """The input of the checks, in values that JSON can represent."""

    geventnode: str
    python: str
    implementation: str
    #: Whether the global interpreter lock is enabled.
    gil: bool
    #: Versions by name; None for a library that is not installed as a distribution.
    libraries: dict[str, str | None]
    openssl: str | None
    #: The module of the event loop.
    loop: str
    #: The system call that the loop waits with.
    backend: str
    resolver: str
    #: Soft and hard limit of descriptors (RLIMIT_NOFILE), each None if unlimited; None if the system has no limits.
    descriptors: tuple[int | None, int | None] | None
    #: The most connections that the kernel queues until they are accepted (net.core.somaxconn); None if unknown.
    somaxconn: int | None
    #: Versions of the packages for HTTP/2 by name, None for one that is not installed.
    http2: dict[str, str | None] | None = None
    target: str | None = None
    #: The exception that the import of the target raised.
    failed: str | None = None
    #: The modules of :data:`PATCHABLE` that are patched now.
    patched: tuple[str, ...] = ()
    #: The modules of :data:`EARLY` that the program had imported when patching began.
    early: tuple[str, ...] = ()
    #: The number of threads beside the main thread when patching began.
    threads: int = 0
    #: Whether a thread other than the main thread patched.
    other_thread: bool = False
    #: The warnings of gevent about patching.
    warnings: tuple[str, ...] = ()
    #: The libraries of :data:`BLOCKERS` that are imported and not made cooperative.
    blocking: tuple[str, ...] = ()
    #: The modules of :data:`EVENTLET_PATCHABLE` that eventlet has patched; None if the program does not import it.
    eventlet: tuple[str, ...] | None = None
    #: The variables for proxies that are set, with their values without credentials.
    proxies: tuple[str, ...] = ()
    #: The reason why these variables cannot be used.
    proxy_error: str | None = None
    #: Whether requests without an agent use them.
    proxies_used: bool = False
    #: The reason why gevent has no event loop, or no resolver.
    loop_error: str | None = None
    resolver_error: str | None = None

    def format(self, name: str) -> str:
        """Return the fact called ``name`` as text; empty if there is none."""
        value = getattr(self, name)
        if name == 'python':
            return f'{self.python} ({self.implementation}{"" if self.gil else ", free-threaded"})'
        if name in ('libraries', 'http2') and value is not None:
            return ', '.join(f'{each} {found or "(not installed)"}' for each, found in value.items())
        if name == 'loop' and self.loop:
            return f'{self.loop.removeprefix("gevent.").partition(".")[0]}, {self.backend}'
        if name == 'descriptors' and value is not None:
            soft, hard = ('unlimited' if each is None else each for each in value)
            return f'{soft} (at most {hard})'
        return ', '.join(value) if isinstance(value, tuple) else '' if value is None else str(value)


class _PatchObserver:
    """Records the imported modules and the threads when patching begins."""

    def __init__(self) -> None:
        self._before = set(sys.modules)
        self.early: tuple[str, ...] = ()
        self.threads = 0
        self.other_thread = False
        self._began = False

    def __call__(self, event: object) -> None:
        """Record the state at the first event that announces patching."""
        if not self._began:
            self._began = True
            self.early = tuple(name for name in EARLY if name in sys.modules and name not in self._before)
            import threading

            self.threads = threading.active_count() - 1
            self.other_thread = threading.current_thread() is not threading.main_thread()


def gather(target: str | None = None) -> Facts:
    """Import ``target``, if given, and return the facts about this process.

    Blocks as long as the target's own code does; the traceback of its exception is printed. Raises
    :class:`geventnode.cli.targets.UsageError`.
    """
    import gevent.events

    observer = _PatchObserver()
    failed = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        gevent.events.subscribers.append(observer)
        try:
            if target is not None:
                with exit_reported(target):
                    load_target(target)
        except UsageError:
            raise
        except Exception as error:
            failed = f'{type(error).__name__}: {error}'
            print_traceback(error, __file__)
        finally:
            gevent.events.subscribers.remove(observer)
    messages = tuple(str(each.message) for each in caught if each.category.__name__ == 'MonkeyPatchWarning')
    return _process_facts()._replace(
        target=target,
        failed=failed,
        early=observer.early,
        threads=observer.threads,
        other_thread=observer.other_thread,
        warnings=messages,
    )


def _process_facts() -> Facts:
    import gevent
    from gevent import monkey

    loop, backend, resolver = '', '', ''
    loop_error = resolver_error = None
    try:
        hub = gevent.get_hub()
        loop, backend = type(hub.loop).__module__, str(getattr(hub.loop, 'backend', ''))
    except Exception as error:
        # a setting of the environment names an unknown one
        loop_error = resolver_error = f'{type(error).__name__}: {error}'
    else:
        try:
            resolver = type(hub.resolver).__module__.rpartition('.')[2]
        except Exception as error:
            # or one that needs another package
            resolver_error = f'{type(error).__name__}: {error}'
    return Facts(
        geventnode=__version__,
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        gil=getattr(sys, '_is_gil_enabled', lambda: True)(),
        libraries={name: _version(name) for name in LIBRARIES},
        openssl=_openssl(),
        http2={name: _version(name) for name in HTTP2_LIBRARIES},
        loop=loop,
        backend=backend,
        resolver=resolver,
        loop_error=loop_error,
        resolver_error=resolver_error,
        descriptors=_descriptors(),
        somaxconn=_somaxconn(),
        patched=tuple(name for name in PATCHABLE if monkey.is_module_patched(name)),
        blocking=tuple(name for name in BLOCKERS if name in sys.modules and not _is_cooperative(name)),
        eventlet=_eventlet(),
        **(_proxies(os.environ) if loop_error is None else {}),
    )


def _proxies(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts about the proxies of an environment."""
    # with a target, this is the program's own module
    from geventnode import http
    from geventnode.http.client.proxy import check_proxy_env, proxy_variables

    found = []
    try:
        for protocol in ('http:', 'https:'):
            settings = check_proxy_env(protocol, 'proxy_env', environment)
            if settings is not None and settings.proxy is not None:
                found.append(f'{settings.proxy} for {protocol}')
                no_proxy = str(settings.no_proxy)
    except InvalidInput as error:
        return {'proxies': tuple(sorted(proxy_variables(environment))), 'proxy_error': str(error)}
    if found and no_proxy:
        found.append(f'none for {no_proxy}')
    return {'proxies': tuple(found), 'proxies_used': http.global_agent.proxy_env is not None}


def _eventlet() -> tuple[str, ...] | None:
    patcher: Any = sys.modules.get('eventlet.patcher')
    if patcher is None:
        return None
    return tuple(name for name in EVENTLET_PATCHABLE if patcher.is_monkey_patched(name))


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


def _is_cooperative(name: str) -> bool:
    """Return whether the program has made the library cooperative."""
    loaded: Any = sys.modules
    if name == 'psycopg2':
        extensions = loaded.get('psycopg2.extensions')
        return extensions is not None and extensions.get_wait_callback() is not None
    return name == 'grpc' and 'grpc.experimental.gevent' in loaded
