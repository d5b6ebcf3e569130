"""Runs examples of the documentation, each in a process and an empty directory of its own, in the scene that it names.

    python -m tests.documented [--patched] < examples.json

A scene is what the reader has to imagine around an example that is no whole program: a server, a request in work, a
site at the other end. Names such as ``example.org`` lead to a server in this process, ports that are listened on are
chosen by the kernel and still found under the number that the example says, and a server that would serve for ever is
asked once instead. What goes wrong ends the process with a traceback, or stands on standard error.

In are pairs of a scene and a source, out come lists of a status, standard output and standard error. The processes are
forks of one that has everything imported, and no hub, so that many examples cost little more than one.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ['SCENES', 'main', 'scene_of']

#: What clients send where an example wants a body.
BODY = b'first line\nsecond line\n'
#: The ports of TLS, in examples.
SECURE = (443, 8443)

#: By the number that an example says, or by the scheme of what stands for all other sites: the port of the kernel.
ports: dict[Any, int] = {}


# -- the world around an example --------------------------------------------------------------------------------------


def redirect_ports() -> None:
    """Let servers listen where the kernel says, and clients find them, and all others, under the names they use."""
    from geventnode import net
    from geventnode.net import connecting

    listen, resolve = net.Server.listen, connecting.resolve

    def listen_anywhere(server: Any, where: Any = 0, *rest: Any, **options: Any) -> Any:
        if isinstance(where, str):
            return listen(server, Path(where).name, *rest, **options)
        if isinstance(where, int):
            listen(server, 0, '127.0.0.1', *(each for each in rest if callable(each)), **options)
            ports[where] = server.address()['port']
            return server
        return listen(server, where, *rest, **options)

    def resolve_here(host: str, port: int, *rest: Any) -> Any:
        if port not in ports.values():
            port = ports.get(port) or site('https' if port in SECURE else 'http')
        return resolve('127.0.0.1', port, *rest)

    net.Server.listen = listen_anywhere
    connecting.resolve = resolve_here


def site(scheme: str) -> int:
    """Return the port of the server that stands for all others; it is made when first asked for."""
    from geventnode import http, https

    if scheme not in ports:
        made = http.create_server()
        if scheme == 'https':
            made = https.create_server(certfile='site.pem', keyfile='site.key')
        made.on('request', answer)
        made.on('upgrade', echo)
        made.on('connect', tunnel)
        ports[scheme] = made.listen(0).address()['port']
    return ports[scheme]


def answer(request: Any, response: Any) -> None:
    """What is asked of the other sites."""
    body = request.read()
    response.set_header('Content-Type', 'application/json')
    response.end(f'{{"url": "{request.url}", "size": {len(body)}}}\n')


def echo(request: Any, socket: Any, head: bytes) -> None:
    """What they do when they are asked for another protocol."""
    socket.on('error', lambda error: None)
    socket.write(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n' + head)
    socket.pipe(socket)


def tunnel(request: Any, socket: Any, head: bytes) -> None:
    """What they do when they are asked for a tunnel: wherever it leads to, they are there themselves."""
    from geventnode import net

    socket.on('error', lambda error: None)
    target = net.connect(int(request.url.rpartition(':')[2]), 'example.org')
    socket.write(b'HTTP/1.1 200 Connection established\r\n\r\n')
    target.write(head)
    target.pipe(socket)
    socket.pipe(target)


def make_certificates() -> dict[str, bytes]:
    """Return the files that examples about TLS read."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert('example.org', 'internal.example', 'localhost', '127.0.0.1')
    return {
        'our-authority.pem': authority.cert_pem.bytes(),
        'site.key': issued.private_key_pem.bytes(),
        'site.pem': b''.join(each.bytes() for each in issued.cert_chain_pems),
    }


def make_files(certificates: dict[str, bytes]) -> None:
    """Put what examples read into the working directory."""
    for name, content in {**certificates, 'large': bytes(300_000)}.items():
        Path(name).write_bytes(content)
    os.mkdir('uploads')
    # the authorities that ssl and requests take for the system's
    os.environ['SSL_CERT_FILE'] = os.environ['REQUESTS_CA_BUNDLE'] = os.path.abspath('our-authority.pem')


