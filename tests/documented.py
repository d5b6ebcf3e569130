"""Run examples of the documentation, each in its own process and empty directory, in the scene that it names.

    python -m tests.documented [--patched] < examples.json

A scene is the context of an example that is not a complete program: a server, a request, a remote site. Names such as
``example.org`` lead to a server in this process. The kernel chooses the ports of servers, and clients find them under
the numbers in the example. A server that would serve for ever gets one request instead. A failure ends the process
with a traceback, or prints to standard error.

The input is a list of pairs of a scene and a source. The output is a list of a status, standard output and standard
error for each. The processes are forks of one that has imported everything and has no hub, so that many examples take
little more time than one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
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

#: The body of requests, in examples that read one.
BODY = b'first line\nsecond line\n'
#: The modules that examples and their clients need. The plugin of the testing kit is not among them: pytest must import
#: it itself.
PRELOADED = (
    'encodings.idna',
    'gevent.resolver.thread',
    'gevent.threadpool',
    'geventnode.integrations.requests',
    'geventnode.integrations.wsgi',
    'geventnode.testing.memory',
    'geventnode.testing.raw',
    'geventnode.testing.sites',
    'geventnode.websocket',
    'http.client',
    'mimetypes',
    'pdb',
    'pytest',
    'ssl',
    'unittest',
    'urllib.request',
    'xml.etree.ElementTree',
)
#: The ports that speak TLS in examples.
SECURE = (443, 8443)

#: Real ports, by the number in the example, or by the scheme of the site that replaces all other sites.
ports: dict[Any, int] = {}


# -- the context of an example ----------------------------------------------------------------------------------------


def redirect_ports() -> None:
    """Let the kernel choose the ports of servers, and let clients find them and all other sites by name."""
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
    """Return the port of the server that replaces all other sites; start it at the first call."""
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
    """Respond to a request for another site."""
    body = request.read()
    response.set_header('Content-Type', 'application/json')
    response.end(f'{{"url": "{request.url}", "size": {len(body)}}}\n')


def echo(request: Any, socket: Any, head: bytes) -> None:
    """Upgrade the connection and echo its data."""
    socket.on('error', lambda error: None)
    socket.write(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n' + head)
    socket.pipe(socket)


def tunnel(request: Any, socket: Any, head: bytes) -> None:
    """Open a tunnel; every destination is the same site."""
    from geventnode import net

    socket.on('error', lambda error: None)
    target = net.connect(int(request.url.rpartition(':')[2]), 'example.org')
    socket.write(b'HTTP/1.1 200 Connection established\r\n\r\n')
    target.write(head)
    target.pipe(socket)
    socket.pipe(target)


def make_certificates() -> dict[str, bytes]:
    """Return the certificate files for examples about TLS."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert('example.org', 'internal.example', 'localhost', '127.0.0.1')
    return {
        'our-authority.pem': authority.cert_pem.bytes(),
        'site.key': issued.private_key_pem.bytes(),
        'site.pem': b''.join(each.bytes() for each in issued.cert_chain_pems),
    }


def make_files(certificates: dict[str, bytes]) -> None:
    """Write the files that examples read to the working directory."""
    for name, content in {**certificates, 'large': bytes(300_000)}.items():
        Path(name).write_bytes(content)
    os.mkdir('uploads')
    # ssl and requests use these as the authorities of the system
    os.environ['SSL_CERT_FILE'] = os.environ['REQUESTS_CA_BUNDLE'] = os.path.abspath('our-authority.pem')


def names() -> dict[str, Any]:
    """Return the names that fragments use without defining them."""
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
    """Execute ``source`` as a module, and return its names."""
    module = types.ModuleType('example')
    module.__dict__.update(given)
    sys.modules['example'] = module
    exec(compile(source, 'example', 'exec'), module.__dict__)
    return module.__dict__


def indented(source: str) -> str:
    """Return ``source`` as the body of a function."""
    return ''.join(f'    {line}' if line.strip() else line for line in source.splitlines(keepends=True))


# -- requests ---------------------------------------------------------------------------------------------------------


def ask(server: Any, method: str = 'GET', path: str = '/page') -> None:
    """Print the response of a listening server to a client in another thread; then stop the server."""
    begin_asking(server, method, path).get()
    server.stop()


def begin_asking(server: Any, method: str = 'GET', path: str = '/page') -> Any:
    """Return a greenlet that prints the response."""
    import gevent

    where = server.address()['port'], hasattr(server, 'add_context')
    return gevent.spawn(lambda: sys.stdout.write(gevent.get_hub().threadpool.apply(fetch, (*where, method, path))))


