"""A worker for gunicorn: ``gunicorn -k geventnode.integrations.gunicorn.Worker app:app``.

gunicorn starts and replaces the processes, holds the listening sockets and reads the configuration. The worker creates
a server for the application and stops it on a signal. Each worker patches the standard library before it imports the
application. The master patches it only with ``preload_app``, because it then imports the application itself.

Signal handlers only set a flag. The main greenlet reads the flags, notifies gunicorn that the process is alive, and
waits. A blocked loop sends no such notification. Other greenlets and the hub do everything else.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, ClassVar

import gevent
import gevent.os
from gevent import get_hub, monkey
from gevent.event import Event
from gevent.queue import Empty, Queue
from gunicorn import sock as gunicorn_sock
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config, PostRequest, PreRequest
from gunicorn.errors import AppImportError, HaltServer
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as BaseWorker

from geventnode import http
from geventnode.errors import InvalidInput
from geventnode.integrations.gunicorn.observers import GunicornObserver
from geventnode.integrations.gunicorn.settings import (
    CONNECTION_SETTINGS,
    IGNORED_SETTINGS,
    alpn_protocols,
    is_changed,
    mount_path,
    server_options,
    unknown_settings,
    unsupported_reason,
    uses_sendfile,
)
from geventnode.loggers import keep_enabled

__all__ = ['ListenerWorker', 'NotServable', 'WSGIWorker', 'Worker', 'run']

#: Seconds between two notifications of the master, unless ``timeout`` is shorter.
HEARTBEAT = 1.0

#: Seconds that a draining worker leaves for logs and hooks before the master kills it, and their largest share of
#: ``graceful_timeout``.
MARGIN, MARGIN_SHARE = 1.0, 0.25

#: Seconds before the next attempt to start a worker: after the first failure, and at most; gunicorn kills a worker that
#: takes longer than its ``timeout`` of 30 seconds.
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0

READ = 1

#: The loggers that this worker writes to.
LOGGERS = 'geventnode.error', 'geventnode.connection', 'gunicorn.error', 'gunicorn.access'

#: The application cannot be served. gunicorn prints the message and exits.
NotServable = AppImportError


def _patch() -> list[str]:
    """Patch the standard library, once; return gevent's warnings."""
    if monkey.is_module_patched('socket'):
        return []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        monkey.patch_all()
    return [str(each.message) for each in caught if issubclass(each.category, monkey.MonkeyPatchWarning)]


def _make_arbiter_cooperative(arbiter: Any) -> None:
    """Replace the signal queue of ``arbiter``, and register its children with gevent.

    Since version 24, gunicorn waits for signals in a queue that it creates before it loads the worker class. If a
    reload enables ``preload_app``, the arbiter already has children.
    """
    signals = arbiter.SIG_QUEUE
    if not isinstance(signals, (list, Queue)):
        # not queue.SimpleQueue: it blocks the loop in gevent before 25.4
        arbiter.SIG_QUEUE = Queue()
        with contextlib.suppress(Empty):
            while True:
                arbiter.SIG_QUEUE.put_nowait(signals.get_nowait())
    handler = signal.getsignal(signal.SIGCHLD)
    if callable(handler):
        signal.signal(signal.SIGCHLD, handler)
    for pid in arbiter.WORKERS:
        gevent.os.fork_and_watch(fork=lambda pid=pid: pid)


def _separate_dirty_clients() -> None:
    """Give each greenlet its own connections to gunicorn's dirty workers.

    With ``dirty_apps`` (gunicorn 25 and later), the master imports these modules before the standard library is
    patched. All greenlets of a worker would share one connection: one call at a time, and mixed replies of streams.
    """
    for name in ('gunicorn.dirty.client', 'gunicorn.dirty.stash'):
        module: Any = sys.modules.get(name)
        if module is not None:
            module._thread_local = threading.local()


def _log_patch_warnings(log: Any, messages: list[str]) -> None:
    for message in messages:
        log.warning(
            '%s A module was imported before the standard library was patched: check the imports of the '
            'configuration file, and of the modules in dirty_apps.',
            message,
        )
    messages.clear()


