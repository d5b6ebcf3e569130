"""What the command line may say. Imports nothing that patching the standard library would come too late for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from geventnode import __version__

__all__ = ['DEFAULT_HOST', 'DEFAULT_MONITOR', 'DEFAULT_NAMES', 'DEFAULT_PORT', 'parse']

DEFAULT_HOST, DEFAULT_PORT = '127.0.0.1', 8000

DEFAULT_MONITOR = '/monitor'

#: Seconds that requests in work get to finish when the server is told to stop.
DEFAULT_GRACE = 30.0

#: What is looked for in a file whose target has no name, in this order.
DEFAULT_NAMES = ('server', 'listener', 'handler', 'app', 'application')

#: Returns the exit status.
Command = Callable[[argparse.Namespace], int]

#: The replacements for options of similar commands, by command.
_WHERE = 'where to listen is said by --bind PORT, or --bind HOST:PORT'
_PROCESSES = 'processes are counted by --workers N'
_PROXIES = 'proxies are named by --trusted-proxy ADDRESS --forwarded FIELD'
_THREADS = 'each request has a greenlet of its own, there are no threads to count'
_SILENT = 'there is nothing to silence: a bar is only shown with -o, on a terminal'
HINTS = {
    'serve': {
        '--port': _WHERE,
        '-p': _WHERE,
        '--host': _WHERE,
        '--address': _WHERE,
        '--unix-socket': 'say --bind unix:PATH',
        '--uds': 'say --bind unix:PATH',
        '--fd': 'say --bind fd:N',
        '-w': _PROCESSES,
        '--processes': _PROCESSES,
        '--reload': "a tool of its own watches files, as in: watchfiles 'geventnode serve ...'",
        '--threads': _THREADS,
        '--factory': "say NAME() for what a call returns, as in 'app:create_app()'",
        '--ssl-certfile': 'say --certfile FILE',
        '--ssl-keyfile': 'say --keyfile FILE',
        '--proxy-headers': _PROXIES,
        '--forwarded-allow-ips': _PROXIES,
        '--app-dir': 'change the directory, or name a file: DIRECTORY/app.py:app',
        '--chdir': 'change the directory, or name a file: DIRECTORY/app.py:app',
    },
    'get': {
        '-i': 'say --include',
        '-I': 'say -X HEAD --include',
        '--head': 'say -X HEAD --include',
        '-L': 'redirects are not followed: see where they lead with --include',
        '--location': 'redirects are not followed: see where they lead with --include',
        '-k': 'say --insecure',
        '-f': 'say --fail',
        '-u': 'say http://USER:PASSWORD@HOST/',
        '--user': 'say http://USER:PASSWORD@HOST/',
        '-m': 'say --timeout SECONDS',
        '--max-time': 'say --timeout SECONDS',
        '-s': _SILENT,
        '--silent': _SILENT,
        '-S': _SILENT,
        '--show-error': _SILENT,
        '-v': 'say --include for the head of the response',
        '--verbose': 'say --include for the head of the response',
        '-A': "say -H 'User-Agent: NAME'",
        '--user-agent': "say -H 'User-Agent: NAME'",
        '-b': "say -H 'Cookie: NAME=VALUE'",
        '--cookie': "say -H 'Cookie: NAME=VALUE'",
        '-e': "say -H 'Referer: URL'",
        '--referer': "say -H 'Referer: URL'",
        '-T': 'say -X PUT -d @FILE',
        '--upload-file': 'say -X PUT -d @FILE',
        '--data-binary': 'say -d DATA or -d @FILE',
        '--data-raw': 'say -d DATA',
        '--json': "say -d DATA -H 'Content-Type: application/json'",
        '-F': 'forms with files are not made: say -d @FILE, with a Content-Type in -H',
        '-O': 'say -o FILE',
    },
    'doctor': {},
}

EPILOG = """\
examples:
  geventnode serve                          the demo page
  geventnode serve app:listener             the function listener(request, response) of app.py or app/
  geventnode serve app.py:server            the http.Server called server in a file
  geventnode serve site:app                 a WSGI application: Flask, Django, ...
  geventnode serve app:listener --bind [::1]:8080
  geventnode serve app:listener --bind unix:/run/app.sock
  geventnode serve site:app --workers 4     four processes, by gunicorn
  geventnode serve site:app --monitor       what it does, live, at /monitor, for this machine only
  geventnode serve app:listener --certfile site.pem --bind 0.0.0.0:443