def names() -> dict[str, Any]:
    """Return what fragments take for given."""
    import time

    import gevent

    from geventnode import errors, http, https, net, stream, tls

    def hello(request: Any, response: Any) -> None:
        response.end('hello\n')

    return {
        'errors': errors,
        'gevent': gevent,
        'http': http,
        'https': https,
        'net': net,
        'stream': stream,
        'time': time,
        'tls': tls,
        'listener': hello,
        'source': ['one\n', 'two\n'],
        'database_is_there': lambda: True,
    }


def execute(source: str, given: dict[str, Any]) -> dict[str, Any]:
    """Execute ``source`` as a module of its own, and return what it defines."""
    module = types.ModuleType('example')
    module.__dict__.update(given)
    sys.modules['example'] = module
    exec(compile(source, 'example', 'exec'), module.__dict__)
    return module.__dict__


def indented(source: str) -> str:
    """Return ``source`` as the inside of a function."""
    return ''.join(f'    {line}' if line.strip() else line for line in source.splitlines(keepends=True))


# -- asking -----------------------------------------------------------------------------------------------------------


def ask(server: Any, method: str = 'GET', path: str = '/page') -> None:
    """Print what ``server``, which listens, answers to a client in another thread; then stop it."""
    begin_asking(server, method, path).get()
    server.stop()


def begin_asking(server: Any, method: str = 'GET', path: str = '/page') -> Any:
    """Return a greenlet that prints the answer when it is there."""
    import gevent

    where = server.address()['port'], hasattr(server, 'add_context')
    return gevent.spawn(lambda: sys.stdout.write(gevent.get_hub().threadpool.apply(fetch, (*where, method, path))))


def fetch(port: int, secure: bool, method: str, path: str) -> str:
    """Return the answer, as the standard library's client understands it."""
    import ssl
    from http.client import HTTPConnection, HTTPSConnection

    client = (
        HTTPConnection('127.0.0.1', port)
        if not secure
        else HTTPSConnection('127.0.0.1', port, context=ssl.create_default_context(cafile='our-authority.pem'))
    )
    client.request(method, path, BODY if method in ('POST', 'PUT') else None)
    response = client.getresponse()
    body = response.read().decode()
    client.close()
    return f'HTTP/1.1 {response.status} {response.reason}\n{body}'


def drain() -> None:
    """Wait until nobody waits for a response any more."""
    import gevent

    from geventnode import http, https

    for agent in (http.global_agent, https.global_agent):
        while agent.sockets or agent.requests:
            gevent.idle()


# -- scenes -----------------------------------------------------------------------------------------------------------


def program(source: str, method: str = 'GET', path: str = '/page') -> None:
    """Whole as it is. Where it would serve for ever it is asked: ``program POST /upload``, for instance."""
    from geventnode import net

    net.Server.serve_forever = lambda server: ask(server, method, path)
    execute(source, {'__name__': '__main__'})
    drain()


def fragment(source: str) -> None:
    """Something that happens after the imports."""
    execute(source, names())
    drain()


def server(source: str, method: str = 'GET', path: str = '/page') -> None:
    """Something about a server, which may be there already, and is asked afterwards."""
    from geventnode import http

    given = names()
    given['server'] = http.create_server(None if "@server.on('request')" in source else given['listener'])
    made = execute(source, given)['server']
    ask(made if made.listening else made.listen(0), method, path)


def endless_server(source: str) -> None:
    """Something about a server whose response ends when the server does."""
    import gevent

    from geventnode import http

    made = http.create_server()
    execute(source, names() | {'server': made})
    asked = begin_asking(made.listen(0))
    while not made.statistics()['handling']:
        gevent.idle()
    made.stop()
    asked.get()


def secure_server(source: str) -> None:
    """Something about a server that speaks TLS."""
    from geventnode import https

    made = https.create_server(certfile='site.pem', keyfile='site.key')
    execute(source, names() | {'server': made})
    ask(made.listen(0))


def listener(source: str, method: str = 'POST', path: str = '/page') -> None:
    """The inside of a listener. Where it leaves the response open, it is ended."""
    from geventnode import http

    given = execute(f'def listener(request, response):\n{indented(source)}', names())

    def serve(request: Any, response: Any) -> None:
        given['listener'](request, response)
        if not (response.finished or request.listener_count('end')):
            response.end()

    ask(http.create_server(serve).listen(0), method, path)


