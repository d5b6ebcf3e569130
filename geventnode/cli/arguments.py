"""Define and parse the command line.

The imports leave out every module that has to be patched before it is imported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from geventnode import __version__

__all__ = ['DEFAULT_HOST', 'DEFAULT_MONITOR', 'DEFAULT_NAMES', 'DEFAULT_PORT', 'parse']

DEFAULT_HOST, DEFAULT_PORT = '127.0.0.1', 8000

DEFAULT_MONITOR = '/monitor'

#: Seconds that active requests have to finish when the server stops.
DEFAULT_GRACE = 30.0

#: The names that a file is searched for if the target has none, in this order.
DEFAULT_NAMES = ('server', 'listener', 'handler', 'app', 'application')

#: Runs a command, and returns the exit status.
Command = Callable[[argparse.Namespace], int]

_WHERE = 'use --bind PORT or --bind HOST:PORT'
_PROCESSES = 'use --workers N'
_PROXIES = 'use --trusted-proxy ADDRESS --forwarded FIELD'
_RELOAD = (
    "use a program that watches files, as in: watchfiles 'geventnode serve ...'; or --reload-on-hup, and send SIGHUP"
)
_THREADS = 'each request has its own greenlet; remove the option'
_SILENT = 'a progress bar is shown only with -o, on a terminal; remove the option'

#: For each command, options of similar programs and the hints that replace them.
HINTS = {
    'serve': {
        '--port': _WHERE,
        '-p': _WHERE,
        '--host': _WHERE,
        '--address': _WHERE,
        '--unix-socket': 'use --bind unix:PATH',
        '--uds': 'use --bind unix:PATH',
        '--fd': 'use --bind fd:N',
        '-w': _PROCESSES,
        '--processes': _PROCESSES,
        '--reload': _RELOAD,
        '--threads': _THREADS,
        '--factory': "use NAME() as the target, as in 'app:create_app()'",
        '--ssl-certfile': 'use --certfile FILE',
        '--ssl-keyfile': 'use --keyfile FILE',
        '--proxy-headers': _PROXIES,
        '--forwarded-allow-ips': _PROXIES,
        '--app-dir': 'change the directory, or name a file: DIRECTORY/app.py:app',
        '--chdir': 'change the directory, or name a file: DIRECTORY/app.py:app',
    },
    'get': {
        '-i': 'use --include',
        '-I': 'use -X HEAD --include',
        '--head': 'use -X HEAD --include',
        '-L': 'redirects are not followed; use --include to see their target',
        '--location': 'redirects are not followed; use --include to see their target',
        '-k': 'use --insecure',
        '-f': 'use --fail',
        '-u': 'use http://USER:PASSWORD@HOST/',
        '--user': 'use http://USER:PASSWORD@HOST/',
        '-m': 'use --timeout SECONDS',
        '--max-time': 'use --timeout SECONDS',
        '-s': _SILENT,
        '--silent': _SILENT,
        '-S': _SILENT,
        '--show-error': _SILENT,
        '-v': 'use --include for the head of the response',
        '--verbose': 'use --include for the head of the response',
        '-A': "use -H 'User-Agent: NAME'",
        '--user-agent': "use -H 'User-Agent: NAME'",
        '-b': "use -H 'Cookie: NAME=VALUE'",
        '--cookie': "use -H 'Cookie: NAME=VALUE'",
        '-e': "use -H 'Referer: URL'",
        '--referer': "use -H 'Referer: URL'",
        '-T': 'use -X PUT -d @FILE',
        '--upload-file': 'use -X PUT -d @FILE',
        '--data-binary': 'use -d DATA or -d @FILE',
        '--data-raw': 'use -d DATA',
        '--json': "use -d DATA -H 'Content-Type: application/json'",
        '-F': 'forms with files are not supported; use -d @FILE with a Content-Type in -H',
        '-O': 'use -o FILE',
    },
    'doctor': {},
}

EPILOG = """\
examples:
  geventnode serve                          a demo page, on http://127.0.0.1:8000/
  geventnode serve app.py                   a request listener or a WSGI application in a file
  geventnode get http://127.0.0.1:8000/     the body of a response
  geventnode doctor                         problems of this installation
  geventnode serve --help                   the options of a command