def fetch(port: int, secure: bool, method: str, path: str) -> str:
    """Return the response, as read by the client of the standard library."""
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
    """Wait until no request waits for a response."""
    import gevent

    from geventnode import http, https

    for agent in (http.global_agent, https.global_agent):
        while agent.sockets or agent.requests:
            gevent.idle()


# -- scenes -----------------------------------------------------------------------------------------------------------


def program(source: str, method: str = 'GET', path: str = '/page') -> None:
    """Run a complete program. A server that would serve for ever gets one request, as in ``program POST /upload``."""
    from geventnode import net

    net.Server.serve_forever = lambda server: ask(server, method, path)
    execute(source, {'__name__': '__main__'})
    drain()


def fragment(source: str) -> None:
    """Run a fragment of a program, without its imports."""
    execute(source, names())
    drain()


def server(source: str, method: str = 'GET', path: str = '/page') -> None:
    """Run a fragment about a server, which can already exist, and send the server one request."""
    from geventnode import http

    given = names()
    given['server'] = http.create_server(None if "@server.on('request')" in source else given['listener'])
    made = execute(source, given)['server']
    ask(made if made.listening else made.listen(0), method, path)


def endless_server(source: str) -> None:
    """Run a fragment about a server that ends its response when it stops."""
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
    """Run a fragment about a server that speaks TLS."""
    from geventnode import https

    made = https.create_server(certfile='site.pem', keyfile='site.key')
    execute(source, names() | {'server': made})
    ask(made.listen(0))


def listener(source: str, method: str = 'POST', path: str = '/page') -> None:
    """Run the body of a listener, and end the response if the body has not."""
    from geventnode import http

    given = execute(f'def listener(request, response):\n{indented(source)}', names())

    def serve(request: Any, response: Any) -> None:
        given['listener'](request, response)
        if not (response.finished or request.listener_count('end')):
            response.end()

    ask(http.create_server(serve).listen(0), method, path)


def alternatives(source: str) -> None:
    """Run each paragraph as the body of a listener."""
    for paragraph in source.strip().split('\n\n'):
        listener(paragraph + '\n')


def lines(source: str) -> None:
    """Run each line with a server that does not listen yet."""
    import socket

    from geventnode import http

    for line in source.splitlines():
        with http.create_server() as made, socket.socket() as opened:
            opened.bind(('127.0.0.1', 0))
            # systemd passes its socket as descriptor 3
            execute(line.replace("{'fd': 3}", repr({'fd': opened.fileno()})), {'server': made})
            assert made.listening, line


def functions(source: str) -> None:
    """Serve the listener of a file for ``geventnode serve``."""
    from geventnode import http

    ask(http.create_server(execute(source, {})['listener']).listen(0), 'POST', '/upload')


def application(source: str) -> None:
    """Serve a WSGI application."""
    from geventnode import http
    from geventnode.integrations.wsgi import wsgi

    ask(http.create_server(wsgi(execute(source, names())['app'])).listen(0))


def tests(source: str) -> None:
    """Run tests of an application with the fixtures of the testing kit."""
    import pytest

    Path('test_example.py').write_text(source)
    options = '-q -W error -p no:cacheprovider --disable-plugin-autoload -p geventnode.testing.pytest --rootdir .'
    sys.exit(pytest.main([*options.split(), 'test_example.py']))


def configuration(source: str) -> None:
    """Execute a configuration file, which defines a function."""
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
    """Run an example in a fork of this process; return its status and its output."""
    # gevent's fork and waitpid would create a hub in this process, and every later child would inherit it
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
    """Run an example in this process; return its exit status."""
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


def scene_of(marker: str) -> str:
    """Return the name of the scene at the beginning of a marker."""
    return next(name for name in sorted(SCENES, key=len, reverse=True) if f'{marker} '.startswith(f'{name} '))


def main() -> None:
    """Run the examples from standard input."""
    if '--patched' in sys.argv:
        from gevent import monkey

        monkey.patch_all()
    sys.path.insert(0, os.getcwd())
    examples = json.load(sys.stdin)
    secure = any('https' in source or 'tls' in source or 'secure' in scene for scene, source in examples)
    certificates = make_certificates() if secure else {}
    names()
    for name in PRELOADED:
        importlib.import_module(name)
    # collections in the processes of examples neither visit nor copy the modules
    gc.freeze()
    json.dump([run_apart(scene, source, certificates) for scene, source in examples], sys.stdout)


if __name__ == '__main__':
    main()