class _GunicornLogHandler(logging.Handler):
    """Write geventnode's log records to gunicorn's error log."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        write = self._log.error if record.levelno >= logging.ERROR else partial(self._log.log, record.levelno)
        write(record.getMessage(), exc_info=record.exc_info)


class Worker(BaseWorker):
    """Serve an application under gunicorn.

    The application is a WSGI application, a request listener or an :class:`geventnode.http.Server`. A callable is a
    listener only if the names of its parameters say so (:func:`geventnode.integrations.wsgi.is_wsgi` returns False).

    A server keeps its own options: gunicorn's settings for processes, logs and hooks apply to it, those for connections
    do not. ``worker.server`` is the server, for hooks.

    gunicorn calls every method of this class. :doc:`/gunicorn` lists the supported settings.
    """

    #: The type of the application, ``'wsgi'`` or ``'listener'``; None: its parameters decide.
    kind: ClassVar[str | None] = None

    #: gevent's warnings from patching the master.
    _patch_warnings: ClassVar[list[str]] = []

    sockets: list[Any]

    #: Flags, set by signal handlers and by the server.
    _quit_requested: bool = False
    _reopen_requested: bool = False
    _reached_max_requests: bool = False
    _server_closed: bool = False

    # -- run in the master --------------------------------------------------------------------------------------------

    @classmethod
    def setup(cls) -> None:
        """Refuse unsupported settings, and patch the master with ``preload_app``.

        gunicorn calls this when it loads the class, before it imports an application itself. Raises ``RuntimeError``
        for a setting that changes the protocol.
        """
        # gunicorn passes no arguments: the caller is the configuration, and its caller is the arbiter
        config = sys._getframe(1).f_locals.get('self')
        arbiter = sys._getframe(2).f_locals.get('self')
        if not isinstance(config, Config):
            return
        reason = unsupported_reason(config)
        if reason is not None:
            if not isinstance(arbiter, Arbiter) or not arbiter.WORKERS:
                # gunicorn prints the reason and exits, before it listens
                raise RuntimeError(reason)
            # a reload: an error would stop the workers in service
            log: Any = arbiter.log
            log.error('the setting is ignored: %s', reason)
        if config.preload_app:
            was_patched = monkey.is_module_patched('socket')
            cls._patch_warnings += _patch()
            keep_enabled(*LOGGERS)
            if isinstance(arbiter, Arbiter) and not was_patched:
                _make_arbiter_cooperative(arbiter)

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Log a warning for each setting that has no effect. gunicorn calls this once."""
        _log_patch_warnings(log, cls._patch_warnings)
        for name, reason in IGNORED_SETTINGS.items():
            if is_changed(cfg, name):
                log.warning('%s has no effect in this worker: %s', name, reason)
        for name in unknown_settings(cfg):
            log.warning('%s is unknown to this worker and can have no effect: this gunicorn is newer', name)

    # -- beginning ----------------------------------------------------------------------------------------------------

    def init_process(self) -> None:
        """Initialize the new process and serve. Blocks until the worker has stopped."""
        # the inherited handlers of the master would swallow a signal that arrives before gunicorn sets the worker's
        signal.signal(signal.SIGTERM, self.handle_exit)
        for number in (signal.SIGQUIT, signal.SIGINT):
            signal.signal(number, self.handle_quit)
        messages = _patch()
        _separate_dirty_clients()
        gevent.reinit()
        self._wakeup = Event()
        self._heartbeat = min(HEARTBEAT, self.timeout or HEARTBEAT)
        errors = logging.getLogger('geventnode.error')
        if not errors.handlers:
            errors.addHandler(_GunicornLogHandler(self.log))
            errors.setLevel(self.log.loglevel)
            errors.propagate = False
        _log_patch_warnings(self.log, messages)
        super().init_process()

    def init_signals(self) -> None:
        """Set the signal handlers, before gunicorn loads the application."""
        # gunicorn resets all handlers first: a signal in between would end the process without hooks
        held = signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGUSR1
        before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
        try:
            super().init_signals()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def load_wsgi(self) -> None:
        """Load the application and create its server.

        Blocks until the application is imported. gunicorn regards the worker as booted afterwards: an error here would
        occur in the next worker, too, and stops the master.
        """
        keep_enabled(*LOGGERS)
        super().load_wsgi()
        self.server = self._make_server()

    def _make_server(self) -> Any:
        """Return the server of the application, with the options of the configuration."""
        cfg = self.cfg
        application = self.wsgi
        self._observer = self._make_observer()
        self._keep_alive = bool(cfg.keepalive)
        if isinstance(application, http.Server):
            server = application
            self._keep_alive = True
            self._check_server(server)
        else:
            listener = self._as_listener(application)
            options = server_options(cfg)
            if cfg.is_ssl:
                from geventnode import https

                server = https.create_server(listener, context=self._context(), **options)
                server._use_source(self._context_source())
            else:
                server = http.create_server(listener, **options)
        if cfg.workers > 1:
            # set on the server, because a listener can call WSGI applications
            server.multiprocess = True
        self._observer.add_pre_request(server)
        http.observe_exchanges(server, self._observer)
        server.once('close', self._on_server_closed)
        return server

    def _as_listener(self, application: Any) -> Any:
        from geventnode.integrations.wsgi import check_application, is_wsgi, wsgi

        try:
            check_application(application)
        except TypeError as error:
            raise NotServable(f'the application cannot be served: {error}') from error
        # a callable that could be either is WSGI, gunicorn's own interface
        if self.kind == 'listener' or (self.kind is None and is_wsgi(application) is False):
            if is_changed(self.cfg, 'root_path'):
                self.log.warning('root_path has no effect on a request listener: request.url is the whole path')
            return application
        try:
            return wsgi(
                self._observer.record_environs(application),
                script_name=mount_path(self.cfg, os.environ),
                sendfile=uses_sendfile(self.cfg),
            )
        except InvalidInput as error:
            raise NotServable(f'root_path, or SCRIPT_NAME in the environment: {error}') from error

    def _check_server(self, server: Any) -> None:
        cfg = self.cfg
        if server.listening:
            raise NotServable('the application is an http.Server that already listens: leave listen() to gunicorn')
        if cfg.is_ssl:
            raise NotServable(
                'certfile has no effect on an application that is an http.Server: create an https.Server, and '
                'remove certfile and keyfile'
            )
        ignored = [name for name in CONNECTION_SETTINGS if is_changed(cfg, name)]
        if ignored:
            self.log.warning(
                'the application is an http.Server with its own options, which replace %s', ', '.join(ignored)
            )
        if server.max_connections is None:
            server.max_connections = cfg.worker_connections or None
            server.wait_when_full = True

    def _context(self) -> Any:
        context = gunicorn_sock.ssl_context(self.cfg)
        context.set_alpn_protocols(alpn_protocols(self.cfg))
        return context

    def _context_source(self) -> Any:
        from geventnode.tls.context_source import ContextSource

        files = (self.cfg.certfile, self.cfg.keyfile, self.cfg.ca_certs)
        return ContextSource(self._context, [path for path in files if path is not None])

    def _make_observer(self) -> GunicornObserver:
        cfg = self.cfg
        before = after = write = None
        if cfg.pre_request is not vars(PreRequest)['pre_request'] or self.log.loglevel <= logging.DEBUG:
            before = partial(cfg.pre_request, self)
        if cfg.post_request is not vars(PostRequest)['post_request']:
            after = partial(self._call_post_request, cfg.post_request)
        # a custom logger can count requests that it does not write
        if getattr(self.log, 'access_log_enabled', True) or type(self.log).access is not Logger.access:
            write = self.log.access
        return GunicornObserver(self._on_request, before, after, write)

    def _call_post_request(self, hook: Callable[..., object], request: Any, environ: Any, response: Any) -> None:
        try:
            hook(self, request, environ, response)
        except Exception:
            self.log.exception('Exception in post_request hook')

    # -- signal handlers: they can interrupt any code, so they only set flags -----------------------------------------

    def handle_exit(self, sig: Any, frame: Any) -> None:
        """Request a graceful stop (SIGTERM)."""
        self.alive = False

    def handle_quit(self, sig: Any, frame: Any) -> None:
        """Request an immediate stop (SIGQUIT, SIGINT)."""
        self.alive = False
        self._quit_requested = True

    def handle_usr1(self, sig: Any, frame: Any) -> None:
        """Request to reopen the log files (SIGUSR1)."""
        self._reopen_requested = True

    def handle_abort(self, sig: Any, frame: Any) -> None:
        """Log the stack of the blocked loop, and exit (SIGABRT).

        The master sends the signal after ``timeout`` seconds without a notification.
        """
        self.log.error('The event loop is blocked in:\n%s', ''.join(traceback.format_stack(frame)))
        super().handle_abort(sig, frame)

    def _on_pipe(self) -> None:
        """Wake the main greenlet: a signal arrived, or the reloader noticed a changed file."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.PIPE[0], 4096)
        self._wakeup.set()

    # -- callbacks of the server --------------------------------------------------------------------------------------

    def _on_request(self, response: Any) -> None:
        self.nr += 1
        if not self.alive or not self._keep_alive:
            response.should_keep_alive = False
        if self.alive and self.nr >= self.max_requests:
            response.should_keep_alive = False
            self._reached_max_requests = True
            self.alive = False
            self._wakeup.set()

    def _on_server_closed(self) -> None:
        self.alive = False
        self._server_closed = True
        self._wakeup.set()

    # -- serving: run by the main greenlet ----------------------------------------------------------------------------

    def notify(self) -> None:
        """Notify the master, and stop if it has died."""
        super().notify()
        if self.alive and self.ppid != os.getppid():
            self.log.info('Parent changed, shutting down: %s', self)
            self.alive = False

    def run(self) -> None:
        """Serve until a signal or ``max_requests`` stops the worker.

        Blocks until the server has drained, or ``graceful_timeout`` has passed.
        """
        server = self.server
        for place, listener in enumerate(self.sockets):
            listen = server.also_listen if place else server.listen
            listen({'fd': listener.fileno()}, self.cfg.backlog)
            # the server has a duplicate; another open descriptor would keep the port listening after close()
            listener.close()
        self.sockets = []
        pipe = get_hub().loop.io(self.PIPE[0], READ)
        pipe.start(self._on_pipe)
        try:
            while self.alive:
                self._wait(HEARTBEAT)
            if self._reached_max_requests:
                self.log.info('Autorestarting worker after current request.')
            self._drain(server)
        finally:
            pipe.stop()
            pipe.close()
            signal.set_wakeup_fd(-1)

    def _wait(self, seconds: float) -> None:
        """Notify the master, handle flags, and wait for the next event."""
        self.notify()
        if self._reopen_requested:
            self._reopen_requested = False
            self.log.reopen_files()
        self._wakeup.wait(min(self._heartbeat, max(seconds, 0)))
        self._wakeup.clear()

    def _drain(self, server: Any) -> None:
        grace = self.cfg.graceful_timeout
        deadline = monotonic() + grace - min(MARGIN, grace * MARGIN_SHARE)
        if server.listening:
            server.close()
        while not self._server_closed and not self._quit_requested:
            if monotonic() >= deadline:
                left = server.get_connections()
                if left:
                    self.log.warning('Worker graceful timeout (pid:%s): %d connection(s) closed', self.pid, left)
                break
            self._wait(deadline - monotonic())
        if self._quit_requested:
            self.cfg.worker_int(self)
        server.stop(0)
        gevent.joinall(list(self._observer.pending), HEARTBEAT)


class WSGIWorker(Worker):
    """A :class:`Worker` for a WSGI application with any parameter names."""

    kind = 'wsgi'


class ListenerWorker(Worker):
    """A :class:`Worker` for a request listener with any parameter names."""

    kind = 'listener'


class _Starts:
    """Share the starts of workers between the processes of one master.

    gunicorn's master ends if a worker cannot load the application, even if others serve it; and it starts a worker
    that exits otherwise again at once, without end. Here, the master ends only if no worker has ever started.
    """

    def __init__(self) -> None:
        # whether a worker has started, and the failures since the last start
        self._memory = mmap.mmap(-1, 2)
        # one byte, for the one worker that reports its failure
        self._report, write = os.pipe()
        os.set_blocking(self._report, False)
        os.write(write, b'x')
        os.close(write)

    @property
    def any(self) -> bool:
        """Whether a worker has started."""
        return bool(self._memory[0])

    def note_success(self) -> None:
        """Note that a worker has started."""
        self._memory[:] = b'\1\0'

    def note_failure(self) -> float:
        """Note that a worker has failed; return the seconds of its pause."""
        failures = self._memory[1]
        self._memory[1] = min(failures + 1, 255)
        return min(FIRST_DELAY * 2.0 ** min(failures, 10), LONGEST_DELAY)

    def may_report(self) -> bool:
        """Return whether the caller is the one worker that reports."""
        return os.read(self._report, 1) == b'x'


class _CommandWorker(Worker):
    """Retry after a pause if the application can no longer be loaded."""

    def load_wsgi(self) -> None:
        app: Any = self.app
        starts = app.starts
        try:
            super().load_wsgi()
        except Exception as error:
            if not starts.any:
                if not starts.may_report():
                    sys.exit(Arbiter.APP_LOAD_ERROR)
                raise
            delay = starts.note_failure()
            self.log.error('%s\nThis worker cannot start; the next attempt is in %g s', error, delay)
            self._pause(delay)
            # not the status with which gunicorn ends
            sys.exit(1)
        starts.note_success()

    def _pause(self, delay: float) -> None:
        """Blocks for a time, or until a signal ends the process."""
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if self.alive:
            gevent.sleep(delay)


class _Application(BaseApplication):
    """Start gunicorn with a function that loads the application."""

    def __init__(self, load: Callable[[], Any], settings: dict[str, Any]) -> None:
        self._load = load
        self._settings = settings
        self.starts = _Starts()
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        return self._load()


def run(load: Callable[[], Any], **settings: Any) -> None:
    """Run gunicorn's master in this process.

    Blocks until the master stops, and then raises ``SystemExit``. If the application cannot be loaded in the first
    workers, the master ends with status 4. Once a worker has started, later ones that cannot load it are started again
    after an increasing delay, of at most 10 seconds.

    :param load: called in each worker, with the standard library patched. It returns the application that
        :class:`Worker` serves, or raises :class:`NotServable`.
    :param settings: gunicorn's settings by name. Settings that the installed version does not have are ignored.
    """
    try:
        _Application(load, {'worker_class': _CommandWorker, **settings}).run()
    except HaltServer as halted:
        # gunicorn's Arbiter.halt does not expect that a second worker has failed while it stops the others
        raise SystemExit(halted.exit_status) from None