"""

SERVE_EPILOG = """\
examples:
  geventnode serve                          the demo page, on http://127.0.0.1:8000/
  geventnode serve app:listener             the function listener(request, response) of app.py or app/
  geventnode serve app.py:server            the http.Server called server in a file
  geventnode serve site:app                 a WSGI application: Flask, Django, ...
  geventnode serve app:listener --bind [::1]:8080
  geventnode serve app:listener --bind unix:/run/app.sock
  geventnode serve site:app --workers 4     four processes, by gunicorn
  geventnode serve site:app --monitor       a live monitor at /monitor, for this machine only
  geventnode serve app:listener --certfile site.pem --bind 0.0.0.0:443
"""

GET_EPILOG = """\
exit status:
  0 the whole response was received, with any status   1 the exchange has failed
  2 the command line is wrong                          22 with --fail: the status is 400 or more
"""


# -- values -----------------------------------------------------------------------------------------------------------


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be a number of seconds from 0, not {text!r}')
    return value


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number from 1, not {text!r}')
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f'must be a whole number from 0, not {text!r}')
    return int(text)


# -- parsing ----------------------------------------------------------------------------------------------------------


def parse(arguments: list[str] | None, **commands: Command) -> argparse.Namespace:
    """Parse the command line.

    The attribute ``run`` of the result is the function that runs the command. Raises ``SystemExit``.

    :param arguments: without the name of the program; None: those of the process.
    :param commands: the functions that run the commands, by name.
    """
    parser = _parser(**commands)
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.error('the command is missing; use serve, get or doctor, as in: geventnode serve')
    if not arguments[0].startswith('-') and arguments[0] not in commands:
        parser.error(f'there is no command {arguments[0]!r}; use serve, get or doctor{_command_suggestion(arguments)}')
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        hints = _hints(HINTS[options.command], unknown)
        if options.command == 'serve':
            hints += [
                f'{text}: use --bind {text}'
                for before, text in zip(['', *unknown], unknown, strict=False)
                if text.rpartition(':')[2].isdecimal() and not f'{before}{text}'.startswith('-')
            ]
        options.parser.error('; '.join([f'unrecognized arguments: {" ".join(unknown)}', *hints]))
    return options


def _command_suggestion(arguments: list[str]) -> str:
    """Return a suggestion for ``arguments`` without a command; empty without one."""
    first = arguments[0]
    if '://' in first:
        return f"; did you mean 'geventnode get {first}'?"
    if first.endswith('.py') or ':' in first:
        return f"; did you mean 'geventnode serve {first}'?"
    return ''


def _hints(known: dict[str, str], unknown: list[str]) -> list[str]:
    """Return the hints for the options in ``unknown``.

    :param known: hints by option.
    """
    names = []
    for argument in unknown:
        name = argument.partition('=')[0]
        if name in known or name.startswith('--') or not name.startswith('-'):
            names.append(name)
        else:
            # several short options in one argument, or a short option with its value
            names += [f'-{letter}' for letter in name[1:]] if name[1:].isalpha() else [name[:2]]
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        if name in known:
            found.setdefault(known[name], []).append(name)
    return [f'{", ".join(names)}: {hint}' for hint, names in found.items()]


def _parser(serve: Command, get: Command, doctor: Command) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'geventnode',
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Node's HTTP interface on gevent: a server, and a client.",
    )
    parser.add_argument('--version', action='version', version=f'geventnode {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    _add_serve(commands, serve)
    _add_get(commands, get)
    _add_doctor(commands, doctor)
    return parser


# An abbreviation of one option today could be an abbreviation of another one in the next version: allow_abbrev=False.


def _add_serve(commands: Any, run: Command) -> None:
    serve = commands.add_parser(
        'serve',
        allow_abbrev=False,
        help='run an HTTP server',
        epilog=SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # as narrow as the rest of the help
        description='Run an HTTP server, with the standard library patched by gevent.\n'
        'SIGINT (Ctrl+C), SIGTERM and, without --reload-on-hup, SIGHUP stop it.',
    )
    serve.add_argument(
        'target',
        metavar='TARGET',
        nargs='?',
        help='module:name or file.py[:name]: a function called with (request, response), a WSGI '
        'application, or an http.Server with its own settings; name() calls a factory; '
        'a file without a name is searched for '
        f'{", ".join(DEFAULT_NAMES)}; without TARGET, a demo page is served',
    )
    serve.add_argument(
        '-b',
        '--bind',
        metavar='ADDRESS',
        help=f'HOST:PORT, [IPV6]:PORT, PORT ({DEFAULT_HOST}), :PORT (all IPv4 addresses), unix:PATH '
        '(its mode follows the umask), or fd:N for an open socket; port 0 is any free port; '
        'without --bind, the socket that systemd passed (LISTEN_FDS), or else '
        f'{DEFAULT_HOST}:{DEFAULT_PORT}',
    )
    kind = serve.add_mutually_exclusive_group()
    kind.add_argument(
        '--wsgi',
        action='store_const',
        const='wsgi',
        dest='kind',
        help='TARGET is a WSGI application; by default it is one if its first parameter is named '
        'environ or env, or if the name of its second parameter begins with start',
    )
    kind.add_argument(
        '--listener',
        action='store_const',
        const='listener',
        dest='kind',
        help='TARGET is called with (request, response)',
    )
    serve.add_argument(
        '--access-log',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='write a line for each response to standard output (on by default)',
    )
    serve.add_argument(
        '--access-log-format',
        choices=('combined', 'json'),
        help='the format of these lines: that of Apache and nginx (combined, the default), or a JSON object for each',
    )
    serve.add_argument(
        '--grace',
        metavar='SECONDS',
        type=_seconds,
        default=DEFAULT_GRACE,
        help='the time that active requests have to finish when the server stops; a second signal stops it at '
        f'once ({DEFAULT_GRACE:g})',
    )
    serve.add_argument(
        '--workers',
        metavar='N',
        type=_positive,
        help="let gunicorn run N processes that serve TARGET (pip install 'geventnode[gunicorn]'); "
        'send signals to its master process',
    )
    serve.add_argument(
        '--reload-on-hup',
        action='store_true',
        help='on SIGHUP, start a new process with new code, and let the old one finish its requests; with '
        '--workers, gunicorn does so in any case',
    )
    serve.add_argument(
        '--http2',
        action='store_true',
        default=None,
        help='serve HTTP/2, too: over TLS by ALPN, otherwise for clients that begin with it, such as '
        "curl --http2-prior-knowledge (pip install 'geventnode[http2]')",
    )
    serve.add_argument(
        '--http2-max-concurrent-streams',
        metavar='N',
        type=_positive,
        help='the requests of one HTTP/2 connection at the same time (100); more are refused',
    )
    serve.add_argument('--certfile', metavar='FILE', help='serve HTTPS with this certificate and its chain (PEM)')
    serve.add_argument('--keyfile', metavar='FILE', help='the key of the certificate, if it is in a file of its own')
    serve.add_argument(
        '--trusted-proxy',
        metavar='ADDRESS',
        action='append',
        dest='trusted_proxies',
        help="an IP address or network (CIDR), or 'unix': the proxies that are trusted to describe their clients, "
        'as the next two options specify; can be repeated',
    )
    serve.add_argument(
        '--forwarded',
        metavar='FIELD',
        action='append',
        dest='forwarded_headers',
        help='a field that every trusted proxy sets or removes: x-forwarded-for, -proto, -host or '
        '-port, or forwarded; can be repeated',
    )
    serve.add_argument(
        '--proxy-protocol',
        action='store_true',
        default=None,
        help='every connection comes from a trusted proxy and begins with a PROXY header',
    )
    serve.add_argument(
        '--max-header-size',
        metavar='BYTES',
        type=_positive,
        help='the limit of the request line and the header section together, cookies included '
        '(16384); proxies have limits of their own',
    )
    serve.add_argument(
        '--min-body-rate',
        metavar='BYTES',
        type=_count,
        help='the least rate of an upload in bytes per second, on average over 300 seconds (500); the whole '
        'can then take any time; 0: each request must arrive within 300 seconds',
    )
    serve.add_argument(
        '--monitor',
        metavar='PATH',
        nargs='?',
        const=DEFAULT_MONITOR,
        help='serve a live monitor of the server and of the pools of agents at this path, for clients on the same '
        f'machine ({DEFAULT_MONITOR}; without PATH, write the option after TARGET)',
    )
    serve.add_argument(
        '--monitor-client',
        metavar='ADDRESS',
        action='append',
        dest='monitor_clients',
        help="an IP address or network (CIDR), or 'unix': the clients that may see the monitor, "
        'instead of those on the same machine; can be repeated',
    )
    serve.set_defaults(run=run, parser=serve)


def _add_get(commands: Any, run: Command) -> None:
    get = commands.add_parser(
        'get',
        allow_abbrev=False,
        help='make an HTTP request',
        epilog=GET_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Make one HTTP request and write the body of the response to standard output.\n'
        'Redirects are not followed.',
    )
    get.add_argument('url', metavar='URL', help='http[s]://[USER:PASSWORD@]HOST[:PORT]/[PATH][?QUERY]')
    get.add_argument(
        '-o',
        '--output',
        metavar='FILE',
        help='write to FILE, which is replaced only when the whole body has arrived',
    )
    get.add_argument('-X', '--request', metavar='METHOD', help='the method (GET, or POST with -d)')
    get.add_argument(
        '-H',
        '--header',
        metavar='HEADER',
        action='append',
        default=[],
        help="'Name: value'; 'Name:' removes a header that is sent by default, 'Name;' sends an empty one; "
        'can be repeated',
    )
    get.add_argument(
        '-d',
        '--data',
        metavar='DATA',
        action='append',
        help='the body: text, @FILE for the content of a file, or @- for standard input, sent as it arrives',
    )
    get.add_argument(
        '--include',
        action='store_true',
        help='write the status line and the headers before the body, and the trailers after it',
    )
    get.add_argument('--timeout', metavar='SECONDS', type=_seconds, help='the limit for the whole exchange')
    get.add_argument('--cacert', metavar='FILE', help="trust these authorities instead of the system's (PEM)")
    get.add_argument('--insecure', action='store_true', help='accept any certificate')
    get.add_argument(
        '-x',
        '--proxy',
        metavar='URL',
        help='use this HTTP proxy instead of the one that the environment names (http_proxy, https_proxy, all_proxy); '
        "'' for none",
    )
    get.add_argument(
        '--noproxy', metavar='LIST', help="use no proxy for these hosts, instead of those in no_proxy; '*' for all"
    )
    get.add_argument('--fail', action='store_true', help='for status 400 and up: write no body, exit with 22')
    get.set_defaults(run=run, parser=get)


def _add_doctor(commands: Any, run: Command) -> None:
    doctor = commands.add_parser(
        'doctor',
        allow_abbrev=False,
        help='check this installation and a program for problems',
        epilog='The exit status is 1 if there is a problem, 0 if there is only advice.',
        description='Report versions, settings and limits, and a remedy for each one that is not as it should be.',
    )
    doctor.add_argument(
        'target',
        metavar='TARGET',
        nargs='?',
        help="a program, as for 'geventnode serve'; it is imported without patching anything first, to check "
        'its own patching',
    )
    doctor.add_argument('--json', action='store_true', help='write the report as JSON')
    doctor.set_defaults(run=run, parser=doctor)
