"""A worker for gunicorn: ``gunicorn -k geventnode.integrations.gunicorn.Worker app:app``.

gunicorn starts and replaces the processes, holds the listening sockets, and reads the configuration; the worker makes a
server of the application and lets it go when it is told to. The standard library is patched in each worker, before the
application is imported there, and in the master only where that imports it itself (``preload_app``).

Signals only leave a note. The main greenlet reads the notes, tells gunicorn that this process is alive, which a loop
that stands still does not, and waits; everything else is the business of other greenlets and of the hub.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
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
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as BaseWorker

from geventnode import http
from geventnode.errors import InvalidInput
from geventnode.integrations.gunicorn.observers import GunicornObserver
from geventnode.integrations.gunicorn.settings import (
    CONNECTION_SETTINGS,
    IGNORED_SETTINGS,
    is_changed,
    mount_path,
    server_options,
    unknown_settings,
    unsupported_reason,
    uses_sendfile,
)
from geventnode.loggers import keep_enabled

__all__ = ['ListenerWorker', 'NotServable', 'WSGIWorker', 'Worker', 'run']

#: Seconds between two signs of life, unless ``timeout`` asks for more of them.
HEARTBEAT = 1.0

#: Seconds before the master would kill a worker that drains, and no more than this share of what it gives it: logs and
#: hooks shall have them.
MARGIN, MARGIN_SHARE = 1.0, 0.25

READ = 1

#: The loggers that this worker writes to.
LOGGERS = 'geventnode.error', 'geventnode.connection', 'gunicorn.error', 'gunicorn.access'

#: The application is none: gunicorn prints the message and gives up.
NotServable = AppImportError


def _patch() -> list[str]:
    """Patch the standard library, unless it is; return what gevent has against it."""
    if monkey.is_module_patched('socket'):
        return []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        monkey.patch_all()
    return [str(each.message) for each in caught if issubclass(each.category, monkey.MonkeyPatchWarning)]


def _make_arbiter_cooperative(arbiter: Any) -> None:
    """Make gevent know the queue, the children and the SIGCHLD handler of an unpatched ``arbiter``.

    From version 24 on, gunicorn waits for signals in a queue that it makes before it looks the worker class up. If a
    reload turns ``preload_app`` on, the arbiter has children already.
    """
    waiting = arbiter.SIG_QUEUE
    if not isinstance(waiting, (list, Queue)):
        # not queue.SimpleQueue, which blocks the loop in gevent before 25.4
        arbiter.SIG_QUEUE = Queue()
        with contextlib.suppress(Empty):
            while True:
                arbiter.SIG_QUEUE.put_nowait(waiting.get_nowait())
    handler = signal.getsignal(signal.SIGCHLD)
    if callable(handler):
        signal.signal(signal.SIGCHLD, handler)
    for pid in arbiter.WORKERS:
        gevent.os.fork_and_watch(fork=lambda pid=pid: pid)


def _warn(log: Any, complaints: list[str]) -> None:
    for complaint in complaints:
        log.warning(
            '%s Something was imported before the application that must be imported behind it: look at the '
            'configuration file and at what it imports.',
            complaint,
        )
    complaints.clear()


class _GunicornLogHandler(logging.Handler):
    """Writes what this library logs to gunicorn's error log."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        write = self._log.error if record.levelno >= logging.ERROR else partial(self._log.log, record.levelno)
        write(record.getMessage(), exc_info=record.exc_info)