"""

GET_EPILOG = """\
exit status:
  0 the whole response was received, whatever its status   1 the exchange has failed
  2 the command line is wrong                              22 with --fail: the status is 400 or more
"""


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


def parse(arguments: list[str] | None, **commands: Command) -> argparse.Namespace:
    """Return what ``arguments`` (those of the process, unless given) say; ``run`` of it is the command that they
    name. Raises ``SystemExit`` for a command line that is none."""
    parser = _parser(**commands)
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and not arguments[0].startswith('-') and arguments[0] not in commands:
        parser.error(f'there is no command {arguments[0]!r}: it is serve, get or doctor{_command_meant(arguments)}')
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        hints = _hints(HINTS[options.command], unknown)
        if options.command == 'serve':
            hints += [
                f'{text}: say --bind {text}'
                for before, text in zip(['', *unknown], unknown, strict=False)
                if text.rpartition(':')[2].isdecimal() and not f'{before}{text}'.startswith('-')
            ]
        options.parser.error('; '.join([f'unrecognized arguments: {" ".join(unknown)}', *hints]))
    return options


def _command_meant(arguments: list[str]) -> str:
    """Return the end of a message about ``arguments`` that begin with something else than a command."""
    first = arguments[0]
    if '://' in first:
        return f"; did you mean 'geventnode get {first}'?"
    if first.endswith('.py') or ':' in first:
        return f"; did you mean 'geventnode serve {first}'?"
    return ''


def _hints(known: dict[str, str], unknown: list[str]) -> list[str]:
    """Return the replacements for the options in ``unknown``."""
    names = []
    for argument in unknown:
        name = argument.partition('=')[0]
        if name in known or name.startswith('--') or not name.startswith('-'):
            names.append(name)
        else:
            # several short ones in one, or a short one with its value
            names += [f'-{letter}' for letter in name[1:]] if name[1:].isalpha() else [name[:2]]
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        if name in known:
            found.setdefault(known[name], []).append(name)
    return [f'{", ".join(names)}: {hint}' for hint, names in found.items()]


def _parser(serve: Command, get: Command, doctor: Command) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('geventnode', description="Node's HTTP interface on gevent.")
    parser.add_argument('--version', action='version', version=f'geventnode {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    # an abbreviation of one option today might be one of another tomorrow, or of another command's
    serving = commands.add_parser(
        'serve',
        allow_abbrev=False,
        help='run an HTTP server',
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Run an HTTP server, with the standard library patched by gevent. SIGINT (Ctrl+C), SIGTERM and '
        'SIGHUP stop it.',
    )
    serving.add_argument(
        'target',
        metavar='TARGET',
        nargs='?',
        help='module:name or file.py[:name], a function called with (request, response), a WSGI '
        'application, or an http.Server, which is used as it is; name() is what a call of it returns; '
        'a file without a name is searched for '
        f'{", ".join(DEFAULT_NAMES)}; without TARGET, a demo page',
    )
    serving.add_argument(
        '-b',
        '--bind',
        metavar='ADDRESS',
        help=f'HOST:PORT, [IPV6]:PORT, PORT ({DEFAULT_HOST}), :PORT (all IPv4 addresses), unix:PATH '
        '(its mode follows the umask), or fd:N for a socket that was opened already; port 0: any that '
        'is free; without --bind, the socket that systemd passed (LISTEN_FDS), or else '
        f'{DEFAULT_HOST}:{DEFAULT_PORT}',
    )
    kind = serving.add_mutually_exclusive_group()
    kind.add_argument(
        '--wsgi',
        action='store_const',
        const='wsgi',
        dest='kind',
        help='TARGET is a WSGI application; without this it is one if its first parameter is called '
        'environ or env, or if the name of its second one begins with start',
    )
    kind.add_argument(
        '--listener',
        action='store_const',
        const='listener',
        dest='kind',
        help='TARGET is called with (request, response)',
    )
    serving.add_argument(
        '--access-log',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='write a line for each response to standard output, in the combined format (on by default)',
    )
    serving.add_argument(
        '--grace',
        metavar='SECONDS',
        type=_seconds,
        default=DEFAULT_GRACE,
        help='how long requests in work may take to finish when the server is told to stop; when told a '
        f'second time, it stops at once ({DEFAULT_GRACE:g})',
    )
    serving.add_argument(
        '--workers',
        metavar='N',
        type=_positive,
        help="let gunicorn run N processes that serve TARGET (pip install 'geventnode[gunicorn]'); "
        'a signal is for its master',
    )
    serving.add_argument('--certfile', metavar='FILE', help='serve HTTPS with this certificate and its chain (PEM)')
    serving.add_argument('--keyfile', metavar='FILE', help='the key of the certificate, if it is in a file of its own')
    serving.add_argument(
        '--trusted-proxy',
        metavar='ADDRESS',
        action='append',
        dest='trusted_proxies',
        help="an IP address or network (CIDR), or 'unix', whose word about clients is taken as far as "
        'the next two say; any number of times',
    )
    serving.add_argument(
        '--forwarded',
        metavar='FIELD',
        action='append',
        dest='forwarded_headers',
        help='a field that every trusted proxy sets or removes: x-forwarded-for, -proto, -host or '
        '-port, or forwarded; any number of times',
    )
    serving.add_argument(
        '--proxy-protocol',
        action='store_true',
        default=None,
        help='every connection comes from a trusted proxy and begins with a PROXY header',
    )
    serving.add_argument(
        '--max-header-size',
        metavar='BYTES',
        type=_positive,
        help='how long a request line and its header section may be together, cookies included '
        '(16384); proxies in front have limits of their own',
    )
    serving.add_argument(
        '--min-body-rate',
        metavar='BYTES',
        type=_count,
        help='how many bytes per second an upload must bring, on average over 300 seconds, which is '
        'then no limit for the whole (500); 0: every request must have come within 300 seconds',
    )
    serving.add_argument(
        '--monitor',
        metavar='PATH',
        nargs='?',
        const=DEFAULT_MONITOR,
        help='show at this path what the server and the pools of agents do, to clients on the same '
        f'machine ({DEFAULT_MONITOR}, unless PATH is there: give it behind TARGET)',
    )
    serving.add_argument(
        '--monitor-client',
        metavar='ADDRESS',
        action='append',
        dest='monitor_clients',
        help="an IP address or network (CIDR), or 'unix', whose clients may see the monitor in place "
        'of those on the same machine; any number of times',
    )
    serving.set_defaults(run=serve, parser=serving)
    _add_get(commands, get)
    _add_doctor(commands, doctor)
    return parser


def _add_get(commands: Any, run: Command) -> None:
    get = commands.add_parser(
        'get',
        allow_abbrev=False,
        help='make an HTTP request',
        epilog=GET_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Make one HTTP request and write the body of the response to standard output. Redirects are not '
        'followed.',
    )
    get.add_argument('url', metavar='URL', help='http[s]://[USER:PASSWORD@]HOST[:PORT]/[PATH][?QUERY]')
    get.add_argument(
        '-o',
        '--output',
        metavar='FILE',
        help='write to FILE, which is replaced when the whole body is there, and not before',
    )
    get.add_argument('-X', '--request', metavar='METHOD', help='GET, or POST with -d, unless said otherwise')
    get.add_argument(
        '-H',
        '--header',
        metavar='HEADER',
        action='append',
        default=[],
        help="'Name: value'; 'Name:' removes a header that is sent by itself, 'Name;' sends an empty one; "
        'any number of times',
    )
    get.add_argument(
        '-d',
        '--data',
        metavar='DATA',
        action='append',
        help='the body: text, or @FILE for what is in a file, @- for standard input, as it comes',
    )
    get.add_argument(
        '--include',
        action='store_true',
        help='write the status line and the headers before the body, and the trailers behind it',
    )
    get.add_argument(
        '--timeout', metavar='SECONDS', type=_seconds, help='give up unless the whole exchange is over in that time'
    )
    get.add_argument('--cacert', metavar='FILE', help="trust these authorities in place of the system's (PEM)")
    get.add_argument('--insecure', action='store_true', help='accept any certificate')
    get.add_argument('--fail', action='store_true', help='for status 400 and up: write no body, exit with 22')
    get.set_defaults(run=run, parser=get)


def _add_doctor(commands: Any, run: Command) -> None:
    doctor = commands.add_parser(
        'doctor',
        allow_abbrev=False,
        help='look for what is wrong with this installation, and with a program',
        epilog='The exit status is 1 when there is a problem, 0 when there is advice at most.',
        description='Tell versions, settings and limits, and what to do where they are not as they should be.',
    )
    doctor.add_argument(
        'target',
        metavar='TARGET',
        nargs='?',
        help="a program, as for 'geventnode serve': it is imported, without patching anything before "
        'it, and what it patches, and when, is looked at, too',
    )
    doctor.add_argument('--json', action='store_true', help='write a report for programs')
    doctor.set_defaults(run=run, parser=doctor)