def alternatives(source: str) -> None:
    """The inside of a listener, several times over: each paragraph by itself."""
    for paragraph in source.strip().split('\n\n'):
        listener(paragraph + '\n')


def lines(source: str) -> None:
    """Several ways of doing something with a server that does nothing yet: each line by itself."""
    import socket

    from geventnode import http

    for line in source.splitlines():
        with http.create_server() as made, socket.socket() as opened:
            opened.bind(('127.0.0.1', 0))
            # what systemd has opened is 3 for it, and something else here
            execute(line.replace("{'fd': 3}", repr({'fd': opened.fileno()})), {'server': made})
            assert made.listening, line


def functions(source: str) -> None:
    """A file for ``geventnode serve``, with a listener in it."""
    from geventnode import http

    ask(http.create_server(execute(source, {})['listener']).listen(0), 'POST', '/upload')


def application(source: str) -> None:
    """A WSGI application."""
    from geventnode import http
    from geventnode.integrations.wsgi import wsgi

    ask(http.create_server(wsgi(execute(source, names())['app'])).listen(0))


def tests(source: str) -> None:
    """Tests of a reader's own, for which the testing kit is loaded."""
    import subprocess

    Path('test_example.py').write_text(source)
    subprocess.run(
        [
            sys.executable,
            '-m',
            'pytest',
            '-q',
            '-W',
            'error',
            '-p',
            'no:cacheprovider',
            '-p',
            'no:xdist',
            '-p',
            'geventnode.testing.pytest',
            '--rootdir',
            '.',
            'test_example.py',
        ],
        env={**os.environ, 'PYTHONPATH': sys.path[0]},
        check=True,
    )


def configuration(source: str) -> None:
    """A file that another program reads."""
    defined = execute(source, {})
    assert [name for name, value in defined.items() if callable(value)]


SCENES: dict[str, Callable[..., None]] = {
    function.__name__.replace('_', ' '): function
    for function in (
        program,
        fragment,
        server,
        endless_server,
        secure_server,
        listener,
        alternatives,
        lines,
        functions,
        application,
        tests,
        configuration,
    )
}


# -- processes --------------------------------------------------------------------------------------------------------


def run_apart(scene: str, source: str, certificates: dict[str, bytes]) -> tuple[int, str, str]:
    """Run an example in a fork of this process; return its status and what it has printed."""
    # gevent's own fork and waitpid would make a hub here, which every further child would inherit
    from gevent.monkey import get_original

    with (
        tempfile.TemporaryDirectory(prefix='geventnode-docs-') as directory,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as errors,
    ):
        child = get_original('os', 'fork')()
        if not child:
            status = 1
            with contextlib.suppress(BaseException):
                status = run_here(scene, source, certificates, directory, (out.fileno(), errors.fileno()))
            os._exit(status)
        _, status = get_original('os', 'waitpid')(child, 0)
        out.seek(0)
        errors.seek(0)
        return os.waitstatus_to_exitcode(status), out.read().decode(), errors.read().decode()


def run_here(scene: str, source: str, certificates: dict[str, bytes], directory: str, files: tuple[int, int]) -> int:
    """Run an example in this process; return the status to end it with."""
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
    os.chdir(directory)
    try:
        make_files(certificates)
        redirect_ports()
        name = scene_of(scene)
        SCENES[name](source, *scene[len(name) :].split())
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def scene_of(said: str) -> str:
    """Return the name that ``said`` begins with."""
    return next(name for name in sorted(SCENES, key=len, reverse=True) if f'{said} '.startswith(f'{name} '))


def main() -> None:
    """Run what standard input names."""
    if '--patched' in sys.argv:
        from gevent import monkey

        monkey.patch_all()
    sys.path.insert(0, os.getcwd())
    examples = json.load(sys.stdin)
    secure = any('https' in source or 'tls' in source or 'secure' in scene for scene, source in examples)
    certificates = make_certificates() if secure else {}
    names()
    json.dump([run_apart(scene, source, certificates) for scene, source in examples], sys.stdout)


if __name__ == '__main__':
    main()