class Worker(BaseWorker):
    """Serves a WSGI application, a request listener or an :class:`geventnode.http.Server`. A callable is a listener
    where :func:`geventnode.integrations.wsgi.is_wsgi` is sure of it.

    A server is used as it is: gunicorn's settings for processes, logs and hooks apply to it, those for connections do
    not. Hooks find the server that a worker has made, or was given, in ``worker.server``.
    """

    #: ``'wsgi'`` or ``'listener'`` where there is no question what an application is.
    kind: ClassVar[str | None] = None

    #: What there was to say about patching the master.
    _patch_warnings: ClassVar[list[str]] = []

    sockets: list[Any]

    #: Notes of signals.
    _quit_requested: bool = False
    _reopen_requested: bool = False
    _reached_max_requests: bool = False
    _server_closed: bool = False

    # -- run in the master --------------------------------------------------------------------------------------------

    @classmethod
    def setup(cls) -> None:
        """Called by gunicorn whenever it looks the class up, and so before it imports an application itself."""
        # gunicorn passes nothing: the caller is the configuration, and its caller is the arbiter
        config = sys._getframe(1).f_locals.get('self')
        arbiter = sys._getframe(2).f_locals.get('self')
        if not isinstance(config, Config):
            return
        reason = unsupported_reason(config)
        if reason is not None:
            if not isinstance(arbiter, Arbiter) or not arbiter.WORKERS:
                # gunicorn prints it and exits, before it listens
                raise RuntimeError(reason)
            # a reload: the workers in service are worth more than the setting
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
        """Called by gunicorn once: tell what there is to say about the configuration."""
        _warn(log, cls._patch_warnings)
        for name, reason in IGNORED_SETTINGS.items():
            if is_changed(cfg, name):
                log.warning('%s has no meaning for this worker: %s', name, reason)
        for name in unknown_settings(cfg):
            log.warning('%s is not known to this worker and may have no effect: this gunicorn is newer', name)

    # -- beginning ----------------------------------------------------------------------------------------------------

    def init_process(self) -> None:
        """Called by gunicorn in the new process; returns when it shall end. May switch."""
        # until gunicorn sets its handlers those of the master are inherited, which would swallow what tells us to stop
        signal.signal(signal.SIGTERM, self.handle_exit)
        for number in (signal.SIGQUIT, signal.SIGINT):
            signal.signal(number, self.handle_quit)
        complaints = _patch()
        gevent.reinit()
        self._wakeup = Event()
        self._heartbeat = min(HEARTBEAT, self.timeout or HEARTBEAT)
        errors = logging.getLogger('geventnode.error')
        if not errors.handlers:
            errors.addHandler(_GunicornLogHandler(self.log))
            errors.setLevel(self.log.loglevel)
            errors.propagate = False
        _warn(self.log, complaints)
        super().init_process()

    def init_signals(self) -> None:
        """Called by gunicorn before it loads the application."""
        # it resets all handlers before it sets its own: what comes in between would be the end without any hook
        held = signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGUSR1
        before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
        try:
            super().init_signals()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def load_wsgi(self) -> None:
        """Called by gunicorn before it takes this worker for one that has booted: what goes wrong here would go wrong
        in the next one, too, and ends the master. May switch."""
        keep_enabled(*LOGGERS)
        super().load_wsgi()
        self.server = self._make_server()

    def _make_server(self) -> Any:
        """Return the server of the application, set up as the configuration says. May switch."""
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
            # the server knows it, because an application may be anywhere behind a listener
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
        # what can be both is WSGI: that is what people run gunicorn for
        if self.kind == 'listener' or (self.kind is None and is_wsgi(application) is False):
            if is_changed(self.cfg, 'root_path'):
                self.log.warning('root_path has no meaning for a request listener: request.url is the whole path')
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
            raise NotServable('the application is an http.Server that listens already: leave listen() to gunicorn')
        if cfg.is_ssl:
            raise NotServable(
                'the application is an http.Server with settings of its own: make an https.Server, and '
                'leave certfile and keyfile out'
            )
        ignored = [name for name in CONNECTION_SETTINGS if is_changed(cfg, name)]
        if ignored:
            self.log.warning(
                'the application is an http.Server with settings of its own, in place of %s', ', '.join(ignored)
            )
        if server.max_connections is None:
            server.max_connections = cfg.worker_connections or None
            server.wait_when_full = True

    def _context(self) -> Any:
        context = gunicorn_sock.ssl_context(self.cfg)
        context.set_alpn_protocols(['http/1.1'])
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
        # a logger of another class may count what it does not write
        if getattr(self.log, 'access_log_enabled', True) or type(self.log).access is not Logger.access:
            write = self.log.access
        return GunicornObserver(self._on_request, before, after, write)

    def _call_post_request(self, hook: Callable[..., object], view: Any, environ: Any, answer: Any) -> None:
        try:
            hook(self, view, environ, answer)
        except Exception:
            self.log.exception('Exception in post_request hook')

    # -- signals: notes, because anything may be interrupted ----------------------------------------------------------

    def handle_exit(self, sig: Any, frame: Any) -> None:
        self.alive = False

    def handle_quit(self, sig: Any, frame: Any) -> None:
        self.alive = False
        self._quit_requested = True

    def handle_usr1(self, sig: Any, frame: Any) -> None:
        self._reopen_requested = True

    def handle_abort(self, sig: Any, frame: Any) -> None:
        """The master has heard nothing for ``timeout`` seconds: the loop stands still, and where is of interest."""
        self.log.error('The event loop stood still in:\n%s', ''.join(traceback.format_stack(frame)))
        super().handle_abort(sig, frame)

    def _on_pipe(self) -> None:
        """A signal has come, or a file has changed that the reloader looks at."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.PIPE[0], 4096)
        self._wakeup.set()

    # -- the exchanges: called by the server --------------------------------------------------------------------------

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

    # -- the life of a worker: run by the main greenlet ---------------------------------------------------------------

    def notify(self) -> None:
        super().notify()
        if self.alive and self.ppid != os.getppid():
            self.log.info('Parent changed, shutting down: %s', self)
            self.alive = False

    def run(self) -> None:
        """Serve until it is told to stop; return when everything is over. May switch."""
        server = self.server
        for place, listener in enumerate(self.sockets):
            listen = server.also_listen if place else server.listen
            listen({'fd': listener.fileno()}, self.cfg.backlog)
            # what is left of it would keep clients waiting whom nobody accepts
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
        """Show that this process is alive, do what signals ask for, and wait until something happens."""
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
                    self.log.warning('Worker graceful timeout (pid:%s): %d connection(s) cut off', self.pid, left)
                break
            self._wait(deadline - monotonic())
        if self._quit_requested:
            self.cfg.worker_int(self)
        server.stop(0)
        gevent.joinall(list(self._observer.pending), HEARTBEAT)


class WSGIWorker(Worker):
    """A :class:`Worker` whose application is a WSGI application, whatever it looks like."""

    kind = 'wsgi'


class ListenerWorker(Worker):
    """A :class:`Worker` whose application is a request listener, whatever it looks like."""

    kind = 'listener'


class _Application(BaseApplication):
    """What gunicorn is started with."""

    def __init__(self, load: Callable[[], Any], settings: dict[str, Any]) -> None:
        self._load = load
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        return self._load()


def run(load: Callable[[], Any], **settings: Any) -> None:
    """Run gunicorn in this process, as its master, until it is told to stop. May switch. Raises ``SystemExit``.

    :param load: called in each worker, with the standard library patched; returns what :class:`Worker` serves. Raises
        :class:`NotServable` when it cannot.
    :param settings: gunicorn's; those that its version does not know are left out.
    """
    _Application(load, {'worker_class': Worker, **settings}).run()
