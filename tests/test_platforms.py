"""The package can be imported where names of Linux are missing, as on macOS and Windows.

No such system is at hand: the names that they lack are removed in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys

IMPORT_ALL = """
import argparse, asyncio, concurrent.futures, importlib, json, logging.config, multiprocessing, os, pkgutil, platform
import select, selectors, shutil, signal, socket, ssl, subprocess, sys, tempfile
import gevent, gevent.backdoor, gevent.baseserver, gevent.hub, gevent.lock, gevent.monkey, gevent.os, gevent.pool
import gevent.pywsgi, gevent.queue, gevent.select, gevent.server, gevent.signal, gevent.socket, gevent.ssl
import gevent.subprocess, gevent.threadpool, gevent.util
for each in LIBRARIES:
    importlib.import_module(each)

for module, names in MISSING.items():
    for owner in (sys.modules[module], sys.modules.get(f'gevent.{module}')):
        for name in names:
            if owner is not None and hasattr(owner, name):
                delattr(owner, name)
for name in ('fcntl', 'grp', 'pwd', 'resource', 'termios'):
    sys.modules[name] = None

import geventnode
for found in pkgutil.walk_packages(geventnode.__path__, 'geventnode.'):
    # gunicorn itself needs fork()
    if not found.name.startswith('geventnode.integrations.gunicorn') and found.name not in EXCEPT:
        importlib.import_module(found.name)

from geventnode import http
server = http.create_server(lambda request, response: response.end(b'served'))
server.listen(0, '127.0.0.1')
with gevent.Timeout(30):
    url = 'http://127.0.0.1:%d/' % server.address()['port']
    assert http.get(url).get_response().read() == b'served'
    assert geventnode.cli.main.main(['get', url]) == 0
    server.stop(0)
"""

#: The names that Windows lacks, and more than macOS lacks.
MISSING = {
    'os': 'fork register_at_fork getuid geteuid getgid uname setsid getpgid killpg sendfile sched_getaffinity writev '
    'pread sysconf O_CLOEXEC O_NONBLOCK WNOHANG waitid',
    'signal': 'SIGHUP SIGUSR1 SIGUSR2 SIGCHLD SIGPIPE SIGALRM SIGQUIT SIGKILL SIGWINCH SIGTTIN SIGTTOU pthread_sigmask '
    'setitimer alarm siginterrupt',
    'socket': 'AF_UNIX AF_NETLINK MSG_DONTWAIT MSG_NOSIGNAL SO_REUSEPORT TCP_QUICKACK TCP_CORK TCP_INFO SCM_RIGHTS '
    'TCP_USER_TIMEOUT TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_DEFER_ACCEPT TCP_FASTOPEN SO_BINDTODEVICE '
    'IP_TRANSPARENT',
    'select': 'epoll poll kqueue PIPE_BUF',
}

#: Those of other packages that the package uses; they are imported before the names are removed.
LIBRARIES = (
    'requests',
    'urllib3',
    'prometheus_client',
    'h2.connection',
    'wsproto',
    'opentelemetry.sdk.trace',
    'pytest',
)


def test_package_works_without_the_names_of_linux() -> None:
    code = (
        f'MISSING = { {module: names.split() for module, names in MISSING.items()} }\n'
        f'LIBRARIES = {LIBRARIES}\nEXCEPT = ("geventnode.__main__",)\n{IMPORT_ALL}'
    )
    finished = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stdout) == (0, 'served'), finished.stderr
